"""Patches for a given amount of memory: measured on a small forward pass, scaled to the sizes that training uses."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import Patches, Sequences
from .optimization import autocast
from .recipe import Recipe
from .steps import wrap_steps

# (batch, frames, patch in lr px), each step more of what helps: samples first, then context in space, then in time.
LADDER = (
    *((1, 3, 32), (1, 5, 32), (2, 5, 32), (2, 7, 32), (4, 7, 32), (4, 7, 48), (4, 10, 48), (4, 10, 64), (4, 15, 64)),
    *((8, 15, 64), (8, 20, 64), (16, 20, 64), (16, 30, 64), (32, 30, 64)),
)
PROBE_PX, PROBE_FRAMES = 32, (2, 4)  # what is measured, with one sample
COPIES = 5  # weights, gradients, the two moments of Adam, the moving average
MARGIN = 2.0  # gradients of features and a layer's own memory, beside what autograd keeps; 1.9 measured on a CPU
FIXED_BYTES = 2**30  # torch itself, and a GPU's context


class MemoryEstimate:
    """Bytes that a training step takes, by the size of its patches."""

    def __init__(self, recipe: Recipe, network: VideoNetwork, *, recompute: bool = False) -> None:
        forward = wrap_steps(network.train(), recompute=recompute, compiled=False)
        short, long = (_kept_bytes(forward, frames, precision=recipe.optimiser.precision) for frames in PROBE_FRAMES)
        self.per_frame = (long - short) / (PROBE_FRAMES[1] - PROBE_FRAMES[0])
        self.per_sample = max(0.0, short - PROBE_FRAMES[0] * self.per_frame)
        self.state = COPIES * sum(parameter.nbytes for parameter in network.parameters())

    def step_bytes(self, patches: Patches) -> float:
        frames = patches.frames * (2 if patches.mirrored else 1)
        area = (patches.patch_px / PROBE_PX) ** 2
        kept = patches.batch * area * (self.per_sample + frames * self.per_frame)
        return FIXED_BYTES + self.state + MARGIN * kept


def fitting_patches(
    estimate: MemoryEstimate, patches: Patches, sequences: Sequences, *, gib: float, scale: int
) -> Patches:
    """The largest of LADDER that fits into gib and that at least half of the sequences can fill.

    Everything but batch, frames and patch_px is as in `patches`. ValueError if not even the smallest fits.
    """
    shapes = [sequences.shape(i) for i in range(len(sequences))]
    best = None
    for candidate in _candidates(patches):
        filled = sum(frames >= candidate.frames and min(h, w) >= candidate.patch_px * scale for frames, h, w in shapes)
        if 2 * filled >= len(shapes) and estimate.step_bytes(candidate) <= gib * 2**30:
            best = candidate
    if best is None:
        least = estimate.step_bytes(next(_candidates(patches))) / 2**30
        raise ValueError(
            f"--fit: expected at least {least:.1f} GiB for this network, or larger sequences, got {gib:g} GiB; "
            "pass --recompute, or choose a smaller network"
        )
    return best


def as_overrides(patches: Patches) -> list[str]:
    """For --set."""
    return [f"patches.{name}={getattr(patches, name)}" for name in ("batch", "frames", "patch_px")]


def _candidates(patches: Patches) -> Iterator[Patches]:
    for batch, frames, patch_px in LADDER:
        yield replace(patches, batch=batch, frames=frames, patch_px=patch_px)


def _kept_bytes(forward: nn.Module, frames: int, *, precision: str) -> int:
    """What autograd keeps of one sample for the backward pass, on the CPU."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in forward.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    lr = torch.rand(1, frames, 3, PROBE_PX, PROBE_PX, generator=torch.Generator().manual_seed(0))
    half = "bfloat16" if precision == "float16" else precision  # a CPU's float16 keeps as much
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), autocast(half, "cpu"):
        hr = forward(lr)
        loss = hr.float().square().mean()
    total = sum(kept.values())
    del loss
    return total
