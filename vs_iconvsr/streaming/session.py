"""The one place with a lock and with threads: it reports events to the planner and carries out what that decides."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from vs_iconvsr import scenes
from vs_iconvsr.colorspace import Format, Planes
from vs_iconvsr.engine import MemoryStrategy, Upscaler
from vs_iconvsr.engine.worker import Worker, worker_for
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Plan, Settings, plan_for
from vs_iconvsr.segments import Grid
from vs_iconvsr.streaming import actions as do
from vs_iconvsr.streaming.capacity import planned_limits
from vs_iconvsr.streaming.frames import Converter, HrFrame, OneTimeWarnings, SourceFrame, Store
from vs_iconvsr.streaming.planner import Planner
from vs_iconvsr.streaming.runner import STRATEGIES, Failure, Outcome, OutOfMemory, Runner, SegmentJob, StepDone

logger = logging.getLogger(__name__)


@dataclass
class Counts:
    """What has been done so far; tests hold the session to its promises with these. busy_s: of all devices together."""

    segments_begun: int = 0
    steps: int = 0
    busy_s: float = 0.0
    hr_frames: int = 0


@dataclass(frozen=True)
class Status:
    """What a session holds at the moment. memory_strategy: what segments begin with now."""

    source_frames: int
    hr_frames: int
    segments: int
    size_bytes: int
    memory_strategy: MemoryStrategy


class Session:
    """A clip on its way through a network.

    source, width, height, num_frames: the clip; num_frames is None until `end` for one whose length is not known.
    target: the format of hr frames. in_flight: how many hr frames may be requested at the same time. sharers: how many
    sessions share the plan's memory. warn: called with guesses about color and with what is clipped, once each.

    For hr frame n: put every frame of `needs(n)`, again until it is empty, then take `frame(n)`; or `abandon(n)`.
    Different n may be under way at once, on different threads. hr frame n does not depend on the order of the calls.
    Raises ValueError for settings that cannot be.
    """

    def __init__(
        self,
        network: VideoNetwork,
        settings: Settings,
        *,
        source: Format,
        width: int,
        height: int,
        num_frames: int | None,
        target: Format,
        in_flight: int = 1,
        sharers: int = 1,
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        self.plan: Plan = plan_for(settings, network, width, height)
        self.num_frames, self.scale, self.counts = num_frames, network.scale, Counts()
        self._converter = Converter(
            source,
            target,
            width,
            height,
            settings.matrix,
            self.plan.dither,
            self.plan.strength_of,
            self.plan.scene_detect,
            OneTimeWarnings(warn),
        )
        grid = Grid(num_frames, self.plan.segment, self.plan.context)
        hr_bytes = width * height * self.scale**2 * target.dtype.itemsize * 3
        limits = planned_limits(self.plan, num_frames, hr_bytes, in_flight=in_flight, sharers=sharers)
        self._changed = threading.Condition()
        self._ended: BaseException | None = None  # why nothing more will come
        self._planner = Planner(grid, limits, detects=self.plan.scene_detect)
        self._judgements: deque[tuple[int, int, list[SourceFrame]]] = deque()
        self._source, self._hr = Store[SourceFrame](), Store[HrFrame]()
        self._jobs: dict[int, SegmentJob] = {}
        self._devices = _devices(self, network, self._converter, sharers)
        for device in self._devices:
            device.worker.attach(device)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what a frontend calls ----

    def needs(self, n: int) -> list[int]:
        """Source frames, ascending and a few at a time, to put before hr frame n can be had; empty when none are."""
        with self._changed:
            self._planner.request(n)
            while isinstance(need := self._planner.need(n), do.AwaitCuts) and self._ended is None:
                self._changed.wait()
            self._carry_out()
        return list(need.frames) if isinstance(need, do.Fetch) else []

    def look_ahead(self, n: int) -> list[int]:
        """Source frames of the next cells worth fetching while hr frame n is made; none unless access is sequential."""
        with self._changed:
            return list(self._planner.look_ahead(n))

    def put(self, n: int, planes: Planes, properties: Mapping[str, int], *, user_data: object = None) -> None:
        """Hands source frame n over. The planes, on the CPU, are the session's from here on.

        A frame that is already there is ignored. Raises ValueError for a frame that cannot be upscaled.
        """
        with self._changed:
            if n in self._source or self._ended is not None:
                return
        frame = self._converter.read(n, planes, properties, user_data)
        if self.plan.scene_detect and not frame.is_marked:
            frame.signature()  # now: on the caller's thread, without the lock
        with self._changed:
            if n in self._source or self._ended is not None:
                return
            self._source[n] = frame
            self._planner.frame_arrived(n, frame.marks)
            self._carry_out()
        self._judge()

    def end(self, num_frames: int) -> None:
        """The clip has this many frames: for one whose length was not known when the session began."""
        with self._changed:
            self.num_frames = num_frames
            self._planner.end_known(num_frames)
            self._carry_out()
        self._judge()

    def stop_at(self, until: int) -> None:
        """No hr frame from `until` on will be asked for, so that none is made ahead; may change at any time."""
        with self._changed:
            self._planner.stop_at(until)

    def frame(self, n: int) -> HrFrame:
        """hr frame n; waits for the engine. Raises what went wrong on the way, and ValueError after `close`."""
        with self._changed:
            try:
                if self.num_frames is not None and n >= self.num_frames:
                    raise ValueError(f"frame: expected one of {self.num_frames} frames, got {n}")
                self._changed.wait_for(lambda: n in self._hr or self._failure(n) is not None)
                if n in self._hr:
                    return self._hr[n]
                failure = self._failure(n)
                assert failure is not None
                raise failure
            finally:
                self._planner.withdraw(n)
                self._carry_out()

    def abandon(self, n: int) -> None:
        """hr frame n is not wanted any more."""
        with self._changed:
            self._planner.withdraw(n)
            self._carry_out()

    @property
    def status(self) -> Status:
        """size_bytes is that of all frames, on the CPU."""
        with self._changed:
            size_bytes = self._source.size_bytes + self._hr.size_bytes
            strategy = STRATEGIES[self._planner.segments.strategy]
            return Status(len(self._source), len(self._hr), len(self._jobs), size_bytes, strategy)

    def close(self) -> None:
        """Ends the work after at most one step and forgets everything. May be called twice."""
        self.fail(ValueError("session: expected an open one, got one that was closed"))
        for device in self._devices:
            device.worker.detach(device)
        with self._changed:
            for held in (self._source, self._hr, self._jobs):
                held.clear()
            self._devices = []

    # ---- what devices call, on their own threads ----

    def take_step(self, device: int) -> tuple[SegmentJob, do.Step] | None:
        """The next step of a device; its outcome must be reported."""
        with self._changed:
            step = self._planner.segments.next_step(device) if self._ended is None else None
            return None if step is None else (self._jobs[step.start], step)

    def report(self, job: SegmentJob, outcome: Outcome) -> None:
        """How a step ended."""
        start = job.segment.kept.start
        with self._changed:
            self.counts.steps += 1
            match outcome:
                case StepDone(number, hr, backward_done, seconds):
                    self.counts.busy_s += seconds
                    if hr is not None and self._ended is None:
                        self.counts.hr_frames += 1
                        self._hr[number] = hr
                    ending: do.Ending = do.Taken(backward_done, None if hr is None else number)
                case OutOfMemory(reason):
                    logger.warning("out of memory on %s: %s", self.plan.devices[job.device], reason)
                    ending = do.NoMemory()
                case Failure(error):
                    job.failure = error
                    ending = do.Failed()
            self._planner.step_ended(start, ending)
            self._carry_out()

    def fail(self, reason: BaseException) -> None:
        """Nothing more comes: everybody who waits gets the first reason."""
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify_all()

    # ---- with the lock held, but for _judge ----

    def _carry_out(self) -> None:
        """Does what the planner has decided, and wakes all who may wait for it."""
        for action in self._planner.actions() if self._ended is None else ():
            match action:
                case do.Judge(frame, window):
                    self._judgements.append((frame, frame - window.start, [self._source[k] for k in window]))
                case do.Begin(segment):
                    self.counts.segments_begun += 1
                    self._jobs[segment.kept.start] = SegmentJob.begin(action, self._source)
                case do.Restart(start, strategy):
                    self._jobs[start].restart(strategy)
                case do.Drop(start):
                    del self._jobs[start]
                case do.Fail(start):
                    self._jobs[start].failure = self.plan.out_of_memory_error(self._jobs[start].device)
                case do.EvictSource(frames):
                    self._source.discard(frames)
                case do.EvictHr(frames):
                    self._hr.discard(frames)
        self._changed.notify_all()
        for device in self._devices:
            device.worker.wake()

    def _judge(self) -> None:
        """Compares frames where the planner asked for it: milliseconds for which nobody has to wait for the lock."""
        while True:
            with self._changed:
                if not self._judgements or self._ended is not None:
                    return
                n, at, window = self._judgements.popleft()
            try:
                starts_scene = scenes.is_cut(
                    [frame.signature() for frame in window], at, threshold=self.plan.sc_threshold
                )
            except BaseException as error:
                self.fail(error)
                raise
            with self._changed:
                self._planner.cut_judged(n, starts_scene)
                self._carry_out()

    def _failure(self, n: int) -> BaseException | None:
        job = next((job for job in self._jobs.values() if n in job.segment.kept), None)
        return self._ended or (job.failure if job else None)


class _Device:
    """A device of one session, as its worker thread knows it."""

    def __init__(self, session: Session, number: int, worker: Worker, runner: Runner) -> None:
        self.worker = worker
        self.threads = session.plan.threads
        self._session, self._number, self._runner = session, number, runner

    def next_step(self) -> Callable[[], None] | None:
        """See worker.StepProvider."""
        taken = self._session.take_step(self._number)
        if taken is None:
            return None
        job, step = taken
        return lambda: self._session.report(job, self._runner.step(job, rewind=step.rewind))

    def fail(self, error: BaseException) -> None:
        """See worker.StepProvider."""
        self._session.fail(error)


def _devices(session: Session, network: VideoNetwork, converter: Converter, sharers: int) -> list[_Device]:
    """One for each device of the plan; the same device named twice has two workers."""
    plan, devices = session.plan, []
    shape = plan.shape(converter.width, converter.height, sharers=sharers)
    for i, name in enumerate(plan.devices):
        worker = worker_for(torch.device(name), nth=plan.devices[:i].count(name))
        upscaler = Upscaler(network, worker.device, shape)
        devices.append(_Device(session, i, worker, Runner(upscaler, converter, held_once=plan.held_once)))
    return devices
