"""Held frames: those that repeat the one before exactly share its place in the propagation, and its hr frame.

Which frames do is decided inside one segment: an hr frame stays a function of the frames that its segment reads.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vs_iconvsr.engine import MemoryStrategy, Upscaler
from vs_iconvsr.segments import Segment
from vs_iconvsr.streaming.frames import SourceFrame


class HeldPropagation:
    """The propagation of a segment without its repetitions, for which the hr frame before is returned once more.

    Takes steps as a Propagation does; `next_kept` is a number in the clip. lr_frame: see `Upscaler.propagate`.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        segment: Segment,
        frames: Mapping[int, SourceFrame],
        lr_frame: Callable[[int], Tensor],
        strategy: MemoryStrategy,
    ) -> None:
        first_shown, self._places = _places(segment.read, frames)
        kept = [self._places[n] for n in segment.kept]
        drawings = Segment(range(kept[0], kept[-1] + 1), range(len(first_shown)))
        self._drawings = upscaler.propagate(drawings, lambda place: lr_frame(first_shown[place]), strategy=strategy)
        self._kept = segment.kept
        self._held: tuple[int, Tensor] | None = None  # a place and its hr frame
        self.next_kept = segment.kept.start

    @property
    def backward_done(self) -> bool:
        return self._drawings.backward_done

    def step(self) -> Tensor | None:
        """See `Propagation.step`. A repetition takes no step of the network."""
        place = self._places[self.next_kept]
        if self._held is None or self._held[0] != place:
            self._held = None
            hr = self._drawings.step()
            if hr is None:
                return None
            self._held = place, hr
        _, hr = self._held
        self.next_kept += 1
        if self.next_kept == self._kept.stop:
            self._held = None
        return hr

    def rewind(self) -> None:
        """See `Propagation.rewind`."""
        self._held, self.next_kept = None, self._kept.start
        self._drawings.rewind()


def _places(read: range, frames: Mapping[int, SourceFrame]) -> tuple[list[int], dict[int, int]]:
    """The first frame of each place, and the place of each frame."""
    first_shown: list[int] = []
    places: dict[int, int] = {}
    for n in read:
        if n == read.start or not _repeats(frames[n], frames[n - 1]):
            first_shown.append(n)
        places[n] = len(first_shown) - 1
    return first_shown, places


def _repeats(frame: SourceFrame, before: SourceFrame) -> bool:
    same_planes = all(torch.equal(a, b) for a, b in zip(frame.planes, before.planes, strict=True))
    return same_planes and frame.color == before.color
