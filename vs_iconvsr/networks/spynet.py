"""SPyNet: optical flow from a pyramid of six small networks (Ranjan and Black, CVPR 2017)."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import LeakyConv
from vs_iconvsr.networks.warp import warp

LEVELS = 6
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's images, RGB
STD = (0.229, 0.224, 0.225)
ONE_BY_ONE = ("cpu",)  # devices that compute the flows both ways one after the other
SIZE_MULTIPLE = 2 ** (LEVELS - 1)  # so that the coarsest level has whole pixels


class SPyNet(nn.Module):
    """frame, neighbour (n, 3, h, w), RGB in [0, 1] → flow (n, 2, h, w): where each pixel of frame lies in neighbour.

    (dx, dy) in px; any h, w >= 1. The flow is float32 whatever the weights are: bfloat16 would round 200 px to the next
    whole one. Sides that are no multiple of SIZE_MULTIPLE are stretched to the next one for the
    search, and the flow is brought back: cutting or padding instead gives other flows than the published weights had.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, channels: int = 32) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"channels of SPyNet: expected an even number, 2 or more, got {channels}")
        self.hyper_parameters = {"channels": channels}
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.basic_module = nn.ModuleList(SPyNetLevel(channels) for _ in range(LEVELS))

    def forward(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        flow = self._refined(self.pyramid(frame), self.pyramid(neighbour))[-1]
        return unstretched(flow, *frame.shape[-2:])

    def both_ways(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        """forward(frame, neighbour) and forward(neighbour, frame), see `search_both_ways`."""

        def search(frames: list[Tensor], neighbours: list[Tensor]) -> Tensor:
            return unstretched(self._refined(frames, neighbours)[-1], *frame.shape[-2:])

        return search_both_ways(frame, neighbour, self.pyramid, search)

    def refinements(self, frame: Tensor, neighbour: Tensor) -> list[Tensor]:
        """The flow after each level, coarsest first, in px of its own level: every one adds to the one before."""
        return self._refined(self.pyramid(frame), self.pyramid(neighbour))

    def pyramid(self, frame: Tensor) -> list[Tensor]:
        """The stretched and normalized frame at every level's size, coarsest first."""
        h, w = (-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in frame.shape[-2:])
        levels = [(resize(frame, h, w).to(self._dtype) - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        return levels

    def _refined(self, frames: list[Tensor], neighbours: list[Tensor]) -> list[Tensor]:
        dtype = self._dtype
        n, _, h, w = frames[0].shape
        flow = torch.zeros(n, 2, h, w, device=frames[0].device, dtype=torch.promote_types(dtype, torch.float32))
        flows = []
        for level, refine in enumerate(self.basic_module):
            if level > 0:
                flow = 2.0 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            moved = warp(neighbours[level], flow, padding_mode="border")
            flow = flow + refine(torch.cat([frames[level], moved, flow.to(dtype)], dim=1))
            flows.append(flow)
        return flows

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class SPyNetLevel(nn.Module):
    """frame, moved neighbour and flow so far, 8 channels → what to add to the flow, 2 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [8, channels, 2 * channels, channels, channels // 2, 2]
        self.basic_module = nn.Sequential(
            *(
                LeakyConv(narrow, wide, kernel_size=7, slope=None if layer == 4 else 0.0)
                for layer, (narrow, wide) in enumerate(pairwise(widths))
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.basic_module(features)
        return change


def search_both_ways(
    frame: Tensor,
    neighbour: Tensor,
    pyramid: Callable[[Tensor], list[Tensor]],
    search: Callable[[list[Tensor], list[Tensor]], Tensor],
) -> tuple[Tensor, Tensor]:
    """The flow from frame to neighbour and back, each frame's pyramid made once.

    On a CPU one after the other: a batch would sum in another order than each alone does. On other devices as one
    batch: at the small levels they would wait for the next kernel to be launched.
    """
    if frame.device.type in ONE_BY_ONE:
        ours, theirs = pyramid(frame), pyramid(neighbour)
        return search(ours, theirs), search(theirs, ours)
    n = len(frame)
    levels = pyramid(torch.cat([frame, neighbour, frame]))
    both = search([level[: 2 * n] for level in levels], [level[n:] for level in levels])
    return both[:n], both[n:]


def unstretched(flow: Tensor, h: int, w: int) -> Tensor:
    """flow (n, 2, any, any) → (n, 2, h, w), in px of that size."""
    stretched_h, stretched_w = flow.shape[-2:]
    if (stretched_h, stretched_w) == (h, w):
        return flow
    flow = resize(flow, h, w)
    return torch.stack([flow[:, 0] * (w / stretched_w), flow[:, 1] * (h / stretched_h)], dim=1)


def resize(frames: Tensor, h: int, w: int) -> Tensor:
    """frames (n, c, any, any) → (n, c, h, w), bilinear, pixel centers aligned."""
    if frames.shape[-2:] == (h, w):
        return frames
    return F.interpolate(frames, size=(h, w), mode="bilinear", align_corners=False)
