import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.networks.goldens import (
    WHOLE,
    as_input,
    difference,
    shared_difference,
    shared_golden,
    whole_difference,
)
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus, SecondOrderAlignment, reduced

KEYS = json.loads((Path(__file__).parents[1] / "data" / "keys.json").read_text())


@pytest.fixture(scope="module")
def narrow() -> BasicVSRPlusPlus:
    return filled(BasicVSRPlusPlus(mid_channels=16, num_blocks=2))


@pytest.fixture(scope="module")
def same_size() -> BasicVSRPlusPlus:
    return filled(BasicVSRPlusPlus(mid_channels=16, num_blocks=2, scale=1))


@pytest.fixture(scope="module")
def small() -> BasicVSRPlusPlus:
    return filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=4))


# --- the authors' mathematics ---


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        ({}, "mmagic_basicvsrpp_c64n7_net"),
        ({"mid_channels": 16, "num_blocks": 2}, "mmagic_basicvsrpp_c16n2_net"),
        ({"mid_channels": 16, "num_blocks": 2, "scale": 1}, "mmagic_basicvsrpp_same_c16n2_net"),
    ],
)
def test_keys_and_shapes_are_the_authors(arguments: dict[str, int], table: str) -> None:
    state = BasicVSRPlusPlus(**arguments).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == KEYS[table]


def test_a_narrow_network_is_the_authors(narrow: BasicVSRPlusPlus) -> None:
    assert whole_difference(narrow, "pp_c16n2_t7_64x80", 64, 80) <= WHOLE


def test_one_frame_alone_is_the_authors(narrow: BasicVSRPlusPlus) -> None:
    assert whole_difference(narrow, "pp_c16n2_t1_64x64") <= WHOLE


def test_the_network_that_keeps_the_size_is_the_authors(same_size: BasicVSRPlusPlus) -> None:
    assert whole_difference(same_size, "pp_same_c16n2_t3_256x256", 256, 256) <= WHOLE


@pytest.mark.long
def test_the_published_network_is_the_authors() -> None:
    assert whole_difference(filled(BasicVSRPlusPlus()), "pp_c64n7_t2_64x64") <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
@pytest.mark.parametrize("name", ["pp_c16n2_t1_64x64", "pp_c16n2_t7_64x80", "pp_c16n2_mirror_t6_64x64"])
def test_a_narrow_network_is_the_authors_at_every_third_pixel(narrow: BasicVSRPlusPlus, name: str) -> None:
    assert shared_difference(narrow, name) <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
def test_the_network_that_keeps_the_size_is_the_authors_at_every_third_pixel(same_size: BasicVSRPlusPlus) -> None:
    assert shared_difference(same_size, "pp_same_c16n2_t3_256x256") <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
@pytest.mark.parametrize("name", ["pp_c64n7_t2_64x64", "pp_c64n7_t5_64x64"])
def test_the_published_network_is_the_authors_at_every_third_pixel(name: str) -> None:
    assert shared_difference(filled(BasicVSRPlusPlus()), name) <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
def test_flows_and_the_features_of_every_pass_are_the_authors() -> None:
    network, theirs = filled(BasicVSRPlusPlus()), shared_golden("pp_c64n7_t5_64x64")
    frames = as_input(theirs["input_u8"])[None]
    flow_to_next, flow_to_prev = network.neighbour_flows(frames)
    assert difference(flow_to_prev[0], theirs["flows_forward"]) <= 5e-5
    assert difference(flow_to_next[0], theirs["flows_backward"]) <= 5e-5
    seen: dict[str, Tensor] = {}
    upsample = network.upsample

    def watched(frame: Tensor, features: list[Tensor]) -> Tensor:
        if torch.equal(frame, frames[:, 1]):
            seen.update(zip(network.upsampled, features, strict=True))
        return upsample(frame, features)

    network.upsample = watched  # type: ignore[method-assign]
    network(frames)
    for name in network.upsampled:
        assert difference(seen[name][0, :, ::3, ::3], theirs[f"feat_{name}_frame1"]) <= 5e-5


# --- the alignment ---


def test_a_new_alignment_follows_the_flow_alone() -> None:
    """A feature one pixel to the right of where this frame has it, the one before two pixels further."""
    align = SecondOrderAlignment(8)
    align.weight.data.zero_()
    align.weight.data[:, :8, 1, 1] = 2.0 * torch.eye(8)  # the masks of a new one are one half
    align.weight.data[:, 8:, 1, 1] = 2.0 * torch.eye(8)
    here = torch.rand(1, 8, 6, 20)
    near, far = here.roll(1, dims=3), here.roll(3, dims=3)
    flows = [torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 6, 20), torch.zeros(1, 2, 6, 20)]
    flows[1][:, 0] = 2.0
    aligned = align(torch.rand(1, 8, 6, 20), [near, far], flows)
    torch.testing.assert_close(aligned[..., 4:-4], 2.0 * here[..., 4:-4], atol=1e-5, rtol=0)


