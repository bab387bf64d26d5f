"""Frames extended by their own mirror image."""

import torch
from torch import Tensor


def extended(frames: Tensor, h: int, w: int) -> Tensor:
    """frames (n, c, any, any) → (n, c, h, w), mirrored at the right and the bottom.

    A side too short for one mirroring is mirrored back and forth.
    """
    for dim, wanted in ((2, h), (3, w)):
        side = frames.shape[dim]
        if side < wanted:
            positions = [mirrored(i, side) for i in range(wanted)]
            frames = frames.index_select(dim, torch.tensor(positions, device=frames.device))
    return frames


def mirrored(position: int, length: int) -> int:
    """The element 0 <= i < length seen at any integer position when both ends mirror: -1 shows 1."""
    if length == 1:
        return 0
    position %= 2 * (length - 1)
    return min(position, 2 * (length - 1) - position)
