"""Where the scenes of one clip start, as far as the frames that have come can tell."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from vs_iconvsr import scenes
from vs_iconvsr.segments import Unknown

_NOT_KNOWN, _NO_CUT, _CUT = range(3)


class Evidence(Protocol):
    """What a frame says about cuts."""

    @property
    def properties(self) -> Mapping[str, int]: ...

    def signature(self) -> Tensor:
        """See `scenes.signature`."""


class Cuts:
    """Answers for one clip; an answer is kept for good, in one byte a frame. Callers see to it that one asks at a time.

    frame(n) → what frame n says, None where it has not come. threshold: see `scenes.is_cut`.
    """

    def __init__(self, num_frames: int, threshold: float, frame: Callable[[int], Evidence | None]) -> None:
        self._num_frames = num_frames
        self._threshold = threshold
        self._frame = frame
        self._known = bytearray(num_frames + 1)

    def starts_scene(self, n: int) -> bool:
        """Whether frame n starts a scene; never frame 0, nor the one after the last.

        The properties of frames n - 1 and n say so, or else the frames of `window(n)` are compared. Raises Unknown
        while some of those have not come.
        """
        if not 0 < n < self._num_frames:
            return False
        if self._known[n] == _NOT_KNOWN:
            self._known[n] = _CUT if self._judge(n) else _NO_CUT
        return self._known[n] == _CUT

    def window(self, n: int) -> range:
        """The frames that tell whether frame n starts a scene."""
        return range(max(n - scenes.BEFORE, 0), min(n + scenes.AFTER + 1, self._num_frames))

    def _judge(self, n: int) -> bool:
        before, here = self._frame(n - 1), self._frame(n)
        if before is None or here is None:
            raise Unknown(n)
        told = scenes.cut_from_properties(before.properties, here.properties)
        if told is not None:
            return told
        window = self.window(n)
        frames = [frame for k in window if (frame := self._frame(k)) is not None]
        if len(frames) < len(window):
            raise Unknown(n)
        return scenes.is_cut([frame.signature() for frame in frames], n - window.start, threshold=self._threshold)
