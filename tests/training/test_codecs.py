"""Real encoders: lower quality loses more, any size passes, and equal frames give equal bytes."""

import pytest
import torch

from training.codecs import ENCODERS, encode_decode
from training.metrics import psnr


@pytest.fixture
def lr() -> torch.Tensor:
    """Four frames of 24 x 24: a smooth picture with a little noise, that moves."""
    x = torch.arange(24.0)
    picture = 127.0 + 60.0 * torch.sin(x / 1.7)[None] + 60.0 * torch.cos(x / 2.2)[:, None]
    frames = torch.stack([picture.roll(k, dims=1) for k in range(4)])
    frames = frames + 4.0 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return torch.stack([frames, 0.8 * frames + 20.0, 0.9 * frames], dim=1).clamp(0, 255).round().to(torch.uint8)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_loses_more_at_lower_quality(lr: torch.Tensor, encoder: str) -> None:
    qualities = (10.0, 40.0) if encoder == "libx264" else (2.0, 20.0)
    good, bad = (
        psnr(encode_decode(lr, encoder, quality=quality).flatten(0, 1), lr.flatten(0, 1)) for quality in qualities
    )
    assert 20.0 < bad < good - 2.5


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [(1, 1), (17, 19), (24, 40), (48, 33)])
def test_any_size_passes_through_an_encoder(encoder: str, size: tuple[int, int]) -> None:
    grey = torch.full((2, 3, *size), 90, dtype=torch.uint8)
    back = encode_decode(grey, encoder, quality=4.0)
    assert back.shape == grey.shape
    assert (back.int() - 90).abs().max() <= 4


@pytest.mark.parametrize("encoder", ENCODERS)
def test_equal_frames_give_equal_bytes(lr: torch.Tensor, encoder: str) -> None:
    first = encode_decode(lr, encoder, quality=22.0, preset="veryfast")
    assert all(
        torch.equal(first, encode_decode(lr.clone(), encoder, quality=22.0, preset="veryfast")) for _ in range(100)
    )
