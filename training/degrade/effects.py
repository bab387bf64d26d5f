"""What happens to frames between the lens and the encoder: blur, resizing, noise, chroma loss, interlacing artifacts.

Frames are (t, 3, h, w) float64, nominally 0..255, neither clamped nor rounded; t >= 1. Only the noise itself is random:
the caller chooses all strengths, so that they are the same for all frames of a sequence.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .resize import apply_separable, resampling_matrix

FIELDS = ("comb", "blend", "bob")
LUMA = (0.299, 0.587, 0.114)

Random = np.random.Generator


def blur(frames: Tensor, *, sigmas: tuple[float, float], turn: float) -> Tensor:
    """Gaussian blur: sigmas[0] px along a direction rotated by `turn` radians, sigmas[1] px across it; borders repeat.

    Uses numpy's FFT, which runs on one thread: the bytes do not depend on torch's number of threads.
    """
    margin = math.ceil(4.0 * max(sigmas))
    around = ((0, 0), (0, 0), (margin, margin), (margin, margin))
    padded = np.pad(frames.numpy(), around, mode="edge")
    h, w = padded.shape[-2:]
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    along, across = fx * math.cos(turn) + fy * math.sin(turn), fy * math.cos(turn) - fx * math.sin(turn)
    response = np.exp(-2.0 * math.pi**2 * ((sigmas[0] * along) ** 2 + (sigmas[1] * across) ** 2))
    soft = np.fft.irfft2(np.fft.rfft2(padded) * response, s=(h, w))
    return torch.from_numpy(np.ascontiguousarray(soft[..., margin : h - margin, margin : w - margin]))


def resize(frames: Tensor, height: int, width: int, *, kernel: str) -> Tensor:
    """Resample by one of resize.KERNELS, widened when shrinking; the image's edges coincide, so that nothing shifts."""
    h, w = frames.shape[-2:]
    return apply_separable(frames, resampling_matrix(h, height, kernel), resampling_matrix(w, width, kernel))


def add_noise(frames: Tensor, *, strength: float, gray: bool, softness: float, random: Random) -> Tensor:
    """Add normal noise of this standard deviation, drawn anew for each frame.

    gray: the same in all three channels, like film grain and luma noise. softness: sigma in px of a blur applied to
    the noise, whose strength is preserved.
    """
    t, _, h, w = frames.shape
    noise = torch.from_numpy(random.standard_normal((t, 1 if gray else 3, h, w)))
    if softness > 0.0:
        noise = blur(noise, sigmas=(softness, softness), turn=0.0)
    return frames + noise * (strength / noise.square().mean().sqrt())


def reduce_chroma(frames: Tensor, *, factor: float, shift_px: float) -> Tensor:
    """Narrow chroma to 1/factor, enlarge it again and shift it right by shift_px, like tape and composite video.

    Luma is unchanged: all three differences to luma are treated alike, and their own luma is zero.
    """
    red, green, blue = frames.unbind(1)
    y = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)
    color = frames - y
    h, w = color.shape[-2:]
    narrow = resize(color, h, max(1, round(w / factor)), kernel="bilinear")
    return y + _shift_right(resize(narrow, h, w, kernel="bilinear"), shift_px)


def add_field_artifacts(frames: Tensor, *, kind: str, strength: float, parity: int) -> Tensor:
    """Simulate what careless deinterlacing leaves behind. kind: one of FIELDS.

    comb: every other row is mixed with the next frame, by the share `strength`. blend: all rows are. bob: every other
    row is mixed with the mean of its neighbours. parity: 0 or 1, which rows. The last frame uses the one before it.
    """
    if kind == "bob":
        above = torch.cat([frames[..., :1, :], frames[..., :-1, :]], dim=-2)
        below = torch.cat([frames[..., 1:, :], frames[..., -1:, :]], dim=-2)
        other = 0.5 * (above + below)
    else:
        other = torch.cat([frames[1:], frames[-2:-1] if len(frames) > 1 else frames])
    mixed = torch.lerp(frames, other, strength)
    if kind == "blend":
        return mixed
    rows = (torch.arange(frames.shape[-2]) % 2 == parity).view(-1, 1)
    return torch.where(rows, mixed, frames)


def _shift_right(frames: Tensor, px: float) -> Tensor:
    """Shift by a real number of px, interpolating linearly; borders repeat."""
    whole, reach, w = math.floor(px), math.ceil(abs(px)) + 1, frames.shape[-1]
    padded = F.pad(frames, (reach, reach, 0, 0), mode="replicate")
    start = reach - whole
    return torch.lerp(padded[..., start : start + w], padded[..., start - 1 : start - 1 + w], px - whole)
