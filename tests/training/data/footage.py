"""Small videos that are drawn, as FFV1 in RGB, which loses nothing."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from training.data.canvases import canvas

Picture = Callable[[int], Tensor]  # frame number → (3, 96, 128) uint8


@cache
def drawn(seed: int) -> Tensor:
    return torch.from_numpy(255.0 * canvas(np.random.default_rng(seed), 192)).permute(2, 0, 1).to(torch.uint8)


def leaves(seed: int, *, speed: int = 1) -> Picture:
    """A detailed picture that moves to the right."""
    return lambda n: drawn(seed).roll(speed * n, dims=2)[:, :96, :128]


def black(n: int) -> Tensor:
    return torch.full((3, 96, 128), 2 * (n % 2), dtype=torch.uint8)


def soft(n: int) -> Tensor:
    x = torch.arange(128.0) + 3.0 * n
    waves = 120.0 + 100.0 * torch.sin(x / 30.0)[None] * torch.cos(torch.arange(96.0) / 25.0)[:, None]
    return waves.expand(3, -1, -1).to(torch.uint8)


def combed(n: int) -> Tensor:
    """Two moments in one frame."""
    picture = leaves(3, speed=8)
    frame = picture(2 * n).clone()
    frame[:, 1::2] = picture(2 * n + 1)[:, 1::2]
    return frame


def film(path: Path, *takes: tuple[Picture, int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 128, 96, "bgr0"
        for picture, frames in takes:
            for n in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(n).permute(1, 2, 0).contiguous().numpy(), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
