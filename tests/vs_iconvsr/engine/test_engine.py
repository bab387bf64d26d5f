"""The engine: the steps of a network one by one give what its forward gives, by every memory strategy and in tiles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr import weights
from vs_iconvsr.engine import MemoryStrategy, Propagation, Shape, Upscaler
from vs_iconvsr.engine.features import FeatureStore
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR
from vs_iconvsr.plan import DEFAULT_HALO_PX
from vs_iconvsr.segments import Segment

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lr() -> Tensor:
    return torch.rand(9, 3, 20, 28, generator=torch.Generator().manual_seed(1))


def upscaler(network: VideoNetwork, lr: Tensor, **shape: object) -> Upscaler:
    return Upscaler(network, CPU, Shape(lr.shape[-1], lr.shape[-2], **shape))


def drained(propagation: Propagation) -> Tensor:
    hr = []
    while not propagation.finished:
        frame = propagation.step()
        if frame is not None:
            hr.append(frame)
    return torch.stack(hr)


def propagate(
    network: VideoNetwork, lr: Tensor, kept: range, read: range, strategy: MemoryStrategy = MemoryStrategy.KEEP
) -> Propagation:
    return upscaler(network, lr).propagate(Segment(kept, read), lambda n: lr[n], strategy=strategy)


def test_steps_give_what_forward_gives(tiny_network: VideoNetwork, lr: Tensor) -> None:
    expected = upscaler(tiny_network, lr).network(lr[None])[0]
    torch.testing.assert_close(drained(propagate(tiny_network, lr, range(9), range(9))), expected, atol=1e-5, rtol=0)


def test_what_the_engine_computes_with_is_the_network_within_rounding(tiny_network: VideoNetwork, lr: Tensor) -> None:
    torch.testing.assert_close(upscaler(tiny_network, lr).network(lr[None]), tiny_network(lr[None]), atol=5e-5, rtol=0)


def test_context_is_propagated_through_and_discarded(tiny_network: VideoNetwork, lr: Tensor) -> None:
    expected = upscaler(tiny_network, lr).network(lr[None, 1:8])[0, 2:5]
    hr = drained(propagate(tiny_network, lr, range(3, 6), range(1, 8)))
    torch.testing.assert_close(hr, expected, atol=1e-5, rtol=0)
    without = drained(propagate(tiny_network, lr, range(3, 6), range(3, 6)))
    assert (hr - without).abs().max() > 1e-3


AUTHORS: dict[str, Callable[[], VideoNetwork]] = {
    "IconVSR": lambda: IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8, flow_channels=4),
    "BasicVSR": lambda: BasicVSR(mid_channels=8, num_blocks=1, flow_channels=4),
    "BasicVSR++": lambda: BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=4),
    "RealBasicVSR": lambda: RealBasicVSR(mid_channels=8, num_blocks=1, cleaning_blocks=1, flow_channels=4, cleaning=2),
}


@pytest.mark.parametrize("kind", AUTHORS)
def test_the_authors_networks_are_streamed_to_what_their_forward_gives(kind: str) -> None:
    """Keyframes counted from the first frame read, refill, padding to multiples of 4, passes that are not coupled, four
    passes of second order, frames that are cleaned; the same bytes by every memory strategy."""
    network = filled(AUTHORS[kind]())
    lr = sequence(11, 18, 22)[0]
    keep, offload, recompute = (
        drained(propagate(network, lr, range(3, 8), range(1, 10), strategy)) for strategy in MemoryStrategy
    )
    torch.testing.assert_close(keep, network(lr[None, 1:10])[0, 2:7], atol=5e-5, rtol=0)
    assert torch.equal(offload, keep)
    assert torch.equal(recompute, keep)


def test_a_network_that_keeps_the_size_is_streamed_to_what_its_forward_gives() -> None:
    """Features and flows at a quarter of the frame's sides, frames padded to 256 px and cut again."""
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=4, scale=1))
    lr = sequence(4, 18, 22)[0]
    keep, recompute = (
        drained(propagate(network, lr, range(1, 3), range(4), strategy))
        for strategy in (MemoryStrategy.KEEP, MemoryStrategy.RECOMPUTE)
    )
    torch.testing.assert_close(keep, network(lr[None])[0, 1:3], atol=5e-5, rtol=0)
    assert torch.equal(recompute, keep)


