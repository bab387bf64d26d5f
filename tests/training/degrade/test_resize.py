"""Downscaling equals its definitions, written here once more in the plainest way."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.degrade.degradation import Degradation, degrade
from training.degrade.resize import bicubic_matrix, gaussian_matrix, imresize, shifted_gaussian_matrix, to_bytes
from training.metrics import luma, psnr, ssim

WALK = Path(__file__).parents[3].parent / "shared" / "clips" / "walk"


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1.0:
        return 1.5 * x**3 - 2.5 * x**2 + 1.0
    return -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0 if x <= 2.0 else 0.0


def imresize_by_definition(row: list[float], wanted: int, scale: float) -> list[float]:
    """One row, pixel by pixel, with all positions of a row mirrored at its borders."""
    shrink = min(scale, 1.0)
    out = []
    for i in range(wanted):
        centre = (i + 0.5) / scale - 0.5
        total = weight = 0.0
        for k in range(-4 * len(row), 5 * len(row)):
            w = cubic(shrink * (centre - k))
            folded = k % (2 * len(row))
            total += w * row[folded if folded < len(row) else 2 * len(row) - 1 - folded]
            weight += w
        out.append(total / weight)
    return out


@pytest.mark.parametrize(("length", "wanted", "scale"), [(32, 8, 0.25), (8, 32, 4.0), (9, 5, 0.5), (5, 15, 3.0)])
def test_imresize_along_a_row_is_its_definition(length: int, wanted: int, scale: float) -> None:
    row = np.random.default_rng(1).random(length)
    ours = bicubic_matrix(length, wanted, scale).numpy() @ row
    assert np.allclose(ours, imresize_by_definition(list(row), wanted, scale), atol=1e-12)


def test_imresize_takes_both_sides() -> None:
    frame = torch.arange(64.0, dtype=torch.float64).reshape(8, 8)
    small = imresize(frame, 0.25)
    rows = [imresize_by_definition(row, 2, 0.25) for row in frame.T.tolist()]
    expected = [imresize_by_definition(list(column), 2, 0.25) for column in zip(*rows, strict=True)]
    assert torch.allclose(small, torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_bd_is_a_kernel_of_12_taps_centered_on_the_square_of_four_pixels() -> None:
    row = gaussian_matrix(64, 4, 1.6)[7]
    taps = row.nonzero().flatten().tolist()
    assert taps == list(range(7 * 4 + 1 - 5, 7 * 4 + 1 + 7))  # the kernel's tap 5 (0-based) on sample 4i + 1
    assert float(row @ torch.arange(64.0, dtype=torch.float64)) == pytest.approx(7 * 4 + 1.5)
    weights = [math.exp(-((k - 5.5) ** 2) / (2 * 1.6**2)) for k in range(12)]
    assert row[taps].tolist() == pytest.approx([w / sum(weights) for w in weights])


def test_bd_repeats_the_border() -> None:
    first = gaussian_matrix(16, 4, 1.6)[0]
    weights = [math.exp(-((k - 5.5) ** 2) / (2 * 1.6**2)) for k in range(12)]
    assert float(first[0]) == pytest.approx(sum(weights[:5]) / sum(weights))  # taps -4 … 0


def test_the_other_bd_is_shifted_by_one_and_a_half_pixels() -> None:
    positions = torch.arange(64.0, dtype=torch.float64)
    ours, theirs = (
        matrix[7] @ positions for matrix in (gaussian_matrix(64, 4, 1.6), shifted_gaussian_matrix(64, 4, 1.6))
    )
    assert float(ours - theirs) == pytest.approx(1.5)


def test_bytes_round_halves_up_and_clamp() -> None:
    assert to_bytes(torch.tensor([-3.0, 0.49, 0.5, 1.5, 254.5, 300.0])).tolist() == [0, 0, 1, 2, 255, 255]


@pytest.mark.needs_shared
@pytest.mark.parametrize(("kind", "expected"), [("bi", (26.104, 0.7974)), ("bd", (25.564, 0.783))])
def test_bicubic_on_a_real_clip_gives_the_published_figures(kind: str, expected: tuple[float, float]) -> None:
    psnrs, ssims = [], []
    for path in sorted(WALK.glob("*.png")):
        gt = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).unsqueeze(0)
        lr = degrade(gt, Degradation(kind=kind), 4, random=np.random.default_rng(0))
        ours, truth = luma(to_bytes(imresize(lr, 4.0)))[0], luma(gt)[0]
        psnrs.append(psnr(ours, truth))
        ssims.append(ssim(ours, truth))
    assert np.mean(psnrs) == pytest.approx(expected[0], abs=6e-4)
    assert np.mean(ssims) == pytest.approx(expected[1], abs=6e-4)
