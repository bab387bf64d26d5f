"""LightVSR: any size, any length, and from the first step no worse than bicubic."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vs_iconvsr.networks.light import LightFlow, LightVSR, normalise_contrast


@pytest.fixture
def network() -> LightVSR:
    torch.manual_seed(0)
    made = LightVSR(mid_channels=8, num_blocks=1, flow_channels=8)
    torch.nn.init.normal_(made.tail_last.weight, std=0.1)
    return made.eval().requires_grad_(False)


def clip(frames: int, h: int, w: int) -> Tensor:
    return torch.rand(1, frames, 3, h, w, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("t", "h", "w"), [(1, 1, 1), (2, 1, 7), (3, 17, 5), (1, 16, 16), (2, 33, 31)])
def test_any_length_and_size_work(network: LightVSR, t: int, h: int, w: int) -> None:
    hr = network(clip(t, h, w))
    assert hr.shape == (1, t, 3, 4 * h, 4 * w)
    assert hr.isfinite().all()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_output_has_the_stated_scale(scale: int) -> None:
    hr = LightVSR(mid_channels=8, num_blocks=1, flow_channels=8, scale=scale)(clip(2, 6, 5))
    assert hr.shape[-2:] == (6 * scale, 5 * scale)


def test_untrained_it_is_bicubic() -> None:
    lr = clip(2, 12, 12)
    with torch.no_grad():
        hr = LightVSR(mid_channels=8, num_blocks=1, flow_channels=8)(lr)
    inner = hr[0, 0, :, 8:-8, 8:-8]
    # Away from the borders: torch's kernel with a = -0.5, as MATLAB's.
    expected = F.interpolate(lr[:, 0], scale_factor=4, mode="bicubic", antialias=True)[0, :, 8:-8, 8:-8]
    assert torch.equal(inner, expected)


def test_hyper_parameters_build_an_equal_network(network: LightVSR) -> None:
    twin = LightVSR(**network.hyper_parameters).eval()
    twin.load_state_dict(network.state_dict())
    lr = clip(3, 9, 10)
    assert torch.equal(twin(lr), network(lr))


def test_both_neighbors_reach_a_frame(network: LightVSR) -> None:
    lr = clip(3, 16, 16)
    hr = network(lr)
    for neighbour in (0, 2):
        other = lr.clone()
        other[:, neighbour] = 0.5
        assert not torch.equal(network(other)[:, 1], hr[:, 1])


def test_flow_does_not_see_exposure() -> None:
    luma = clip(1, 32, 32)[0, 0, :1].unsqueeze(0)
    darker = normalise_contrast(0.5 * luma + 0.1)
    # But for the floor that keeps noise from being blown up.
    assert (darker - normalise_contrast(luma)).abs().max() < 0.25


def test_flat_pictures_give_no_noise() -> None:
    assert normalise_contrast(torch.full((1, 1, 20, 20), 0.3)).abs().max() < 1e-3


def test_flow_sizes_double_from_level_to_level() -> None:
    flows = LightFlow(8)(torch.rand(1, 3, 20, 40), torch.rand(1, 3, 20, 40))
    assert [tuple(flow.shape[-2:]) for flow in flows] == [(4, 6), (8, 12), (16, 24), (20, 40)]


@pytest.mark.parametrize("name", ["mid_channels", "num_blocks", "flow_channels", "scale"])
def test_a_size_below_one_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        LightVSR(**{name: 0})


def test_half_weights_take_float32_frames_and_give_float32_hr() -> None:
    torch.manual_seed(0)
    network = LightVSR(mid_channels=8, num_blocks=1, flow_channels=8).eval().requires_grad_(False)
    torch.nn.init.normal_(network.tail_last.weight, std=0.05)
    lr = torch.rand(1, 3, 3, 16, 20)
    plain = network(lr)
    half = network.bfloat16()(lr)
    assert half.dtype == torch.float32
    assert 0 < (half - plain).square().mean() < 1e-4  # 40 dB
