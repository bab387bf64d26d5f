"""Patches chosen for an amount of memory."""

from dataclasses import replace

import pytest
import torch

from tests.training.loop.tiny_runs import recipe
from training.data.sequences import Patches
from training.loop.fit import FIXED_BYTES, LADDER, MemoryEstimate, _kept_bytes, as_overrides, fitting_patches
from training.loop.start import build


class Shapes:
    """Sequences of which only the shapes are asked for: frames, height, width."""

    def __init__(self, *shapes: tuple[int, int, int]) -> None:
        self.shapes = shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def name(self, i: int) -> str:
        return str(i)

    def shape(self, i: int) -> tuple[int, int, int]:
        return self.shapes[i]

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> torch.Tensor:
        raise NotImplementedError


LARGE = Shapes((30, 720, 1280))


@pytest.fixture(scope="module")
def estimate() -> MemoryEstimate:
    return MemoryEstimate(recipe(), build(recipe()).requires_grad_(True))


def test_the_estimate_of_long_sequences_follows_from_short_ones(estimate: MemoryEstimate) -> None:
    network = build(recipe()).requires_grad_(True).train()
    kept = _kept_bytes(network, 7, precision="float32")
    assert kept == pytest.approx(estimate.per_sample + 7 * estimate.per_frame, rel=0.05)


def test_more_memory_never_gives_smaller_patches(estimate: MemoryEstimate) -> None:
    sizes = [estimate.step_bytes(Patches(batch=b, frames=t, patch_px=p)) for b, t, p in LADDER]
    assert sizes == sorted(sizes)
    for size, (batch, frames, patch_px) in zip(sizes, LADDER, strict=True):
        found = fitting_patches(estimate, Patches(), LARGE, gib=(size + 1) / 2**30, scale=4)
        assert (found.batch, found.frames, found.patch_px) == (batch, frames, patch_px)


def test_patches_that_most_sequences_cannot_fill_are_not_chosen(estimate: MemoryEstimate) -> None:
    found = fitting_patches(estimate, Patches(), Shapes((7, 256, 256), (30, 720, 1280), (7, 200, 300)), gib=80, scale=4)
    assert (found.batch, found.frames, found.patch_px) == (4, 7, 48)


def test_too_little_memory_is_an_error_that_names_the_least(estimate: MemoryEstimate) -> None:
    with pytest.raises(ValueError, match=r"--fit: expected at least 1\.\d GiB for this network, .* got 0\.5 GiB"):
        fitting_patches(estimate, Patches(), LARGE, gib=0.5, scale=4)
    assert estimate.step_bytes(Patches()) > FIXED_BYTES


def test_recomputing_and_mirroring_are_counted(estimate: MemoryEstimate) -> None:
    network = build(recipe()).requires_grad_(True)
    assert MemoryEstimate(recipe(), network, recompute=True).per_frame < 0.5 * estimate.per_frame
    once, mirrored = (estimate.step_bytes(replace(Patches(), mirrored=value)) for value in (False, True))
    assert mirrored > once


def test_the_choice_is_passed_on_as_overrides() -> None:
    assert as_overrides(Patches(batch=2, frames=5, patch_px=48)) == [
        "patches.batch=2",
        "patches.frames=5",
        "patches.patch_px=48",
    ]
