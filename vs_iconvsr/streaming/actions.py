"""The words of the planner: what a request needs, what the session is to do, what a device does and how that ends."""

from dataclasses import dataclass

from vs_iconvsr.segments import Segment

# ---- what a request needs ----


@dataclass(frozen=True)
class Fetch:
    """These source frames, ascending; then ask again."""

    frames: tuple[int, ...]


@dataclass(frozen=True)
class AwaitCuts:
    """A judgement that is under way; ask again when one has been reported."""


@dataclass(frozen=True)
class Ready:
    """Nothing more: the hr frame is there, or its segment has begun."""


@dataclass(frozen=True)
class PastEnd:
    """The clip ends before this frame, as has turned out."""


# ---- what the session is to do ----


@dataclass(frozen=True)
class Judge:
    """Compare the frames of `window`, all of which are held, to decide whether `frame` starts a scene."""

    frame: int
    window: range


@dataclass(frozen=True)
class Begin:
    """Begin a segment on a device. The source frames in segment.read are held now and may be forgotten later.

    strategy: the number of the memory strategy. starts_scene, ends_scene: whether a cut lies right before the first
    and right after the last frame kept.
    """

    segment: Segment
    device: int
    strategy: int
    starts_scene: bool
    ends_scene: bool


@dataclass(frozen=True)
class Restart:
    """Begin the segment that keeps `start` first again, by this memory strategy."""

    start: int
    strategy: int


@dataclass(frozen=True)
class Drop:
    """Forget the segment that keeps `start` first, with all its features."""

    start: int


@dataclass(frozen=True)
class Fail:
    """No memory strategy is left for the segment that keeps `start` first: those who wait for it get an error."""

    start: int


@dataclass(frozen=True)
class EvictSource:
    """Forget these source frames."""

    frames: tuple[int, ...]


@dataclass(frozen=True)
class EvictHr:
    """Forget these hr frames."""

    frames: tuple[int, ...]


Action = Judge | Begin | Restart | Drop | Fail | EvictSource | EvictHr


# ---- what a device does next ----


@dataclass(frozen=True)
class Step:
    """One step of the segment that keeps `start` first; rewind: its forward branch begins again before."""

    start: int
    rewind: bool


@dataclass(frozen=True)
class Taken:
    """A step ended well; made: the hr frame that it completed."""

    backward_done: bool
    made: int | None


@dataclass(frozen=True)
class NoMemory:
    """A step found no memory; nothing of its segment is left on the device."""


@dataclass(frozen=True)
class Failed:
    """A step ended with another error."""


Ending = Taken | NoMemory | Failed
