"""Which frames are kept and read together. Integers only: a function of the frame number, the grid and the cuts."""

from collections.abc import Callable
from dataclasses import dataclass


class Unknown(Exception):  # noqa: N818 - not an error: the answer has to wait for this
    """Whether `frame` starts a scene must be known first."""

    def __init__(self, frame: int) -> None:
        super().__init__(f"whether frame {frame} starts a scene is not known yet")
        self.frame = frame


@dataclass(frozen=True)
class Segment:
    """kept: the frames delivered from one propagation; read: those it propagates through, kept and context."""

    kept: range
    read: range


@dataclass(frozen=True)
class Grid:
    """The fixed grid that a clip lies on.

    segment: frames in a cell; 0 for one cell that holds the whole clip, so that whole scenes are kept together.
    context: frames read on either side of the kept ones and thrown away. Raises ValueError for what cannot be.
    """

    num_frames: int
    segment: int
    context: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"clip: expected at least 1 frame, got {self.num_frames}")
        if self.segment < 0:
            raise ValueError(f"segment: expected 0 (whole scenes) or at least 1 frame, got {self.segment}")
        if self.context < 0:
            raise ValueError(f"context: expected at least 0 frames, got {self.context}")

    def cell(self, n: int) -> range:
        """The cell that frame n lies in; the last one may be shorter."""
        if self.segment == 0:
            return range(self.num_frames)
        start = n - n % self.segment
        return range(start, min(start + self.segment, self.num_frames))

    def segment_with(self, n: int, starts_scene: Callable[[int], bool]) -> Segment:
        """The segment that frame n is kept from.

        starts_scene(k), asked for 0 < k < num_frames only, may raise Unknown: it is asked outwards from n and only
        about frames that matter.
        """
        cell = self.cell(n)
        kept = range(
            _walk_back(n, cell.start, starts_scene),
            _walk_on(n + 1, cell.stop, starts_scene),
        )
        read = range(
            _walk_back(kept.start, max(kept.start - self.context, 0), starts_scene),
            _walk_on(kept.stop, min(kept.stop + self.context, self.num_frames), starts_scene),
        )
        return Segment(kept, read)


def _walk_back(start: int, limit: int, starts_scene: Callable[[int], bool]) -> int:
    """The first frame of a range that grows backwards to limit, but never past the first frame of a scene."""
    while start > limit and not starts_scene(start):
        start -= 1
    return start


def _walk_on(stop: int, limit: int, starts_scene: Callable[[int], bool]) -> int:
    """The end of a range that grows onwards to limit, but never into the next scene."""
    while stop < limit and not starts_scene(stop):
        stop += 1
    return stop
