"""BasicVSR++: four passes of second order, aligned by flow-guided deformable convolutions (Chan et al., CVPR 2022)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import (
    HR_CHANNELS,
    LEAKY_SLOPE,
    PixelShuffleUpsampling,
    ResidualTrunk,
    enlarge,
)
from vs_iconvsr.networks.edvr import TAPS, deform_conv
from vs_iconvsr.networks.fast import leaky_pair
from vs_iconvsr.networks.propagation import Pass, VideoNetwork
from vs_iconvsr.networks.spynet import SPyNet
from vs_iconvsr.networks.warp import warp

SCALES = (1, 4)
DEFORM_GROUPS = 16  # half of them for each of the two features that are aligned together
MAX_RESIDUE_PX = 10.0  # how far an offset may lie from the flow
REDUCTION = 4  # of the same-size networks: frame size over feature size
LEAST_SIDE_PX = 256  # the authors' code refuses smaller frames of the same-size networks
OUTER_BLOCKS = 5  # residual blocks before and after the passes
CHANNEL_MULTIPLE = DEFORM_GROUPS // 2
EXTRACTED = "spatial"
WALKS = ("backward_1", "forward_1", "backward_2", "forward_2")


class BasicVSRPlusPlus(VideoNetwork):
    """BasicVSR++: as published for REDS and Vimeo-90K with the default arguments.

    mid_channels: width of the features, a multiple of 8. num_blocks: residual blocks of each pass. scale: 4, or 1 for
    decompression, deblurring and denoising, where features have a quarter of the frame's sides. flow_channels: width
    of SPyNet, see there.

    Any number of frames and any size work. The authors' code fails below 64 px, at scale 1 below 256 px and where a
    side is no multiple of 4; at scale 1 such frames are mirrored at the right and the bottom, and hr is cut.
    """

    passes = (
        Pass(EXTRACTED, order=0),
        *(
            Pass(name, backward=name.startswith("backward"), reads=(EXTRACTED, *WALKS[:number]), order=2)
            for number, name in enumerate(WALKS)
        ),
    )
    upsampled = (EXTRACTED, *WALKS)

    def __init__(self, *, mid_channels: int = 64, num_blocks: int = 7, scale: int = 4, flow_channels: int = 32) -> None:
        super().__init__()
        if mid_channels < 1 or mid_channels % CHANNEL_MULTIPLE:
            raise ValueError(f"mid_channels: expected a multiple of {CHANNEL_MULTIPLE}, got {mid_channels}")
        if num_blocks < 1:
            raise ValueError(f"num_blocks: expected 1 or more, got {num_blocks}")
        if scale not in SCALES:
            raise ValueError(f"scale: expected one of {SCALES}, got {scale}")
        self.hyper_parameters = {
            "mid_channels": mid_channels,
            "num_blocks": num_blocks,
            "scale": scale,
            "flow_channels": flow_channels,
        }
        self.scale = scale
        self.carried_channels = mid_channels
        self.reduction = REDUCTION if scale == 1 else 1
        self.stored_flow_values = -(-4 // self.reduction**2)  # several passes take them, both ways
        self.spynet = SPyNet(channels=flow_channels)
        self.feat_extract = _extractor(mid_channels) if scale == 1 else _trunk(3, mid_channels)
        self.deform_align = nn.ModuleDict({name: SecondOrderAlignment(mid_channels) for name in WALKS})
        self.backbone = nn.ModuleDict(
            {
                name: ResidualTrunk((2 + number) * mid_channels, mid_channels, num_blocks=num_blocks)
                for number, name in enumerate(WALKS)
            }
        )
        self.reconstruction = _trunk((1 + len(WALKS)) * mid_channels, mid_channels)
        self.upsample1 = PixelShuffleUpsampling(mid_channels, mid_channels)
        self.upsample2 = PixelShuffleUpsampling(mid_channels, HR_CHANNELS)
        self.conv_hr = nn.Conv2d(HR_CHANNELS, HR_CHANNELS, 3, padding=1)
        self.conv_last = nn.Conv2d(HR_CHANNELS, 3, 3, padding=1)

    @property
    def working_values(self) -> int:
        """The hr layers, or in half precision a deformable convolution: nine samples of both features in float32."""
        per_feature_px = max(3 * HR_CHANNELS * 16, 40 * self.carried_channels + 2000) + 300
        return per_feature_px if self.scale > 1 else per_feature_px // REDUCTION**2 + 50

    @property
    def working_values_on_gpu(self) -> int:
        """The same two, the hr layers in two memory layouts."""
        per_feature_px = max(4 * HR_CHANNELS * 16, 46 * self.carried_channels + 2600)
        return per_feature_px if self.scale > 1 else per_feature_px // REDUCTION**2 + 50

    @property
    def largest_values(self) -> int:
        """The hr layers; nine samples of both features that are aligned."""
        return max(16 * HR_CHANNELS, 2 * TAPS * self.carried_channels) // self.reduction**2

    @property
    def stored_values(self) -> int:
        return -(-super().stored_values // self.reduction**2)

    def padded_side(self, side: int) -> int:
        return side if self.scale > 1 else max(-(-side // REDUCTION) * REDUCTION, LEAST_SIDE_PX)

    def flow(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        if self.scale == 1:
            frame, neighbour = reduced(frame), reduced(neighbour)
        flow: Tensor = self.spynet(frame, neighbour)
        return flow

    def flows(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale == 1:
            frame, neighbour = reduced(frame), reduced(neighbour)
        return self.spynet.both_ways(frame, neighbour)

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
        if at.name == EXTRACTED:
            extracted: Tensor = self.feat_extract(frame.to(self.conv_last.weight.dtype))
            return extracted
        spatial = earlier[0]
        aligned = self.deform_align[at.name](spatial, carried, flows) if carried else torch.zeros_like(spatial)
        feature: Tensor = aligned + self.backbone[at.name](torch.cat([*earlier, aligned], dim=1))
        return feature

    def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
        joined = self.upsample2(self.upsample1(self.reconstruction(torch.cat(list(features), dim=1))))
        detail = leaky_pair(self.conv_hr, self.conv_last, joined)
        return detail.to(frame.dtype) + enlarge(frame, self.scale)


class SecondOrderAlignment(nn.Module):
    """The features of the two frames visited before, moved to where this frame has them, by one deformable convolution.

    Its offsets are flow plus a learned residue of at most MAX_RESIDUE_PX, its masks learned (section 3.2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = nn.Sequential(
            nn.Conv2d(3 * channels + 4, channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(channels, 3 * DEFORM_GROUPS * TAPS, 3, padding=1),
        )
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d
        last = self.conv_offset[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)  # starts with the flow alone
        nn.init.zeros_(last.bias)

    def forward(self, spatial: Tensor, carried: Sequence[Tensor], flows: Sequence[Tensor]) -> Tensor:
        """spatial (n, c, h, w): what this frame shows. carried, flows: one or two, the nearest first, see `step`.

        Where there is only one, the second feature and its flow are zeros.
        """
        near, flow = carried[0], flows[0]
        far, far_flow = torch.zeros_like(near), torch.zeros_like(flow)
        seen = far
        if len(carried) > 1:
            far, far_flow = carried[1], flow + warp(flows[1], flow)  # where the flow leads, the next one begins
            seen = warp(far, far_flow)
        both = [flow.to(near.dtype), far_flow.to(near.dtype)]
        guided = self.conv_offset(torch.cat([warp(near, flow), spatial, seen, *both], dim=1))
        offset, mask_logit = self._offsets(guided.to(flow.dtype), [flow, far_flow])
        return deform_conv(torch.cat([near, far], dim=1), offset, mask_logit, self.weight, self.bias)

    def _offsets(self, guided: Tensor, flows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(dy, dx) of each group and tap, the first half of the groups for the nearer feature; mask logits."""
        *residues, mask_logit = guided.chunk(3, dim=1)
        pairs = zip(residues, flows, strict=True)
        offsets = [
            MAX_RESIDUE_PX * torch.tanh(residue) + flow.flip(1).repeat(1, residue.shape[1] // 2, 1, 1)
            for residue, flow in pairs
        ]
        return torch.cat(offsets, dim=1), mask_logit


def reduced(frames: Tensor) -> Tensor:
    """frames (n, c, h, w) → (n, c, h/4, w/4), bicubic, without the low-pass that would be better: as trained."""
    return F.interpolate(frames, scale_factor=1 / REDUCTION, mode="bicubic", align_corners=False)


def _trunk(in_channels: int, channels: int) -> ResidualTrunk:
    return ResidualTrunk(in_channels, channels, num_blocks=OUTER_BLOCKS)


def _extractor(channels: int) -> nn.Sequential:
    """frames (n, 3, h, w) → features (n, c, h/4, w/4)."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.LeakyReLU(LEAKY_SLOPE),
        _trunk(channels, channels),
    )
