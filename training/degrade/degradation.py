"""From ground truth to what the network gets: BI, BD, blur, and what happens to video: noise and real encoders."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.degrade import effects
from training.degrade.codecs import ENCODERS, encode_decode
from training.degrade.resize import (
    BD_SIGMA,
    bicubic_matrix,
    gaussian_matrix,
    separable,
    shifted_gaussian_matrix,
    to_bytes,
)

KINDS = ("bi", "bd", "bd-pfnl", "blur", "x264", "video", "real")
SHRINKING = ("area", "bilinear", "bicubic", "lanczos")
ENLARGING = SHRINKING[1:]
LONGEST_SHIFT_PX = 1.5  # of chroma against luma, where chroma is lost

Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One way to make lr frames. Ranges are drawn from once per sequence and stay for all its frames.

    kind: one of KINDS. "blur" is a centred Gaussian of sigma; "x264" is BI, then x264 (preset medium), nothing else;
    "video" is BI or a blur of sigma, then noise, then an encoder; "real" is everything below, in that order. share:
    how often it is chosen, relative to the others. sigma: px of the ground truth. noise: standard deviation in 8-bit
    code values. crf: of x264. quantiser: of the other encoders. encoders: chosen among evenly; a name twice is chosen
    twice as often; none at all for "real" without compression.

    Of "real" alone: stretch: sigma along the blur's longer axis over that across it, in any direction. resize: size,
    relative to lr, that frames are brought to first; below 1 detail is lost for good. interlace: share of sequences
    with left-over fields. chroma: how much narrower chroma is for a while. second_pass: share that is encoded twice.
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
            if low > high:
                raise ValueError(f"{name}: expected [lowest, highest], got {[low, high]}")
        for name, least in (("noise", 0.0), ("stretch", 1.0), ("resize", 0.1), ("chroma", 1.0)):
            if getattr(self, name)[0] < least:
                raise ValueError(f"{name}: expected at least {least:g}, got {getattr(self, name)[0]}")
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
        return centred_blur(gt, scale, BD_SIGMA)
    if kind == "bd-pfnl":
        rows, columns = (shifted_gaussian_matrix(side, scale, BD_SIGMA) for side in (h, w))
        return to_bytes(separable(gt, rows, columns))
    if kind == "x264":
        return encode_decode(bi(gt, scale), "libx264", quality=random.uniform(*degradation.crf))
    if kind == "real":
        return _real(gt, degradation, scale, random)
    # Rounded, so that the matrices can be kept: one is made for each sigma and size.
    sigma = round(random.uniform(*degradation.sigma), 2)
    if kind == "blur":
        return centred_blur(gt, scale, sigma)
    lr = bi(gt, scale) if random.random() < 0.5 else centred_blur(gt, scale, sigma)
    return compressed(_noisy(lr, degradation, random), degradation, random=random)


def bi(gt: Tensor, scale: int) -> Tensor:
    """MATLAB's imresize(…, 1/scale, 'bicubic') on uint8."""
    h, w = gt.shape[-2:]
    rows, columns = (bicubic_matrix(side, side // scale, 1.0 / scale) for side in (h, w))
    return to_bytes(separable(gt, rows, columns))


def centred_blur(gt: Tensor, scale: int, sigma: float) -> Tensor:
    """A Gaussian centred on each square of scale px, sampled there; BD with sigma 1.6 and scale 4."""
    h, w = gt.shape[-2:]
    return to_bytes(separable(gt, gaussian_matrix(h, scale, sigma), gaussian_matrix(w, scale, sigma)))


def compressed(lr: Tensor, degradation: Degradation, *, random: Random) -> Tensor:
    """lr (t, 3, h, w) uint8 through one of the degradation's encoders at one of its qualities."""
    encoder = degradation.encoders[int(random.integers(len(degradation.encoders)))]
    if encoder != "libx264":
        return encode_decode(lr, encoder, quality=random.uniform(*degradation.quantiser))
    preset = ("veryfast", "medium")[int(random.integers(2))]
    return encode_decode(lr, encoder, quality=random.uniform(*degradation.crf), preset=preset)


def _noisy(lr: Tensor, degradation: Degradation, random: Random) -> Tensor:
    strength = random.uniform(*degradation.noise)
    if strength <= 0.0 or random.random() < 0.4:
        return lr
    noise = strength * random.standard_normal(lr.shape, dtype=np.float32)
    return to_bytes(lr.float() + torch.from_numpy(noise))


def _real(gt: Tensor, degradation: Degradation, scale: int, random: Random) -> Tensor:
    """In the order in which it happens to footage: lens, scaler, fields, sensor, cable, encoder, another encoder."""
    h, w = (side // scale for side in gt.shape[-2:])
    sigma = random.uniform(*degradation.sigma)
    sigmas = (sigma * random.uniform(*degradation.stretch), sigma)
    frames = effects.blurred(gt.double(), sigmas=sigmas, turn=random.uniform(0.0, math.pi))
    frames = _resized(frames, h, w, degradation, random)
    if random.random() < degradation.interlace:
        frames = effects.fields_left(
            frames,
            kind=effects.FIELDS[int(random.integers(len(effects.FIELDS)))],
            strength=random.uniform(0.2, 1.0),
            parity=int(random.integers(2)),
        )
    strength = random.uniform(*degradation.noise)
    if strength > 0.0:
        softness = random.uniform(0.3, 0.8) if random.random() < 0.4 else 0.0
        grey = random.random() < 0.5
        frames = effects.noisy(frames, strength=strength, grey=grey, softness=softness, random=random)
    factor = random.uniform(*degradation.chroma)
    if factor > 1.0:
        shift_px = random.uniform(-LONGEST_SHIFT_PX, LONGEST_SHIFT_PX)
        frames = effects.chroma_lost(frames, factor=factor, shift_px=shift_px)
    lr = to_bytes(frames)
    if not degradation.encoders:
        return lr
    lr = compressed(lr, degradation, random=random)
    return compressed(lr, degradation, random=random) if random.random() < degradation.second_pass else lr


def _resized(frames: Tensor, h: int, w: int, degradation: Degradation, random: Random) -> Tensor:
    """To lr size, by way of another size where the degradation says so; each step with a kernel of its own."""
    low, high = degradation.resize
    size = math.exp(random.uniform(math.log(low), math.log(high)))
    middle = (max(1, round(size * h)), max(1, round(size * w)))
    for wanted in (middle, (h, w)):
        if wanted != frames.shape[-2:]:
            kernels = SHRINKING if wanted[0] < frames.shape[-2] else ENLARGING
            frames = effects.resized(frames, *wanted, kernel=kernels[int(random.integers(len(kernels)))])
    return frames
