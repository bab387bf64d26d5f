"""What happens to frames between the lens and the encoder: blur, resizing, noise, lost chroma, left-over fields.

Frames are (t, 3, h, w) float64 about 0..255, neither clamped nor rounded; t >= 1. Nothing here is drawn at random but
the noise itself: strengths are the caller's, so that they stay the same for all frames of a sequence.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.degrade.resize import resampling_matrix, separable

FIELDS = ("comb", "blend", "bob")
LUMA = (0.299, 0.587, 0.114)

Random = np.random.Generator


def blurred(frames: Tensor, *, sigmas: tuple[float, float], turn: float) -> Tensor:
    """A Gaussian of sigmas[0] px along a direction turned by `turn` radians and sigmas[1] px across; borders repeat.

    By numpy's transform, which runs on one thread: the same bytes with any number of torch's.
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


def resized(frames: Tensor, height: int, width: int, *, kernel: str) -> Tensor:
    """To another size by one of resize.KERNELS, widened when shrinking; edges stay edges, so that nothing shifts."""
    h, w = frames.shape[-2:]
    return separable(frames, resampling_matrix(h, height, kernel), resampling_matrix(w, width, kernel))


def noisy(frames: Tensor, *, strength: float, grey: bool, softness: float, random: Random) -> Tensor:
    """With normal noise of this standard deviation, new in each frame.

    grey: the same in the three channels, as film grain and luma noise are. softness: sigma in px of a blur of the
    noise, which keeps its strength.
    """
    t, _, h, w = frames.shape
    noise = torch.from_numpy(random.standard_normal((t, 1 if grey else 3, h, w)))
    if softness > 0.0:
        noise = blurred(noise, sigmas=(softness, softness), turn=0.0)
    return frames + noise * (strength / noise.square().mean().sqrt())


def chroma_lost(frames: Tensor, *, factor: float, shift_px: float) -> Tensor:
    """Chroma of 1/factor the width, enlarged again and moved right by shift_px: tape and composite cables. Luma stays.

    The three differences to luma are treated alike, and their own luma is zero: hence luma stays exactly.
    """
    red, green, blue = frames.unbind(1)
    y = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)
    color = frames - y
    h, w = color.shape[-2:]
    narrow = resized(color, h, max(1, round(w / factor)), kernel="bilinear")
    return y + _moved_right(resized(narrow, h, w, kernel="bilinear"), shift_px)


def fields_left(frames: Tensor, *, kind: str, strength: float, parity: int) -> Tensor:
    """What careless deinterlacing leaves, one of FIELDS.

    comb: every other row shows the next frame's moment, by the share `strength`. blend: all rows do. bob: every other
    row is the mean of its neighbours, by that share. parity: 0 or 1, which rows. The last frame takes the one before.
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


def _moved_right(frames: Tensor, px: float) -> Tensor:
    """By a real number of px, linearly between whole ones; the left border repeats."""
    whole, reach, w = math.floor(px), math.ceil(abs(px)) + 1, frames.shape[-1]
    padded = F.pad(frames, (reach, reach, 0, 0), mode="replicate")
    start = reach - whole
    return torch.lerp(padded[..., start : start + w], padded[..., start - 1 : start - 1 + w], px - whole)
