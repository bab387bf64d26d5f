"""The paper's tables: PSNR and SSIM per clip and on average, by the conventions of MMagic or BasicSR."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vs_iconvsr.networks.propagation import VideoNetwork

from .data.frames import FrameFolders
from .degrade.degradation import Degradation, degrade
from .degrade.resize import to_bytes
from .loop.held_out import enlarge
from .metrics import luma, psnr, ssim

logger = logging.getLogger(__name__)

CONVENTIONS = ("basicsr", "mmagic")
CHANNELS = ("y", "rgb")
BICUBIC = "bicubic"
MOST_PSNR_DB = 100.0  # what equal frames count, as in many papers' programs: infinity would swallow the mean

Upscaler = Callable[[Tensor], Tensor]  # lr (t, 3, h, w) uint8 → hr float64 in 0..255, before rounding


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """How to measure. Defaults are the paper's for Vid4.

    convention: "basicsr" rounds hr to 8 bits first, "mmagic" only clamps. channels: "y" (BT.601 luma) or "rgb".
    crop_px: border to exclude. mirrored: for Vimeo-90K-T, upscale the 7 frames followed by the same frames in reverse,
    and average the two hr frames of the middle one. frames: at most this many per clip, 0 for all.
    """

    convention: str = "basicsr"
    channels: str = "y"
    crop_px: int = 0
    mirrored: bool = False
    frames: int = 0

    def __post_init__(self) -> None:
        for name, known in (("convention", CONVENTIONS), ("channels", CHANNELS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.crop_px < 0 or self.frames < 0:
            raise ValueError(f"crop_px, frames: expected at least 0, got {self.crop_px}, {self.frames}")


@dataclass(frozen=True)
class Score:
    """Averages over the frames of one clip. equal_frames: those that count as MOST_PSNR_DB."""

    clip: str
    frames: int
    psnr_db: float
    ssim: float
    equal_frames: int = 0


@dataclass(frozen=True)
class EvaluationResult:
    """One upscaler on all clips; psnr_db and ssim average over clips, each counted once whatever its length."""

    upscaler: str
    degradation: str
    protocol: EvaluationProtocol
    scores: tuple[Score, ...]

    @property
    def psnr_db(self) -> float:
        return float(np.mean([score.psnr_db for score in self.scores]))

    @property
    def ssim(self) -> float:
        return float(np.mean([score.ssim for score in self.scores]))


def evaluate(
    upscalers: dict[str, Upscaler],
    clips: FrameFolders,
    degradation: Degradation,
    protocol: EvaluationProtocol,
    *,
    scale: int,
    seed: int = 0,
) -> list[EvaluationResult]:
    """Degrade each clip, upscale it with every upscaler, and compare with the ground truth."""
    scores: dict[str, list[Score]] = {name: [] for name in upscalers}
    for i, sequence in enumerate(clips.sequences):
        if protocol.mirrored and clips.shape(i)[0] != 7:
            raise ValueError(f"{sequence.name}: expected 7 frames for the mirrored protocol, got {clips.shape(i)[0]}")
        gt, lr = gt_and_lr(clips, i, degradation, scale=scale, frames=protocol.frames, seed=seed)
        for name, upscale in upscalers.items():
            score = measure(sequence.name, _hr(upscale, lr, protocol), _truth(gt, protocol), protocol)
            scores[name].append(score)
            logger.info("%s, %s: %.3f dB, %.4f", name, score.clip, score.psnr_db, score.ssim)
    return [EvaluationResult(name, degradation.kind, protocol, tuple(found)) for name, found in scores.items()]


def gt_and_lr(
    clips: FrameFolders, i: int, degradation: Degradation, *, scale: int, frames: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """gt and lr (t, 3, h, w) uint8 of a clip's first frames (0: all), cropped to a multiple of the scale."""
    total, h, w = clips.shape(i)
    kept = min(total, frames) if frames else total
    gt = clips.read(i, range(kept), slice(0, h - h % scale), slice(0, w - w % scale))
    return gt, degrade(gt, degradation, scale, random=np.random.default_rng(np.random.SeedSequence([seed, i])))


