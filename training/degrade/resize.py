"""Exact downscaling: MATLAB's imresize (BI) and the two conventions of blurred downscaling (BD).

Each is linear and separable, hence one matrix per axis; sums are float64, as in the definitions.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BD_SIGMA = 1.6


@lru_cache(maxsize=256)
def bicubic_matrix(length: int, new_length: int, scale: float) -> Tensor:
    """(new_length, length) float64: MATLAB's imresize on one axis: a = -0.5, widened when shrinking, mirrored borders.

    scale: output size over input size, below or above 1.
    """
    return _resampling(length, new_length, scale, "bicubic")


@lru_cache(maxsize=256)
def resampling_matrix(length: int, new_length: int, kernel: str) -> Tensor:
    """(new_length, length) float64: one of KERNELS, widened when shrinking, mirrored borders; edges coincide."""
    return _resampling(length, new_length, new_length / length, kernel)


@lru_cache(maxsize=1024)
def gaussian_matrix(length: int, scale: int, sigma: float) -> Tensor:
    """(length // scale, length) float64: Gaussian blur sampled once per `scale` pixels; borders repeat.

    The kernel is centered on each square of `scale` pixels, so nothing shifts relative to BI: with sigma 1.6 and
    scale 4 this is the BD of BasicVSR's authors (12 taps; samples 1, 5, 9, … of a kernel anchored at its tap 5).
    """
    size = 2 * math.ceil(3.0 * sigma) + 2 - scale % 2  # even where the middle of a square lies between pixels
    taps = np.arange(length // scale)[:, None] * scale + (scale // 2 - size // 2) + np.arange(size)[None]
    distances = np.arange(size) - (size - 1) / 2
    weights = np.broadcast_to(np.exp(-0.5 * (distances / sigma) ** 2), taps.shape)
    return _matrix_of_taps(weights, np.clip(taps, 0, length - 1), length)


@lru_cache(maxsize=64)
def shifted_gaussian_matrix(length: int, scale: int, sigma: float) -> Tensor:
    """(ceil(length / scale), length) float64: the BD of DUF and PFNL: 13 taps about positions 0, 4, 8, …, reflected.

    It shifts the image by 1.5 px: weights trained for one convention lose 7 dB on the other. For comparisons only.
    """
    size = 13
    taps = np.arange(0, length, scale)[:, None] + np.arange(size)[None] - size // 2
    weights = np.broadcast_to(np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2), taps.shape)
    period = max(1, 2 * (length - 1))
    taps = np.abs((taps + length - 1) % period - (length - 1))
    return _matrix_of_taps(weights, taps, length)


def imresize(frames: Tensor, scale: float) -> Tensor:
    """frames (..., h, w), any real values → float64 (..., ceil(h*scale), ceil(w*scale)), not rounded, not clamped."""
    h, w = frames.shape[-2:]
    rows = bicubic_matrix(h, math.ceil(h * scale), scale)
    columns = bicubic_matrix(w, math.ceil(w * scale), scale)
    return apply_separable(frames, rows, columns)


def apply_separable(frames: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """frames (..., h, w) → float64 (..., rows, columns): apply both matrices, the row matrix first."""
    return rows @ frames.to(torch.float64) @ columns.T


def to_bytes(frames: Tensor) -> Tensor:
    """Values in 0..255 → uint8, clamped, halves rounded up, like MATLAB."""
    return (frames + 0.5).floor().clamp(0.0, 255.0).to(torch.uint8)


def _resampling(length: int, new_length: int, scale: float, kernel: str) -> Tensor:
    weigh, support = KERNELS[kernel]
    shrink = min(scale, 1.0)  # antialiasing: the kernel widens by the factor that the image shrinks by
    centers = (np.arange(new_length) + 0.5) / scale - 0.5
    reach = support / shrink
    taps = np.floor(centers - reach)[:, None] + np.arange(math.ceil(2 * reach) + 2)[None]
    weights = weigh(shrink * (centers[:, None] - taps))
    return _matrix_of_taps(weights, _mirror(taps.astype(np.int64), length), length)


def _area(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Half open, so that only one of two equally distant pixels counts."""
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.clip(1.0 - np.abs(x), 0.0, None)


def _lanczos(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


def _cubic(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1.0
    outer = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, inner, np.where(x <= 2.0, outer, 0.0))


KERNELS = {"area": (_area, 0.5), "bilinear": (_bilinear, 1.0), "bicubic": (_cubic, 2.0), "lanczos": (_lanczos, 3.0)}


def _mirror(taps: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """… 1 0 | 0 1 2 … : the border pixel is repeated."""
    folded = taps % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def _matrix_of_taps(weights: npt.NDArray[Any], taps: npt.NDArray[Any], length: int) -> Tensor:
    """Scatter tap weights (taps may coincide at the border) into the rows of a matrix, each summing to 1."""
    matrix = np.zeros((len(taps), length))
    np.add.at(matrix, (np.arange(len(taps))[:, None], taps), weights / weights.sum(axis=1, keepdims=True))
    return torch.from_numpy(matrix)
