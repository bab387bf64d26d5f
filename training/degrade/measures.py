"""Figures of a few frames that respond to blur, noise and compression, and as little as possible to the content."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import luma

WINDOW_PX = 64
CODING = slice(-7, None)  # the figures that respond to encoders: block borders, static areas, chroma
_FINE, _COARSE = 0.7, 1.4  # sigmas of two blurs: the sharper an edge, the more its slope differs between them

Values = npt.NDArray[np.float64]


def measure(windows: Sequence[Tensor]) -> Values:
    """windows (t, 3, WINDOW_PX, WINDOW_PX) uint8, t >= 2, from several places → one set of figures for all of them.

    Most are logarithms of ratios. With more places, it is more certain that one has sharp edges and one has flat areas.
    """
    frames = torch.stack(list(windows))
    y = luma(frames)[:, :, 0]
    change = y.diff(dim=1).flatten(0, 1)
    y = y.flatten(0, 1)
    fine = _second_difference(y)
    return np.array(
        [
            *_edges(y),
            *_bands(y),
            *_quietest(fine),
            *_quietest(_second_difference(change)),
            *(_grid(side, period) for period in (8, 4) for side in (y, y.transpose(-1, -2))),
            float((change.abs() < 0.5).double().mean()),
            _log(float((fine.abs() < 0.5).double().mean())),
            _chroma_detail(frames.flatten(0, 1)),
        ]
    )


def detail(frames: Tensor) -> float:
    """How much detail there is to measure: standard deviation of the gradients of the first frame, in code values."""
    y = luma(frames[:1])
    return float(y.diff(dim=-1).std() + y.diff(dim=-2).std())


def _edges(y: Tensor) -> list[float]:
    """Gradients at the steepest places after a fine blur relative to those after a coarse one: some quantiles."""
    fine, coarse = _slope(_gaussian(y, _FINE)), _slope(_gaussian(y, _COARSE))
    steep = fine > torch.quantile(fine.flatten(1), 0.9, dim=1).view(-1, 1, 1)
    ratios = (fine[steep] + 0.1) / (coarse[steep] + 0.1)
    return [_log(float(ratios.quantile(q))) for q in (0.25, 0.5, 0.75, 0.9, 0.97)]


def _bands(y: Tensor) -> list[float]:
    """Change of power from one frequency band to the next, and the power of the highest band."""
    window = torch.hann_window(y.shape[-1], periodic=False, dtype=y.dtype)
    centred = (y - y.mean(dim=(-1, -2), keepdim=True)) * window * window.view(-1, 1)
    power = torch.fft.rfft2(centred).abs().square().mean(dim=0)  # dominated by the strongest places: edges
    fy, fx = torch.fft.fftfreq(y.shape[-2])[:, None], torch.fft.rfftfreq(y.shape[-1])[None]
    frequency = torch.hypot(fx, fy)
    limits = (0.06, 0.12, 0.2, 0.3, 0.4, 0.5)
    bands = [
        _log(float(power[(frequency >= low) & (frequency < high)].mean())) for low, high in itertools.pairwise(limits)
    ]
    return [*np.diff(bands).tolist(), bands[-1]]


def _quietest(detail: Tensor) -> list[float]:
    """Root mean square over 8 x 8 px at the quietest places: noise is everywhere, texture is not."""
    power = F.avg_pool2d(detail.square().unsqueeze(1), 8).flatten().sqrt()
    return [_log(float(power.quantile(q)) + 0.1) for q in (0.02, 0.1, 0.3)]


def _grid(y: Tensor, period: int) -> float:
    """How much more neighbouring columns differ at one phase of a grid than at the others."""
    steps = (y[..., 1:] - y[..., :-1]).abs()
    # Relative to the adjacent steps: a block border is an isolated step, an edge in the image is not.
    isolated = steps[..., 1:-1] - 0.5 * (steps[..., :-2] + steps[..., 2:])
    count = isolated.shape[-1] // period * period
    phases = isolated[..., :count].reshape(-1, count // period, period).mean(dim=(0, 1))
    return float((phases.max() - phases.median()) / (steps.mean() + 0.5))


def _chroma_detail(frames: Tensor) -> float:
    """Fine detail of chroma relative to that of luma: subsampled chroma has none."""
    red, green, blue = frames.double().unbind(1)
    chroma = _second_difference(red - green).square().mean() + _second_difference(blue - green).square().mean()
    return _log(float(chroma)) - _log(float(_second_difference(luma(frames)[:, 0]).square().mean()))


def _second_difference(y: Tensor) -> Tensor:
    """Second differences along rows and columns, scaled so that white noise keeps its standard deviation."""
    return y.diff(n=2, dim=-1).diff(n=2, dim=-2) / 6.0


def _slope(y: Tensor) -> Tensor:
    across = 0.5 * (y[..., 1:-1, 2:] - y[..., 1:-1, :-2])
    down = 0.5 * (y[..., 2:, 1:-1] - y[..., :-2, 1:-1])
    return torch.hypot(across, down)


def _gaussian(y: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(3.0 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=y.dtype) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(y.unsqueeze(1), (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3)).squeeze(1)


def _log(value: float) -> float:
    return math.log(value + 1e-3)
