"""Figures answer to what they are for, and to nothing beside it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.degrade.measures import WINDOW_PX, Values, measure

FRAMES = 4
EDGES, STILL_NOISE, CHANGING_NOISE, BLOCKS_OF_8, BLOCKS_OF_4 = (
    slice(0, 5),
    slice(10, 13),
    slice(13, 16),
    slice(16, 18),
    slice(18, 20),
)
SIDE = torch.arange(WINDOW_PX, dtype=torch.float32)


def window(luma: Tensor) -> Tensor:
    """(h, w) or (t, h, w) code values → grey frames (t, 3, h, w)."""
    return luma.clamp(0, 255).round().to(torch.uint8).expand(FRAMES, *luma.shape[-2:]).unsqueeze(1).repeat(1, 3, 1, 1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def edges(width_px: float) -> Tensor:
    """Upright edges 16 px apart, each as wide as said, in columns 0 to 31; flat beside."""
    steps = sum((-1.0) ** k * torch.sigmoid((SIDE - 8 - 16 * k) / (0.25 * width_px)) for k in range(2))
    assert isinstance(steps, Tensor)
    return (60.0 + 120.0 * steps).expand(WINDOW_PX, WINDOW_PX)


def figures(luma: Tensor) -> Values:
    return measure([window(luma), window(luma)])


def test_sharp_edges_measure_sharper_than_soft_ones() -> None:
    sharp, soft = figures(edges(0.5))[EDGES], figures(edges(6.0))[EDGES]
    assert (sharp > 1.5 * soft).all()


def test_soft_places_beside_do_not_make_an_edge_softer() -> None:
    """Only the steepest tenth is asked: most of any picture is soft."""
    cloud = 12.0 * torch.sin(SIDE / 6.0).view(-1, 1) * (SIDE > 32)
    assert figures(edges(0.5) + cloud)[EDGES] == pytest.approx(figures(edges(0.5))[EDGES], abs=0.05)


def test_changing_noise_is_distinguished_from_static_texture() -> None:
    grain = noise(FRAMES, WINDOW_PX, WINDOW_PX)
    still, changing = figures(100.0 + 8.0 * grain[:1]), figures(100.0 + 8.0 * grain)
    assert still[STILL_NOISE] == pytest.approx(changing[STILL_NOISE], abs=0.3)
    assert (changing[CHANGING_NOISE] > still[CHANGING_NOISE] + 3.0).all()


def blocks(side: int) -> Tensor:
    """Squares of their own brightness."""
    count = -(-WINDOW_PX // side)
    squares = 100.0 + 10.0 * noise(count, count)
    return squares.repeat_interleave(side, 0).repeat_interleave(side, 1)[:WINDOW_PX, :WINDOW_PX]


def test_block_edges_are_detected_at_the_block_size_of_an_encoder() -> None:
    assert (figures(blocks(8))[BLOCKS_OF_8] > 4.0 * figures(blocks(5))[BLOCKS_OF_8]).all()
    assert (figures(blocks(4))[BLOCKS_OF_4] > 4.0 * figures(blocks(5))[BLOCKS_OF_4]).all()


def test_a_wide_edge_is_not_the_border_of_a_block() -> None:
    """A border is a step alone; the steep places of a wide edge have steep neighbours, wherever they lie."""
    wide = (60.0 + 120.0 * torch.sigmoid(SIDE - 27.5)).expand(WINDOW_PX, WINDOW_PX)
    border = (60.0 + 120.0 * (SIDE > 27.5)).expand(WINDOW_PX, WINDOW_PX)
    assert figures(wide)[BLOCKS_OF_8][0] < 0.1 * figures(border)[BLOCKS_OF_8][0]
