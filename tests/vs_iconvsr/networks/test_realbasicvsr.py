import json
from pathlib import Path

import pytest
import torch

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.networks.goldens import WHOLE, as_input, difference, shared_golden, whole_difference
from tests.vs_iconvsr.networks.goldens import shared_difference as shared
from vs_iconvsr.networks.realbasicvsr import THRESHOLD, RealBasicVSR

KEYS = json.loads((Path(__file__).parents[1] / "data" / "keys.json").read_text())
NARROW = {"mid_channels": 16, "num_blocks": 2, "cleaning_blocks": 3}
SMALL = {"mid_channels": 8, "num_blocks": 1, "cleaning_blocks": 1, "flow_channels": 4}

# golden, (height, width), threshold, and how often the authors' rule cleaned it
CLEANED = (
    ("rb_c16n2k3_thres255_t5_64x64", (64, 64), 255.0, 1),
    ("rb_c16n2k3_thres30_t5_64x64", (64, 64), 30.0, 2),
    ("rb_c16n2k3_thres5_t4_48x52", (48, 52), 5.0, 3),
)


def narrow(**arguments: int) -> RealBasicVSR:
    return filled(RealBasicVSR(**NARROW, **arguments), seed=5)


@pytest.mark.parametrize(
    ("arguments", "table"), [({}, "mmagic_realbasicvsr_c64n20k20_net"), (NARROW, "mmagic_realbasicvsr_c16n2k3_net")]
)
def test_keys_and_shapes_are_the_authors(arguments: dict[str, int], table: str) -> None:
    state = RealBasicVSR(**arguments).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == KEYS[table]


@pytest.mark.parametrize(("name", "size", "threshold", "passes"), CLEANED)
def test_the_authors_rule_and_the_number_it_comes_to_give_what_their_code_gives(
    name: str, size: tuple[int, int], threshold: float, passes: int
) -> None:
    assert whole_difference(narrow(), name, *size, threshold=threshold) <= WHOLE
    assert whole_difference(narrow(cleaning=passes), name, *size) <= WHOLE


def test_without_a_word_frames_are_cleaned_once_as_by_the_authors_default() -> None:
    network, lr = narrow(), sequence(2, 12, 16)
    assert torch.equal(network(lr), network(lr, threshold=THRESHOLD))
    assert not torch.allclose(network(lr), network(lr, threshold=0.0), atol=1e-3)


def test_the_threshold_is_in_code_values_and_must_be_exceeded() -> None:
    network = narrow()
    for weight in network.image_cleaning.parameters():
        weight.zero_()
    last = network.image_cleaning[1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    last.bias.copy_(torch.tensor([0.25, -0.25, 0.25]))  # 63.75 code values, exact in binary
    lr = sequence(2, 8, 8)
    once, thrice = narrow_with(network, 1)(lr), narrow_with(network, 3)(lr)
    assert torch.equal(network(lr, threshold=63.76), once)
    assert torch.equal(network(lr, threshold=63.75), thrice)
    assert not torch.equal(once, thrice)


def narrow_with(network: RealBasicVSR, cleaning: int) -> RealBasicVSR:
    other = RealBasicVSR(**{**network.hyper_parameters, "cleaning": cleaning}).eval().requires_grad_(False)
    other.load_state_dict(network.state_dict())
    return other


@pytest.mark.needs_shared
@pytest.mark.long
@pytest.mark.parametrize(("name", "size", "threshold", "passes"), CLEANED)
def test_cleaned_frames_are_the_authors(name: str, size: tuple[int, int], threshold: float, passes: int) -> None:
    theirs = shared_golden(name)
    assert int(theirs["passes"]) == passes
    assert theirs["input_u8"].shape[-2:] == size
    cleaned = narrow(cleaning=passes).prepare(as_input(theirs["input_u8"]))
    assert difference(cleaned[..., ::3, ::3], theirs["cleaned_probe"]) <= WHOLE
    assert shared(narrow(), name, threshold=threshold) <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
def test_the_published_network_is_the_authors() -> None:
    assert shared(filled(RealBasicVSR()), "rb_c64n20k20_t3_64x64") <= WHOLE


@pytest.mark.parametrize("t", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (5, 2)])
def test_any_length_and_size_works(t: int, size: tuple[int, int]) -> None:
    lr = torch.rand(2, t, 3, *size)
    network = filled(RealBasicVSR(**SMALL))
    assert network(lr).shape == (2, t, 3, 4 * size[0], 4 * size[1])
    assert network(lr, threshold=5.0).shape == network(lr).shape


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_wild_pixel_spoils_nothing(value: float) -> None:
    lr = sequence(2, 9, 8)
    lr[0, 1, 1, 3, 4] = value
    network = filled(RealBasicVSR(**SMALL))
    assert network(lr).isfinite().all()
    assert network(lr, threshold=5.0).isfinite().all()


def test_the_callers_frames_stay_as_they_are() -> None:
    lr = sequence(2, 8, 8)
    before = lr.clone()
    network = filled(RealBasicVSR(**SMALL))
    network(lr)
    network(lr, threshold=0.0)
    assert torch.equal(lr, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cleaning": 0}, "cleaning: expected 1 to 3 passes, got 0"),
        ({"cleaning": 4}, "cleaning: expected 1 to 3 passes, got 4"),
        ({"cleaning_blocks": 0}, "cleaning_blocks: expected 1 or more, got 0"),
        ({"scale": 3}, r"scale: expected one of \(1, 2, 4\), got 3"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RealBasicVSR(**arguments)


@pytest.mark.parametrize("arguments", [{"cleaning": 3}, {"scale": 2}, {"cleaning_blocks": 2}])
def test_hyper_parameters_build_an_equal_network(arguments: dict[str, int]) -> None:
    network = filled(RealBasicVSR(**{**SMALL, **arguments}))
    again = RealBasicVSR(**network.hyper_parameters)
    again.load_state_dict(network.state_dict())
    lr = sequence(2, 8, 8)
    assert torch.equal(again.eval().requires_grad_(False)(lr), network(lr))


def test_gradients_reach_every_weight() -> None:
    network = RealBasicVSR(mid_channels=8, num_blocks=1, cleaning_blocks=1)
    network.load_state_dict(filled(RealBasicVSR(**network.hyper_parameters)).state_dict())
    network(sequence(3, 32, 32)).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []
