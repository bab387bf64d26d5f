"""What several networks are made of: residual trunks, convolutions with their activation, the upsampling layers."""

import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.1
HR_CHANNELS = 64  # width of the last layers, whatever the trunk's


class ResidualTrunk(nn.Module):
    """A convolution into the trunk's width, then residual blocks: (n, in_channels, h, w) → (n, channels, h, w)."""

    def __init__(self, in_channels: int, channels: int, *, num_blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            ResidualBlocks(*(ResidualBlock(channels) for _ in range(num_blocks))),
        )

    def forward(self, features: Tensor) -> Tensor:
        carried: Tensor = self.main(features)
        return carried


class ResidualBlock(nn.Module):
    """features + conv2(relu(conv1(features))), without normalization (EDSR)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            init_kaiming_normal(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            conv.weight.data.mul_(0.1)  # a block starts near the identity, so that 30 of them train

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.relu_(self.conv1(features)))
        return change.add_(features)


class ResidualBlocks(nn.Sequential):
    """Residual blocks one after the other."""


class LeakyConv(nn.Module):
    """A convolution that keeps the size (halves it with stride 2), then a leaky ReLU of the given slope; 0 is ReLU.

    The layer lies under `conv`, as in the authors' weight files; slope None leaves the activation out.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        slope: float | None = LEAKY_SLOPE,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2)
        self.slope = slope

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv(features)
        return features if self.slope is None else F.leaky_relu_(features, self.slope)


class PixelShuffleUpsampling(nn.Module):
    """(n, in_channels, h, w) → (n, channels, 2h, 2w): four channels become the four pixels of a square; leaky ReLU."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample_conv = nn.Conv2d(in_channels, 4 * channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu_(F.pixel_shuffle(self.upsample_conv(features), 2), LEAKY_SLOPE)


def leaky_relu(features: Tensor) -> Tensor:
    """The activation between all layers but those inside residual blocks and SPyNet."""
    return F.leaky_relu(features, LEAKY_SLOPE)


def enlarge(frames: Tensor, scale: int) -> Tensor:
    """frames (n, c, h, w) → (n, c, scale*h, scale*w), bilinear, pixel centers aligned; scale 1 is the frames."""
    if scale == 1:
        return frames
    return F.interpolate(frames, scale_factor=scale, mode="bilinear", align_corners=False)


def init_kaiming_normal(weight: Tensor) -> None:
    """As nn.init does it, but for nothing on the meta device: torch would import its compiler for that, for seconds."""
    if not weight.is_meta:
        nn.init.kaiming_normal_(weight)
