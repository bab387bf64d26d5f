import json
from pathlib import Path

import pytest
import torch

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.networks.goldens import (
    WHOLE,
    as_input,
    difference,
    shared_difference,
    shared_golden,
    whole_difference,
)
from vs_iconvsr.networks.iconvsr import IconVSR

KEYS = json.loads((Path(__file__).parents[1] / "data" / "keys.json").read_text())


@pytest.fixture(scope="module")
def published() -> IconVSR:
    return filled(IconVSR())


@pytest.fixture(scope="module")
def small() -> IconVSR:
    return filled(IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8))


@pytest.mark.parametrize(
    ("temporal_padding", "table"), [(2, "mmagic_iconvsr_net"), (3, "mmagic_iconvsr_net_vimeo_padding3")]
)
def test_keys_and_shapes_are_the_authors(temporal_padding: int, table: str) -> None:
    state = IconVSR(temporal_padding=temporal_padding).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == KEYS[table]


def test_the_published_network_is_the_authors(published: IconVSR) -> None:
    assert whole_difference(published, "icon_t6_64x64") <= WHOLE


def test_a_narrow_network_is_the_authors() -> None:
    network = filled(IconVSR(mid_channels=16, num_blocks=2, edvr_channels=16))
    assert whole_difference(network, "icon_basicsr_feat16_b2_t7_64x64") <= WHOLE


def test_the_published_network_for_seven_frames_is_the_authors() -> None:
    assert whole_difference(filled(IconVSR(temporal_padding=3)), "icon_pad3_t7_64x64") <= WHOLE


@pytest.mark.long
def test_the_published_network_is_the_authors_on_wider_frames(published: IconVSR) -> None:
    assert whole_difference(published, "icon_t7_64x80", 64, 80) <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
@pytest.mark.parametrize("name", ["icon_t6_64x64", "icon_t7_64x80", "icon_t11_64x64", "icon_mirror_t10_64x64"])
def test_the_published_network_is_the_authors_at_every_third_pixel(published: IconVSR, name: str) -> None:
    assert shared_difference(published, name) <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
def test_flows_refill_and_backward_features_are_the_authors(published: IconVSR) -> None:
    theirs = shared_golden("icon_t6_64x64")
    frames = published.prepare(as_input(theirs["input_u8"]))[None]
    flow_to_next, flow_to_prev = published.neighbour_flows(frames)
    assert difference(flow_to_prev[0], theirs["flows_forward"]) <= 5e-5
    assert difference(flow_to_next[0], theirs["flows_backward"]) <= 5e-5
    refill = {i: published.refill(frames[:, list(published.window(i, 6))]) for i in published.keyframes(6)}
    assert difference(refill[0][0, :, ::3, ::3], theirs["refill0"]) <= 5e-5
    assert difference(refill[5][0, :, ::3, ::3], theirs["refill5"]) <= 5e-5
    backward = published.passes[0]
    last = published.step(backward, frames[:, 5], earlier=[], carried=[], flows=[], refill=refill[5])
    assert difference(last[0, :, ::3, ::3], theirs["backward_feat_frame5"]) <= 5e-5


# --- keyframes and their windows ---


@pytest.mark.parametrize(
    ("t", "keyframes"), [(1, (0,)), (2, (0, 1)), (5, (0, 4)), (6, (0, 5)), (7, (0, 5, 6)), (12, (0, 5, 10, 11))]
)
def test_every_fifth_frame_and_the_last_are_keyframes(small: IconVSR, t: int, keyframes: tuple[int, ...]) -> None:
    assert small.keyframes(t) == keyframes


@pytest.mark.parametrize(
    ("padding", "keyframe", "t", "window"),
    [
        (2, 0, 5, (4, 3, 0, 1, 2)),
        (2, 0, 100, (4, 3, 0, 1, 2)),
        (2, 1, 100, (3, 0, 1, 2, 3)),
        (2, 5, 100, (3, 4, 5, 6, 7)),
        (2, 98, 100, (96, 97, 98, 99, 96)),
        (2, 99, 100, (97, 98, 99, 96, 95)),
        (2, 4, 5, (2, 3, 4, 1, 0)),
        (3, 0, 7, (6, 5, 4, 0, 1, 2, 3)),
        (3, 6, 7, (3, 4, 5, 6, 2, 1, 0)),
        (3, 5, 7, (2, 3, 4, 5, 6, 2, 1)),
    ],
)
def test_windows_reach_beyond_the_ends_as_the_weights_were_trained(
    padding: int, keyframe: int, t: int, window: tuple[int, ...]
) -> None:
    network = IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8, temporal_padding=padding)
    assert network.window(keyframe, t) == window


