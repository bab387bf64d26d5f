"""Backward warping: features sampled where a flow points."""

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
    h, w = features.shape[-2:]
    x = torch.arange(w, device=flow.device, dtype=precise) + flow[:, 0].to(precise)
    y = torch.arange(h, device=flow.device, dtype=precise).unsqueeze(1) + flow[:, 1].to(precise)
    # The sampler has the centers of the first and the last pixel at -1 and 1; a side of one pixel has only one.
    grid = torch.stack([x / (max(w - 1, 1) / 2) - 1.0, y / (max(h - 1, 1) / 2) - 1.0], dim=-1)
    # Not F.grid_sample: on a GPU it takes cuDNN's sampler for some arguments, whose sums are others.
    sampled = torch.grid_sampler_2d(features.to(precise), grid, BILINEAR, PADDING[padding_mode], True)
    return sampled.to(features.dtype)
