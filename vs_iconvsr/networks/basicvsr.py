"""BasicVSR: features carried along time in both directions, aligned by optical flow (Chan et al., CVPR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import HR_CHANNELS, PixelShuffleUpsampling, ResidualTrunk, enlarge, leaky_relu
from vs_iconvsr.networks.fast import leaky_pair
from vs_iconvsr.networks.propagation import Pass, VideoNetwork
from vs_iconvsr.networks.spynet import SPyNet
from vs_iconvsr.networks.warp import warp

SCALES = (1, 2, 4)


class FlowAlignedNetwork(VideoNetwork):
    """What BasicVSR and IconVSR share: SPyNet, alignment of carried features by its flow, the last layers.

    Where the weights are half, give frames in float32 none the less: features are then half, flows and hr float32, and
    hr is not limited to the 8 or 11 bits of a half.
    """

    def __init__(self, *, mid_channels: int, num_blocks: int, scale: int, flow_channels: int) -> None:
        super().__init__()
        if mid_channels < 1:
            raise ValueError(f"mid_channels: expected 1 or more, got {mid_channels}")
        if num_blocks < 1:
            raise ValueError(f"num_blocks: expected 1 or more, got {num_blocks}")
        if scale not in SCALES:
            raise ValueError(f"scale: expected one of {SCALES}, got {scale}")
        self.scale = scale
        self.carried_channels = mid_channels
        self.spynet = SPyNet(channels=flow_channels)
        self.upsample1 = PixelShuffleUpsampling(mid_channels, mid_channels if scale == 4 else HR_CHANNELS)
        self.upsample2 = PixelShuffleUpsampling(mid_channels, HR_CHANNELS)
        if scale < 4:
            del self.upsample2
        if scale < 2:
            del self.upsample1
        self.conv_hr = nn.Conv2d(mid_channels if scale == 1 else HR_CHANNELS, HR_CHANNELS, 3, padding=1)
        self.conv_last = nn.Conv2d(HR_CHANNELS, 3, 3, padding=1)

    @property
    def working_values_on_gpu(self) -> int:
        """The last layers: features of hr size go into a convolution and come out, each in two layouts."""
        return 4 * HR_CHANNELS * self.scale**2 + self.carried_channels

    @property
    def largest_values(self) -> int:
        return max(HR_CHANNELS * self.scale**2, 4 * self.carried_channels)

    def flow(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        flow: Tensor = self.spynet(frame, neighbour)
        return flow

    def flows(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        return self.spynet.both_ways(frame, neighbour)

    def aligned(self, carried: Sequence[Tensor], flows: Sequence[Tensor], frame: Tensor) -> Tensor:
        """What a pass knows of this frame: the neighbour's feature warped; zeros where the pass starts."""
        if not carried:
            n, _, h, w = frame.shape
            return frame.new_zeros(n, self.carried_channels, h, w, dtype=self.conv_last.weight.dtype)
        return warp(carried[0], flows[0])

    def reconstructed(self, frame: Tensor, features: Tensor) -> Tensor:
        """frame (n, 3, h, w) and features (n, c, h, w) → hr: what the last layers add to the enlarged frame."""
        if self.scale >= 2:
            features = self.upsample1(features)
        if self.scale >= 4:
            features = self.upsample2(features)
        detail = leaky_pair(self.conv_hr, self.conv_last, features)
        return detail.to(frame.dtype) + enlarge(frame, self.scale)


class BasicVSR(FlowAlignedNetwork):
    """BasicVSR: as published with the default arguments.

    mid_channels: width of the carried features. num_blocks: residual blocks of each trunk. scale: 4 as published, 1 or
    2 for networks of one's own training. flow_channels: width of SPyNet, see there.
    """

    passes = (Pass("backward", backward=True), Pass("forward"))
    upsampled = ("backward", "forward")

    def __init__(
        self, *, mid_channels: int = 64, num_blocks: int = 30, scale: int = 4, flow_channels: int = 32
    ) -> None:
        super().__init__(mid_channels=mid_channels, num_blocks=num_blocks, scale=scale, flow_channels=flow_channels)
        self.hyper_parameters = {
            "mid_channels": mid_channels,
            "num_blocks": num_blocks,
            "scale": scale,
            "flow_channels": flow_channels,
        }
        self.backward_resblocks = ResidualTrunk(3 + mid_channels, mid_channels, num_blocks=num_blocks)
        self.forward_resblocks = ResidualTrunk(3 + mid_channels, mid_channels, num_blocks=num_blocks)
        self.fusion = nn.Conv2d(2 * mid_channels, mid_channels, 1)

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
        del earlier, refill  # the two passes meet in `upsample` only, and BasicVSR extracts no features afresh
        aligned = self.aligned(carried, flows, frame)
        trunk = self.backward_resblocks if at.backward else self.forward_resblocks
        feature: Tensor = trunk(torch.cat([frame.to(aligned.dtype), aligned], dim=1))
        return feature

    def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.reconstructed(frame, leaky_relu(self.fusion(torch.cat(list(features), dim=1))))
