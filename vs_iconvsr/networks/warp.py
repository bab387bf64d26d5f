"""Backward warping: features sampled where a flow points."""

import functools

import torch
from torch import Tensor

BILINEAR = 0
PADDING = {"zeros": 0, "border": 1}


def warp(features: Tensor, flow: Tensor, *, padding_mode: str = "zeros") -> Tensor:
    """features (n, c, h, w) sampled bilinearly at each pixel's position plus flow (n, 2, h, w), (dx, dy) in px.

    What lies outside the frame is 0 ("zeros", for carried features) or the nearest pixel ("border", inside SPyNet).
    """
    # float16 cannot hold a position: it misses by 0.13 px at a width of 320 and by 0.6 px at 1280 (float32 sums, too).
    precise = torch.promote_types(features.dtype, torch.float32)
    positions, half_sides = _positions(*features.shape[-2:], flow.device, precise)
    grid = (positions + flow.to(precise)).div_(half_sides).sub_(1.0).permute(0, 2, 3, 1)
    # Not F.grid_sample: on a GPU it takes cuDNN's sampler for some arguments, whose sums are others.
    sampled = torch.grid_sampler_2d(features.to(precise), grid, BILINEAR, PADDING[padding_mode], True)
    return sampled.to(features.dtype)


@functools.lru_cache(maxsize=32)  # the levels of a flow network and the features, of a few sizes of tiles
def _positions(h: int, w: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x, y) of every pixel (2, h, w), and half of what the sampler takes the sides for (2, 1, 1).

    The sampler has the centers of the first and the last pixel at -1 and 1; a side of one pixel has only one.
    """
    with torch.inference_mode(False):  # training takes them, too
        x, y = (torch.arange(side, device=device, dtype=dtype) for side in (w, h))
        positions = torch.stack([x.expand(h, w), y.unsqueeze(1).expand(h, w)])
        half_sides = torch.tensor([max(side - 1, 1) / 2 for side in (w, h)], device=device, dtype=dtype)
        return positions, half_sides.view(2, 1, 1)
