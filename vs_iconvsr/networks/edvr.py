"""The feature extractor of EDVR-M: several frames aligned to their middle one and joined (Wang et al., CVPRW 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import LeakyConv, ResidualBlock, ResidualBlocks, enlarge, leaky_relu
from vs_iconvsr.networks.fast import in_bands

DEFORM_GROUPS = 8  # groups of channels that share one set of offsets
TAPS = 9  # of a 3x3 kernel
DEFORM_BAND_ROWS = 6
SIZE_MULTIPLE = 4  # the third level has a quarter of the frame's sides


class EDVRFeatureExtractor(nn.Module):
    """window (n, k, 3, h, w), RGB in [0, 1] → features (n, channels, h, w) of its middle frame.

    k is num_frames, an odd number; h and w are multiples of SIZE_MULTIPLE.
    """

    def __init__(self, *, num_frames: int = 5, channels: int = 64, num_blocks: int = 5) -> None:
        super().__init__()
        if num_frames < 1 or num_frames % 2 == 0:
            raise ValueError(f"num_frames of EDVR: expected an odd number, 1 or more, got {num_frames}")
        if channels < 1 or channels % DEFORM_GROUPS:
            raise ValueError(f"channels of EDVR: expected a multiple of {DEFORM_GROUPS}, got {channels}")
        if num_blocks < 1:
            raise ValueError(f"num_blocks of EDVR: expected 1 or more, got {num_blocks}")
        self.hyper_parameters = {"num_frames": num_frames, "channels": channels, "num_blocks": num_blocks}
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.feature_extraction = ResidualBlocks(*(ResidualBlock(channels) for _ in range(num_blocks)))
        self.feat_l2_conv1 = LeakyConv(channels, channels, stride=2)
        self.feat_l2_conv2 = LeakyConv(channels, channels)
        self.feat_l3_conv1 = LeakyConv(channels, channels, stride=2)
        self.feat_l3_conv2 = LeakyConv(channels, channels)
        self.pcd_alignment = PCDAlignment(channels)
        self.fusion = TSAFusion(channels, num_frames=num_frames)

    def forward(self, window: Tensor) -> Tensor:
        n, k, c, h, w = window.shape
        levels = [level.view(n, k, *level.shape[1:]) for level in self.pyramid(window.reshape(n * k, c, h, w))]
        middle = [level[:, k // 2] for level in levels]
        aligned = [self.pcd_alignment([level[:, i] for level in levels], middle) for i in range(k)]
        features: Tensor = self.fusion(torch.stack(aligned, dim=1))
        return features

    def pyramid(self, frames: Tensor) -> list[Tensor]:
        """frames (n, 3, h, w) → features (n, c, h, w), (n, c, h/2, w/2), (n, c, h/4, w/4)."""
        l1 = self.feature_extraction(leaky_relu(self.conv_first(frames)))
        l2 = self.feat_l2_conv2(self.feat_l2_conv1(l1))
        l3 = self.feat_l3_conv2(self.feat_l3_conv1(l2))
        return [l1, l2, l3]


class PCDAlignment(nn.Module):
    """Features of one frame moved to where the middle frame has them, from the coarsest level to the finest.

    Both arguments are what `pyramid` gives; the result has the finest level's shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset_conv1 = nn.ModuleDict({level: LeakyConv(2 * channels, channels) for level in ("l3", "l2", "l1")})
        self.offset_conv2 = nn.ModuleDict(
            {level: LeakyConv((1 if level == "l3" else 2) * channels, channels) for level in ("l3", "l2", "l1")}
        )
        self.offset_conv3 = nn.ModuleDict({level: LeakyConv(channels, channels) for level in ("l2", "l1")})
        self.dcn_pack = nn.ModuleDict({level: DeformableConv(channels) for level in ("l3", "l2", "l1")})
        self.feat_conv = nn.ModuleDict(
            {
                "l2": LeakyConv(2 * channels, channels),
                "l1": LeakyConv(2 * channels, channels, slope=None),
            }
        )
        self.cas_offset_conv1 = LeakyConv(2 * channels, channels)
        self.cas_offset_conv2 = LeakyConv(channels, channels)
        self.cas_dcnpack = DeformableConv(channels)

    def forward(self, neighbour: list[Tensor], middle: list[Tensor]) -> Tensor:
        offset = self.offset_conv2["l3"](self.offset_conv1["l3"](torch.cat([neighbour[2], middle[2]], dim=1)))
        aligned = leaky_relu(self.dcn_pack["l3"](neighbour[2], offset))
        for level, i in (("l2", 1), ("l1", 0)):
            coarse_offset = 2.0 * enlarge(offset, 2)  # in px of the finer level
            offset = self.offset_conv1[level](torch.cat([neighbour[i], middle[i]], dim=1))
            offset = self.offset_conv3[level](self.offset_conv2[level](torch.cat([offset, coarse_offset], dim=1)))
            moved = self.dcn_pack[level](neighbour[i], offset)
            aligned = self.feat_conv[level](torch.cat([moved, enlarge(aligned, 2)], dim=1))
        offset = self.cas_offset_conv2(self.cas_offset_conv1(torch.cat([aligned, middle[0]], dim=1)))
        return leaky_relu(self.cas_dcnpack(aligned, offset))


