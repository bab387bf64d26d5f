"""Where a scene starts: the frame properties say so, or else six frames are compared, in integers alone.

A frame's signature is a thumbnail of its luma, smoothed and without the local mean. Two frames belong together when
most of one thumbnail is found in the other, block by block, wherever motion may have carried it and however bright it
has become. A cut is where every frame before differs from every frame after, and clearly more than neighbours on
either side differ among themselves: a flash of up to two frames comes back, a dissolve, a fade or a whip pan differs as
much at the next frame. A picture that stays white for three frames or more is a scene of its own.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vs_iconvsr.colorspace import Format, Planes

BEFORE = 3
AFTER = 2
"""The decision about frame n takes frames n - BEFORE … n + AFTER, both included."""

DEFAULT_THRESHOLD = 0.7
"""See `is_cut`."""

PREV, NEXT = "_SceneChangePrev", "_SceneChangeNext"


def cut_from_properties(before: Mapping[str, int] | None, here: Mapping[str, int]) -> bool | None:
    """Whether a frame starts a scene, by its own properties and those of the frame before it; None: they do not say."""
    told = [properties[name] for properties, name in ((here, PREV), (before or {}, NEXT)) if name in properties]
    return any(value == 1 for value in told) if told else None


def signature(planes: Planes, format: Format) -> Tensor:
    """planes of one frame → (rows, columns) int16 on their device, about THUMBNAIL_CELLS or fewer.

    In quarters of an 8-bit step. Made of exact integer sums of the codes, so no thread count or device changes it.
    """
    height, width = planes[0].shape
    side = math.isqrt((width * height - 1) // THUMBNAIL_CELLS) + 1
    high, wide = min(side, height), min(side, width)
    weights = (2, 5, 1) if format.family == "RGB" else (1,)
    sums = [weight * _cell_sums(plane, format, high, wide) for weight, plane in zip(weights, planes, strict=False)]
    pixels = wide * len(range(0, high, _row_step(high))) * sum(weights)
    smooth = _windowed((sum(sums[1:], sums[0]) // pixels).to(torch.int32), (1, 2, 1))
    detail = smooth * 49 - _windowed(smooth, (1,) * 7)
    return torch.div(detail, 49 * 16, rounding_mode="floor").clamp(-DETAIL_MAX, DETAIL_MAX).to(torch.int16)


def is_cut(signatures: Sequence[Tensor], at: int, *, threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether the frame whose signature is signatures[at] starts a scene.

    signatures: those of frames n - BEFORE … n + AFTER in order, fewer at the ends of the clip.
    threshold: the share of the structure, up to 1, that must be missing from the other side; lower finds more cuts.
    Raises ValueError for another threshold.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"sc_threshold: expected a share above 0 and up to 1, got {threshold}")
    if at < 1:
        return False
    before, after = signatures[max(at - BEFORE, 0) : at], signatures[at : at + AFTER + 1]
    across = _Pair(before[-1], after[0])
    if across.still <= CALM * across.cells or across.missing <= threshold:
        return False
    if not (_stands_out(across, before[::-1]) and _stands_out(across, after)):
        return False
    if _is_step_of_a_fade(before, after, across):
        return False
    pairs = itertools.product(before[::-1], after)
    return all(_Pair(*pair).missing > RETURN * threshold for pair in itertools.islice(pairs, 1, None))


THUMBNAIL_CELLS = 2304
"""64 x 36: structure that motion blur and grain leave alone, and that scenes differ in."""
DETAIL_MAX = 1023
"""Bound of a signature's cells; sums of a block's row then fit 16 bits."""
BLOCK = 12
"""Side of a block that moves as one, in cells. Smaller ones are found by accident in pictures of something else."""
REACH = (8, 16)
"""How far a block is looked for (rows, columns), in cells: a quarter of the frame."""
GAIN = 4
"""Brightness may change by up to this factor within a scene from frame to frame."""
PEAK = 1.15
"""So many times as much as between neighbours must be missing across a cut."""
FAR_MORE = 3
"""Or so many times as much counted in all, not as a share."""
RETURN = 0.9
"""Share of the threshold that must be missing between frames further from the cut."""
CALM = 1.4
"""Mean difference per cell, in a signature's unit, up to which nothing is a cut."""
FLOOR = 0.3
"""Structure that every cell is credited with, in a signature's unit: what noise and rounding leave of a flat one."""


