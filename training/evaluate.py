"""The paper's tables: PSNR and SSIM by clip and in the mean, in the conventions of MMagic or BasicSR."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.frames import FrameFolders
from training.degrade.degradation import Degradation, degrade
from training.degrade.resize import to_bytes
from training.loop.held_out import enlarged
from training.metrics import luma, psnr, ssim
from vs_iconvsr.networks.propagation import VideoNetwork

logger = logging.getLogger(__name__)

CONVENTIONS = ("basicsr", "mmagic")
CHANNELS = ("y", "rgb")
BICUBIC = "bicubic"

Upscaler = Callable[[Tensor], Tensor]  # lr (t, 3, h, w) uint8 → hr float64 in 0..255, before rounding


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How to measure. Defaults are the paper's for Vid4.

    convention: "basicsr" rounds hr to 8 bits first, "mmagic" only clamps. channels: "y" (BT.601 luma) or "rgb".
    crop_px: border that does not count. mirrored: Vimeo-90K-T: the 7 frames and their mirror image are read, and the
    middle frame is the mean of its two hr frames. frames: at most so many per clip, 0 for all.
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
    """Mean over the frames of one clip."""

    clip: str
    frames: int
    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Result:
    """One upscaler on all clips; the mean is over clips, each counted once whatever its length."""

    upscaler: str
    degradation: str
    protocol: Protocol
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
    protocol: Protocol,
    *,
    scale: int,
    seed: int = 0,
) -> list[Result]:
    """Degrade each clip's frames, upscale them by each of the upscalers, and compare."""
    scores: dict[str, list[Score]] = {name: [] for name in upscalers}
    for i, sequence in enumerate(clips.sequences):
        if protocol.mirrored and clips.shape(i)[0] != 7:
            raise ValueError(f"{sequence.name}: expected 7 frames for the mirrored protocol, got {clips.shape(i)[0]}")
        gt, lr = degraded(clips, i, degradation, scale=scale, frames=protocol.frames, seed=seed)
        for name, upscale in upscalers.items():
            score = measure(sequence.name, _hr(upscale, lr, protocol), _truth(gt, protocol), protocol)
            scores[name].append(score)
            logger.info("%s, %s: %.3f dB, %.4f", name, score.clip, score.psnr_db, score.ssim)
    return [Result(name, degradation.kind, protocol, tuple(found)) for name, found in scores.items()]


def degraded(
    clips: FrameFolders, i: int, degradation: Degradation, *, scale: int, frames: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """gt and lr (t, 3, h, w) uint8 of a clip's first frames (0: all), without what makes no whole lr pixel."""
    total, h, w = clips.shape(i)
    kept = min(total, frames) if frames else total
    gt = clips.read(i, range(kept), slice(0, h - h % scale), slice(0, w - w % scale))
    return gt, degrade(gt, degradation, scale, random=np.random.default_rng(np.random.SeedSequence([seed, i])))


def measure(clip: str, hr: Tensor, gt: Tensor, protocol: Protocol) -> Score:
    """hr (t, 3, H, W) float in 0..255, gt uint8."""
    psnrs, ssims = [], []
    for ours, truth in zip(hr, gt, strict=True):
        shown = to_bytes(ours).double() if protocol.convention == "basicsr" else ours.double().clamp(0.0, 255.0)
        a, b = (_cropped(frame, protocol.crop_px) for frame in (shown, truth.double()))
        if protocol.channels == "y":
            a, b = luma(a), luma(b)
        psnrs.append(psnr(a, b))
        ssims.append(ssim(a, b))
    return Score(clip, len(psnrs), float(np.mean(psnrs)), float(np.mean(ssims)))


def by_network(network: VideoNetwork, *, device: str) -> Upscaler:
    """The whole clip in one pass, as the authors do."""

    def upscale(lr: Tensor) -> Tensor:
        with torch.inference_mode():
            hr: Tensor = network(lr.unsqueeze(0).to(device).float() / 255.0)[0]
        return hr.double().cpu() * 255.0

    network.to(device).eval()
    return upscale


def by_bicubic(scale: int) -> Upscaler:
    """MATLAB's imresize, rounded to 8 bits as files of it are."""
    return lambda lr: enlarged(lr, scale).double()


def markdown(results: list[Result]) -> str:
    """A table: a row for each clip and the mean, a column for each upscaler."""
    protocol = results[0].protocol
    names = [result.upscaler for result in results]
    shown = f"{results[0].degradation}, {protocol.channels.upper()}, {protocol.convention} rounding"
    lines = [
        f"PSNR (dB) / SSIM, {shown}, crop {protocol.crop_px}",
        "",
        "| clip | frames | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in zip(*(result.scores for result in results), strict=True):
        cells = " | ".join(f"{score.psnr_db:.3f} / {score.ssim:.4f}" for score in row)
        lines.append(f"| {row[0].clip} | {row[0].frames} | {cells} |")
    means = " | ".join(f"**{result.psnr_db:.3f} / {result.ssim:.4f}**" for result in results)
    return "\n".join([*lines, f"| mean |  | {means} |", ""])


def as_json(results: list[Result]) -> str:
    """The same, with every setting."""
    found = [asdict(result) | {"psnr_db": result.psnr_db, "ssim": result.ssim} for result in results]
    return json.dumps(found, indent=2) + "\n"


def side_by_side(pictures: list[Tensor], path: Path) -> None:
    """Frames (3, H, W) in 0..255 next to each other, as one file to look at."""
    from PIL import Image

    Image.fromarray(torch.cat([to_bytes(frame.double()) for frame in pictures], dim=2).permute(1, 2, 0).numpy()).save(
        path
    )


def _hr(upscale: Upscaler, lr: Tensor, protocol: Protocol) -> Tensor:
    if not protocol.mirrored:
        return upscale(lr)
    hr = upscale(torch.cat([lr, lr.flip(0)]))
    return (hr[3:4] + hr[10:11]) / 2.0


def _truth(gt: Tensor, protocol: Protocol) -> Tensor:
    return gt[3:4] if protocol.mirrored else gt


def _cropped(frame: Tensor, border: int) -> Tensor:
    return frame[..., border : frame.shape[-2] - border, border : frame.shape[-1] - border]