class DeformableConv(nn.Module):
    """A modulated deformable 3x3 convolution whose offsets and masks are read from a second input (DCNv2).

    features, guide (n, c, h, w) → (n, c, h, w). `conv_offset` gives (dy, dx) in px for each group and tap, then a mask
    logit for each: see `deform_conv`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = nn.Conv2d(channels, 3 * DEFORM_GROUPS * TAPS, 3, padding=1)
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d
        nn.init.zeros_(self.conv_offset.weight)  # starts as an ordinary convolution, halved by its masks
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, features: Tensor, guide: Tensor) -> Tensor:
        guided = self.conv_offset(guide).to(torch.promote_types(features.dtype, torch.float32))
        offset, mask_logit = guided[:, : 2 * DEFORM_GROUPS * TAPS], guided[:, 2 * DEFORM_GROUPS * TAPS :]
        return deform_conv(features, offset, mask_logit, self.weight, self.bias)


def deform_conv(features: Tensor, offset: Tensor, mask_logit: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A modulated deformable 3x3 convolution: features (n, c, h, w) → (n, channels, h, w), in features' type.

    offset (n, 2*groups*taps, h, w): (dy, dx) in px for each group of c/groups channels and tap. mask_logit: one value
    for each. Both are float32. A NaN among them counts as 0: torchvision's CPU kernel would read memory at a wild
    index.
    """
    # float32 throughout: the kernel adds offsets to pixel positions, which float16 cannot hold (see warp).
    offset, mask = torch.nan_to_num(offset, nan=0.0), torch.sigmoid(torch.nan_to_num(mask_logit, nan=0.0))
    deformed = sampled_deform_conv if features.device.type == "cpu" else torchvision_deform_conv
    moved = deformed(features.to(offset.dtype), offset, mask, weight.to(offset.dtype), bias.to(offset.dtype))
    return moved.to(features.dtype)


