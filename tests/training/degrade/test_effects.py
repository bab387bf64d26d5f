"""Each effect does what it says, by how much it says, and moves nothing."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training.data.examine import combing
from training.degrade.effects import FIELDS, LUMA, add_field_artifacts, add_noise, blur, reduce_chroma, resize


def randomly(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def grating(period: float, *, size: int = 96) -> Tensor:
    """(1, 3, size, size): stripes from left to right about gray."""
    wave = 127.0 + 100.0 * torch.sin(2.0 * math.pi * torch.arange(float(size), dtype=torch.float64) / period)
    return wave.expand(1, 3, size, size)


def contrast(frames: Tensor) -> float:
    inside = frames[..., 16:-16, 16:-16]
    return float(inside.std())


def ramp() -> Tensor:
    return (2.0 * torch.arange(96.0, dtype=torch.float64)).expand(1, 3, 96, 96)


def moving() -> Tensor:
    """(4, 3, 64, 64): a bar that moves 8 px a frame."""
    frames = torch.full((4, 3, 64, 64), 60.0, dtype=torch.float64)
    for k in range(4):
        frames[k, :, :, 8 + 8 * k : 24 + 8 * k] = 200.0
    return frames


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, math.pi / 4])
def test_a_point_is_spread_by_the_sigmas_along_the_turn(turn: float) -> None:
    point = torch.zeros(1, 3, 65, 65, dtype=torch.float64)
    point[..., 32, 32] = 1.0
    seen = blur(point, sigmas=(3.0, 1.0), turn=turn)[0, 0]
    place = torch.arange(65, dtype=torch.float64) - 32
    y, x = place[:, None], place[None]
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    assert float(seen.sum()) == pytest.approx(1.0, abs=1e-4)
    assert math.sqrt(float((seen * along**2).sum())) == pytest.approx(3.0, abs=0.02)
    assert math.sqrt(float((seen * across**2).sum())) == pytest.approx(1.0, abs=0.02)


def test_blur_leaves_what_is_flat_alone_up_to_its_borders() -> None:
    flat = torch.full((1, 3, 20, 30), 100.0, dtype=torch.float64)
    assert (blur(flat, sigmas=(3.0, 1.0), turn=0.3) - flat).abs().max() < 1e-9


def test_what_a_smaller_size_cannot_hold_is_gone_after_it() -> None:
    """At half the size the shortest period that is left is 4 px."""
    for kernel in ("area", "bilinear", "bicubic", "lanczos"):
        kept, lost = (resize(resize(grating(p), 48, 48, kernel=kernel), 96, 96, kernel="bicubic") for p in (16, 2.2))
        assert contrast(kept) > 0.8 * contrast(grating(16))
        assert contrast(lost) < 0.25 * contrast(grating(2.2))


@pytest.mark.parametrize("kernel", ["area", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("wanted", [24, 31, 96, 130])
def test_no_kernel_shifts_anything(kernel: str, wanted: int) -> None:
    there = (torch.arange(float(wanted), dtype=torch.float64) + 0.5) * 96 / wanted - 0.5
    seen = resize(ramp(), wanted, wanted, kernel=kernel)[0, 0, wanted // 2]
    inside = slice(wanted // 5, -wanted // 5)
    within = 2.1 if kernel == "area" else 0.1  # nearest px when enlarging
    assert (seen - 2.0 * there)[inside].abs().max() < within
    assert abs(float((seen - 2.0 * there)[inside].mean())) < 0.3


@pytest.mark.parametrize("softness", [0.0, 0.7])
@pytest.mark.parametrize("gray", [True, False])
def test_noise_has_its_strength_and_is_new_in_each_frame(gray: bool, softness: float) -> None:
    flat = torch.full((3, 3, 64, 64), 100.0, dtype=torch.float64)
    noise = add_noise(flat, strength=5.0, gray=gray, softness=softness, random=randomly()) - flat
    assert float(noise.std()) == pytest.approx(5.0, rel=0.03)
    frames = np.corrcoef(noise[:, 0].flatten(1).numpy())
    channels = np.corrcoef(noise[0].flatten(1).numpy())
    assert abs(frames[0, 1]) < 0.06
    assert (channels[0, 1] > 0.99) == gray
    beside = np.corrcoef(noise[..., 1:].flatten().numpy(), noise[..., :-1].flatten().numpy())[0, 1]
    assert (beside > 0.3) == (softness > 0.0)


def test_lost_chroma_leaves_luma_alone() -> None:
    colors = torch.stack([grating(6.0)[0, 0], grating(9.0)[0, 0], 255.0 - grating(6.0)[0, 0]]).unsqueeze(0)
    seen = reduce_chroma(colors, factor=4.0, shift_px=1.3)
    weights = torch.tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1)
    assert ((seen - colors) * weights).sum(1).abs().max() < 1e-9
    assert contrast(seen[:, 0] - seen[:, 2]) < 0.2 * contrast(colors[:, 0] - colors[:, 2])


@pytest.mark.parametrize("shift_px", [-1.5, -0.25, 0.0, 1.0, 1.25])
def test_chroma_moves_by_the_shift(shift_px: float) -> None:
    colors = torch.cat([ramp()[:, :1], torch.full((1, 2, 96, 96), 90.0, dtype=torch.float64)], dim=1)
    seen = reduce_chroma(colors, factor=1.0, shift_px=shift_px)
    moved = ((seen - colors)[:, 0] - (seen - colors)[:, 1])[0, 48, 20:-20]
    assert (moved + 2.0 * shift_px).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["comb", "blend"])
def test_fields_of_what_stands_still_leave_nothing(kind: str) -> None:
    still = grating(7.0).expand(4, 3, 96, 96)
    assert (add_field_artifacts(still, kind=kind, strength=0.8, parity=0) - still).abs().max() < 1e-9


def test_a_comb_is_one_and_a_blend_is_a_ghost() -> None:
    frames = moving()
    comb = add_field_artifacts(frames, kind="comb", strength=1.0, parity=1)
    assert combing(frames[0, 0]) < 1.0
    assert combing(comb[0, 0]) > 2.0
    assert torch.equal(comb[:3, :, 1::2], frames[1:, :, 1::2])
    assert torch.equal(comb[3, :, 1::2], frames[2, :, 1::2])
    assert torch.equal(comb[:, :, 0::2], frames[:, :, 0::2])
    ghost = add_field_artifacts(frames, kind="blend", strength=0.5, parity=0)
    assert torch.equal(ghost[0], 0.5 * (frames[0] + frames[1]))


def test_bob_halves_what_is_finer_than_two_rows() -> None:
    rows = grating(2.0 + 1e-3).transpose(-1, -2) + 100.0 * (torch.arange(96) % 2).view(-1, 1)
    seen = add_field_artifacts(rows, kind="bob", strength=1.0, parity=0)
    assert contrast(seen) < 0.1 * contrast(rows)
    assert FIELDS == ("comb", "blend", "bob")


def test_a_single_frame_has_no_field_artifacts() -> None:
    frame = moving()[:1]
    assert torch.equal(add_field_artifacts(frame, kind="comb", strength=1.0, parity=0), frame)
