import pytest
import torch

from tests.vs_iconvsr.fake_gpu import CUDA, fake_gpu
from tests.vs_iconvsr.networks.goldens import UNIT, as_input, difference, golden
from vs_iconvsr.networks.warp import warp


def shift(h: int, w: int, dx: float, dy: float) -> torch.Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, h, w)


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_warp_is_the_authors(padding_mode: str) -> None:
    theirs = golden("unit_flow_warp")
    flow = as_input(theirs["in_flow"]).permute(0, 3, 1, 2)
    assert difference(warp(as_input(theirs["in_x"]), flow, padding_mode=padding_mode), theirs[padding_mode]) <= UNIT


def test_a_flow_points_at_what_is_fetched() -> None:
    features = torch.arange(12.0).view(1, 1, 3, 4)
    fetched = warp(features, shift(3, 4, dx=1.0, dy=0.0))
    assert torch.allclose(fetched[..., :3], features[..., 1:], atol=1e-5)
    assert torch.allclose(fetched[..., 3], torch.zeros(3), atol=1e-5)
    fetched = warp(features, shift(3, 4, dx=0.0, dy=-1.0), padding_mode="border")
    assert torch.allclose(fetched[..., 1:, :], features[..., :2, :], atol=1e-5)
    assert torch.allclose(fetched[..., 0, :], features[..., 0, :], atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    features = torch.tensor([0.0, 2.0, 6.0]).view(1, 1, 1, 3)
    assert warp(features, shift(1, 3, dx=0.5, dy=0.0), padding_mode="border").flatten().tolist() == [1.0, 4.0, 6.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_move_wide_frames(dtype: torch.dtype) -> None:
    features = (torch.arange(1280) % 2).to(dtype).view(1, 1, 1, 1280)
    fetched = warp(features, shift(1, 1280, dx=1.0, dy=0.0).to(dtype))
    assert fetched.dtype == dtype
    assert torch.allclose(fetched[..., :-1].float(), features[..., 1:].float(), atol=1e-2)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_frames_one_pixel_wide_stay_where_they_are(size: tuple[int, int]) -> None:
    features = torch.rand(2, 3, *size)
    assert torch.allclose(warp(features, torch.zeros(2, 2, *size)), features, atol=1e-6)


def test_positions_are_made_once_for_each_size() -> None:
    with fake_gpu() as gpu:
        features, flow = torch.empty(1, 8, 6, 5, device=CUDA), torch.empty(1, 2, 6, 5, device=CUDA)
        warp(features, flow)
        gpu.kernels.clear()
        warp(features, flow)
        assert gpu.kernels == {"add": 1, "div_": 1, "sub_": 1, "grid_sampler_2d": 1}


def test_positions_made_for_an_upscaler_serve_training() -> None:
    features, flow = torch.rand(1, 2, 11, 13), torch.zeros(1, 2, 11, 13, requires_grad=True)
    with torch.inference_mode():
        warp(features, flow)
    warp(features, flow).square().sum().backward()
    assert flow.grad is not None
    assert flow.grad.abs().max() > 0


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_a_gpu_samples_by_torchs_own_kernel(padding_mode: str) -> None:
    """cuDNN has one, too, for some arguments: its sums are others, and nobody has tried it with every memory layout."""
    with fake_gpu() as gpu:
        warp(torch.empty(1, 8, 6, 5, device=CUDA), torch.empty(1, 2, 6, 5, device=CUDA), padding_mode=padding_mode)
        assert gpu.kernels["grid_sampler_2d"] == 1
        assert gpu.kernels["cudnn_grid_sampler"] == 0