class _Pair:
    """Two signatures, compared."""

    def __init__(self, one: Tensor, other: Tensor) -> None:
        self._one, self._other = one, other
        self.cells = one.numel()
        self.energies = _energy(one), _energy(other)

    @functools.cached_property
    def still(self) -> int:
        """Σ|difference| in place."""
        return _energy(self._one - self._other)

    @functools.cached_property
    def missing(self) -> float:
        """The share of both frames that is not found in the other one, 0 to 1."""
        credit = 2 * FLOOR * self.cells
        in_place = 2 * self.still / (sum(self.energies) + credit)
        if in_place < MOVED:
            return in_place
        one, other = self._equally_strong()
        unexplained, structure = (a + b for a, b in zip(_searched(one, other), _searched(other, one), strict=True))
        return min(in_place, unexplained / (structure + credit))

    def _equally_strong(self) -> tuple[Tensor, Tensor]:
        """The signatures, the weaker one amplified to the energy of the other, within GAIN."""
        weak, strong = sorted(self.energies)
        if weak == strong or weak == 0:
            return self._one, self._other
        over, under = (strong, weak) if strong <= GAIN * weak else (GAIN, 1)
        amplified = (self._one, self._other)[self.energies.index(weak)].to(torch.int64) * over // under
        amplified = amplified.clamp(-DETAIL_MAX, DETAIL_MAX).to(torch.int16)
        return (amplified, self._other) if self.energies[0] == weak else (self._one, amplified)


MOVED = 0.3
"""Where less is missing even without any motion, none is looked for."""


def _stands_out(across: _Pair, frames: Sequence[Tensor]) -> bool:
    """Whether clearly more is missing across than between neighbours on one side; frames from the cut outwards.

    More as a share, or, where a side has little but noise, far more in all. Frames shown twice tell nothing.
    """
    for near, far in itertools.pairwise(frames):
        usual = _Pair(near, far)
        if 8 * usual.still > across.still:
            far_more = across.missing * sum(across.energies) >= FAR_MORE * usual.missing * sum(usual.energies)
            return far_more or across.missing >= PEAK * usual.missing
    return True


def _is_step_of_a_fade(before: Sequence[Tensor], after: Sequence[Tensor], across: _Pair) -> bool:
    """Whether hardly more than a change of strength happens, and one of such strength happens beside it too."""
    energies = [_energy(frame) for frame in (*before, *after)]
    steps = [b - a for a, b in itertools.pairwise(energies)]
    step = steps.pop(len(before) - 1)
    alike = [other for other in steps if other * step > 0]
    return across.still < 2.5 * abs(step) and abs(step) < 2 * max(map(abs, alike), default=0)


def _searched(picture: Tensor, source: Tensor) -> tuple[int, int]:
    """(unexplained, structure): Σ over picture's blocks of the smallest Σ|difference| to any place of source within
    REACH, nothing at all included; and what it is with nothing at all."""
    rows, columns = picture.shape
    high, wide = min(BLOCK, rows), min(BLOCK, columns)
    top, left = rows % high // 2, columns % wide // 2
    rows, columns = rows - rows % high, columns - columns % wide
    picture = picture[top : top + rows, left : left + columns]
    down, right = REACH
    padded = F.pad(source, (right, right, down, down))[top:, left:]
    best = structure = _block_sums(picture.abs()[None], high, wide)[0]
    for moved_down in range(2 * down + 1):
        places = padded[moved_down : moved_down + rows].unfold(1, columns, 1)[:, : 2 * right + 1].transpose(0, 1)
        best = torch.minimum(best, _block_sums((places - picture).abs_(), high, wide).amin(dim=0))
    return int(best.sum()), int(structure.sum())


def _block_sums(cells: Tensor, high: int, wide: int) -> Tensor:
    """(n, rows, columns) int16 → (n, rows / high, columns / wide) int32. Rows are added first: many at a time, 16 bits
    hold twelve of them."""
    count, rows, columns = cells.shape
    bands = cells.view(count, rows // high, high, columns)
    total = bands[:, :, 0].clone()
    for row in range(1, high):
        total += bands[:, :, row]
    return total.view(count, rows // high, columns // wide, wide).sum(dim=3, dtype=torch.int32)


def _energy(cells: Tensor) -> int:
    return int(cells.abs().sum(dtype=torch.int64))


def _cell_sums(plane: Tensor, format: Format, high: int, wide: int) -> Tensor:
    """A plane → (rows, columns) int64: sums of 10-bit values over cells; what does not fill a cell is left out."""
    rows, columns = plane.shape[0] // high, plane.shape[1] // wide
    top, left = plane.shape[0] % high // 2, plane.shape[1] % wide // 2
    codes = plane[top : top + rows * high, left : left + columns * wide].view(rows, high, columns, wide)
    codes = codes[:, :: _row_step(high)]
    if format.sample == "float":
        codes = torch.nan_to_num(codes.to(torch.float32)).clamp(0, 1).mul(4092).round()
        return codes.to(torch.int32).sum(dim=(1, 3)) // 4
    return codes.to(torch.int32).sum(dim=(1, 3)) * 1024 // (1 << format.bits)


def _row_step(high: int) -> int:
    """Every so manieth row of a cell is read: eight tell as much as all."""
    return max(1, high // 8)


def _windowed(cells: Tensor, weights: tuple[int, ...]) -> Tensor:
    """Weighted sums over a square window round each cell; the outermost cells go on beyond the edge."""
    for dim in (0, 1):
        size, half = cells.shape[dim], len(weights) // 2
        at = torch.arange(-half, size + half, device=cells.device).clamp(0, size - 1)
        wide = cells.index_select(dim, at)
        parts = [weight * wide.narrow(dim, i, size) for i, weight in enumerate(weights)]
        cells = sum(parts[1:], parts[0])
    return cells