def torchvision_deform_conv(features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """features (n, c, h, w), offset (n, 2*groups*taps, h, w), mask (n, groups*taps, h, w) → (n, channels, h, w)."""
    from torchvision.ops import deform_conv2d  # takes as long as torch itself, and only a GPU needs it

    moved: Tensor = deform_conv2d(features, offset, weight, bias, padding=1, mask=mask)
    return moved


def sampled_deform_conv(features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by grid_sample, which has vectors and threads on the CPU where torchvision's loop has neither."""
    n, c, h, w = features.shape
    groups = mask.shape[1] // TAPS
    grouped = features.view(n, groups, c // groups, h, w)
    offset = offset.view(n, groups, TAPS, 2, h, w)
    mask = mask.view(n, groups, 1, TAPS, h, w)
    moved = features.new_empty(n, weight.shape[0], h, w)
    tap = torch.arange(TAPS, device=features.device).view(TAPS, 1, 1)
    columns = torch.arange(w, device=features.device) + tap % 3 - 1

    def band(i: int, top: int, bottom: int) -> None:
        rows = torch.arange(top, bottom, device=features.device).view(-1, 1) + tap // 3 - 1
        y, x = offset[i, :, :, 0, top:bottom] + rows, offset[i, :, :, 1, top:bottom] + columns
        # grid_sample without align_corners has the outer edges of the first and the last pixel at -1 and 1.
        grid = torch.stack([(2.0 * x + 1.0) / w - 1.0, (2.0 * y + 1.0) / h - 1.0], dim=-1)
        sampled = F.grid_sample(grouped[i], grid.view(groups, -1, w, 2), align_corners=False)
        weighted = sampled.view(groups, -1, TAPS, bottom - top, w) * mask[i, :, :, :, top:bottom]
        convolved = weight.flatten(1) @ weighted.view(c * TAPS, -1) + bias.unsqueeze(1)
        moved[i, :, top:bottom] = convolved.view(-1, bottom - top, w)

    in_bands(n, h, w, band, rows=DEFORM_BAND_ROWS)  # nine samples of every channel: whole, they would leave all caches
    return moved


class TSAFusion(nn.Module):
    """Aligned features of k frames joined by how well each agrees with the middle one, then by spatial attention.

    aligned (n, k, c, h, w) → (n, c, h, w); h and w are multiples of SIZE_MULTIPLE.
    """

    def __init__(self, channels: int, *, num_frames: int) -> None:
        super().__init__()
        self.temporal_attn1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.temporal_attn2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.feat_fusion = LeakyConv(num_frames * channels, channels, kernel_size=1)
        self.spatial_attn1 = LeakyConv(num_frames * channels, channels, kernel_size=1)
        self.spatial_attn2 = LeakyConv(2 * channels, channels, kernel_size=1)
        self.spatial_attn3 = LeakyConv(channels, channels)
        self.spatial_attn4 = LeakyConv(channels, channels, kernel_size=1)
        self.spatial_attn5 = nn.Conv2d(channels, channels, 3, padding=1)
        self.spatial_attn_l1 = LeakyConv(channels, channels, kernel_size=1)
        self.spatial_attn_l2 = LeakyConv(2 * channels, channels)
        self.spatial_attn_l3 = LeakyConv(channels, channels)
        self.spatial_attn_add1 = LeakyConv(channels, channels, kernel_size=1)
        self.spatial_attn_add2 = nn.Conv2d(channels, channels, 1)

    def forward(self, aligned: Tensor) -> Tensor:
        weighted = self.agreeing(aligned)
        features = self.feat_fusion(weighted)
        attention = self.spatial_attn2(shrink(self.spatial_attn1(weighted)))
        coarse = self.spatial_attn_l3(self.spatial_attn_l2(shrink(self.spatial_attn_l1(attention))))
        attention = self.spatial_attn4(self.spatial_attn3(attention) + enlarge(coarse, 2))
        attention = self.spatial_attn5(enlarge(attention, 2))
        shift: Tensor = self.spatial_attn_add2(self.spatial_attn_add1(attention))
        fused: Tensor = features * torch.sigmoid(attention) * 2.0 + shift
        return fused

    def agreeing(self, aligned: Tensor) -> Tensor:
        """aligned (n, k, c, h, w) → (n, k*c, h, w), each frame weighted pixel by pixel in [0, 1]."""
        middle = self.temporal_attn1(aligned[:, aligned.shape[1] // 2]).unsqueeze(1)
        each = self.temporal_attn2(aligned.flatten(0, 1)).view(aligned.shape)
        agreement = torch.sigmoid((each * middle).sum(dim=2, keepdim=True))
        return (aligned * agreement).flatten(1, 2)


def shrink(features: Tensor) -> Tensor:
    """(n, c, h, w) → (n, 2c, h/2, w/2): the largest and the mean of 3x3 pixels; the mean counts the zeros around."""
    return torch.cat([F.max_pool2d(features, 3, 2, 1), F.avg_pool2d(features, 3, 2, 1)], dim=1)
