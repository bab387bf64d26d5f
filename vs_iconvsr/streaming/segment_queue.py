"""The segments under way, which of them steps next, and what becomes of one that fails. Part of the planner."""

from collections import OrderedDict
from dataclasses import dataclass

from vs_iconvsr.segments import Segment
from vs_iconvsr.streaming.actions import Action, Begin, Drop, Fail, Restart, Step, Taken
from vs_iconvsr.streaming.demand import Demand


@dataclass(frozen=True)
class Limits:
    """in_flight: requests at a time. hr_frames: hr frames to hold. devices: how many work side by side.

    strategies: how many memory strategies there are, numbered from the fastest to the one that needs least.
    strategy: the first to try.
    """

    in_flight: int
    hr_frames: int
    devices: int
    strategies: int
    strategy: int = 0


@dataclass
class SegmentState:
    """A segment under way. next_kept: the next hr frame that it will make."""

    segment: Segment
    device: int
    strategy: int
    next_kept: int
    backward_done: bool = False
    running: bool = False
    failed: bool = False

    @property
    def start(self) -> int:
        return self.segment.kept.start

    @property
    def finished(self) -> bool:
        return self.next_kept == self.segment.kept.stop

    def begin_again(self, strategy: int) -> Restart:
        self.strategy, self.next_kept, self.backward_done = strategy, self.start, False
        return Restart(self.start, strategy)


class SegmentQueue:
    """Segments by their first frame kept, in the order they were begun.

    strategy: what a new segment begins with; it only ever rises, by `out_of_memory`.
    """

    def __init__(self, limits: Limits, demand: Demand) -> None:
        self.strategy = limits.strategy
        self._limits, self._demand = limits, demand
        self._states: OrderedDict[int, SegmentState] = OrderedDict()
        self._not_ahead: set[int] = set()  # failed before anybody asked for them: begun again only on request

    def __len__(self) -> int:
        return len(self._states)

    def with_frame(self, n: int) -> SegmentState | None:
        return next((state for state in self._states.values() if n in state.segment.kept), None)

    def may_begin_ahead(self, start: int) -> bool:
        return start not in self._not_ahead

    def begin(self, segment: Segment, device: int, *, starts_scene: bool, ends_scene: bool) -> Begin:
        start = segment.kept.start
        self._not_ahead.discard(start)
        self._states[start] = SegmentState(segment, device, self.strategy, start)
        return Begin(segment, device, self.strategy, starts_scene, ends_scene)

    def next_step(self, device: int) -> Step | None:
        """What a device does next; the segment counts as running until the outcome is reported.

        What somebody waits for goes first, the oldest request first, then what sequential access will want.
        """
        for n in self._demand.requests:
            state = self.with_frame(n)
            if state and state.device == device and not (state.running or state.failed or n in self._demand.hr):
                rewind = n < state.next_kept
                if rewind:
                    state.next_kept = state.start
                state.running = True
                return Step(state.start, rewind)
        for state in self._states.values():
            if state.device == device and self._is_worth_doing_ahead(state):
                state.running = True
                return Step(state.start, rewind=False)
        return None

    def step_taken(self, start: int, step: Taken) -> list[Action]:
        state = self._states[start]
        state.running, state.backward_done = False, step.backward_done
        if step.made is not None:
            state.next_kept = step.made + 1
        return [self._drop(state)] if state.finished and not self._has_waiters(state) else []

    def out_of_memory(self, start: int) -> list[Action]:
        """A step found no memory. What nobody waits for goes first; then the segment takes the next memory strategy.

        Segments that begin from now on take that strategy at once.
        """
        state = self._states[start]
        state.running = False
        following = min(state.strategy + 1, self._limits.strategies - 1)
        self.strategy = max(self.strategy, following)
        if not self._has_waiters(state):
            return [self._drop(state, again_ahead=False)]
        spare = [s for s in self._states.values() if s is not state and not s.running and not self._has_waiters(s)]
        if spare:
            dropped = [self._drop(other, again_ahead=False) for other in spare]
            return [*dropped, state.begin_again(state.strategy)]
        if state.strategy == following:
            state.failed = True
            return [Fail(start)]
        return [state.begin_again(following)]

    def step_failed(self, start: int) -> list[Action]:
        """A step ended with another error. It is for those who wait; the next request begins the segment again."""
        state = self._states[start]
        state.running = False
        if self._has_waiters(state):
            state.failed = True
            return []
        return [self._drop(state, again_ahead=False)]

    def evict(self, ahead: range) -> list[Action]:
        """Drops segments but those requested, the last one used and those that begin in `ahead`."""
        spare = len(self._states) - self._limits.devices - 1
        actions: list[Action] = []
        for state in list(self._states.values()):
            requested = any(n in state.segment.kept for n in self._demand.requests)
            if not (state.running or requested or state.start in ahead) and (spare > 0 or state.failed):
                actions.append(self._drop(state))
                spare -= 1
        return actions

    def _drop(self, state: SegmentState, *, again_ahead: bool = True) -> Drop:
        """again_ahead: whether it may be begun again before it is requested."""
        if not again_ahead:
            self._not_ahead.add(state.start)
        del self._states[state.start]
        return Drop(state.start)

    def _has_waiters(self, state: SegmentState) -> bool:
        return self._demand.is_waiting_for(state.segment.kept)

    def _is_worth_doing_ahead(self, state: SegmentState) -> bool:
        """Nobody waits for it, but sequential access will come by, and there is room for what it makes."""
        front = self._demand.front
        if front is None or state.running or state.failed or state.finished or state.segment.kept.stop <= front:
            return False
        if not state.backward_done:
            return True
        made = sum(self._demand.is_ahead(n) for n in self._demand.hr)
        being_made = sum(s.running and s.backward_done and s.next_kept > front for s in self._states.values())
        room = self._limits.hr_frames - self._limits.in_flight - 1
        return state.next_kept > front and made + being_made < room
