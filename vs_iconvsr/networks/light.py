"""LightVSR, our small network for CPUs: coupled propagation as in IconVSR, with a flow network and a tail of its own.

For a small trunk SPyNet and the authors' 64-channel hr layers would be four fifths of the cost. Here no convolution
runs at hr size, and those of the flow network run at half lr size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import ResidualBlock, ResidualTrunk, init_kaiming_normal
from vs_iconvsr.networks.fast import leaky_pair
from vs_iconvsr.networks.propagation import Pass, VideoNetwork
from vs_iconvsr.networks.spynet import search_both_ways
from vs_iconvsr.networks.warp import warp

FLOW_LEVELS = 4
CONTRAST_WINDOW_PX = 9
CONTRAST_FLOOR = 0.02  # about five 8-bit code values: flatter windows are noise and must not be blown up


class LightVSR(VideoNetwork):
    """frames → hr = bicubic enlargement + what the trunk knows; `forward` and the steps are VideoNetwork's.

    mid_channels: width of the trunk; multiples of 16 suit the vector units of CPUs.
    num_blocks: residual blocks per direction.
    flow_channels: width of the flow network.
    scale: hr size over lr size, at least 1.
    """

    passes = (Pass("backward", backward=True), Pass("forward", reads=("backward",)))
    upsampled = ("forward",)

    def __init__(self, *, mid_channels: int = 32, num_blocks: int = 5, flow_channels: int = 32, scale: int = 4) -> None:
        super().__init__()
        self.hyper_parameters = {
            "mid_channels": mid_channels,
            "num_blocks": num_blocks,
            "flow_channels": flow_channels,
            "scale": scale,
        }
        for name, value in self.hyper_parameters.items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self.scale = scale
        self.carried_channels = mid_channels

        self.flow_network = LightFlow(flow_channels)
        self.backward_trunk = ResidualTrunk(3 + mid_channels, mid_channels, num_blocks=num_blocks)
        self.forward_trunk = ResidualTrunk(3 + 2 * mid_channels, mid_channels, num_blocks=num_blocks)
        self.tail_first = nn.Conv2d(mid_channels, 2 * mid_channels, 3, padding=1)
        self.tail_last = nn.Conv2d(2 * mid_channels, 3 * scale**2, 3, padding=1)
        self._initialise()

    @property
    def working_values(self) -> int:
        """Four features and what the trunk reads of them, or the tail and four times hr; see VideoNetwork."""
        return 8 * self.carried_channels + 12 * self.scale**2 + 50

    @property
    def largest_values(self) -> int:
        return max(2 * self.carried_channels + 3, 3 * self.scale**2)

    def flow(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        flows: list[Tensor] = self.flow_network(frame, neighbour)
        return flows[-1]

    def flows(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow_network.both_ways(frame, neighbour)

    def step(
        self,
        at: Pass,
        frame: Tensor,
        *,
        earlier: Sequence[Tensor],
        carried: Sequence[Tensor],
        flows: Sequence[Tensor],
        refill: Tensor | None,
    ) -> Tensor:
        del refill
        aligned = self._align(frame, carried, flows)
        trunk = self.backward_trunk if at.backward else self.forward_trunk
        feature: Tensor = trunk(torch.cat([frame.to(aligned.dtype), *earlier, aligned], dim=1))
        return feature

    def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
        detail = F.pixel_shuffle(leaky_pair(self.tail_first, self.tail_last, features[0]), self.scale)
        # antialias=True changes nothing about enlarging but the kernel: MATLAB's (a = -0.5), and three times as fast.
        hr = F.interpolate(frame, scale_factor=self.scale, mode="bicubic", align_corners=False, antialias=True)
        return hr + detail.to(frame.dtype)

    def _align(self, frame: Tensor, carried: Sequence[Tensor], flows: Sequence[Tensor]) -> Tensor:
        if not carried:
            n, _, h, w = frame.shape
            return frame.new_zeros(n, self.carried_channels, h, w, dtype=self.tail_last.weight.dtype)
        return warp(carried[0], flows[0], padding_mode="border")

    def _initialise(self) -> None:
        """Start at the bicubic enlargement, with blocks that learn within minutes: they are few, and need no taming."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                init_kaiming_normal(module.conv1.weight)
        nn.init.zeros_(self.tail_last.weight)
        assert self.tail_last.bias is not None
        nn.init.zeros_(self.tail_last.bias)


