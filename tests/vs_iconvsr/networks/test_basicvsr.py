import pytest
import torch

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.networks.goldens import WHOLE, shared_difference, whole_difference
from vs_iconvsr.networks.basicvsr import BasicVSR


@pytest.fixture(scope="module")
def small() -> BasicVSR:
    return filled(BasicVSR(mid_channels=8, num_blocks=1))


def test_the_published_network_is_the_authors() -> None:
    assert whole_difference(filled(BasicVSR()), "basic_t2_64x64") <= WHOLE


def test_a_narrow_network_is_the_authors() -> None:
    network = filled(BasicVSR(mid_channels=16, num_blocks=2))
    assert whole_difference(network, "basic_mid16_b2_t6_64x64") <= WHOLE


@pytest.mark.long
def test_the_published_network_is_the_authors_on_more_frames() -> None:
    assert whole_difference(filled(BasicVSR()), "basic_t6_64x64") <= WHOLE


@pytest.mark.needs_shared
@pytest.mark.long
@pytest.mark.parametrize("name", ["basic_t2_64x64", "basic_t6_64x64"])
def test_the_published_network_is_the_authors_at_every_third_pixel(name: str) -> None:
    assert shared_difference(filled(BasicVSR()), name) <= WHOLE


@pytest.mark.parametrize("t", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (33, 1), (6, 9)])
def test_any_length_and_size_works(small: BasicVSR, t: int, size: tuple[int, int]) -> None:
    hr = small(torch.rand(2, t, 3, *size))
    assert hr.shape == (2, t, 3, 4 * size[0], 4 * size[1])
    assert hr.isfinite().all()


def test_a_sequence_has_the_same_hr_alone_and_in_a_batch(small: BasicVSR) -> None:
    lr = torch.cat([sequence(3, 12, 16, seed) for seed in (0, 1)])
    assert torch.allclose(small(lr)[1:], small(lr[1:]), atol=1e-5)


def test_nan_and_infinity_count_as_black_and_white(small: BasicVSR) -> None:
    lr, cleaned = sequence(3, 8, 8), sequence(3, 8, 8)
    for value, meant in ((float("nan"), 0.0), (float("inf"), 1.0), (-float("inf"), 0.0)):
        lr[0, 1, 0, 3, 4], cleaned[0, 1, 0, 3, 4] = value, meant
        assert torch.equal(small(lr), small(cleaned))
        assert small(lr).isfinite().all()


@pytest.mark.parametrize("scale", [1, 2])
def test_other_scales_enlarge_by_that_much(scale: int) -> None:
    network = filled(BasicVSR(mid_channels=8, num_blocks=1, scale=scale))
    assert network(torch.rand(1, 2, 3, 5, 6)).shape == (1, 2, 3, 5 * scale, 6 * scale)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 2, 4, 8, 8), (1, 0, 3, 8, 8)])
def test_other_shapes_are_refused(small: BasicVSR, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="lr: expected"):
        small(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mid_channels": 0}, "mid_channels: expected 1 or more, got 0"),
        ({"num_blocks": 0}, "num_blocks: expected 1 or more, got 0"),
        ({"scale": 3}, r"scale: expected one of \(1, 2, 4\), got 3"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BasicVSR(**arguments)


def test_hyper_parameters_build_an_equal_network(small: BasicVSR) -> None:
    again = BasicVSR(**small.hyper_parameters)
    again.load_state_dict(small.state_dict())
    lr = sequence(2, 8, 8)
    assert torch.equal(again.eval().requires_grad_(False)(lr), small(lr))
