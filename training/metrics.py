"""PSNR and SSIM as the super-resolution papers measure them, in float64."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def luma(rgb: Tensor) -> Tensor:
    """(..., 3, h, w) in 0..255 → (..., 1, h, w), BT.601, 16..235, not rounded: MATLAB's rgb2ycbcr."""
    r, g, b = rgb.to(torch.float64).unbind(dim=-3)
    return (16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0).unsqueeze(-3)


def psnr(ours: Tensor, truth: Tensor) -> float:
    """PSNR of two frames (c, h, w) in 0..255, in dB; infinite if they are equal."""
    error = float((ours.to(torch.float64) - truth.to(torch.float64)).square().mean())
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def ssim(ours: Tensor, truth: Tensor) -> float:
    """SSIM of two frames (c, h, w) in 0..255 (Wang 2004): Gaussian window, complete windows only, mean of channels.

    Raises ValueError for frames smaller than the window.
    """
    if min(ours.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM: expected frames of at least {SSIM_WINDOW} px, got {tuple(ours.shape[-2:])}")
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    a, b = ours.to(torch.float64), truth.to(torch.float64)
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a**2
    variance_b = _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    similarity = (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
    return float((similarity / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean())


def _window_mean(frame: Tensor) -> Tensor:
    distance = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (distance / SSIM_SIGMA) ** 2)
    window = (window / window.sum()).view(1, 1, 1, -1)
    return F.conv2d(F.conv2d(frame.unsqueeze(1), window), window.transpose(2, 3)).squeeze(1)
