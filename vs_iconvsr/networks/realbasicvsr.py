"""RealBasicVSR: frames are cleaned before BasicVSR enlarges them (Chan et al., CVPR 2022)."""

from collections.abc import Sequence

from torch import Tensor, nn

from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.blocks import ResidualTrunk
from vs_iconvsr.networks.propagation import Pass, VideoNetwork

MOST_CLEANING = 3
THRESHOLD = 255.0  # the authors' default: the first pass is always the last one


class RealBasicVSR(VideoNetwork):
    """RealBasicVSR: as published with the default arguments.

    mid_channels, num_blocks, scale, flow_channels: as in BasicVSR. cleaning_blocks: residual blocks of the cleaning
    network. cleaning: how often it goes over a frame, 1 to MOST_CLEANING.

    The authors let the mean change over a whole clip decide how often. A frame would then depend on all others, on
    where a segment ends and on tiles; here the number is fixed, and their rule is the `threshold` of `forward`.
    """

    passes = BasicVSR.passes
    upsampled = BasicVSR.upsampled

    def __init__(
        self,
        *,
        mid_channels: int = 64,
        num_blocks: int = 20,
        cleaning_blocks: int = 20,
        scale: int = 4,
        flow_channels: int = 32,
        cleaning: int = 1,
    ) -> None:
        super().__init__()
        if cleaning_blocks < 1:
            raise ValueError(f"cleaning_blocks: expected 1 or more, got {cleaning_blocks}")
        if not 1 <= cleaning <= MOST_CLEANING:
            raise ValueError(f"cleaning: expected 1 to {MOST_CLEANING} passes, got {cleaning}")
        self.basicvsr = BasicVSR(
            mid_channels=mid_channels, num_blocks=num_blocks, scale=scale, flow_channels=flow_channels
        )
        self.image_cleaning = nn.Sequential(
            ResidualTrunk(3, mid_channels, num_blocks=cleaning_blocks), nn.Conv2d(mid_channels, 3, 3, padding=1)
        )
        self.cleaning = cleaning
        self.hyper_parameters = {
            **self.basicvsr.hyper_parameters,
            "cleaning_blocks": cleaning_blocks,
            "cleaning": cleaning,
        }
        self.scale = scale
        self.carried_channels = mid_channels

    @property
    def working_values_on_gpu(self) -> int:
        return self.basicvsr.working_values_on_gpu

    @property
    def largest_values(self) -> int:
        return self.basicvsr.largest_values

    def forward(self, lr: Tensor, *, threshold: float | None = None) -> Tensor:
        """As for every network.

        threshold: the authors' rule in place of `cleaning`, with their `dynamic_refine_thres`, THRESHOLD by default:
        frames are cleaned until the mean change over all of lr, in 8-bit code values, is below it, MOST_CLEANING times
        at most.
        """
        if threshold is None:
            return super().forward(lr)
        frames = super().prepare(lr.flatten(0, 1))
        for _ in range(MOST_CLEANING):
            change = self.change(frames)
            frames = frames + change
            if change.abs().mean() < threshold / 255:
                break
        hr: Tensor = self.basicvsr(frames.view(lr.shape))
        return hr

    def prepare(self, lr: Tensor) -> Tensor:
        """As for every network; then cleaned."""
        lr = super().prepare(lr)
        for _ in range(self.cleaning):
            lr = lr + self.change(lr)
        return lr

    def change(self, frames: Tensor) -> Tensor:
        """frames (n, 3, h, w) → what one cleaning adds to them."""
        change: Tensor = self.image_cleaning(frames.to(self.basicvsr.conv_last.weight.dtype))
        return change.to(frames.dtype)

    def flow(self, frame: Tensor, neighbour: Tensor) -> Tensor:
        return self.basicvsr.flow(frame, neighbour)

    def flows(self, frame: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
        return self.basicvsr.flows(frame, neighbour)

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
        return self.basicvsr.step(at, frame, earlier=earlier, carried=carried, flows=flows, refill=refill)

    def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.basicvsr.upsample(frame, features)
