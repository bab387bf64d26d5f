"""Bicubic resizing: chroma up to the size of luma and down again, for every subsampling and location; frames up."""

import functools
import math

import torch
from torch import Tensor

from vs_iconvsr.colorspace.colorimetry import Colorimetry
from vs_iconvsr.colorspace.formats import Format

CUBIC_B, CUBIC_C = 0.0, 0.5
"""The bicubic kernel, for chroma zimg's filter_param_a_uv and filter_param_b_uv."""


def upsample_chroma(plane: Tensor, format: Format, color: Colorimetry, width: int, height: int) -> Tensor:
    """A chroma plane of any subsampling → (height, width), sampled where the luma samples are."""
    across, down = _siting(format, color)
    if format.subsampling_h:
        plane = _upsample(plane, 1 << format.subsampling_h, down, dim=0)[:height]
    if format.subsampling_w:
        plane = _upsample(plane, 1 << format.subsampling_w, across, dim=1)[:, :width]
    return plane


def enlarge_bicubic(rgb: Tensor, scale: int) -> Tensor:
    """rgb (3, h, w) → (3, scale*h, scale*w) as zimg does it with the same kernel; scale 1 is rgb."""
    if scale == 1:
        return rgb
    center = scale / 2  # of the first sample, in samples of the result
    return _upsample(_upsample(rgb, scale, center, dim=1), scale, center, dim=2)


def downsample_chroma(plane: Tensor, format: Format, color: Colorimetry) -> Tensor:
    """A plane of the size of luma → the format's subsampling; rows first, because whole rows add fast."""
    across, down = _siting(format, color)
    if format.subsampling_h:
        plane = _downsample(plane, format.subsampling_h, down, dim=0)
    if format.subsampling_w:
        plane = _downsample(plane, format.subsampling_w, across, dim=1)
    return plane


def _siting(format: Format, color: Colorimetry) -> tuple[float, float]:
    """The position (across, down) of the first chroma sample, in luma pixels from the frame's corner.

    (0.5, 0.5) is the center of the first luma sample.
    """
    full_w, full_h = float(1 << format.subsampling_w), float(1 << format.subsampling_h)
    across = 0.5 if color.chroma_location in (0, 2, 4) else full_w / 2
    down = {2: 0.5, 3: 0.5, 4: full_h - 0.5, 5: full_h - 0.5}.get(color.chroma_location, full_h / 2)
    return across, down


def _upsample(plane: Tensor, factor: int, first: float, *, dim: int) -> Tensor:
    """The plane `factor` times as large along dim. first: see `_siting`."""
    phases = [_taps((i + 0.5 - first) / factor + 0.5, 1) for i in range(factor)]
    before = max(0, *(-start for start, _ in phases))
    after = max(0, *(start + len(weights) - 1 for start, weights in phases))
    length = plane.shape[dim]
    padded = _mirror(plane, before, after, dim)
    parts = [
        _weighted_sum([padded.narrow(dim, before + start + k, length) for k in range(len(weights))], weights)
        for start, weights in phases
    ]
    return torch.stack(parts, dim=dim + 1).flatten(dim, dim + 1)


def _downsample(plane: Tensor, log2: int, first: float, *, dim: int) -> Tensor:
    """The plane 2**log2 times smaller along dim, odd sizes rounded up. first: see `_siting`."""
    factor = 1 << log2
    start, weights = _taps(first, factor)
    length = plane.shape[dim]
    kept = -(-length // factor)
    before = -(-max(0, -start) // factor) * factor
    blocks = -(-(before + start + len(weights)) // factor) + kept
    padded = _mirror(plane, before, blocks * factor - before - length, dim)
    offsets = [before + start + k for k in range(len(weights))]
    rows = padded.reshape(*plane.shape[:dim], blocks, factor, *plane.shape[dim + 1 :])
    combs = [rows.select(dim + 1, phase).contiguous() if dim else rows.select(1, phase) for phase in range(factor)]
    return _weighted_sum([combs[at % factor].narrow(dim, at // factor, kept) for at in offsets], weights)


@functools.cache
def _taps(position: float, reduction: int) -> tuple[int, tuple[float, ...]]:
    """The first source sample and the weights that give the value at a position, in source samples.

    0.5 is the center of the first sample. The kernel is widened by the reduction, against aliasing.
    """
    size = 4 * reduction
    start = math.floor(position - size / 2 + 0.5)
    raw = [_cubic((start + k + 0.5 - position) / reduction) for k in range(size)]
    while raw[0] == 0:
        raw, start = raw[1:], start + 1
    while raw[-1] == 0:
        raw = raw[:-1]
    return start, tuple(weight / sum(raw) for weight in raw)


def _cubic(distance: float) -> float:
    """Mitchell and Netravali's family of kernels at CUBIC_B and CUBIC_C."""
    x, b, c = abs(distance), CUBIC_B, CUBIC_C
    if x < 1:
        return ((12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + (6 - 2 * b)) / 6
    if x < 2:
        return ((-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + (8 * b + 24 * c)) / 6
    return 0.0


def _mirror(plane: Tensor, before: int, after: int, dim: int) -> Tensor:
    """The plane extended by its mirror image on both sides; beyond that the outermost sample is repeated."""
    length = plane.shape[dim]
    heads = [-i - 1 for i in range(-before, 0)]
    tails = [2 * length - i - 1 for i in range(length, length + after)]
    parts = [plane.narrow(dim, min(max(i, 0), length - 1), 1) for i in heads]
    parts.append(plane)
    parts += [plane.narrow(dim, min(max(i, 0), length - 1), 1) for i in tails]
    return torch.cat(parts, dim=dim)


def _weighted_sum(samples: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """The weighted sum, in order, without fused multiply-adds, which some processors round differently."""
    total = samples[0] * weights[0]
    product = torch.empty_like(total)
    for sample, weight in zip(samples[1:], weights[1:], strict=True):
        total += torch.mul(sample, weight, out=product)
    return total