def measure(clip: str, hr: Tensor, gt: Tensor, protocol: EvaluationProtocol) -> Score:
    """Score one clip: hr (t, 3, H, W) float in 0..255, gt uint8."""
    psnrs, ssims = [], []
    for ours, truth in zip(hr, gt, strict=True):
        final = to_bytes(ours).double() if protocol.convention == "basicsr" else ours.double().clamp(0.0, 255.0)
        a, b = (_crop(frame, protocol.crop_px) for frame in (final, truth.double()))
        if protocol.channels == "y":
            a, b = luma(a), luma(b)
        psnrs.append(min(psnr(a, b), MOST_PSNR_DB))
        ssims.append(ssim(a, b))
    return Score(clip, len(psnrs), float(np.mean(psnrs)), float(np.mean(ssims)), psnrs.count(MOST_PSNR_DB))


def network_upscaler(network: VideoNetwork, *, device: str) -> Upscaler:
    """Upscales the whole clip in one pass, as the authors do."""

    def upscale(lr: Tensor) -> Tensor:
        with torch.inference_mode():
            hr: Tensor = network(lr.unsqueeze(0).to(device).float() / 255.0)[0]
        return hr.double().cpu() * 255.0

    network.to(device).eval()
    return upscale


def bicubic_upscaler(scale: int) -> Upscaler:
    """MATLAB's imresize, rounded to 8 bits like images saved from it."""
    return lambda lr: enlarge(lr, scale).double()


def markdown_table(results: list[EvaluationResult]) -> str:
    """A table with one row per clip and one for the mean, and one column per upscaler."""
    protocol = results[0].protocol
    names = [result.upscaler for result in results]
    setup = f"{results[0].degradation}, {protocol.channels.upper()}, {protocol.convention} rounding"
    lines = [
        f"PSNR (dB) / SSIM, {setup}, crop {protocol.crop_px}",
        "",
        "| clip | frames | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in zip(*(result.scores for result in results), strict=True):
        cells = " | ".join(f"{score.psnr_db:.3f} / {score.ssim:.4f}" for score in row)
        lines.append(f"| {row[0].clip} | {row[0].frames} | {cells} |")
    means = " | ".join(f"**{result.psnr_db:.3f} / {result.ssim:.4f}**" for result in results)
    equal = [
        f"{result.upscaler}: {count} frames equal the ground truth; each counts as {MOST_PSNR_DB:g} dB"
        for result in results
        if (count := sum(score.equal_frames for score in result.scores))
    ]
    return "\n".join([*lines, f"| mean |  | {means} |", "", *equal])


def results_as_json(results: list[EvaluationResult]) -> str:
    """The results with every setting."""
    entries = [asdict(result) | {"psnr_db": result.psnr_db, "ssim": result.ssim} for result in results]
    return json.dumps(entries, indent=2, allow_nan=False) + "\n"


def save_side_by_side(frames: list[Tensor], path: Path) -> None:
    """Write frames (3, H, W) in 0..255 next to each other as one image."""
    from PIL import Image

    row = torch.cat([to_bytes(frame.double()) for frame in frames], dim=2)
    Image.fromarray(row.permute(1, 2, 0).numpy()).save(path)


def _hr(upscale: Upscaler, lr: Tensor, protocol: EvaluationProtocol) -> Tensor:
    if not protocol.mirrored:
        return upscale(lr)
    hr = upscale(torch.cat([lr, lr.flip(0)]))
    return (hr[3:4] + hr[10:11]) / 2.0


def _truth(gt: Tensor, protocol: EvaluationProtocol) -> Tensor:
    return gt[3:4] if protocol.mirrored else gt


def _crop(frame: Tensor, border: int) -> Tensor:
    return frame[..., border : frame.shape[-2] - border, border : frame.shape[-1] - border]
