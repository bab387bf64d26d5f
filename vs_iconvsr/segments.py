"""Which frames are kept and read together. Integers only: a function of the frame number, the grid and the cuts."""

from collections.abc import Callable
from dataclasses import dataclass

StartsScene = Callable[[int], bool | None]
"""Whether a frame starts a scene; None while that is not known."""


@dataclass(frozen=True)
class Segment:
    """kept: the frames delivered from one propagation; read: those it propagates through, kept and context."""

    kept: range
    read: range


@dataclass(frozen=True)
class Undecided:
    """There is no segment yet: it depends on whether `frame` starts a scene, which is not known."""

    frame: int


@dataclass(frozen=True)
class Grid:
    """The fixed grid that a clip lies on.

    num_frames: None while the end of the clip has not been seen. segment: frames in a cell; 0 for one cell that holds
    the whole clip, so that whole scenes are kept together. context: frames read on either side of the kept ones and
    thrown away. Raises ValueError for values that make no grid.
    """

    num_frames: int | None
    segment: int
    context: int

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise ValueError(f"clip: expected at least 1 frame, got {self.num_frames}")
        if self.segment < 0:
            raise ValueError(f"segment: expected 0 (whole scenes) or at least 1 frame, got {self.segment}")
        if self.context < 0:
            raise ValueError(f"context: expected at least 0 frames, got {self.context}")
        if self.segment == 0 and self.num_frames is None:
            raise ValueError("segment: expected at least 1 for a clip whose length is not known, got 0 (whole scenes)")

    def clip(self, start: int, stop: int) -> range:
        """range(start, stop) without what lies outside the clip."""
        return range(max(start, 0), stop if self.num_frames is None else min(stop, self.num_frames))

    def cell(self, n: int) -> range:
        """The cell that frame n lies in; the last one may be shorter."""
        if self.segment == 0:
            assert self.num_frames is not None, "checked above"
            return range(self.num_frames)
        start = n - n % self.segment
        return self.clip(start, start + self.segment)

    def segment_with(self, n: int, starts_scene: StartsScene) -> Segment | Undecided:
        """The segment that frame n is kept from.

        starts_scene(k) is asked for 0 < k < num_frames only, outwards from n, and only about frames that matter.
        """
        cell = self.cell(n)
        start = _walk_back(n, cell.start, starts_scene)
        stop = _walk_on(n + 1, cell.stop, starts_scene)
        if isinstance(start, Undecided):
            return start
        if isinstance(stop, Undecided):
            return stop
        widest = self.clip(start - self.context, stop + self.context)
        read_start = _walk_back(start, widest.start, starts_scene)
        read_stop = _walk_on(stop, widest.stop, starts_scene)
        if isinstance(read_start, Undecided):
            return read_start
        if isinstance(read_stop, Undecided):
            return read_stop
        return Segment(range(start, stop), range(read_start, read_stop))


def _walk_back(start: int, limit: int, starts_scene: StartsScene) -> int | Undecided:
    """The first frame of a range that grows backwards to limit, but never past the first frame of a scene."""
    while start > limit:
        answer = starts_scene(start)
        if answer is None:
            return Undecided(start)
        if answer:
            break
        start -= 1
    return start


def _walk_on(stop: int, limit: int, starts_scene: StartsScene) -> int | Undecided:
    """The end of a range that grows onwards to limit, but never into the next scene."""
    while stop < limit:
        answer = starts_scene(stop)
        if answer is None:
            return Undecided(stop)
        if answer:
            break
        stop += 1
    return stop
