"""Code values ↔ normalized values: bit depth, range and dither of one plane."""

import functools

import torch
from torch import Tensor

from vs_iconvsr.colorspace.formats import Format

DITHERS = ("ordered", "none")


def decode(plane: Tensor, format: Format, full_range: bool, *, chroma: bool = False) -> Tensor:
    """A plane's code values → a new float32 tensor: luma and RGB nominally in [0, 1], chroma in [-1/2, 1/2]."""
    scale, offset = _code_scale(format, full_range, chroma)
    values = plane.to(torch.float32, copy=True)
    return values if format.sample == "float" else values.sub_(offset).mul_(1 / scale)


def encode(
    values: Tensor,
    format: Format,
    full_range: bool,
    dither: str,
    plane: int,
    *,
    chroma: bool = False,
) -> Tensor:
    """Normalized values → code values of the given plane."""
    if format.sample == "float":
        return values.to(format.dtype)
    scale, offset = _code_scale(format, full_range, chroma)
    threshold: Tensor | float = 0.5
    if dither == "ordered":
        threshold = _dither_band(values.shape[1], plane, values.device)
    codes = torch.empty(values.shape, dtype=format.dtype, device=values.device)
    rows = _rows_at_once(values)
    for top in range(0, values.shape[0], rows):
        band = values[top : top + rows] * scale
        band += offset
        _add_threshold(band, threshold)
        band = band.floor_().clamp_(0, (1 << format.bits) - 1)
        codes[top : top + rows] = band if format.bits == 8 else band.to(torch.int32)
    return codes


DITHER_ROWS = 64
"""The dither pattern repeats after this many rows."""


def _rows_at_once(values: Tensor) -> int:
    """Whole repetitions of the pattern: one stays in a CPU's cache; a GPU has no time for a hundred small kernels."""
    return DITHER_ROWS if values.device.type == "cpu" else max(values.shape[0], 1)


def _add_threshold(band: Tensor, threshold: Tensor | float) -> None:
    """In place. The first row of the band is the first one of the pattern."""
    if isinstance(threshold, float):
        band += threshold
        return
    rest = band.shape[0] % DITHER_ROWS
    whole = band.shape[0] - rest
    if whole:
        band[:whole].view(-1, DITHER_ROWS, band.shape[1]).add_(threshold)
    if rest:
        band[whole:].add_(threshold[:rest])


@functools.lru_cache(maxsize=16)
def _dither_band(width: int, plane: int, device: torch.device) -> Tensor:
    """Thresholds in (0, 1), (DITHER_ROWS, width): a rank-1 lattice, evenly spread over any small neighborhood.

    The steps are close to the two-dimensional golden ratio (1/1.3247, 1/1.3247²), the vertical one a multiple of
    1/DITHER_ROWS so that bands join; each plane has its own offset. In integers, so that all devices agree.
    """
    columns = torch.arange(width, dtype=torch.int64, device="cpu") * 49471
    rows = torch.arange(DITHER_ROWS, dtype=torch.int64, device="cpu") * (37 * 1024) + plane * 21845
    lattice = (rows[:, None] + columns[None, :]) & 0xFFFF
    return ((lattice.to(torch.float32) + 0.5) * (1 / 65536)).to(device)


def _code_scale(format: Format, full_range: bool, chroma: bool) -> tuple[float, float]:
    """(scale, offset): code = value * scale + offset, for luma or RGB in [0, 1] and chroma in [-1/2, 1/2]."""
    if format.sample == "float":
        return 1.0, 0.0
    unit = float(1 << format.bits - 8)
    middle = 128 * unit if chroma else 0.0
    if full_range:
        return 256 * unit - 1, middle
    return (224 * unit, middle) if chroma else (219 * unit, 16 * unit)