@pytest.mark.parametrize(
    ("keyframe", "t", "window"),
    [
        (0, 1, (0, 0, 0, 0, 0)),
        (0, 2, (0, 1, 0, 1, 0)),
        (0, 3, (2, 1, 0, 1, 2)),
        (0, 4, (2, 1, 0, 1, 2)),
        (3, 4, (1, 2, 3, 2, 1)),
    ],
)
def test_windows_of_short_sequences_are_mirrored(
    small: IconVSR, keyframe: int, t: int, window: tuple[int, ...]
) -> None:
    assert small.window(keyframe, t) == window


# --- where the authors' code fails ---


@pytest.mark.parametrize("t", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("padding", [2, 3])
def test_any_length_works(padding: int, t: int) -> None:
    network = filled(IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8, temporal_padding=padding))
    hr = network(torch.rand(2, t, 3, 4, 8))
    assert hr.shape == (2, t, 3, 16, 32)
    assert hr.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 2), (6, 7), (64, 1)])
def test_any_size_works(small: IconVSR, size: tuple[int, int]) -> None:
    hr = small(torch.rand(1, 2, 3, *size))
    assert hr.shape == (1, 2, 3, 4 * size[0], 4 * size[1])
    assert hr.isfinite().all()


@pytest.mark.parametrize(("h", "w"), [(66, 70), (3, 5), (64, 64)])
def test_frames_are_padded_by_reflection_at_the_right_and_the_bottom(small: IconVSR, h: int, w: int) -> None:
    frames = torch.rand(2, 3, h, w)
    padded = torch.nn.functional.pad(frames, (0, -w % 4, 0, -h % 4), mode="reflect")
    assert torch.equal(small.prepare(frames), padded)


def test_sides_too_short_to_reflect_are_mirrored_back_and_forth(small: IconVSR) -> None:
    frames = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert small.prepare(frames)[0, 0].tolist() == [[1.0, 2.0, 1.0, 2.0]] * 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_wild_pixel_spoils_nothing(small: IconVSR, value: float) -> None:
    lr = sequence(5, 9, 8)
    lr[0, 2, 1, 3, 4] = value
    assert small(lr).isfinite().all()


def test_a_sequence_has_the_same_hr_alone_and_in_a_batch(small: IconVSR) -> None:
    lr = torch.cat([sequence(6, 10, 12, seed) for seed in (0, 1)])
    assert torch.allclose(small(lr)[1:], small(lr[1:]), atol=1e-5)


def test_a_slice_that_is_not_contiguous_gives_the_same_hr(small: IconVSR) -> None:
    lr = sequence(6, 8, 24)[..., ::2]
    assert not lr.is_contiguous()
    assert torch.equal(small(lr), small(lr.contiguous()))


# --- mirrored sequences: the authors then take the backward flows, read from the end, for the forward ones ---


def test_the_flows_of_a_mirrored_sequence_are_mirrored(small: IconVSR) -> None:
    half = sequence(3, 32, 32)
    flow_to_next, flow_to_prev = small.neighbour_flows(torch.cat([half, half.flip(1)], dim=1))
    assert torch.allclose(flow_to_prev, flow_to_next.flip(1), atol=1e-4)


# --- widths and scales ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 1},
        {"scale": 2},
        {"keyframe_stride": 1},
        {"keyframe_stride": 3, "edvr_channels": 16},
        {"flow_channels": 8, "temporal_padding": 3},
    ],
)
def test_widths_and_scales_are_parameters_that_build_an_equal_network(arguments: dict[str, int]) -> None:
    network = filled(IconVSR(**{"mid_channels": 8, "num_blocks": 1, "edvr_channels": 8, **arguments}))
    again = IconVSR(**network.hyper_parameters)
    again.load_state_dict(network.state_dict())
    lr = sequence(4, 8, 8)
    assert network(lr).shape[-1] == 8 * network.scale
    assert torch.equal(again.eval().requires_grad_(False)(lr), network(lr))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keyframe_stride": 0}, "keyframe_stride: expected 1 or more, got 0"),
        ({"temporal_padding": 1}, r"temporal_padding: expected one of \(2, 3\), got 1"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IconVSR(**arguments)


# --- training ---


def test_gradients_reach_every_weight() -> None:
    network = IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8)
    network.load_state_dict(filled(IconVSR(**network.hyper_parameters)).state_dict())
    network(sequence(3, 32, 32)).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []
