"""Degradations: seeded, of the right size, and real encoders lose more at lower quality."""

import numpy as np
import pytest
import torch

from training.degrade import KINDS, Degradation, bi, degrade, encode_decode
from training.metrics import psnr


@pytest.fixture
def gt() -> torch.Tensor:
    """Four frames of a smooth picture that moves to the right by 4 px a frame."""
    x = torch.arange(96.0)
    picture = 127.0 + 60.0 * torch.sin(x / 7.0)[None] + 60.0 * torch.cos(x / 9.0)[:, None]
    frames = torch.stack([picture.roll(4 * k, dims=1) for k in range(4)])
    return torch.stack([frames, 0.8 * frames + 20.0, 0.9 * frames], dim=1).round().to(torch.uint8)


def randomly(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_lr_frames_and_the_same_ones_again(gt: torch.Tensor, kind: str) -> None:
    first = degrade(gt, Degradation(kind=kind), 4, random=randomly())
    assert first.shape == (4, 3, 24, 24)
    assert first.dtype == torch.uint8
    assert torch.equal(first, degrade(gt, Degradation(kind=kind), 4, random=randomly()))


@pytest.mark.parametrize("kind", ["bi", "bd", "blur"])
def test_nothing_is_shifted(kind: str) -> None:
    """A slow ramp stays where it is, to half a code value."""
    ramp = (2.0 * torch.arange(96.0)).expand(1, 3, 96, 96).to(torch.uint8)
    lr = degrade(ramp, Degradation(kind=kind), 4, random=randomly()).double()
    expected = 2.0 * (4.0 * torch.arange(24.0) + 1.5)
    assert (lr[0, 0, 12, 4:-4] - expected[4:-4]).abs().max() <= 0.5


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["bi", "blur"])
def test_no_scale_shifts_anything(kind: str, scale: int) -> None:
    ramp = (2.0 * torch.arange(96.0)).expand(1, 3, 96, 96).to(torch.uint8)
    lr = degrade(ramp, Degradation(kind=kind), scale, random=randomly()).double()[0, 0, 12]
    expected = 2.0 * (scale * torch.arange(96.0 // scale) + (scale - 1) / 2)
    assert (lr[8:-8] - expected[8:-8]).abs().max() <= 0.5


@pytest.mark.parametrize("encoder", ["libx264", "mpeg2video", "mpeg4"])
def test_an_encoder_loses_more_at_lower_quality(gt: torch.Tensor, encoder: str) -> None:
    lr = bi(gt, 4)
    kept = []
    for crf, quantiser in ((10.0, 2.0), (40.0, 20.0)):
        settings = Degradation(kind="video", encoders=(encoder,), crf=(crf, crf), quantiser=(quantiser, quantiser))
        back = encode_decode(lr, settings, random=randomly())
        kept.append(psnr(back.flatten(0, 1), lr.flatten(0, 1)))
    assert 22.0 < kept[1] < kept[0] - 3.0


def test_odd_sizes_pass_through_an_encoder() -> None:
    lr = torch.full((2, 3, 17, 19), 90, dtype=torch.uint8)
    assert encode_decode(lr, Degradation(kind="video"), random=randomly()).shape == lr.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "BI"}, "kind: wanted one of bi, bd"),
        ({"share": 0.0}, "share: wanted more than 0, got 0.0"),
        ({"crf": (30.0, 20.0)}, r"crf: wanted \[lowest, highest\]"),
        ({"encoders": ("libx265",)}, "encoders: wanted some of libx264, mpeg2video, mpeg4, got libx265"),
    ],
)
def test_settings_out_of_range_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Degradation(**arguments)  # type: ignore[arg-type]


def test_a_size_that_the_scale_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="gt: wanted a height and width that 4 divides, got 8x6"):
        degrade(torch.zeros(1, 3, 8, 6, dtype=torch.uint8), Degradation(), 4, random=randomly())
