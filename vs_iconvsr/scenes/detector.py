"""Where a scene starts: decided by frame properties, or else by comparing six frames, in integer arithmetic only.

The signature of a frame is a thumbnail of its luma, smoothed, with the local mean subtracted. Two frames belong
together if most of one thumbnail can be found in the other, block by block, wherever motion may have carried it and
whatever its brightness. At a cut every frame before differs from every frame after, and clearly more than neighbors
differ on either side: after a flash of up to two frames the old picture returns, and in a dissolve, a fade or a whip
pan the next frame differs just as much. A screen that stays white for three frames or more is a scene of its own.
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
"""The decision about frame n reads frames n - BEFORE to n + AFTER, both included."""

DEFAULT_THRESHOLD = 0.7
"""See `is_cut`."""

PREV, NEXT = "_SceneChangePrev", "_SceneChangeNext"


def cut_from_properties(before: Mapping[str, int] | None, here: Mapping[str, int]) -> bool | None:
    """Whether a frame starts a scene, from its properties and those of the frame before; None if they are absent.

    Any value but 0 marks a cut, as for VapourSynth's own filters.
    """
    flags = [properties[name] for properties, name in ((here, PREV), (before or {}, NEXT)) if name in properties]
    return any(flags) if flags else None


def signature(planes: Planes, format: Format) -> Tensor:
    """Planes of one frame → (rows, columns) int16 on their device, about THUMBNAIL_CELLS cells or fewer.

    The unit is a quarter of an 8-bit step. Sums are exact integers, so no thread count or device changes the result.
    """
    height, width = planes[0].shape
    side = math.isqrt((width * height - 1) // THUMBNAIL_CELLS) + 1
    high, wide = min(side, height), min(side, width)
    weights = (2, 5, 1) if format.family == "RGB" else (1,)
    sums = [weight * _cell_sums(plane, format, high, wide) for weight, plane in zip(weights, planes, strict=False)]
    pixels = wide * len(range(0, high, _row_step(high))) * sum(weights)
    smooth = _window_sums((sum(sums[1:], sums[0]) // pixels).to(torch.int32), (1, 2, 1))
    detail = smooth * 49 - _window_sums(smooth, (1,) * 7)
    return torch.div(detail, 49 * 16, rounding_mode="floor").clamp(-DETAIL_MAX, DETAIL_MAX).to(torch.int16)


def is_cut(signatures: Sequence[Tensor], at: int, *, threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether the frame whose signature is signatures[at] starts a scene.

    signatures: of frames n - BEFORE to n + AFTER in order, fewer at the ends of the clip.
    threshold: the share of the structure that must be missing on the other side; lower finds more cuts. Raises
    ValueError unless it is above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"sc_threshold: expected a share above 0 and at most 1, got {threshold}")
    if at < 1:
        return False
    before, after = signatures[max(at - BEFORE, 0) : at], signatures[at : at + AFTER + 1]
    across = SignaturePair(before[-1], after[0])
    if across.still <= CALM * across.cells or across.missing <= threshold:
        return False
    if not (_stands_out(across, before[::-1]) and _stands_out(across, after)):
        return False
    if _is_step_of_a_fade(before, after, across):
        return False
    pairs = itertools.product(before[::-1], after)
    return all(SignaturePair(*pair).missing > RETURN * threshold for pair in itertools.islice(pairs, 1, None))


THUMBNAIL_CELLS = 2304
"""64 x 36: keeps the structure in which scenes differ, and loses motion blur and grain."""
DETAIL_MAX = 1023
"""Limit of a signature's values, so that the sum over a row of a block fits in 16 bits."""
BLOCK = 12
"""Side of a block that moves as one, in cells. Smaller blocks are found by chance in unrelated frames."""
REACH = (8, 16)
"""Search range of a block (rows, columns), in cells: a quarter of the frame."""
GAIN = 4
"""Contrast may change by up to this factor from one frame to the next of a scene."""
PEAK = 1.15
"""Across a cut this many times as much must be missing as between neighbors, as a share of the structure …"""
FAR_MORE = 3
"""… or this many times as much in absolute terms."""
RETURN = 0.9
"""The share of the threshold that must be missing between frames farther from the cut."""
CALM = 1.4
"""Mean difference per cell, in the signature's unit, below which nothing is a cut."""
FLOOR = 0.3
"""Structure credited to every cell, in the signature's unit: what noise and rounding leave in a flat cell."""