@pytest.mark.parametrize("t", range(1, 18))
def test_four_passes_recomputed_give_the_same_bytes_at_every_length(t: int) -> None:
    """Blocks of every length, cut at both ends of the segment."""
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=2))
    lr = sequence(t, 6, 7)[0]
    kept = range(t // 3, max(t // 3 + 1, t - 2))
    expected = drained(propagate(network, lr, kept, range(t)))
    assert torch.equal(drained(propagate(network, lr, kept, range(t), MemoryStrategy.RECOMPUTE)), expected)


def test_four_passes_take_one_step_a_frame_each() -> None:
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=2))
    propagation = propagate(network, sequence(8, 6, 7)[0], range(3, 6), range(1, 8))
    steps = 0
    while propagation.step() is None:
        steps += 1
    assert [at.name for at in propagation.walks] == ["backward_1", "forward_1", "backward_2"]
    assert propagation.earlier_steps == 3 * 7
    assert steps == 3 * 7 + 2  # and two of the last pass through the context; the next gave frame 3
    assert propagation.backward_done


@pytest.mark.parametrize("strategy", [MemoryStrategy.KEEP, MemoryStrategy.RECOMPUTE])
@pytest.mark.parametrize(("kind", "pairs", "single"), [("BasicVSR", 3, 5), ("IconVSR", 5, 3), ("BasicVSR++", 8, 0)])
def test_flows_are_computed_once_and_both_ways_where_both_are_wanted(
    monkeypatch: pytest.MonkeyPatch, kind: str, pairs: int, single: int, strategy: MemoryStrategy
) -> None:
    """Of nine frames, of which 2 to 5 are kept: nobody walks forward behind them; BasicVSR not backward before them."""
    lr = sequence(9, 6, 7)[0]
    made = upscaler(filled(AUTHORS[kind]()), lr)
    computed: list[str] = []
    for name in ("flow", "flows"):
        original = getattr(made.network, name)
        counting = lambda *frames, name=name, call=original: computed.append(name) or call(*frames)  # noqa: E731
        monkeypatch.setattr(made.network, name, counting)
    drained(made.propagate(Segment(range(2, 6), range(9)), lr.__getitem__, strategy=strategy))
    assert (computed.count("flows"), computed.count("flow")) == (pairs, single)


def test_a_propagation_starts_with_one_backward_step_a_frame(tiny_network: VideoNetwork, lr: Tensor) -> None:
    propagation = propagate(tiny_network, lr, range(3, 6), range(1, 8))
    steps = 0
    while propagation.step() is None:
        steps += 1
    assert steps == 7 + 2  # seven backward, two forward through the context; the next gave frame 3
    assert propagation.next_kept == 4


@pytest.mark.parametrize("strategy", [MemoryStrategy.OFFLOAD, MemoryStrategy.RECOMPUTE])
def test_memory_strategies_do_not_change_a_byte(
    tiny_network: VideoNetwork, lr: Tensor, strategy: MemoryStrategy
) -> None:
    kept, read = range(2, 7), range(9)
    expected = drained(propagate(tiny_network, lr, kept, read))
    assert torch.equal(drained(propagate(tiny_network, lr, kept, read, strategy)), expected)


def test_recomputing_holds_fewer_features_than_keeping(tiny_network: VideoNetwork) -> None:
    lr = torch.rand(36, 3, 16, 16)
    held = {}
    for strategy in (MemoryStrategy.KEEP, MemoryStrategy.RECOMPUTE):
        propagation = propagate(tiny_network, lr, range(36), range(36), strategy)
        drained(propagation)
        held[strategy] = held_features(propagation)
    assert held[MemoryStrategy.KEEP] == 36
    assert held[MemoryStrategy.RECOMPUTE] <= 12


def test_recomputing_four_passes_holds_fewer_features_than_keeping() -> None:
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=2))
    lr = sequence(32, 4, 4)[0]
    held = {}
    for strategy in (MemoryStrategy.KEEP, MemoryStrategy.RECOMPUTE):
        propagation = propagate(network, lr, range(32), range(32), strategy)
        drained(propagation)
        held[strategy] = held_features(propagation)
    assert held[MemoryStrategy.KEEP] == 4 * 32
    assert held[MemoryStrategy.RECOMPUTE] == 8 + 3 * (8 + 6)  # two of every eight, and a block


def test_a_feature_that_is_made_when_it_is_wanted_is_stored_as_the_others_are() -> None:
    """In the large allocations, and so in host memory where features are offloaded; not as the step left it."""
    store = FeatureStore(MemoryStrategy.OFFLOAD, 4, needed=4, order=0, stride=3)
    feature = torch.rand(1, 2, 3, 4)
    assert store.missing_block(2, range(4)) == range(2, 3)
    store.put_missing(2, feature)
    stored = store.get(2, CPU)
    assert stored is not None
    assert torch.equal(stored, feature)
    assert stored.untyped_storage().data_ptr() != feature.untyped_storage().data_ptr()