class LightFlow(nn.Module):
    """Optical flow from coarse to fine, on luma of normalized local contrast: exposure and fades do not move anything.

    forward: frame, neighbour (n, 3, h, w) → flows (n, 2, h_k, w_k) in px of their own level, coarsest first, float32;
    the last is where each pixel of frame lies in neighbour. The others cover the frame padded to whole squares of
    `multiple` pixels. Any h, w >= 1.
    """

    multiple = 2**FLOW_LEVELS

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(FlowLevel(channels) for _ in range(FLOW_LEVELS))

    def forward(self, frame: Tensor, neighbour: Tensor) -> list[Tensor]:
        flows = self._refined(self._pyramid(frame), self._pyramid(neighbour))
        flows[-1] = flows[-1][..., : frame.shape[2], : frame.shape[3]]
        return flows

    def both_ways(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        """The last of forward(frame, neighbour) and of forward(neighbour, frame), see `search_both_ways`."""
        h, w = frame.shape[-2:]

        def search(frames: list[Tensor], neighbours: list[Tensor]) -> Tensor:
            return self._refined(frames, neighbours)[-1][..., :h, :w]

        return search_both_ways(frame, neighbour, self._pyramid, search)

    def _refined(self, frames: list[Tensor], neighbours: list[Tensor]) -> list[Tensor]:
        """Two pyramids → the flow after each level, coarsest first, padded."""
        n, _, h, w = frames[-1].shape
        flow = frames[-1].new_zeros(n, 2, h // 2, w // 2)
        flows = []
        for level, ours, theirs in zip(self.levels, reversed(frames), reversed(neighbours), strict=True):
            flow = level(ours, theirs, flow)
            flows.append(flow)
        return flows

    def _pyramid(self, frame: Tensor) -> list[Tensor]:
        """frame → luma, finest first, each level half the size of the one before."""
        h, w = frame.shape[-2:]
        # float32 also where the rest is half: a variance as a difference of squares leaves nothing of 11 bits.
        luma = frame.float().mean(dim=1, keepdim=True)
        luma = F.pad(luma, (0, -w % self.multiple, 0, -h % self.multiple), mode="replicate")
        levels = [normalise_contrast(luma)]
        while len(levels) < FLOW_LEVELS:
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels


class FlowLevel(nn.Module):
    """One step of refinement: its convolutions see squares of 2×2 pixels as channels, so no position is lost."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squares = 4 * 3 + 2  # frame, warped neighbour, their difference; the flow so far
        self.layers = nn.Sequential(
            nn.Conv2d(squares, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 8, 3, padding=1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.weight.data.mul_(0.1)
        nn.init.zeros_(last.bias)

    def forward(self, frame: Tensor, neighbour: Tensor, coarse: Tensor) -> Tensor:
        """frame, neighbour (n, 1, h, w), flow (n, 2, h/2, w/2) in px of that size → flow (n, 2, h, w)."""
        flow = 2.0 * F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        warped = warp(neighbour, flow, padding_mode="border")
        pictures = F.pixel_unshuffle(torch.cat([frame, warped, frame - warped], dim=1), 2)
        seen = torch.cat([pictures, coarse], dim=1).to(next(self.parameters()).dtype)
        return flow + F.pixel_shuffle(self.layers(seen), 2).float()


def normalise_contrast(luma: Tensor) -> Tensor:
    """luma (n, 1, h, w) less its local mean, over its local standard deviation; CONTRAST_WINDOW_PX square."""
    mean = _box(luma)
    variance = (_box(luma * luma) - mean * mean).clamp_min(0.0)
    return (luma - mean) / (variance.sqrt() + CONTRAST_FLOOR)


def _box(luma: Tensor) -> Tensor:
    radius = CONTRAST_WINDOW_PX // 2
    padded = F.pad(luma, (radius, radius, radius, radius), mode="replicate")
    rows = F.avg_pool2d(padded, (1, CONTRAST_WINDOW_PX), stride=1)
    return F.avg_pool2d(rows, (CONTRAST_WINDOW_PX, 1), stride=1)
