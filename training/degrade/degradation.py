"""From ground truth to the network's input: BI, BD, blur, and the damage that video takes: noise, real encoders."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import effects
from .codecs import ENCODERS, encode_decode
from .resize import (
    BD_SIGMA,
    apply_separable,
    bicubic_matrix,
    gaussian_matrix,
    shifted_gaussian_matrix,
    to_bytes,
)

KINDS = ("bi", "bd", "bd-pfnl", "blur", "x264", "video", "real")
SHRINKING = ("area", "bilinear", "bicubic", "lanczos")
ENLARGING = SHRINKING[1:]
WORST_CRF, WORST_QUANTISER = 51.0, 31.0  # of x264, and of the other encoders
LONGEST_SHIFT_PX = 1.5  # of chroma against luma, where chroma is lost

Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One way to make lr frames. A value is drawn from each range once per sequence, for all of its frames.

    kind: one of KINDS. "blur" is a centered Gaussian of sigma; "x264" is BI, then x264 (preset medium), nothing else;
    "video" is BI or a blur of sigma, then noise, then an encoder; "real" is everything below, in that order. share:
    how often it is chosen, relative to the others. sigma: px of the ground truth. noise: standard deviation in 8-bit
    code values. crf: for x264. quantiser: for the other encoders. encoders: one is chosen at random; a name listed
    twice is chosen twice as often; empty for "real" without compression.

    For "real" only: stretch: sigma along the blur's longer axis relative to that across it, in any direction. resize:
    intermediate size relative to lr; below 1, detail is lost. interlace: share of sequences with interlacing
    artifacts. chroma: factor by which chroma is narrowed, then restored. second_pass: share that is encoded twice.
    """

    kind: str = "bi"
    share: float = 1.0
    sigma: tuple[float, float] = (0.8, 2.0)
    noise: tuple[float, float] = (0.0, 4.0)
    crf: tuple[float, float] = (14.0, 30.0)
    quantiser: tuple[float, float] = (2.0, 8.0)
    encoders: tuple[str, ...] = ("libx264",)
    stretch: tuple[float, float] = (1.0, 1.0)
    resize: tuple[float, float] = (1.0, 1.0)
    interlace: float = 0.0
    chroma: tuple[float, float] = (1.0, 1.0)
    second_pass: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.share <= 0.0:
            raise ValueError(f"share: expected more than 0, got {self.share}")
        for name in ("sigma", "noise", "crf", "quantiser", "stretch", "resize", "chroma"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise ValueError(f"{name}: expected [lowest, highest], got {[low, high]}")
        for name, least in (("noise", 0.0), ("stretch", 1.0), ("resize", 0.1), ("chroma", 1.0)):
            if getattr(self, name)[0] < least:
                raise ValueError(f"{name}: expected at least {least:g}, got {getattr(self, name)[0]}")
        if self.crf[0] < 0.0 or self.crf[1] > WORST_CRF:
            raise ValueError(f"crf: expected 0 to {WORST_CRF:g}, got {list(self.crf)}")
        if self.quantiser[0] < 1.0 or self.quantiser[1] > WORST_QUANTISER:
            raise ValueError(f"quantiser: expected 1 to {WORST_QUANTISER:g}, got {list(self.quantiser)}")
        for name in ("interlace", "second_pass"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        if self.sigma[0] <= 0.0:
            raise ValueError(f"sigma: expected more than 0, got {self.sigma[0]}")
        if unknown := set(self.encoders) - set(ENCODERS):
            raise ValueError(f"encoders: expected some of {', '.join(ENCODERS)}, got {', '.join(sorted(unknown))}")
        if not self.encoders and self.kind != "real":
            raise ValueError(f"encoders: expected some of {', '.join(ENCODERS)}, got none")


def degrade(gt: Tensor, degradation: Degradation, scale: int, *, random: Random) -> Tensor:
    """gt (t, 3, H, W) uint8 → lr (t, 3, H/scale, W/scale) uint8; H and W are multiples of scale."""
    h, w = gt.shape[-2:]
    if h % scale or w % scale:
        raise ValueError(f"gt: expected a height and width that {scale} divides, got {h}x{w}")
    kind = degradation.kind
    if kind == "bi":
        return bi(gt, scale)
    if kind == "bd":
        return centered_blur(gt, scale, BD_SIGMA)
    if kind == "bd-pfnl":
        rows, columns = (shifted_gaussian_matrix(side, scale, BD_SIGMA) for side in (h, w))
        return to_bytes(apply_separable(gt, rows, columns))
    if kind == "x264":
        return encode_decode(bi(gt, scale), "libx264", quality=random.uniform(*degradation.crf))
    if kind == "real":
        return _degrade_real(gt, degradation, scale, random)
    # Rounded, so that the cached matrices are reused: there is one for each sigma and size.
    sigma = round(random.uniform(*degradation.sigma), 2)
    if kind == "blur":
        return centered_blur(gt, scale, sigma)
    lr = bi(gt, scale) if random.random() < 0.5 else centered_blur(gt, scale, sigma)
    return compress(_add_noise(lr, degradation, random), degradation, random=random)


def bi(gt: Tensor, scale: int) -> Tensor:
    """BI: MATLAB's imresize(…, 1/scale, 'bicubic') on uint8."""
    h, w = gt.shape[-2:]
    rows, columns = (bicubic_matrix(side, side // scale, 1.0 / scale) for side in (h, w))
    return to_bytes(apply_separable(gt, rows, columns))


def centered_blur(gt: Tensor, scale: int, sigma: float) -> Tensor:
    """Gaussian blur sampled at the center of each square of scale px; BD with sigma 1.6 and scale 4."""
    h, w = gt.shape[-2:]
    return to_bytes(apply_separable(gt, gaussian_matrix(h, scale, sigma), gaussian_matrix(w, scale, sigma)))


def compress(lr: Tensor, degradation: Degradation, *, random: Random) -> Tensor:
    """Encode and decode lr (t, 3, h, w) uint8 with one of the degradation's encoders at one of its qualities."""
    encoder = degradation.encoders[int(random.integers(len(degradation.encoders)))]
    if encoder != "libx264":
        return encode_decode(lr, encoder, quality=random.uniform(*degradation.quantiser))
    preset = ("veryfast", "medium")[int(random.integers(2))]
    return encode_decode(lr, encoder, quality=random.uniform(*degradation.crf), preset=preset)


def _add_noise(lr: Tensor, degradation: Degradation, random: Random) -> Tensor:
    strength = random.uniform(*degradation.noise)
    if strength <= 0.0 or random.random() < 0.4:
        return lr
    noise = strength * random.standard_normal(lr.shape, dtype=np.float32)
    return to_bytes(lr.float() + torch.from_numpy(noise))


def _degrade_real(gt: Tensor, degradation: Degradation, scale: int, random: Random) -> Tensor:
    """Everything in the order in which it happens to footage: lens, scaler, fields, sensor, cable, encoder, encoder."""
    h, w = (side // scale for side in gt.shape[-2:])
    sigma = random.uniform(*degradation.sigma)
    sigmas = (sigma * random.uniform(*degradation.stretch), sigma)
    frames = effects.blur(gt.double(), sigmas=sigmas, turn=random.uniform(0.0, math.pi))
    frames = _resize(frames, h, w, degradation, random)
    if random.random() < degradation.interlace:
        frames = effects.add_field_artifacts(
            frames,
            kind=effects.FIELDS[int(random.integers(len(effects.FIELDS)))],
            strength=random.uniform(0.2, 1.0),
            parity=int(random.integers(2)),
        )
    strength = random.uniform(*degradation.noise)
    if strength > 0.0:
        softness = random.uniform(0.3, 0.8) if random.random() < 0.4 else 0.0
        gray = random.random() < 0.5
        frames = effects.add_noise(frames, strength=strength, gray=gray, softness=softness, random=random)
    factor = random.uniform(*degradation.chroma)
    if factor > 1.0:
        shift_px = random.uniform(-LONGEST_SHIFT_PX, LONGEST_SHIFT_PX)
        frames = effects.reduce_chroma(frames, factor=factor, shift_px=shift_px)
    lr = to_bytes(frames)
    if not degradation.encoders:
        return lr
    lr = compress(lr, degradation, random=random)
    return compress(lr, degradation, random=random) if random.random() < degradation.second_pass else lr


def _resize(frames: Tensor, h: int, w: int, degradation: Degradation, random: Random) -> Tensor:
    """Resize to lr size, via an intermediate size if the degradation has one; each step draws its own kernel."""
    low, high = degradation.resize
    size = math.exp(random.uniform(math.log(low), math.log(high)))
    intermediate = (max(1, round(size * h)), max(1, round(size * w)))
    for target in (intermediate, (h, w)):
        if target != frames.shape[-2:]:
            kernels = SHRINKING if target[0] < frames.shape[-2] else ENLARGING
            frames = effects.resize(frames, *target, kernel=kernels[int(random.integers(len(kernels)))])
    return frames
