"""Decides what is fetched, computed, served and forgotten: integers and events in, actions out.

No thread, lock, tensor or clock. The session reports what happened (a request, a frame that arrived, a step that was
taken), then carries out `actions()`. docs/request-lifecycle.md draws the states.
"""

import dataclasses

from vs_iconvsr.scenes import BEFORE
from vs_iconvsr.segments import Grid, Segment, Undecided
from vs_iconvsr.streaming.actions import (
    Action,
    AwaitCuts,
    Ending,
    EvictHr,
    EvictSource,
    Failed,
    Fetch,
    NoMemory,
    PastEnd,
    Ready,
    Taken,
)
from vs_iconvsr.streaming.demand import Demand
from vs_iconvsr.streaming.ranges import ROUND_FRAMES, Ranges
from vs_iconvsr.streaming.segment_queue import Limits, SegmentQueue
from vs_iconvsr.streaming.source_frames import CutMarks, SourceFrames


class Planner:
    """The decisions for one clip. detects: whether propagation stops at cuts.

    segments: those under way; a device asks it for its `next_step`.
    """

    def __init__(self, grid: Grid, limits: Limits, *, detects: bool) -> None:
        self.demand = Demand(limits.in_flight)
        self.segments = SegmentQueue(limits, self.demand)
        self.source = SourceFrames(grid.num_frames, detects=detects)
        self._ranges = Ranges(grid, detects, limits.devices)
        self._limits = limits
        self._actions: list[Action] = []
        self._decided: Segment | None = None  # the latest: walking to its ends again takes time in a large cell

    def actions(self) -> list[Action]:
        """What is to be done now, in this order; empties the list."""
        actions, self._actions = self._actions, []
        return actions

    # ---- events ----

    def request(self, n: int) -> None:
        """hr frame n is wanted, until `withdraw`. Asking again changes nothing."""
        self.demand.request(n)

    def withdraw(self, n: int) -> None:
        """hr frame n was delivered, or is not wanted any more."""
        self.demand.withdraw(n)
        self._evict_hr()
        front = self.demand.front
        ahead = range(0) if front is None else range(front + 1, self._ranges.cells_after(front).stop + 1)
        self._actions += self.segments.evict(ahead)
        self._begin_ahead()

    def frame_arrived(self, n: int, marks: CutMarks) -> None:
        """Source frame n is held from now on."""
        self._actions += self.source.arrive(n, marks)
        self._evict_source()
        self._begin_ahead()

    def cut_judged(self, n: int, starts_scene: bool) -> None:
        """The outcome of a `Judge`."""
        self.source.learn(n, starts_scene)
        self._begin_ahead()

    def end_known(self, num_frames: int) -> None:
        """The clip has this many frames; whatever was decided before stays true."""
        self._ranges, self._decided = self._ranges.ending_at(num_frames), None
        self._actions += self.source.end(num_frames)
        self._begin_ahead()

    def stop_at(self, until: int | None) -> None:
        """No hr frame from `until` on will be requested: none is made ahead of requests."""
        self._ranges = dataclasses.replace(self._ranges, until=until)

    def step_ended(self, start: int, ending: Ending) -> None:
        """How a step of the segment that keeps `start` first ended."""
        match ending:
            case Taken(_, made):
                if made is not None:
                    self.demand.add_hr(made)
                self._actions += self.segments.step_taken(start, ending)
                self._evict_hr()
            case NoMemory():
                self._actions += self.segments.out_of_memory(start)
            case Failed():
                self._actions += self.segments.step_failed(start)

    # ---- questions ----

    def need(self, n: int) -> Fetch | AwaitCuts | Ready | PastEnd:
        """What the requested hr frame n waits for. Begins its segment when all of that is there."""
        if n in self.demand.hr or self.segments.with_frame(n) is not None:
            return Ready()
        if n not in self._ranges.grid.cell(n):
            return PastEnd()
        segment = self._segment_of(n)
        if isinstance(segment, Undecided):
            window = self.source.window(segment.frame)
            missing = self.source.missing(self._ranges.evidence(n, segment.frame, window), ROUND_FRAMES)
            return Fetch(tuple(missing)) if missing else AwaitCuts()
        if missing := self.source.missing(segment.read, ROUND_FRAMES):
            return Fetch(tuple(missing))
        self._begin(segment)
        return Ready()

    def look_ahead(self, n: int) -> tuple[int, ...]:
        """Source frames worth fetching while hr frame n is made; none unless access is sequential."""
        if self.demand.front is None or self._ranges.grid.segment == 0:
            return ()
        return tuple([k for k in self._ranges.ahead(n) if k not in self.source][:ROUND_FRAMES])

    # ---- how ----

    def _segment_of(self, n: int) -> Segment | Undecided:
        """The segment of n; decided only when it is known, too, whether cuts lie right before and after it."""
        if self._decided is not None and n in self._decided.kept:
            return self._decided
        segment = self._ranges.grid.segment_with(n, self.source.starts_scene)
        if isinstance(segment, Segment):
            for k in (segment.kept.start, segment.kept.stop):
                if self.source.starts_scene(k) is None:
                    return Undecided(k)
            self._decided = segment
        return segment

    def _begin(self, segment: Segment) -> None:
        grid = self._ranges.grid
        device = segment.kept.start // grid.segment % self._limits.devices if grid.segment else 0
        starts, ends = (bool(self.source.starts_scene(k)) for k in (segment.kept.start, segment.kept.stop))
        self._actions.append(self.segments.begin(segment, device, starts_scene=starts, ends_scene=ends))
        if not grid.segment:  # of whole scenes only those stay that are in use; the segment has its own frames
            in_use = self._ranges.scenes_around(self.demand.wanted, self.source.starts_scene)
            if gone := self.source.evict(len(self.source), in_use):
                self._actions.append(EvictSource(tuple(gone)))

    def _begin_ahead(self) -> None:
        """The segments after the one that sequential access is in, as soon as their frames have come."""
        front = self.demand.front
        if front is None or self._ranges.is_past_the_end(front):
            return
        if front not in self.demand.hr and self.segments.with_frame(front) is None:
            return  # its own segment comes first
        segment = self._segment_of(front)
        for _ in range(self._limits.devices):
            if isinstance(segment, Undecided) or self._ranges.is_past_the_end(segment.kept.stop):
                return
            n = segment.kept.stop
            segment = self._segment_of(n)
            if isinstance(segment, Undecided) or not self.segments.may_begin_ahead(n):
                return
            if n not in self.demand.hr and self.segments.with_frame(n) is None:
                if any(k not in self.source for k in segment.read):
                    return
                self._begin(segment)

    def _evict_hr(self) -> None:
        if gone := self.demand.evict_hr(self._limits.hr_frames):
            self._actions.append(EvictHr(gone))

    def _evict_source(self) -> None:
        """Two cells with all they may read stay, and what requests under way need; the oldest of the others go."""
        grid = self._ranges.grid
        if grid.segment == 0:
            return
        reach = grid.segment + 2 * (grid.context + BEFORE)
        spare = len(self.source) - (1 + self._limits.devices) * reach - ROUND_FRAMES * self._limits.in_flight
        if spare <= 0:
            return
        protected = [self._ranges.surroundings(grid.cell(n)) for n in self.demand.requests]
        if self.demand.front is not None:
            protected.append(self._ranges.surroundings(self._ranges.cells_after(self.demand.front)))
        if gone := self.source.evict(spare, protected):
            self._actions.append(EvictSource(tuple(gone)))
