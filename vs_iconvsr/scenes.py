"""Where a scene starts: the frame properties say so, or else six frames are compared, in integers alone.

A frame's signature is a thumbnail of its luma without the local mean, so that flashes, fades and flicker leave it
nearly alone. Two frames belong together when most of one thumbnail is found in the other, block by block, wherever
motion may have carried it. A cut is where every frame before differs from every frame after, and by far more than
neighbours on either side differ among themselves: a flash comes back, a dissolve or a fade differs as much at the next
frame.
"""

# ruff: noqa: A002  (format is what VapourSynth users call it)

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vs_iconvsr.colour import Format, Planes

BEFORE = 3
AFTER = 2
"""The decision about frame n takes frames n - BEFORE … n + AFTER, both included."""

DEFAULT_THRESHOLD = 0.5
"""See `is_cut`."""


def cut_from_properties(before: Mapping[str, int] | None, here: Mapping[str, int]) -> bool | None:
    """Whether a frame starts a scene, by its own properties and those of the frame before it; None: they do not say."""
    told = [properties[name] for properties, name in ((here, PREV), (before or {}, NEXT)) if name in properties]
    return any(value == 1 for value in told) if told else None


PREV, NEXT = "_SceneChangePrev", "_SceneChangeNext"


def signature(planes: Planes, format: Format) -> Tensor:
    """planes of one frame → (rows, columns) int32 on their device, at most THUMBNAIL_CELLS together.

    Made of exact integer sums of the codes (floats count in 1/4095), so no thread count or device changes it.
    """
    height, width = planes[0].shape
    cell = min(math.isqrt((width * height - 1) // THUMBNAIL_CELLS) + 1, width, height)
    weights = (2, 5, 1) if format.family == "RGB" else (1,)
    thumbnail = sum(weight * _cell_sums(plane, format, cell) for weight, plane in zip(weights, planes, strict=False))
    assert isinstance(thumbnail, Tensor)
    pixels = cell * len(range(0, cell, _row_step(cell))) * sum(weights)
    return _without_local_mean(torch.div(thumbnail, pixels, rounding_mode="floor").to(torch.int32))


def is_cut(signatures: Sequence[Tensor], at: int, *, threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether the frame whose signature is signatures[at] starts a scene.

    signatures: those of frames n - BEFORE … n + AFTER in order, fewer at the ends of the clip.
    threshold: the share of the structure, up to 1, that must be missing from the other side; lower finds more cuts.
    Raises ValueError for another threshold.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"sc_threshold: wanted a share above 0 and up to 1, got {threshold}")
    if at < 1:
        return False
    before, after = list(signatures[max(at - BEFORE, 0) : at]), list(signatures[at : at + AFTER + 1])
    across = _Difference(before[-1], after[0])
    if not across.exceeds(threshold) or across.unexplained < CALM * len(before[-1].flatten()):
        return False
    if across.unexplained < PEAK * max(_usual(before[::-1], across), _usual(after, across)):
        return False
    others = [(b, a) for b in before for a in after if b is not before[-1] or a is not after[0]]
    return all(_Difference(b, a).exceeds(threshold * RETURN) for b, a in others)


THUMBNAIL_CELLS = 2304
"""64 x 36: structure at a 64th of the width is what motion blur and grain leave, and what scenes differ in."""
BLOCK = 6
"""Side of a block that moves as one, in cells."""
REACH = (8, 16)
"""How far a block is looked for (rows, columns), in cells: a quarter of the frame."""
PEAK = 2.5
"""So many times the usual difference between neighbours must a cut be."""
RETURN = 0.8
"""Share of the threshold by which frames further from the cut must still differ."""
CALM = 12 * 49
"""Mean difference per cell under which nothing is called a cut; see `_without_local_mean` for the unit."""


class _Difference:
    """What of two thumbnails is not found in the other: `unexplained`, of `structure`."""

    def __init__(self, one: Tensor, other: Tensor) -> None:
        self._one, self._other = one, other
        self.structure = int(one.abs().sum()) + int(other.abs().sum())
        self._still = 2 * int((one - other).abs().sum())

    def exceeds(self, share: float) -> bool:
        """Whether the unexplained share is above this. Cheap where the frames differ little without any motion."""
        return self._still > share * self.structure and self.unexplained > share * self.structure

    @property
    def unexplained(self) -> int:
        return _unexplained(self._one, self._other) + _unexplained(self._other, self._one)


def _unexplained(picture: Tensor, source: Tensor) -> int:
    """Σ over the blocks of picture of the smallest Σ|difference| to any place of source in reach, or to nothing."""
    rows, columns = (size - size % BLOCK or size for size in picture.shape)
    down, right = REACH
    picture = picture[:rows, :columns]
    padded = F.pad(source, (right, right, down, down))
    places = padded.unfold(0, rows, 1).unfold(1, columns, 1)[: 2 * down + 1, : 2 * right + 1]
    return int(_block_sums((places - picture).abs()).amin(dim=(0, 1)).minimum(_block_sums(picture.abs())).sum())


def _block_sums(cells: Tensor) -> Tensor:
    """(…, rows, columns) → (…, rows / BLOCK, columns / BLOCK)."""
    rows, columns = cells.shape[-2:]
    high, wide = min(BLOCK, rows), min(BLOCK, columns)
    blocks = cells.reshape(*cells.shape[:-2], rows // high, high, columns // wide, wide)
    return blocks.sum(dim=(-3, -1), dtype=torch.int32)


def _usual(frames: Sequence[Tensor], across: _Difference) -> int:
    """How much neighbours differ on one side of a cut; frames from the cut outwards. Frames shown twice tell nothing."""
    usual = 0
    for near, far in itertools.pairwise(frames):
        usual = _Difference(near, far).unexplained
        if usual * 8 > across.unexplained:
            break
    return usual


def _cell_sums(plane: Tensor, format: Format, cell: int) -> Tensor:
    """A plane → (rows, columns) int64: sums of 12-bit values over square cells; what does not fill one is left out."""
    rows, columns = plane.shape[0] // cell, plane.shape[1] // cell
    top, left = (plane.shape[0] - rows * cell) // 2, (plane.shape[1] - columns * cell) // 2
    codes = plane[top : top + rows * cell, left : left + columns * cell].view(rows, cell, columns, cell)
    codes = codes[:, :: _row_step(cell)]
    if format.sample == "float":
        codes = torch.nan_to_num(codes.to(torch.float32)).clamp(0, 1).mul(4095).round()
        return codes.to(torch.int32).sum(dim=(1, 3))
    return codes.to(torch.int32).sum(dim=(1, 3)) * 4096 // (1 << format.bits)


def _row_step(cell: int) -> int:
    """Every so manieth row of a cell is read: eight tell as much as all."""
    return max(1, cell // 8)


def _without_local_mean(thumbnail: Tensor) -> Tensor:
    """Each cell less the mean of the 7 x 7 around it, times 49 to stay whole: one 8-bit step of luma is 16 * 49."""
    padded = F.pad(thumbnail[None, None].to(torch.float32), (3, 3, 3, 3), mode="replicate")
    around = F.avg_pool2d(padded, 7, stride=1, divisor_override=1)[0, 0]
    return thumbnail * 49 - around.to(torch.int32)