def held_features(propagation: Propagation) -> int:
    stores = propagation._tiles[0]._features.values()
    return sum(len(store._stored) + len(store._block) for store in stores)


def test_rewinding_gives_the_same_frames_without_a_backward_branch(tiny_network: VideoNetwork, lr: Tensor) -> None:
    propagation = propagate(tiny_network, lr, range(2, 7), range(9))
    expected = drained(propagation)
    propagation.rewind()
    steps = 0
    again = []
    while not propagation.finished:
        frame = propagation.step()
        steps += 1
        if frame is not None:
            again.append(frame)
    assert torch.equal(torch.stack(again), expected)
    assert steps == 7


@pytest.mark.parametrize("strategy", list(MemoryStrategy))
def test_refill_features_leave_with_their_last_use_and_come_again_when_rewound(strategy: MemoryStrategy) -> None:
    torch.manual_seed(0)
    network = IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8).eval().requires_grad_(False)
    lr = torch.rand(12, 3, 16, 16)
    propagation = propagate(network, lr, range(2, 8), range(12), strategy)
    expected = drained(propagation)
    held = propagation._tiles[0]._refill
    assert not any(n < 8 for n in held)
    assert strategy is MemoryStrategy.RECOMPUTE or not held
    propagation.rewind()
    assert torch.equal(drained(propagation), expected)


def test_a_tile_with_a_halo_as_large_as_the_frame_is_the_whole_frame(tiny_network: VideoNetwork) -> None:
    lr = torch.rand(3, 3, 70, 140)
    segment = Segment(range(3), range(3))
    whole = drained(upscaler(tiny_network, lr).propagate(segment, lambda n: lr[n], strategy=MemoryStrategy.KEEP))
    tiled = upscaler(tiny_network, lr, tile=(70, 0), halo=140)
    assert len(tiled.tiles) == 2
    assert torch.equal(drained(tiled.propagate(segment, lambda n: lr[n], strategy=MemoryStrategy.KEEP)), whole)


@pytest.mark.parametrize("cleaning", [1, 3])
def test_frames_are_cleaned_as_often_as_the_plan_says(cleaning: int) -> None:
    arguments = {"mid_channels": 8, "num_blocks": 1, "cleaning_blocks": 1, "flow_channels": 2}
    lr = sequence(2, 6, 7)[0]
    made = upscaler(filled(RealBasicVSR(**arguments, cleaning=2)), lr, cleaning=cleaning)
    assert made.network.hyper_parameters["cleaning"] == cleaning
    hr = drained(made.propagate(Segment(range(2), range(2)), lr.__getitem__, strategy=MemoryStrategy.KEEP))
    expected = filled(RealBasicVSR(**arguments, cleaning=cleaning))(lr[None])[0]
    torch.testing.assert_close(hr, expected, atol=5e-5, rtol=0)


def test_the_callers_network_stays_as_it_is(tiny_network: VideoNetwork, lr: Tensor) -> None:
    made = upscaler(tiny_network, lr)
    assert made.network is not tiny_network
    assert all(parameter.dtype == torch.float32 for parameter in tiny_network.parameters())


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_a_precision_the_cpu_is_slow_at_is_refused(tiny_network: VideoNetwork, lr: Tensor, precision: str) -> None:
    with pytest.raises(ValueError, match=r"^precision: expected .* got " + precision):
        upscaler(tiny_network, lr, precision=precision)


@pytest.mark.needs_shared
def test_joints_of_tiles_are_within_one_code_value_at_the_default_halo() -> None:
    """On real footage, with the bundled network, within 4 lr px of the joint."""
    folder = Path(__file__).parents[3].parent / "shared" / "clips" / "street_320x180"
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))[:6]]
    frames = torch.from_numpy(np.stack(pictures)[:, 40:104, 60:220]).permute(0, 3, 1, 2).float() / 255
    segment = Segment(range(6), range(6))
    network = weights.load("light")
    whole = drained(upscaler(network, frames).propagate(segment, lambda n: frames[n], strategy=MemoryStrategy.KEEP))
    tiled = upscaler(network, frames, tile=(80, 0), halo=DEFAULT_HALO_PX)
    assert [len(tile.read_columns) for tile in tiled.tiles] == [128, 128]
    hr = drained(tiled.propagate(segment, lambda n: frames[n], strategy=MemoryStrategy.KEEP))
    near = slice(4 * (80 - 4), 4 * (80 + 4))
    assert (hr - whole)[..., near].abs().max() <= 1 / 255
