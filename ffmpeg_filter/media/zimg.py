"""Resizing by zimg, as VapourSynth has it: what `core.resize` gives in a script, this gives in the command."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ffmpeg_filter.media.target_size import KERNELS, Resize
from vs_iconvsr.colorspace import Colorimetry, Format, Planes

if TYPE_CHECKING:
    import vapoursynth as vs

BITS_BETWEEN = 16
_LAST = 2**31 - 1

# Transfer characteristics of H.273.
_BT709, _LINEAR, _NO_CURVE = 1, 8, (0, 2, 3)


def format_between(target: Format) -> Format:
    """What hr frames are between the network and zimg, which alone rounds them to the depth of the target."""
    return Format(target.family, "integer", BITS_BETWEEN, target.subsampling_w, target.subsampling_h)


def zimg_version() -> str:
    """Of VapourSynth, whose build of zimg the bytes depend on."""
    import vapoursynth

    return str(vapoursynth.__version__)


@dataclass(frozen=True)
class Resizing:
    """All that resized planes depend on, besides those that come in. size: of these. target: what comes out.

    dither: our names of it are zimg's.
    """

    resize: Resize
    size: tuple[int, int]
    target: Format
    color: Colorimetry
    dither: str


def resize_calls(resizing: Resizing) -> list[dict[str, int | str]]:
    """The arguments of each call of core.resize, one after the other; all by the same kernel.

    In linear light the frames are float RGB (or gray) on the way. An untagged transfer is taken for BT.709's.
    """
    size: dict[str, int | str] = {"width": resizing.resize.width, "height": resizing.resize.height}
    target, color = resizing.target, resizing.color
    rounding: dict[str, int | str] = {"format": target.id, "dither_type": resizing.dither}
    if not resizing.resize.linear_light:
        return [size | rounding]
    curve = _BT709 if color.transfer in _NO_CURVE else color.transfer
    light = Format("GRAY" if target.family == "GRAY" else "RGB", "float", 32)
    back: dict[str, int | str] = {"transfer": curve, "range_s": "full" if color.full_range else "limited"}
    if target.family == "YUV":
        back |= {"matrix": color.matrix}
    if target.subsampled:
        back |= {"chromaloc": color.chroma_location}
    return [{"format": light.id, "transfer_in": curve, "transfer": _LINEAR}, size, rounding | back]


class Resizer:
    """One frame in, one frame out. For one thread at a time."""

    def __init__(self, resizing: Resizing) -> None:
        import vapoursynth

        core = vapoursynth.core
        self._source = format_between(resizing.target)
        self._planes: Planes = ()
        self._properties = _properties(resizing.color)
        width, height = resizing.size
        blank = core.std.BlankClip(format=self._source.id, width=width, height=height, length=_LAST, keep=True)
        given = core.std.ModifyFrame(blank, blank, self._frame)
        nodes = [given]
        for arguments in resize_calls(resizing):
            nodes.append(getattr(nodes[-1].resize, KERNELS[resizing.resize.kernel])(**arguments))
        self._resized = nodes[-1]
        for node in nodes:  # every frame is asked for once
            core.std.SetVideoCache(node, mode=0)
        self._number = 0
        self._lock = threading.Lock()

    def __call__(self, planes: Planes) -> Planes:
        with self._lock:
            self._planes = planes
            with self._resized.get_frame(self._number) as frame:
                made = tuple(torch.from_numpy(np.asarray(frame[p]).copy()) for p in range(frame.format.num_planes))
            self._number = (self._number + 1) % _LAST
            self._planes = ()
            return made

    def _frame(self, n: int, f: "vs.VideoFrame") -> "vs.VideoFrame":
        """In a thread of VapourSynth's, while `__call__` waits."""
        del n
        frame = f.copy()
        for p, plane in enumerate(self._planes):
            np.asarray(frame[p])[...] = plane.numpy()
        frame.props.update(self._properties)
        return frame


def _properties(color: Colorimetry) -> dict[str, Any]:
    return {
        "_Matrix": color.matrix,
        "_Transfer": color.transfer,
        "_Primaries": color.primaries,
        "_Range": int(color.full_range),
        "_ChromaLocation": color.chroma_location,
        "_FieldBased": 0,
    }
