"""Degradations: seeded, of the right size, the same for all frames of a sequence, and nothing shifts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.degrade.codecs import ENCODERS
from training.degrade.degradation import KINDS, Degradation, bi, degrade
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


ALL = Degradation(
    kind="real",
    sigma=(0.5, 3.0),
    stretch=(1.0, 3.0),
    resize=(0.5, 1.5),
    noise=(0.0, 8.0),
    chroma=(1.0, 4.0),
    interlace=0.5,
    encoders=ENCODERS,
    crf=(18.0, 36.0),
    quantiser=(2.0, 12.0),
    second_pass=0.5,
)


@pytest.mark.parametrize("seed", range(12))
def test_all_of_real_together_gives_the_same_bytes_again(gt: torch.Tensor, seed: int) -> None:
    lr = degrade(gt, ALL, 4, random=randomly(seed))
    assert lr.shape == (4, 3, 24, 24)
    assert torch.equal(lr, degrade(gt, ALL, 4, random=randomly(seed)))
    assert not torch.equal(lr, degrade(gt, ALL, 4, random=randomly(seed + 100)))


def test_what_was_drawn_stays_for_the_whole_sequence(gt: torch.Tensor) -> None:
    """Of a scene that stands still all frames are alike; between sequences they differ."""
    still = gt[:1].expand(4, 3, 96, 96)
    settings = replace(ALL, noise=(0.0, 0.0), encoders=())
    sequences = [degrade(still, settings, 4, random=randomly(seed)) for seed in range(8)]
    for lr in sequences:
        assert torch.equal(lr, lr[:1].expand_as(lr))
    assert len({lr.numpy().tobytes() for lr in sequences}) == 8


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_blur_and_sizes_of_real_shift_nothing(scale: int, seed: int) -> None:
    ramp = (2.0 * torch.arange(96.0)).expand(1, 3, 96, 96).to(torch.uint8)
    settings = Degradation(kind="real", sigma=(0.5, 2.0), stretch=(1.0, 2.0), resize=(0.5, 1.5), noise=(0.0, 0.0))
    lr = degrade(ramp, replace(settings, encoders=()), scale, random=randomly(seed)).double()[0, 0, 48 // scale]
    expected = 2.0 * (scale * torch.arange(96.0 // scale) + (scale - 1) / 2)
    margin = 36 // scale
    assert (lr - expected)[margin:-margin].mean().abs() <= 0.6


def test_a_second_pass_loses_more(gt: torch.Tensor) -> None:
    lr = bi(gt, 4)
    once = Degradation(kind="real", sigma=(0.1, 0.1), noise=(0.0, 0.0), crf=(26.0, 26.0), second_pass=0.0)
    twice = replace(once, second_pass=1.0)
    kept = [
        np.mean([psnr(degrade(gt, s, 4, random=randomly(k)).flatten(0, 1), lr.flatten(0, 1)) for k in range(6)])
        for s in (once, twice)
    ]
    assert kept[1] < kept[0] - 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "BI"}, "kind: expected one of bi, bd"),
        ({"share": 0.0}, "share: expected more than 0, got 0.0"),
        ({"crf": (30.0, 20.0)}, r"crf: expected \[lowest, highest\]"),
        ({"encoders": ("libx265",)}, "encoders: expected some of libx264, mpeg2video, mpeg4, mjpeg, got libx265"),
        ({"encoders": ()}, "encoders: expected some of libx264, mpeg2video, mpeg4, mjpeg, got none"),
        ({"stretch": (0.5, 1.0)}, "stretch: expected at least 1, got 0.5"),
        ({"second_pass": 1.5}, "second_pass: expected a share from 0 to 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Degradation(**arguments)  # type: ignore[arg-type]


def test_a_size_that_the_scale_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="gt: expected a height and width that 4 divides, got 8x6"):
        degrade(torch.zeros(1, 3, 8, 6, dtype=torch.uint8), Degradation(), 4, random=randomly())