def test_without_a_second_feature_the_alignment_takes_zeros() -> None:
    align = filled(SecondOrderAlignment(8), prefix="deform_align.backward_1.")
    spatial, near, flow = torch.rand(1, 8, 6, 7), torch.rand(1, 8, 6, 7), torch.rand(1, 2, 6, 7)
    nothing = torch.zeros(1, 8, 6, 7)
    far_flow = -flow  # so that flow and far flow add up to about nothing: the second feature decides
    assert torch.isfinite(align(spatial, [near], [flow])).all()
    assert not torch.allclose(align(spatial, [near], [flow]), align(spatial, [near, near], [flow, far_flow]))
    assert not torch.allclose(align(spatial, [near], [flow]), align(spatial, [nothing], [flow]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_wild_flow_reads_no_wild_memory(value: float) -> None:
    align = SecondOrderAlignment(8)
    near, flow = torch.rand(1, 8, 6, 7), torch.zeros(1, 2, 6, 7)
    flow[0, 0, 3, 3] = value
    aligned = align(near, [near], [flow])
    assert aligned.shape == (1, 8, 6, 7)
    assert aligned[..., 0, 0].isfinite().all()


def test_frames_are_reduced_to_a_quarter_without_a_low_pass() -> None:
    """Every other pixel white: only the bicubic samples right and left of each center count."""
    frames = torch.zeros(1, 1, 8, 8)
    frames[..., 1::4, :] = 1.0
    assert reduced(frames).shape == (1, 1, 2, 2)
    assert torch.allclose(reduced(frames)[..., 0, 0], torch.tensor(0.59375))


# --- any length and size ---


@pytest.mark.parametrize("t", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (33, 1), (6, 9)])
def test_any_length_and_size_works(small: BasicVSRPlusPlus, t: int, size: tuple[int, int]) -> None:
    hr = small(torch.rand(2, t, 3, *size))
    assert hr.shape == (2, t, 3, 4 * size[0], 4 * size[1])
    assert hr.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (30, 258)])
def test_frames_of_any_size_keep_it(size: tuple[int, int]) -> None:
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=4, scale=1))
    hr = network(torch.rand(1, 2, 3, *size))
    assert hr.shape == (1, 2, 3, *size)
    assert hr.isfinite().all()


@pytest.mark.parametrize(
    ("side", "padded"), [(1, 256), (255, 256), (256, 256), (257, 260), (259, 260), (260, 260), (1080, 1080)]
)
def test_small_and_odd_sides_are_padded_where_the_size_is_kept(side: int, padded: int) -> None:
    assert BasicVSRPlusPlus(mid_channels=8, num_blocks=1, scale=1).padded_side(side) == padded
    assert BasicVSRPlusPlus(mid_channels=8, num_blocks=1).padded_side(side) == side


def test_padding_is_cut_from_the_right_and_the_bottom() -> None:
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=4, scale=1))
    lr = sequence(2, 256, 258)
    mirrored = torch.nn.functional.pad(lr[0], (0, 2, 0, 0), mode="reflect")[None]
    assert torch.equal(network(lr), network(mirrored)[..., :258])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_wild_pixel_spoils_nothing(small: BasicVSRPlusPlus, value: float) -> None:
    lr = sequence(3, 9, 8)
    lr[0, 1, 1, 3, 4] = value
    assert small(lr).isfinite().all()


def test_a_sequence_has_the_same_hr_alone_and_in_a_batch(small: BasicVSRPlusPlus) -> None:
    lr = torch.cat([sequence(4, 10, 12, seed) for seed in (0, 1)])
    assert torch.allclose(small(lr)[1:], small(lr[1:]), atol=1e-5)


# --- arguments, training ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mid_channels": 12}, "mid_channels: expected a multiple of 8, got 12"),
        ({"mid_channels": 0}, "mid_channels: expected a multiple of 8, got 0"),
        ({"num_blocks": 0}, "num_blocks: expected 1 or more, got 0"),
        ({"scale": 2}, r"scale: expected one of \(1, 4\), got 2"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BasicVSRPlusPlus(**arguments)


@pytest.mark.parametrize("arguments", [{"scale": 1}, {"mid_channels": 24}, {"flow_channels": 8, "num_blocks": 2}])
def test_hyper_parameters_build_an_equal_network(arguments: dict[str, int]) -> None:
    network = filled(BasicVSRPlusPlus(**{"mid_channels": 8, "num_blocks": 1, "flow_channels": 4, **arguments}))
    again = BasicVSRPlusPlus(**network.hyper_parameters)
    again.load_state_dict(network.state_dict())
    lr = sequence(2, 8, 8)
    assert torch.equal(again.eval().requires_grad_(False)(lr), network(lr))


def test_gradients_reach_every_weight() -> None:
    network = BasicVSRPlusPlus(mid_channels=8, num_blocks=1)
    network.load_state_dict(filled(BasicVSRPlusPlus(**network.hyper_parameters)).state_dict())
    network(sequence(4, 32, 32)).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []
