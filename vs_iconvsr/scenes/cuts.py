"""What is known so far of where the scenes of one clip start. Integers only; who compares frames is elsewhere."""

from vs_iconvsr.scenes import AFTER, BEFORE

_NOT_KNOWN, _NO_CUT, _CUT = range(3)

PAGE_FRAMES = 4096


class SceneStarts:
    """Answers for one clip, each kept for good. num_frames: None while the end is not known.

    One byte for each frame of the pages that something is known of: a seek to the end of an endless clip costs a page.
    """

    def __init__(self, num_frames: int | None) -> None:
        self.num_frames = num_frames
        self._pages: dict[int, bytearray] = {}

    def __getitem__(self, n: int) -> bool | None:
        """Whether frame n starts a scene, None if not known; never frame 0, nor what lies beyond the end."""
        if n <= 0 or (self.num_frames is not None and n >= self.num_frames):
            return False
        page = self._pages.get(n // PAGE_FRAMES)
        answer = _NOT_KNOWN if page is None else page[n % PAGE_FRAMES]
        return None if answer == _NOT_KNOWN else answer == _CUT

    def learn(self, n: int, starts_scene: bool) -> None:
        page = self._pages.get(n // PAGE_FRAMES)
        if page is None:
            page = self._pages[n // PAGE_FRAMES] = bytearray(PAGE_FRAMES)
        page[n % PAGE_FRAMES] = _CUT if starts_scene else _NO_CUT

    def window(self, n: int) -> range:
        """The frames that are compared to decide whether frame n starts a scene."""
        stop = n + AFTER + 1
        return range(max(n - BEFORE, 0), stop if self.num_frames is None else min(stop, self.num_frames))
