"""A session without threads and tensors, which checks each action of the planner as it carries it out."""

import itertools
from dataclasses import dataclass, field

from vs_iconvsr.scenes import BEFORE
from vs_iconvsr.segments import Grid, Segment
from vs_iconvsr.streaming import actions as do
from vs_iconvsr.streaming.planner import Planner
from vs_iconvsr.streaming.ranges import ROUND_FRAMES
from vs_iconvsr.streaming.segment_queue import Limits
from vs_iconvsr.streaming.source_frames import CutMarks

STRATEGIES = 3


@dataclass
class Job:
    """What a session holds of a segment."""

    segment: Segment
    device: int
    strategy: int
    backward_left: int
    next_kept: int


@dataclass
class Simulation:
    """A session without threads and tensors: it carries out what the planner decides, and checks each action.

    fails_at: how many of the next steps run out of memory. In place of judging, `cuts` are looked up.
    """

    num_frames: int
    segment: int
    context: int
    cuts: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    devices: int = 1
    in_flight: int = 1
    hr_frames: int = 5
    strategy: int = 0
    detects: bool = True
    endless: bool = False
    planner: Planner = field(init=False)
    held: set[int] = field(default_factory=set)
    hr: set[int] = field(default_factory=set)
    jobs: dict[int, Job] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    out_of_memory: int = 0
    changes: list[int] = field(default_factory=list)
    judged: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        limits = Limits(self.in_flight, self.hr_frames, self.devices, STRATEGIES, self.strategy)
        grid = Grid(None if self.endless else self.num_frames, self.segment, self.context)
        self.planner = Planner(grid, limits, detects=self.detects)

    def carry_out(self) -> None:
        while actions := self.planner.actions():
            for action in actions:
                self.check_and_do(action)

    def check_and_do(self, action: do.Action) -> None:
        match action:
            case do.Judge(n, window):
                assert set(window) <= self.held, "a judgement needs frames that are not held"
                assert n not in self.judged, "judged twice"
                self.judged.add(n)
                self.planner.cut_judged(n, n in self.cuts)
            case do.Begin(segment, device, strategy, starts, ends):
                assert set(segment.read) <= self.held, "a segment begins without its frames"
                assert segment.kept.start not in self.jobs, "a segment is under way twice"
                assert not self.cuts_found & set(range(segment.read.start + 1, segment.read.stop)), "across a cut"
                assert (starts, ends) == (segment.kept.start in self.cuts_found, segment.kept.stop in self.cuts_found)
                self.begun.append(segment.kept.start)
                self.jobs[segment.kept.start] = Job(segment, device, strategy, len(segment.read), segment.kept.start)
            case do.Restart(start, strategy):
                self.changes.append(strategy)
                job = self.jobs[start]
                self.jobs[start] = Job(job.segment, job.device, strategy, len(job.segment.read), start)
            case do.Drop(start):
                del self.jobs[start]
                self.failed.discard(start)
            case do.Fail(start):
                self.failed.add(start)
            case do.EvictSource(frames):
                assert not set(frames) & self.needed, "a frame is evicted that a request still needs"
                self.held -= set(frames)
            case do.EvictHr(frames):
                assert not set(frames) & set(self.planner.demand.requests), "a requested hr frame is evicted"
                self.hr -= set(frames)

    @property
    def needed(self) -> set[int]:
        """Frames that the segment of a request may read, where that has not begun."""
        under_way = {n for job in self.jobs.values() for n in job.segment.kept}
        waiting = set(self.planner.demand.requests) - self.hr - under_way
        if not self.segment:
            return {k for n in waiting for k in self.scene(n)}
        cells = [range(n - n % self.segment - self.context, n - n % self.segment + self.segment) for n in waiting]
        return {k for cell in cells for k in range(cell.start, cell.stop + self.context)}

    def scene(self, n: int) -> range:
        """The frames between two cuts."""
        edges = sorted({0, *self.cuts_found, self.num_frames})
        return next(range(a, b) for a, b in itertools.pairwise(edges) if a <= n < b)

    @property
    def cuts_found(self) -> set[int]:
        return {n for n in self.cuts if 0 < n < self.num_frames} if self.detects else set()

    def put(self, n: int) -> bool:
        """Source frame n arrives; False past the end."""
        if n >= self.num_frames:
            self.planner.end_known(n)
            self.carry_out()
            return False
        self.fetched.append(n)
        self.held.add(n)
        starts = n in self.cuts if n in self.marked else None
        ends = n + 1 in self.cuts if n in self.marked else None
        self.planner.frame_arrived(n, CutMarks(starts, ends))
        self.carry_out()
        return True

    def step(self, device: int) -> bool:
        """One step of a device; False when it has nothing to do."""
        step = self.planner.segments.next_step(device)
        if step is None:
            return False
        job = self.jobs[step.start]
        assert job.device == device
        if self.out_of_memory:
            self.out_of_memory -= 1
            self.planner.step_ended(step.start, do.NoMemory())
            self.carry_out()
            return True
        if step.rewind:
            job.next_kept = job.segment.kept.start
        made = None
        if job.backward_left:
            job.backward_left -= 1
        else:
            made, job.next_kept = job.next_kept, job.next_kept + 1
            self.hr.add(made)
        self.planner.step_ended(step.start, do.Taken(not job.backward_left, made))
        self.carry_out()
        return True

    def request(self, n: int) -> None:
        """Fetches until the planner has all that hr frame n needs."""
        self.planner.request(n)
        for _ in range(10_000):
            need = self.planner.need(n)
            self.carry_out()
            if isinstance(need, do.Ready | do.PastEnd):
                return
            assert isinstance(need, do.Fetch), "nothing is under judgement here"
            assert need.frames, "a fetch of nothing"
            assert not set(need.frames) & self.held, "a frame is fetched that is there"
            for k in need.frames:
                if not self.put(k):
                    break
        raise AssertionError(f"frame {n} keeps asking")

    def wait(self, n: int) -> bool:
        """Steps until hr frame n is there, then takes it; False when it failed."""
        for _ in range(100_000):
            if n in self.hr:
                break
            if any(n in self.jobs[start].segment.kept for start in self.failed):
                break
            stepped = [self.step(device) for device in range(self.devices)]
            assert any(stepped), f"frame {n} waits for ever"
        there = n in self.hr
        self.planner.withdraw(n)
        self.carry_out()
        return there

    def play(self, n: int) -> bool:
        """One request as the driver makes it."""
        self.request(n)
        if n >= self.num_frames:
            self.planner.withdraw(n)
            return False
        made = self.wait(n)
        for k in self.planner.look_ahead(n):
            if k not in self.held and not self.put(k):
                break
        return made

    def idle(self) -> None:
        """Lets devices do what they do ahead of requests, to the end of it."""
        for _ in range(100_000):
            stepped = [self.step(device) for device in range(self.devices)]
            if not any(stepped):
                return
        raise AssertionError("look-ahead never ends")

    def check_bounds(self) -> None:
        planner = self.planner
        assert len(self.hr) <= self.hr_frames + len(planner.demand.requests)
        assert set(planner.demand.hr) == self.hr
        assert len(planner.source) == len(self.held)
        if self.segment:
            reach = self.segment + 2 * (self.context + BEFORE)
            usual = (1 + self.devices) * reach + ROUND_FRAMES * self.in_flight
            surroundings = self.segment + 2 * (self.context + BEFORE + 3)
            needed = (len(planner.demand.requests) + self.devices) * surroundings
            assert len(self.held) <= max(usual, needed) + ROUND_FRAMES
        else:
            longest = max(len(self.scene(n)) for n in range(self.num_frames)) + 2 * ROUND_FRAMES
            assert len(self.held) <= (len(planner.demand.requests) + 2) * longest
        assert len(self.jobs) <= 2 * self.devices + 1 + len(planner.demand.requests)
