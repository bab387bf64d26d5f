"""Where each pass of a network has to go in a segment: integers only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vs_iconvsr.networks.propagation import Pass


@dataclass(frozen=True)
class Span:
    """Of one pass, frames counted from the first one read.

    runs: the frames that it has to step over. needed: those of them whose features a later pass or upsampling takes.
    """

    runs: range
    needed: range


def spans_of(passes: Sequence[Pass], kept: range, t: int) -> list[Span]:
    """For each pass, in a segment of t frames read of which hr frames of `kept` are delivered.

    A walk starts at its end of the segment, and ends at the last frame whose feature somebody needs: where no pass
    reads the features of frames that are only context, these are never made.
    """
    spans: dict[str, Span] = {}
    for at in reversed(passes):
        takers = [kept, *(spans[later.name].runs for later in passes if at.name in later.reads)]
        needed = range(min(frames.start for frames in takers), max(frames.stop for frames in takers))
        start = needed.start if at.backward or at.order == 0 else 0
        stop = needed.stop if not at.backward or at.order == 0 else t
        spans[at.name] = Span(range(start, stop), needed)
    return [spans[at.name] for at in passes]


def flows_wanted(passes: Sequence[Pass], spans: Mapping[str, Span], t: int, *, towards: int) -> range:
    """The frames of a segment of t frames from which steps want the flow to the next frame (1) or the one before (-1).

    A backward walk takes features from the next frame.
    """
    walks = [spans[at.name].runs for at in passes if at.order > 0 and at.backward == (towards > 0)]
    if not walks:
        return range(0)
    start, stop = min(runs.start for runs in walks), max(runs.stop for runs in walks)
    return range(start, min(stop, t - 1)) if towards > 0 else range(max(start, 1), stop)


def flows_are_shared(passes: Sequence[Pass]) -> bool:
    """Whether the flow between two frames serves more than one step: several passes one way, or second order."""
    walks = [at for at in passes if at.order > 0]
    return any(at.order > 1 for at in walks) or len({at.backward for at in walks}) < len(walks)
