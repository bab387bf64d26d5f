"""How good a network is on held-out sequences: the figure that training selects weights by."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import Sequences
from ..degrade.degradation import Degradation, degrade
from ..degrade.resize import imresize, to_bytes
from ..metrics import luma, psnr
from .recipe import Watch

BEST_PSNR_DB = 50.0  # errors below one code value: getting closer than that, or even equal, is worth nothing more
LEAST_LR_PX = 8
IMAGE_FRAMES = 7  # read for the one that is shown
_SEED = 0x4E1D  # one fixed draw of each degradation, whatever the recipe's seed


def check(sequences: Sequences, *, watch: Watch, scale: int) -> None:
    """Raise ValueError for a sequence that cannot be measured: before the first step, not at an evaluation."""
    for i in range(min(watch.held_out_sequences, len(sequences))):
        _, h, w = sequences.shape(i)
        if min(h, w) < LEAST_LR_PX * scale:
            raise ValueError(
                f"held-out data: expected frames of at least {LEAST_LR_PX * scale} px, "
                f"got {w}x{h} in {sequences.name(i)}; remove it"
            )


def gains(
    network: VideoNetwork, sequences: Sequences, degradations: Sequence[Degradation], *, watch: Watch, device: str
) -> dict[str, float]:
    """PSNR-Y in dB above bicubic enlargement, by kind of degradation, averaged over the first sequences."""
    found: dict[str, list[float]] = {}
    for k, degradation in enumerate(degradations):
        for i in range(min(watch.held_out_sequences, len(sequences))):
            gt, lr = _gt_and_lr(sequences, i, (k, degradation), scale=network.scale, frames=watch.held_out_frames)
            gain = mean_psnr(upscale(network, lr, device=device), gt) - mean_psnr(enlarge(lr, network.scale), gt)
            found.setdefault(degradation.kind, []).append(gain)
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def weighted_mean(gains: dict[str, float], degradations: Sequence[Degradation]) -> float:
    """Mean over the kinds, each weighted by its share of the recipe's training samples."""
    shares = [sum(d.share for d in degradations if d.kind == kind) for kind in gains]
    return float(np.average(list(gains.values()), weights=shares))


def comparison_images(
    network: VideoNetwork, sequences: Sequences, degradations: Sequence[Degradation], *, device: str
) -> dict[str, Tensor]:
    """Bicubic, hr and gt side by side (3, H, 3W) uint8: one frame of the first sequence, by kind of degradation."""
    images = {}
    for k, degradation in enumerate(degradations):
        gt, lr = _gt_and_lr(sequences, 0, (k, degradation), scale=network.scale, frames=IMAGE_FRAMES)
        hr = upscale(network, lr, device=device)
        middle = len(gt) // 2
        images[degradation.kind] = torch.cat([enlarge(lr, network.scale)[middle], hr[middle], gt[middle]], dim=2)
    return images


def mean_psnr(ours: Tensor, truth: Tensor) -> float:
    """PSNR on luma, at most BEST_PSNR_DB per frame, averaged over two sequences (t, 3, h, w) in 0..255."""
    return float(np.mean([min(psnr(luma(a), luma(b)), BEST_PSNR_DB) for a, b in zip(ours, truth, strict=True)]))


def upscale(network: VideoNetwork, lr: Tensor, *, device: str) -> Tensor:
    """lr (t, 3, h, w) uint8 → hr uint8, the whole sequence at once, with the network in evaluation mode."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        hr = network(lr.unsqueeze(0).to(device).float() / 255.0)[0]
    network.train(training)
    return to_bytes(hr.double().cpu() * 255.0)


def enlarge(lr: Tensor, scale: int) -> Tensor:
    """lr (t, 3, h, w) uint8 → uint8, by MATLAB's bicubic: the reference for every gain here."""
    return to_bytes(imresize(lr, float(scale)))


def _gt_and_lr(
    sequences: Sequences, i: int, degradation: tuple[int, Degradation], *, scale: int, frames: int
) -> tuple[Tensor, Tensor]:
    """gt and lr of a sequence's first frames under the k-th degradation: always the same draw."""
    k, settings = degradation
    length, h, w = sequences.shape(i)
    gt = sequences.read(i, range(min(length, frames)), slice(0, h - h % scale), slice(0, w - w % scale))
    return gt, degrade(gt, settings, scale, random=np.random.default_rng(np.random.SeedSequence([_SEED, k, i])))
