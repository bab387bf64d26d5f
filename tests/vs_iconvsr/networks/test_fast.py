"""Convolutions by fast algorithms: the same function within rounding, the same bytes whatever the threads and batch."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from tests.vs_iconvsr.networks.deterministic import filled
from tests.vs_iconvsr.networks.goldens import WHOLE, whole_difference
from vs_iconvsr.networks import fast
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.blocks import LeakyConv, PixelShuffleUpsampling, ResidualBlock, ResidualBlocks
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork

pytestmark = pytest.mark.skipif(not fast.is_available(), reason="this torch has no NNPACK for this processor")


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(params=[True, False], ids=["avx512", "avx2"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen on each kind of processor, whichever this one is."""
    monkeypatch.setattr(fast, "has_avx512", lambda: request.param)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conv_pair(narrow: int, wide: int, side: int) -> tuple[nn.Conv2d, fast.FastConv2d]:
    conv = nn.Conv2d(narrow, wide, side, padding=side // 2).requires_grad_(False)
    conv.weight.copy_(random(*conv.weight.shape, seed=1) / (narrow * side * side) ** 0.5)
    return conv, fast.FastConv2d(conv)


@pytest.mark.usefixtures("processor")
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


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 5000), (5000, 1), (31, 70), (60, 70), (61, 70), (200, 30)])
@pytest.mark.parametrize("rows", [6, 28, 30])
def test_bands_cover_each_row_once_and_none_is_higher_than_asked(h: int, w: int, rows: int) -> None:
    bands = fast.bands_of(h, w, rows)
    assert [row for top, bottom in bands for row in range(top, bottom)] == list(range(h))
    assert h * w <= fast.WHOLE_PX or max(bottom - top for top, bottom in bands) <= rows


def test_small_frames_are_not_cut_and_others_give_work_to_two_threads() -> None:
    assert len(fast.bands_of(32, 64)) == 1
    assert len(fast.bands_of(33, 64)) == 2


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("side", [3, 7])
@pytest.mark.parametrize("slope", [None, 0.0, 0.1])
def test_bands_with_what_follows_give_the_whole(side: int, slope: float | None) -> None:
    conv, quick = conv_pair(16, 8, side)
    features, added = random(2, 16, 70, 50), random(2, 8, 70, 50, seed=3)
    expected = conv(features)
    with torch.inference_mode():
        torch.testing.assert_close(quick(features, added=added), expected + added, atol=2e-4, rtol=0)
        assert torch.equal(quick(features, added=added.clone(), out=added), added)
        activated = expected if slope is None else nn.functional.leaky_relu(expected, slope)
        torch.testing.assert_close(quick(features, slope=slope), activated, atol=2e-4, rtol=0)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(("h", "w"), [(5, 4), (57, 64), (100, 40)])
def test_a_pair_is_one_convolution_after_the_other(h: int, w: int) -> None:
    first, quick_first = conv_pair(16, 24, 3)
    last, quick_last = conv_pair(24, 3, 3)
    features = random(2, 16, h, w)
    expected = last(nn.functional.leaky_relu(first(features), 0.1))
    torch.testing.assert_close(fast.leaky_pair(first, last, features), expected)
    with torch.inference_mode():
        torch.testing.assert_close(fast.leaky_pair(quick_first, quick_last, features), expected, atol=2e-4, rtol=0)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    "layer",
    [
        PixelShuffleUpsampling(16, 5),
        ResidualBlocks(ResidualBlock(16), ResidualBlock(16), ResidualBlock(16)),
        ResidualBlock(16),
        LeakyConv(16, 5),
    ],
)
def test_a_layer_stays_the_same_function(layer: nn.Module) -> None:
    holder = nn.Sequential(layer).requires_grad_(False)
    features = random(2, 16, 70, 40)
    unchanged = features.clone()
    expected, keys = layer(features), list(holder.state_dict())
    fast.use_fast_convolutions(holder)
    assert type(holder[0]).__name__ == f"Fast{type(layer).__name__}"
    assert list(holder.state_dict()) == keys
    with torch.inference_mode():
        torch.testing.assert_close(holder(features), expected, atol=2e-4, rtol=0)
    assert torch.equal(features, unchanged)


def test_a_failure_in_a_band_reaches_the_caller() -> None:
    def band(i: int, top: int, bottom: int) -> None:
        raise MemoryError(f"{i} {top} {bottom}")

    with using_threads(2), pytest.raises(MemoryError, match="0 0 "):
        fast.in_bands(1, 100, 100, band)


def test_the_threads_of_a_team_use_one_core_each_and_leave_the_callers_setting_alone() -> None:
    with using_threads(2):
        seen: list[int] = []
        fast.in_bands(1, 100, 100, lambda *_: seen.append(torch.get_num_threads()))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2


@pytest.mark.usefixtures("processor")
def test_a_frame_does_not_depend_on_its_batch() -> None:
    _, quick = conv_pair(16, 16, 3)
    features = random(3, 16, 20, 24)
    assert torch.equal(quick(features)[1:2], quick(features[1:2]))


def test_a_team_ends_with_the_thread_that_it_works_for() -> None:
    members: list[threading.Thread] = []

    def compute() -> None:
        with using_threads(2):
            fast.in_bands(1, 100, 100, lambda *_: members.append(threading.current_thread()))

    caller = threading.Thread(target=compute)
    caller.start()
    caller.join()
    assert members
    for member in members:
        member.join(timeout=10)
        assert not member.is_alive()


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("side", [3, 7])
def test_the_number_of_threads_changes_no_byte(side: int) -> None:
    _, quick = conv_pair(32, 32, side)
    features = random(1, 32, 130, 70)
    found = []
    for count in (1, 2, 3):
        with using_threads(count):
            found.append(quick(features))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_without_avx512_narrow_convolutions_of_small_frames_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {(32, 480, 270): True, (32, 640, 360): False, (47, 480, 270): True, (48, 480, 270): False}
    for avx512, expected in ((False, asked), (True, dict.fromkeys(asked, False))):
        monkeypatch.setattr(fast, "has_avx512", lambda held=avx512: held)
        assert {key: conv_pair(key[0], 64, 3)[1].is_slow(key[2], key[1]) for key in asked} == expected
        assert not conv_pair(32, 64, 7)[1].is_slow(270, 480)


def test_only_layers_that_fit_are_exchanged() -> None:
    layers = nn.Sequential(
        nn.Conv2d(16, 4, 3, padding=1),
        nn.Conv2d(4, 16, 7, padding=3),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.Conv2d(16, 15, 3, padding=1),
        nn.Conv2d(15, 16, 3, padding=1),
    ).requires_grad_(False)
    keys = list(layers.state_dict())
    fast.use_fast_convolutions(layers)
    assert [type(layer) for layer in layers] == [fast.FastConv2d] * 2 + [nn.Conv2d] * 4 + [fast.FastConv2d, nn.Conv2d]
    assert list(layers.state_dict()) == keys


@pytest.mark.usefixtures("processor")
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
