"""core.iconvsr.SceneDetect: marks the first and the last frame of every scene."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch

from vs_iconvsr import options, scenes
from vs_iconvsr.plugin import planes
from vs_iconvsr.plugin.arguments import Arguments, Clip, argument, constant_format
from vs_iconvsr.plugin.planes import Plane
from vs_iconvsr.scenes.cuts import SceneStarts

SIGNATURES_HELD = 512
"""About 10 KB each: room for every request of a core with many threads, and the same for clips of any length."""


class SceneDetectFilter:
    """core.iconvsr.SceneDetect: the clip itself with `_SceneChangePrev` and `_SceneChangeNext` set on every frame.

    It measures what others have already marked as well.
    """

    def __init__(self, clip: Clip, arguments: Arguments) -> None:
        self._format = constant_format(clip)
        id_, width, height, num_frames = clip
        self._threshold = argument(arguments, options.SC_THRESHOLD)
        self._signatures: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._starts = SceneStarts(num_frames)
        self._lock = threading.Lock()
        self.output = (id_, width, height, True)

    def start(self, n: int) -> list[int]:
        """Frame n itself, to be copied, and what the detector looks at for cuts before and after it."""
        with self._lock:
            return sorted({n, *self._absent(n)})

    def take(self, n: int, frame: Sequence[Plane], properties: object, user_data: object) -> None:
        del properties, user_data
        signature = scenes.signature(planes.copy_from(frame, self._format), self._format)
        with self._lock:
            self._signatures[n] = signature
            self._signatures.move_to_end(n)
            while len(self._signatures) > SIGNATURES_HELD:
                self._signatures.popitem(last=False)

    def more(self, n: int) -> list[int]:
        """Judges both cuts where it can; else the frames whose signatures have been dropped meanwhile, and n again: it
        is copied from the last round."""
        with self._lock:
            if absent := self._absent(n):
                return sorted({n, *absent})
            unknown = {k: self._starts.window(k) for k in (n, n + 1) if self._starts[k] is None}
            held = {k: [self._signatures[i] for i in window] for k, window in unknown.items()}
        for k, signatures in held.items():  # without the lock: it takes milliseconds
            answer = scenes.is_cut(signatures, k - unknown[k].start, threshold=self._threshold)
            with self._lock:
                self._starts.learn(k, answer)
        return []

    def finish(self, n: int) -> tuple[None, None, dict[str, int]]:
        with self._lock:
            return (
                None,
                None,
                {scenes.PREV: int(self._starts[n] is True), scenes.NEXT: int(self._starts[n + 1] is True)},
            )

    def abandon(self, n: int) -> None:
        del n

    def close(self) -> None:
        self._signatures.clear()

    def _absent(self, n: int) -> set[int]:
        """Frames without which a cut at n or n + 1 cannot be judged."""
        unknown = [k for k in (n, n + 1) if self._starts[k] is None]
        return {i for k in unknown for i in self._starts.window(k) if i not in self._signatures}
