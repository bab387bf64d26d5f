"""SPyNet: optical flow from a pyramid of six small networks (Ranjan and Black, CVPR 2017)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import LeakyConv
from vs_iconvsr.networks.warp import warp

LEVELS = 6
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's images, RGB
STD = (0.229, 0.224, 0.225)
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
        h, w = frame.shape[-2:]
        stretched_h, stretched_w = (-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in (h, w))
        flow = self.search(resize(frame, stretched_h, stretched_w), resize(neighbour, stretched_h, stretched_w))
        flow = resize(flow, h, w)
        return torch.stack([flow[:, 0] * (w / stretched_w), flow[:, 1] * (h / stretched_h)], dim=1)

    def search(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        """As forward, for multiples of SIZE_MULTIPLE."""
        return self.refinements(frame, neighbour)[-1]

    def refinements(self, frame: Tensor, neighbour: Tensor) -> list[Tensor]:
        """The flow after each level, coarsest first, in px of its own level: every one adds to the one before."""
        dtype = next(self.parameters()).dtype
        frames, neighbours = self.pyramid(frame.to(dtype)), self.pyramid(neighbour.to(dtype))
        n, _, h, w = frames[0].shape
        flow = torch.zeros(n, 2, h, w, device=frame.device, dtype=torch.promote_types(dtype, torch.float32))
        flows = []
        for level, refine in enumerate(self.basic_module):
            if level > 0:
                flow = 2.0 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            moved = warp(neighbours[level], flow, padding_mode="border")
            flow = flow + refine(torch.cat([frames[level], moved, flow.to(dtype)], dim=1))
            flows.append(flow)
        return flows

    def pyramid(self, frame: Tensor) -> list[Tensor]:
        """The normalized frame at every level's size, coarsest first."""
        levels = [(frame - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        return levels


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


def resize(frames: Tensor, h: int, w: int) -> Tensor:
    """frames (n, c, any, any) → (n, c, h, w), bilinear, pixel centers aligned."""
    return F.interpolate(frames, size=(h, w), mode="bilinear", align_corners=False)
