"""PSNR and SSIM agree with an independent library."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.metrics import SSIM_SIGMA, luma, psnr, ssim


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(3)
    truth = random.integers(0, 256, (3, 40, 56)).astype(np.float64)
    ours = np.clip(truth + random.normal(0.0, 20.0, truth.shape), 0.0, 255.0)
    return torch.from_numpy(ours), torch.from_numpy(truth)


def test_psnr_agrees_with_scikit_image(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    ours, truth = frames
    assert psnr(ours, truth) == pytest.approx(peak_signal_noise_ratio(truth.numpy(), ours.numpy(), data_range=255))


def test_psnr_of_equal_frames_is_infinite() -> None:
    assert math.isinf(psnr(torch.ones(3, 4, 4), torch.ones(3, 4, 4)))


def test_ssim_agrees_with_scikit_image(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    ours, truth = frames
    expected = []
    for a, b in zip(ours.numpy(), truth.numpy(), strict=True):
        _, everywhere = structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False, full=True
        )
        expected.append(everywhere[5:-5, 5:-5].mean())
    assert ssim(ours, truth) == pytest.approx(np.mean(expected), abs=1e-9)


def test_ssim_refuses_frames_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match=r"SSIM: expected frames of at least 11 px, got \(10, 40\)"):
        ssim(torch.zeros(3, 10, 40), torch.zeros(3, 10, 40))


@pytest.mark.parametrize(("rgb", "y"), [((0, 0, 0), 16.0), ((255, 255, 255), 235.0), ((255, 0, 0), 81.481)])
def test_luma_follows_bt_601(rgb: tuple[int, int, int], y: float) -> None:
    assert float(luma(torch.tensor(rgb).view(3, 1, 1))) == pytest.approx(y, abs=0.02)
