"""IconVSR: BasicVSR with information-refill and coupled propagation (Chan et al., CVPR 2021, sections 3.3 and 3.4)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vs_iconvsr.networks.basicvsr import FlowAlignedNetwork
from vs_iconvsr.networks.blocks import ResidualTrunk
from vs_iconvsr.networks.edvr import SIZE_MULTIPLE, TAPS, EDVRFeatureExtractor
from vs_iconvsr.networks.padding import mirrored
from vs_iconvsr.networks.propagation import Pass

TEMPORAL_PADDINGS = (2, 3)


class IconVSR(FlowAlignedNetwork):
    """IconVSR: as published for REDS with the default arguments, for Vimeo-90K with temporal_padding=3.

    mid_channels, num_blocks, scale, flow_channels: as in BasicVSR. edvr_channels: width of the refill features.
    keyframe_stride: frames from one keyframe to the next. temporal_padding: frames read on either side of a keyframe.

    Any number of frames and any size work. The authors' code fails below 2 * temporal_padding + 1 frames and below 3
    px; `window` and `prepare` say what happens there. Elsewhere the results are theirs.
    """

    passes = (Pass("backward", backward=True), Pass("forward", reads=("backward",)))
    upsampled = ("forward",)

    def __init__(
        self,
        *,
        mid_channels: int = 64,
        num_blocks: int = 30,
        keyframe_stride: int = 5,
        temporal_padding: int = 2,
        edvr_channels: int = 64,
        scale: int = 4,
        flow_channels: int = 32,
    ) -> None:
        super().__init__(mid_channels=mid_channels, num_blocks=num_blocks, scale=scale, flow_channels=flow_channels)
        if keyframe_stride < 1:
            raise ValueError(f"keyframe_stride: expected 1 or more, got {keyframe_stride}")
        if temporal_padding not in TEMPORAL_PADDINGS:
            raise ValueError(f"temporal_padding: expected one of {TEMPORAL_PADDINGS}, got {temporal_padding}")
        self.hyper_parameters = {
            "mid_channels": mid_channels,
            "num_blocks": num_blocks,
            "keyframe_stride": keyframe_stride,
            "temporal_padding": temporal_padding,
            "edvr_channels": edvr_channels,
            "scale": scale,
            "flow_channels": flow_channels,
        }
        self.keyframe_stride = keyframe_stride
        self.temporal_padding = temporal_padding
        self.edvr = EDVRFeatureExtractor(num_frames=2 * temporal_padding + 1, channels=edvr_channels)
        self.backward_fusion = nn.Conv2d(mid_channels + edvr_channels, mid_channels, 3, padding=1)
        self.forward_fusion = nn.Conv2d(mid_channels + edvr_channels, mid_channels, 3, padding=1)
        self.backward_resblocks = ResidualTrunk(3 + mid_channels, mid_channels, num_blocks=num_blocks)
        self.forward_resblocks = ResidualTrunk(3 + 2 * mid_channels, mid_channels, num_blocks=num_blocks)

    @property
    def working_values_on_gpu(self) -> int:
        """Of a small scale, most is needed by EDVR: features of all its frames, and deformed ones in float32."""
        edvr_values = self.edvr.hyper_parameters["channels"] * (4 * self.edvr.hyper_parameters["num_frames"] + 28)
        return max(super().working_values_on_gpu, edvr_values)

    @property
    def largest_values(self) -> int:
        return max(super().largest_values, TAPS * self.edvr.hyper_parameters["channels"])

    @property
    def stored_values(self) -> int:
        """As for every network; and the refill features of every keyframe."""
        return super().stored_values + -(-self.edvr.hyper_parameters["channels"] // self.keyframe_stride)

    def padded_side(self, side: int) -> int:
        return -(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE  # as EDVR needs it

    def keyframes(self, t: int) -> tuple[int, ...]:
        """Every keyframe_stride-th frame from the first one, and the last one."""
        return tuple(sorted({*range(0, t, self.keyframe_stride), t - 1}))

    def window(self, keyframe: int, t: int) -> tuple[int, ...]:
        """The keyframe with temporal_padding frames on either side.

        Beyond the ends of the sequence lie frames that the window of an end does not hold yet (4 and 3 before frame 0
        for a padding of 2), as the weights were trained. A sequence too short for that is mirrored at its ends
        instead: 2 and 1 before frame 0, back and forth where it is shorter still.
        """
        padding = self.temporal_padding
        wanted = range(keyframe - padding, keyframe + padding + 1)
        if t <= 2 * padding:
            return tuple(mirrored(i, t) for i in wanted)
        before, after = padding, 2 * (t - 1) - padding
        return tuple(before - i if i < 0 else after - i if i >= t else i for i in wanted)

    def refill(self, window: Tensor) -> Tensor:
        features: Tensor = self.edvr(window.to(self.edvr.conv_first.weight.dtype))
        return features

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
        aligned = self.aligned(carried, flows, frame)
        if refill is not None:
            fusion = self.backward_fusion if at.backward else self.forward_fusion
            aligned = fusion(torch.cat([aligned, refill], dim=1))
        trunk = self.backward_resblocks if at.backward else self.forward_resblocks
        feature: Tensor = trunk(torch.cat([frame.to(aligned.dtype), *earlier, aligned], dim=1))
        return feature

    def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.reconstructed(frame, features[0])
