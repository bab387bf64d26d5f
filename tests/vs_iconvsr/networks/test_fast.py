"""Convolutions by fast algorithms: the same function within rounding, the same bytes whatever the threads and batch."""

import pytest
import torch
from torch import Tensor, nn

from tests.vs_iconvsr.networks.deterministic import filled
from tests.vs_iconvsr.networks.goldens import WHOLE, whole_difference
from vs_iconvsr.networks import fast
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork

pytestmark = pytest.mark.skipif(not fast.is_available(), reason="this torch has no NNPACK for this processor")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conv_pair(narrow: int, wide: int, side: int) -> tuple[nn.Conv2d, fast.FastConv2d]:
    conv = nn.Conv2d(narrow, wide, side, padding=side // 2).requires_grad_(False)
    conv.weight.copy_(random(*conv.weight.shape, seed=1) / (narrow * side * side) ** 0.5)
    return conv, fast.FastConv2d(conv)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (3, 2), (8, 8), (17, 31), (45, 80)])
@pytest.mark.parametrize(("narrow", "wide", "side"), [(3, 5, 3), (67, 64, 3), (64, 256, 3), (8, 32, 7), (16, 2, 7)])
def test_the_fast_algorithm_gives_the_convolution(h: int, w: int, narrow: int, wide: int, side: int) -> None:
    conv, quick = conv_pair(narrow, wide, side)
    features = random(1, narrow, h, w)
    expected = conv.double()(features.double())
    conv.float()
    error = quick(features) - expected
    assert error.abs().max() < 2e-4
    assert error.square().mean().sqrt() < 2e-5


@pytest.mark.parametrize("side", [3, 7])
def test_a_large_frame_goes_in_bands(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, quick = conv_pair(8, 8, side)
    features = random(1, 8, 29, 20)
    monkeypatch.setattr(fast, "BAND_PX", 9 * 20)
    torch.testing.assert_close(quick(features), conv(features), atol=2e-4, rtol=0)


def test_a_frame_does_not_depend_on_its_batch() -> None:
    _, quick = conv_pair(16, 16, 3)
    features = random(3, 16, 20, 24)
    assert torch.equal(quick(features)[1:2], quick(features[1:2]))


def test_the_number_of_threads_changes_no_byte() -> None:
    _, quick = conv_pair(32, 32, 3)
    features = random(1, 32, 60, 70)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(quick(features))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_only_layers_that_fit_are_exchanged() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
    ).requires_grad_(False)
    keys = list(layers.state_dict())
    fast.use_fast_convolutions(layers)
    assert [type(layer) for layer in layers] == [fast.FastConv2d] + [nn.Conv2d] * 4
    assert list(layers.state_dict()) == keys


def test_a_network_stays_the_same_function(tiny_network: VideoNetwork) -> None:
    quick = type(tiny_network)(**tiny_network.hyper_parameters).eval().requires_grad_(False)
    quick.load_state_dict(tiny_network.state_dict())
    fast.use_fast_convolutions(quick)
    lr = torch.rand(1, 4, 3, 20, 28, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(quick(lr), tiny_network(lr), atol=5e-5, rtol=0)


def test_a_narrow_network_is_still_the_authors() -> None:
    network = filled(BasicVSR(mid_channels=16, num_blocks=2))
    fast.use_fast_convolutions(network)
    assert whole_difference(network, "basic_mid16_b2_t6_64x64") <= WHOLE


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name"), [(IconVSR, "icon_t6_64x64"), (BasicVSR, "basic_t6_64x64")])
def test_the_published_networks_are_still_the_authors(kind: type[IconVSR | BasicVSR], name: str) -> None:
    network = filled(kind())
    fast.use_fast_convolutions(network)
    assert whole_difference(network, name) <= WHOLE
