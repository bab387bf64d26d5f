"""What both doors talk to: which source frames hr frame n waits for, and hr frame n when they have come.

It owns the store of source frames, the segments under way and the store of hr frames, each bounded; the hop between
planes and engine exists so that the two doors cannot differ. hr frame n does not depend on the order of the calls.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vs_iconvsr import colorspace, scenes
from vs_iconvsr.colorspace import Colorimetry, Format, Planes
from vs_iconvsr.engine import MemoryStrategy, Propagation, Upscaler
from vs_iconvsr.engine.worker import Worker, worker_for
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Plan, Settings, plan_for
from vs_iconvsr.scenes.cuts import Cuts
from vs_iconvsr.segments import Grid, Segment, Unknown

logger = logging.getLogger(__name__)

ROUND_FRAMES = 8
"""Source frames asked for at a time. A frame that has come but is not ours yet sits in VapourSynth's cache of the
source node, which holds 20: with short rounds no second request finds it gone, and nothing is decoded twice."""
RANGE_EVERY = 24
"""One of so many source frames is looked at for codes outside its range."""


@dataclass(frozen=True)
class HrFrame:
    """An hr frame on the CPU: planes in the target format and their color.

    properties: the frame properties to change, None to delete one. segment: the first frame of its segment.
    user_data: whatever the door gave `put` for the source frame of the same number.
    """

    planes: Planes
    color: Colorimetry
    properties: Mapping[str, int | None]
    segment: int
    user_data: object

    @property
    def size_bytes(self) -> int:
        return sum(plane.numel() * plane.element_size() for plane in self.planes)


@dataclass
class Counts:
    """What has been done so far; tests hold the stream to its promises with these. busy_s: of all devices together."""

    segments_begun: int = 0
    steps: int = 0
    busy_s: float = 0.0
    hr_frames: int = 0
    means_changed: int = 0


class Stream:
    """A clip on its way through a network.

    source, width, height, num_frames: the clip. target: the format of hr frames. in_flight: how many hr frames may be
    asked for at the same time. sharers: how many streams share the plan's memory; the same frames come of it.
    warn: told of guesses about color and of what is clipped, once each.

    For hr frame n: put every frame of `missing(n)`, again until it is empty, then take `frame(n)`; or `abandon(n)`.
    Different n may be under way at once, on different threads. Raises ValueError for settings that cannot be.
    """

    def __init__(
        self,
        network: VideoNetwork,
        settings: Settings,
        *,
        source: Format,
        width: int,
        height: int,
        num_frames: int,
        target: Format,
        in_flight: int = 1,
        sharers: int = 1,
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        self.plan: Plan = plan_for(settings, network, width, height)
        self.counts = Counts()
        self.source, self.target = source, target
        self.width, self.height, self.scale = width, height, network.scale
        self._matrix = settings.matrix
        self._grid = Grid(num_frames, self.plan.segment, self.plan.context)
        self._in_flight = in_flight
        self.until = num_frames
        """No hr frame from here on will be asked for, so that nothing is made ahead of it; may change at any time."""
        self._sharers = sharers
        self._warn = warn
        self._warned: set[str] = set()

        self._lock = threading.Condition()
        self._closed = False
        self._frames: OrderedDict[int, _Source] = OrderedDict()
        self._cuts = Cuts(num_frames, self.plan.sc_threshold, self._frames.get)
        self._jobs: OrderedDict[int, _Job] = OrderedDict()
        self._hr: OrderedDict[int, HrFrame] = OrderedDict()
        self._interest: dict[int, int] = {}  # hr frame: when it was first asked for
        self._asked = 0
        self._recent: deque[int] = deque(maxlen=2 * in_flight + 2)
        self._front: int | None = None  # where sequential access has got to; None while access jumps

        shape = self.plan.shape(width, height)
        self._hr_capacity = self._planned_hr_capacity()
        self._means = self._planned_means()
        self._workers: list[Worker] = []
        self._upscalers: dict[Worker, Upscaler] = {}
        for i, name in enumerate(self.plan.devices):
            device = torch.device(name)
            worker = worker_for(device, nth=self.plan.devices[:i].count(name), threads=self.plan.threads)
            self._workers.append(worker)
            self._upscalers[worker] = Upscaler(network, device, shape)
        for worker in self._workers:
            worker.attach(self)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what a door calls ----

    def missing(self, n: int) -> list[int]:
        """Source frames, ascending and a few at a time, to put before hr frame n can be had; empty when none are."""
        with self._lock:
            if n not in self._interest:
                self._begin_request(n)
            wanted = self._missing(n)[:ROUND_FRAMES]
        if not wanted:
            self._wake()
        return wanted

    def ahead(self, n: int) -> list[int]:
        """Frames of the next cells worth fetching while hr frame n is made; none unless access is sequential.

        Two for each hr frame and device, so that all have come when half of the cell has been delivered.
        """
        with self._lock:
            if self._front is None or self._grid.segment == 0:
                return []
            cell = self._grid.cell(n)
            first_new = self._surroundings(cell).stop
            pace = 2 * (n - cell.start + 1) * len(self._workers)
            new = range(first_new, min(self._surroundings(self._cells_after(n)).stop, first_new + pace))
            return [k for k in new if k not in self._frames][:ROUND_FRAMES]

    def put(self, n: int, planes: Planes, properties: Mapping[str, int], *, user_data: object = None) -> None:
        """Hands source frame n over. The planes, on the CPU, are the stream's from here on.

        A frame that is already there is ignored. Raises ValueError for a frame we cannot upscale (see `colorimetry_of`).
        """
        with self._lock:
            if n in self._frames or self._closed:
                return
        color, warnings = colorspace.colorimetry_of(
            properties, self.source, self.width, self.height, matrix=self._matrix
        )
        if n % RANGE_EVERY == 0:
            warnings = [*warnings, *colorspace.range_warnings(planes[0], self.source, color)]
        source = _Source(planes, self.source, properties, color, user_data)
        if self.plan.scene_detect and not _tells_of_cuts(properties):
            source.signature()  # now, while nobody has to wait for the lock
        with self._lock:
            fresh = [text for text in warnings if text not in self._warned]
            self._warned.update(fresh)
            if n not in self._frames:
                self._frames[n] = source
                self._evict_frames()
                self._begin_next_jobs()
        for text in fresh:
            self._warn(text)
        self._wake()

    def frame(self, n: int) -> HrFrame:
        """hr frame n; waits for the engine. Raises what went wrong on the way, and ValueError after `close`."""
        with self._lock:
            try:
                self._lock.wait_for(lambda: self._closed or n in self._hr or self._failure(n) is not None)
                if n in self._hr:
                    self._hr.move_to_end(n)
                    return self._hr[n]
                failure = self._failure(n)
                if failure is None:
                    raise ValueError(f"frame {n}: expected an open stream, got one that was closed")
                raise failure
            finally:
                self._end_request(n)

    def abandon(self, n: int) -> None:
        """hr frame n is not wanted any more."""
        with self._lock:
            self._end_request(n)

    def close(self) -> None:
        """Ends the work after at most one step and forgets everything. May be called twice."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for worker in self._workers:
            worker.detach(self)
        with self._lock:
            self._frames.clear()
            self._jobs.clear()
            self._hr.clear()
            self._upscalers.clear()

    # ---- requests; all with the lock held ----

    def _begin_request(self, n: int) -> None:
        self._interest[n] = self._asked
        self._asked += 1
        if n - 1 in self._recent or n - 2 in self._recent:  # threads swap neighbours
            self._front = n if self._front is None else max(n, self._front)
        else:
            self._front = n if n == 0 else None  # who asks for the first frame will go on
        self._recent.append(n)

    def _end_request(self, n: int) -> None:
        self._interest.pop(n, None)
        self._evict_hr()
        self._evict_jobs()
        self._begin_next_jobs()
        self._wake()

    def _missing(self, n: int) -> list[int]:
        """Every source frame that is needed and not there; when there is none, hr frame n is or has a job."""
        if n in self._hr or self._job_with(n) is not None:
            return []
        try:
            segment = self._segment_with(n)
        except Unknown as unknown:
            return self._absent(self._needed_to_know(n, unknown.frame))
        if absent := self._absent(segment.read):
            return absent
        self._begin_job(segment)
        return []

    def _segment_with(self, n: int) -> Segment:
        """The segment of n, and on the way whether its first and the frame after its last start scenes."""
        segment = self._grid.segment_with(n, self._starts_scene)
        for k in (segment.kept.start, segment.kept.stop):
            self._starts_scene(k)
        return segment

    def _starts_scene(self, k: int) -> bool:
        """Raises Unknown while the frames that tell have not come."""
        return self.plan.scene_detect and self._cuts.starts_scene(k)

    def _needed_to_know(self, n: int, unknown: int) -> range:
        """What to fetch while the segment of n is not known: with a grid all that could matter, else the next few."""
        if self._grid.segment:
            return self._surroundings(self._grid.cell(n))
        reach = ROUND_FRAMES - scenes.BEFORE - scenes.AFTER
        window = self._cuts.window(unknown)
        if unknown > n:
            return range(window.start, min(window.stop + reach, self._grid.num_frames))
        return range(max(window.start - reach, 0), window.stop)

    def _surroundings(self, cell: range) -> range:
        """Every frame that a segment of this cell may read, or its cuts be judged by."""
        reach = max(self._grid.context, 1) if self.plan.scene_detect else self._grid.context
        before = reach - 1 + scenes.BEFORE if self.plan.scene_detect else 0
        after = reach - 1 + scenes.AFTER + 1 if self.plan.scene_detect else 0
        return range(
            max(cell.start - max(before, self._grid.context), 0),
            min(cell.stop + max(after, self._grid.context), self._grid.num_frames),
        )

    def _cells_after(self, n: int) -> range:
        """The cells after that of n, one for each device; empty after the last cell."""
        start = stop = self._grid.cell(n).stop
        for _ in self._workers:
            if stop < self.until:
                stop = self._grid.cell(stop).stop
        return range(start, stop)

    def _absent(self, numbers: Iterable[int]) -> list[int]:
        absent = []
        for k in numbers:
            if k in self._frames:
                self._frames.move_to_end(k)
            else:
                absent.append(k)
        return absent

    # ---- jobs; all with the lock held ----

    def _job_with(self, n: int) -> "_Job | None":
        return next((job for job in self._jobs.values() if n in job.segment.kept), None)

    def _failure(self, n: int) -> Exception | None:
        job = self._job_with(n)
        return job.failure if job else None

    def _begin_job(self, segment: Segment) -> None:
        cell = segment.kept.start // self._grid.segment if self._grid.segment else 0
        worker = self._workers[cell % len(self._workers)]
        frames = {k: self._frames[k] for k in segment.read}
        self._jobs[segment.kept.start] = _Job(segment, frames, worker)

    def _begin_next_jobs(self) -> None:
        """Look-ahead: the segments after the one that sequential access is in, as soon as their frames have come."""
        if self._front is None or self._closed:
            return
        try:
            n = self._segment_with(self._front).kept.stop
            for _ in self._workers:
                if n >= self.until:
                    return
                segment = self._segment_with(n)
                if n not in self._hr and self._job_with(n) is None:
                    if any(k not in self._frames for k in segment.read):
                        return
                    self._begin_job(segment)
                n = segment.kept.stop
        except Unknown:
            return

    def _evict_jobs(self) -> None:
        """Keeps the segments that somebody waits for, the last one used and those ahead of it."""
        spare = len(self._jobs) - len(self._workers) - 1
        for start, job in list(self._jobs.items()):
            ahead = self._front is not None and self._front < start <= self._cells_after(self._front).stop
            if job.running or ahead or any(n in job.segment.kept for n in self._interest):
                continue
            if spare > 0 or job.failure:
                del self._jobs[start]
                spare -= 1

    def _evict_frames(self) -> None:
        """Two cells with all they may read stay, and what requests under way need; the oldest of the others go."""
        if self._grid.segment == 0:
            return
        reach = self._grid.segment + 2 * (self._grid.context + scenes.BEFORE)
        spare = len(self._frames) - (1 + len(self._workers)) * reach - ROUND_FRAMES * self._in_flight
        if spare <= 0:
            return
        protected = [self._surroundings(self._grid.cell(n)) for n in self._interest]
        if self._front is not None:
            protected.append(self._surroundings(self._cells_after(self._front)))
        for k in list(self._frames):
            if spare <= 0:
                return
            if not any(k in frames for frames in protected):
                del self._frames[k]
                spare -= 1

    def _evict_hr(self) -> None:
        for n in list(self._hr):
            if len(self._hr) <= self._hr_capacity:
                return
            if n not in self._interest:
                del self._hr[n]

    # ---- the engine's side ----

    def next_step(self, worker: Worker) -> Callable[[], None] | None:
        """See worker.Source. What somebody waits for goes first, then what sequential access will want."""
        with self._lock:
            job = None if self._closed else self._next_job(worker)
            if job is None:
                return None
            job.running = True
            return lambda: self._run(job)

    def _next_job(self, worker: Worker) -> "_Job | None":
        for n in sorted(self._interest, key=self._interest.__getitem__):
            job = self._job_with(n)
            if job and job.worker is worker and not job.running and not job.failure and n not in self._hr:
                if job.propagation and n < job.propagation.next_kept:
                    job.propagation.rewind()
                return job
        if self._front is None:
            return None
        return next((job for job in self._jobs.values() if self._is_worth_doing(job, worker)), None)

    def _is_worth_doing(self, job: "_Job", worker: Worker) -> bool:
        """Nobody waits for it, but the front will come by, and there is room for what it makes."""
        if job.worker is not worker or job.running or job.failure or self._front is None:
            return False
        if job.segment.kept.stop <= self._front or (job.propagation and job.propagation.finished):
            return False
        if job.propagation is None or not job.propagation.backward_done:
            return True
        waiting = sum(n > self._front for n in self._hr)
        return job.propagation.next_kept > self._front and waiting < self._hr_capacity - self._in_flight - 1

    def _is_wanted_again(self, job: "_Job") -> bool:
        """Whether somebody waits for a frame that was made and evicted: `missing` has counted on this job for it."""
        return any(n in job.segment.kept and n not in self._hr for n in self._interest)

    def _run(self, job: "_Job") -> None:
        """One step, on the worker's thread, without the lock."""
        hr = None
        number = -1
        failure: Exception | None = None
        began = time.monotonic()
        try:
            if job.propagation is None:
                job.propagation = self._propagation(job)
                with self._lock:
                    self.counts.segments_begun += 1
            number = job.propagation.next_kept
            rgb = job.propagation.step()
            if rgb is not None:
                hr = self._delivered(job, number, rgb)
        except (torch.OutOfMemoryError, MemoryError) as error:
            failure = self._with_other_means(job, error)
        except Exception as error:
            failure = error
        with self._lock:
            self.counts.steps += 1
            self.counts.busy_s += time.monotonic() - began
            job.running = False
            job.failure = failure
            if hr is not None and not self._closed:
                self.counts.hr_frames += 1
                self._hr[number] = hr
                self._hr.move_to_end(number)
                self._evict_hr()
            if job.propagation and job.propagation.finished and not self._is_wanted_again(job):
                self._jobs.pop(job.segment.kept.start, None)
            if hr is not None or failure is not None:
                self._lock.notify_all()

    def _propagation(self, job: "_Job") -> Propagation:
        upscaler = self._upscalers[job.worker]
        frames = job.frames  # not the job itself, which would then keep itself alive

        def lr_frame(n: int) -> Tensor:
            source = frames[n]
            planes = tuple(plane.to(upscaler.device) for plane in source.planes)
            return colorspace.to_rgb(planes, self.source, source.color)

        return upscaler.propagate(job.segment, lr_frame, strategy=self._means)

    def _delivered(self, job: "_Job", n: int, rgb: Tensor) -> HrFrame:
        source = job.frames[n]
        height, width = rgb.shape[-2:]
        color = colorspace.output_colorimetry(
            source.color, self.source, self.target, width, height, matrix=self._matrix
        )
        with torch.inference_mode():
            planes = colorspace.from_rgb(rgb, self.target, color, dither=self.plan.dither)
            planes = tuple(plane.cpu() for plane in planes)
        properties: dict[str, int | None] = dict.fromkeys(colorspace.COLOR_PROPERTIES)
        properties |= colorspace.properties_of(color, self.target)
        if self.plan.scene_detect and not _tells_of_cuts(source.properties):
            with self._lock:  # both are known since the segment is
                properties["_SceneChangePrev"] = int(self._cuts.starts_scene(n))
                properties["_SceneChangeNext"] = int(self._cuts.starts_scene(n + 1))
        properties["IconVSRSegmentStart"] = job.segment.kept.start
        return HrFrame(planes, color, properties, job.segment.kept.start, source.user_data)

    def _with_other_means(self, job: "_Job", error: Exception) -> Exception | None:
        """Out of memory: the segment starts again with means that need less, or, when there are none, fails."""
        order = list(MemoryStrategy)
        at = order.index(self._means)
        job.propagation = None
        if at + 1 == len(order):
            return MemoryError(
                f"memory: expected {self.plan.working_bytes / 2**30:.2f} GiB and a segment's features on "
                f"{job.worker.device}, got an out-of-memory error by every means; pass a smaller tile= "
                f"(now {self.plan.tile}), segment= (now {self.plan.segment}) or memory="
            )
        with self._lock:
            self._means = order[at + 1]
            self.counts.means_changed += 1
        logger.warning("out of memory (%s): features are now handled by %s", error, self._means)
        if job.worker.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _planned_hr_capacity(self) -> int:
        """hr frames to hold: at least those in flight, at most a cell, if an eighth of the budget takes it."""
        hr_bytes = self.width * self.height * self.scale**2 * self.target.dtype.itemsize * 3
        affordable = self.plan.memory_bytes // 8 // self._sharers // hr_bytes
        return max(self._in_flight + 2, min(self.plan.segment or 60, affordable))

    def _planned_means(self) -> MemoryStrategy:
        length = (self.plan.segment or self._grid.num_frames) + 2 * self.plan.context
        room = self.plan.memory_bytes * 3 // 4 - self.plan.working_bytes
        if self._sharers * 2 * length * self.plan.frame_bytes <= room:
            return MemoryStrategy.KEEP
        return MemoryStrategy.OFFLOAD if self.plan.devices[0] != "cpu" else MemoryStrategy.RECOMPUTE

    def _wake(self) -> None:
        for worker in self._workers:
            worker.wake()


def _tells_of_cuts(properties: Mapping[str, int]) -> bool:
    return scenes.cut_from_properties(properties, properties) is not None


class _Source:
    """A source frame as it came."""

    def __init__(
        self, planes: Planes, format: Format, properties: Mapping[str, int], color: Colorimetry, user_data: object
    ) -> None:
        self.planes = planes
        self.properties = properties
        self.color = color
        self.user_data = user_data
        self._format = format
        self._signature: Tensor | None = None

    def signature(self) -> Tensor:
        if self._signature is None:
            self._signature = scenes.signature(self.planes, self._format)
        return self._signature


@dataclass
class _Job:
    """A segment under way. It holds its own source frames: the store may forget them."""

    segment: Segment
    frames: Mapping[int, _Source]
    worker: Worker
    propagation: Propagation | None = None
    running: bool = False
    failure: Exception | None = field(default=None)
