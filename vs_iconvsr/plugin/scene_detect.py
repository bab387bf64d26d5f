"""core.iconvsr.SceneDetect: marks the first and the last frame of every scene."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from vs_iconvsr import options, scenes
from vs_iconvsr.plugin import planes
from vs_iconvsr.plugin.arguments import Arguments, Clip, argument, constant_format
from vs_iconvsr.plugin.planes import Plane
from vs_iconvsr.scenes.cuts import Cuts
from vs_iconvsr.segments import Unknown


class SceneDetectFilter:
    """core.iconvsr.SceneDetect: the clip itself with `_SceneChangePrev` and `_SceneChangeNext` set on every frame."""

    def __init__(self, clip: Clip, arguments: Arguments) -> None:
        self._format = constant_format(clip)
        id_, width, height, num_frames = clip
        threshold = argument(arguments, options.SC_THRESHOLD)
        self._signatures: OrderedDict[int, _Signature] = OrderedDict()
        self._cuts = Cuts(num_frames, threshold, self._signatures.get)
        self._lock = threading.Lock()
        self.output = (id_, width, height, True)

    def start(self, n: int) -> list[int]:
        """Frame n itself, to be copied, and what the detector looks at for cuts before and after it."""
        with self._lock:
            return sorted({n, *self._absent(n)})

    def take(self, n: int, frame: Sequence[Plane], properties: object, user_data: object) -> None:
        del properties, user_data
        signature = _Signature(scenes.signature(planes.copy_from(frame, self._format), self._format))
        with self._lock:
            self._signatures[n] = signature
            self._signatures.move_to_end(n)
            while len(self._signatures) > SIGNATURES_HELD:
                self._signatures.popitem(last=False)

    def more(self, n: int) -> list[int]:
        """Frames whose signatures have been dropped meanwhile, and n again: it is copied from the last round."""
        with self._lock:
            absent = self._absent(n)
            return sorted({n, *absent}) if absent else []

    def finish(self, n: int) -> tuple[None, None, dict[str, int]]:
        with self._lock:
            changes = {
                scenes.PREV: int(self._cuts.starts_scene(n)),
                scenes.NEXT: int(self._cuts.starts_scene(n + 1)),
            }
        return None, None, changes

    def abandon(self, n: int) -> None:
        del n

    def close(self) -> None:
        self._signatures.clear()

    def _absent(self, n: int) -> set[int]:
        """Frames without which a cut at n or n + 1 cannot be judged."""
        absent: set[int] = set()
        for k in (n, n + 1):
            try:
                self._cuts.starts_scene(k)
            except Unknown:
                absent.update(i for i in self._cuts.window(k) if i not in self._signatures)
        return absent


SIGNATURES_HELD = 512
"""About 10 KB each: room for every request of a core with many threads, and the same for clips of any length."""


@dataclass(frozen=True)
class _Signature:
    """A frame without properties: SceneDetect measures what others have already marked as well."""

    measured: torch.Tensor
    properties: Mapping[str, int] = field(default_factory=dict)

    def signature(self) -> torch.Tensor:
        return self.measured
