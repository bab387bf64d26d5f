import pytest
import torch

from vs_iconvsr.networks.blocks import LeakyConv, PixelShuffleUpsampling, ResidualBlock, ResidualTrunk, enlarge


def test_a_residual_block_of_zero_weights_changes_nothing() -> None:
    block = ResidualBlock(4)
    for conv in (block.conv1, block.conv2):
        torch.nn.init.zeros_(conv.weight)
    features = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(features), features)


def test_a_trunk_begins_with_a_leaky_convolution() -> None:
    trunk = ResidualTrunk(1, 1, num_blocks=0)
    conv = trunk.main[0]
    assert isinstance(conv, torch.nn.Conv2d)
    torch.nn.init.zeros_(conv.weight)
    torch.nn.init.constant_(conv.bias, -1.0)
    assert torch.allclose(trunk(torch.zeros(1, 1, 2, 2)), torch.full((1, 1, 2, 2), -0.1))


def test_slope_none_leaves_the_activation_out() -> None:
    conv = LeakyConv(1, 1, slope=None)
    features = torch.randn(1, 1, 3, 3)
    assert torch.equal(conv(features), conv.conv(features))


def test_four_channels_become_the_pixels_of_a_square_through_a_leaky_relu() -> None:
    upsampling = PixelShuffleUpsampling(1, 1)
    torch.nn.init.zeros_(upsampling.upsample_conv.weight)
    upsampling.upsample_conv.bias.data = torch.tensor([1.0, 2.0, 3.0, -4.0])
    assert upsampling(torch.zeros(1, 1, 1, 1)).flatten().tolist() == pytest.approx([1.0, 2.0, 3.0, -0.4])


def test_enlarging_aligns_pixel_centers_and_scale_1_keeps_the_frames() -> None:
    frames = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert enlarge(frames, 1) is frames
    assert enlarge(frames, 2)[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]