class SignaturePair:
    """The comparison of two signatures."""

    def __init__(self, one: Tensor, other: Tensor) -> None:
        self._one, self._other = one, other
        self.cells = one.numel()
        self.energies = _energy(one), _energy(other)

    @functools.cached_property
    def still(self) -> int:
        """Σ|difference| without motion search."""
        return _energy(self._one - self._other)

    @functools.cached_property
    def missing(self) -> float:
        """The share of the structure of both frames that is not found in the other one, 0 to 1."""
        credit = 2 * FLOOR * self.cells
        in_place = 2 * self.still / (sum(self.energies) + credit)
        if in_place < MOVED:
            return in_place
        one, other = self._with_equal_energy()
        unexplained, structure = (a + b for a, b in zip(_search(one, other), _search(other, one), strict=True))
        return min(in_place, unexplained / (structure + credit))

    def _with_equal_energy(self) -> tuple[Tensor, Tensor]:
        """The signatures, the weaker one amplified to the energy of the other, at most by GAIN."""
        weak, strong = sorted(self.energies)
        if weak == strong or weak == 0:
            return self._one, self._other
        over, under = (strong, weak) if strong <= GAIN * weak else (GAIN, 1)
        amplified = (self._one, self._other)[self.energies.index(weak)].to(torch.int64) * over // under
        amplified = amplified.clamp(-DETAIL_MAX, DETAIL_MAX).to(torch.int16)
        return (amplified, self._other) if self.energies[0] == weak else (self._one, amplified)


MOVED = 0.3
"""If less than this is missing without motion search, none is done."""


def _stands_out(across: SignaturePair, frames: Sequence[Tensor]) -> bool:
    """Whether clearly more is missing across the cut than between neighbors on one side; frames from the cut outward.

    More as a share, or, where a side is mostly noise, far more in absolute terms. Repeated frames are no evidence.
    """
    for near, far in itertools.pairwise(frames):
        usual = SignaturePair(near, far)
        if 8 * usual.still > across.still:
            far_more = across.missing * sum(across.energies) >= FAR_MORE * usual.missing * sum(usual.energies)
            return far_more or across.missing >= PEAK * usual.missing
    return True


def _is_step_of_a_fade(before: Sequence[Tensor], after: Sequence[Tensor], across: SignaturePair) -> bool:
    """Whether little but the contrast changes here, and the contrast changes about as much at a neighboring frame."""
    energies = [_energy(frame) for frame in (*before, *after)]
    steps = [b - a for a, b in itertools.pairwise(energies)]
    step = steps.pop(len(before) - 1)
    same_direction = [other for other in steps if other * step > 0]
    return across.still < 2.5 * abs(step) and abs(step) < 2 * max(map(abs, same_direction), default=0)


def _search(picture: Tensor, source: Tensor) -> tuple[int, int]:
    """(unexplained, structure) of all blocks of picture.

    unexplained: the sum of the smallest Σ|difference| of each block to any place in source within REACH, or to
    nothing. structure: the same with nothing to compare with.
    """
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
    """(n, rows, columns) int16 → (n, rows / high, columns / wide) int32. Whole rows are added first; 16 bits hold the
    sum of twelve of them."""
    count, rows, columns = cells.shape
    bands = cells.view(count, rows // high, high, columns)
    total = bands[:, :, 0].clone()
    for row in range(1, high):
        total += bands[:, :, row]
    return total.view(count, rows // high, columns // wide, wide).sum(dim=3, dtype=torch.int32)


def _energy(cells: Tensor) -> int:
    return int(cells.abs().sum(dtype=torch.int64))


def _cell_sums(plane: Tensor, format: Format, high: int, wide: int) -> Tensor:
    """A plane → (rows, columns) int64: sums of 10-bit values over cells; incomplete cells at the edges are dropped."""
    rows, columns = plane.shape[0] // high, plane.shape[1] // wide
    top, left = plane.shape[0] % high // 2, plane.shape[1] % wide // 2
    codes = plane[top : top + rows * high, left : left + columns * wide].view(rows, high, columns, wide)
    codes = codes[:, :: _row_step(high)]
    if format.sample == "float":
        codes = torch.nan_to_num(codes.to(torch.float32)).clamp(0, 1).mul(4092).round()
        return codes.to(torch.int32).sum(dim=(1, 3)) // 4
    return codes.to(torch.int32).sum(dim=(1, 3)) * 1024 // (1 << format.bits)


def _row_step(high: int) -> int:
    """The step between the rows of a cell that are read: about eight rows are as good as all."""
    return max(1, high // 8)


def _window_sums(cells: Tensor, weights: tuple[int, ...]) -> Tensor:
    """Weighted sums over a square window around each cell; the outermost cells are repeated beyond the edges."""
    for dim in (0, 1):
        size, half = cells.shape[dim], len(weights) // 2
        at = torch.arange(-half, size + half, device=cells.device).clamp(0, size - 1)
        wide = cells.index_select(dim, at)
        parts = [weight * wide.narrow(dim, i, size) for i, weight in enumerate(weights)]
        cells = sum(parts[1:], parts[0])
    return cells
