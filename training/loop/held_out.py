"""How good a network is on held-out sequences: what training chooses by."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.data.sequences import Sequences
from training.degrade.degradation import Degradation, degrade
from training.degrade.resize import imresize, to_bytes
from training.loop.recipe import Watch
from training.metrics import luma, psnr
from vs_iconvsr.networks.propagation import VideoNetwork

BEST_PSNR_DB = 50.0  # errors below one code value: what is nearer to the truth, up to equal, is not worth more
PICTURE_FRAMES = 7  # read for the one that is shown
_SEED = 0x4E1D  # one fixed draw of each degradation, whatever the recipe's seed


def gains(
    network: VideoNetwork, sequences: Sequences, degradations: Sequence[Degradation], *, watch: Watch, device: str
) -> dict[str, float]:
    """PSNR-Y over that of bicubic enlargement, in dB, by kind of degradation: mean over the first sequences."""
    found: dict[str, list[float]] = {}
    for k, degradation in enumerate(degradations):
        for i in range(min(watch.held_out_sequences, len(sequences))):
            gt, lr = _degraded(sequences, i, (k, degradation), scale=network.scale, frames=watch.held_out_frames)
            gain = mean_psnr(upscaled(network, lr, device=device), gt) - mean_psnr(enlarged(lr, network.scale), gt)
            found.setdefault(degradation.kind, []).append(gain)
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def mean(gains: dict[str, float], degradations: Sequence[Degradation]) -> float:
    """Over the kinds, each as much as the recipe trains for it: by its share."""
    shares = [sum(d.share for d in degradations if d.kind == kind) for kind in gains]
    return float(np.average(list(gains.values()), weights=shares))


def pictures(
    network: VideoNetwork, sequences: Sequences, degradations: Sequence[Degradation], *, device: str
) -> dict[str, Tensor]:
    """Bicubic enlargement, hr and gt side by side (3, H, 3W) uint8: a frame of the first sequence, by kind."""
    shown = {}
    for k, degradation in enumerate(degradations):
        gt, lr = _degraded(sequences, 0, (k, degradation), scale=network.scale, frames=PICTURE_FRAMES)
        hr = upscaled(network, lr, device=device)
        middle = len(gt) // 2
        shown[degradation.kind] = torch.cat([enlarged(lr, network.scale)[middle], hr[middle], gt[middle]], dim=2)
    return shown


def mean_psnr(ours: Tensor, truth: Tensor) -> float:
    """On luma, at most BEST_PSNR_DB, mean over the frames of two sequences (t, 3, h, w) in 0..255."""
    return float(np.mean([min(psnr(luma(a), luma(b)), BEST_PSNR_DB) for a, b in zip(ours, truth, strict=True)]))


def upscaled(network: VideoNetwork, lr: Tensor, *, device: str) -> Tensor:
    """lr (t, 3, h, w) uint8 → hr uint8, the whole sequence at once, network in evaluation mode meanwhile."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        hr = network(lr.unsqueeze(0).to(device).float() / 255.0)[0]
    network.train(training)
    return to_bytes(hr.double().cpu() * 255.0)


def enlarged(lr: Tensor, scale: int) -> Tensor:
    """lr (t, 3, h, w) uint8 → uint8 by MATLAB's bicubic: what every gain here is measured against."""
    return to_bytes(imresize(lr, float(scale)))


def _degraded(
    sequences: Sequences, i: int, degradation: tuple[int, Degradation], *, scale: int, frames: int
) -> tuple[Tensor, Tensor]:
    """gt and lr of a sequence's first frames by the k-th degradation: always the same draw."""
    k, how = degradation
    length, h, w = sequences.shape(i)
    gt = sequences.read(i, range(min(length, frames)), slice(0, h - h % scale), slice(0, w - w % scale))
    return gt, degrade(gt, how, scale, random=np.random.default_rng(np.random.SeedSequence([_SEED, k, i])))
