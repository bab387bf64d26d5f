import numpy as np
import pytest
import torch

from tests.vs_iconvsr.networks.deterministic import filled
from tests.vs_iconvsr.networks.goldens import UNIT, Golden, as_input, difference, golden, shared_golden
from vs_iconvsr.networks.spynet import SPyNet


@pytest.fixture(scope="module")
def spynet() -> SPyNet:
    return filled(SPyNet(), prefix="spynet.")


def flow_difference(spynet: SPyNet, theirs: Golden) -> float:
    frame, neighbour = as_input(theirs["in_frames_u8"]).unsqueeze(1)
    return difference(spynet(frame, neighbour), theirs["flow"])


@pytest.mark.parametrize("size", ["33x100", "66x70"])
def test_flow_is_the_authors(spynet: SPyNet, size: str) -> None:
    assert flow_difference(spynet, golden(f"unit_spynet_{size}")) <= UNIT


@pytest.mark.needs_shared
@pytest.mark.parametrize("size", ["64x64", "16x20"])
def test_flow_is_the_authors_at_other_sizes(spynet: SPyNet, size: str) -> None:
    assert flow_difference(spynet, shared_golden(f"unit_spynet_{size}")) <= UNIT


@pytest.mark.parametrize("size", [(1, 1), (1, 45), (33, 2)])
def test_any_size_has_a_finite_flow_of_its_size(spynet: SPyNet, size: tuple[int, int]) -> None:
    flow = spynet(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


def test_a_pair_has_the_same_flow_alone_and_in_a_batch(spynet: SPyNet) -> None:
    frames, neighbours = torch.rand(2, 2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    alone = spynet(frames[1:], neighbours[1:])
    assert torch.allclose(spynet(frames, neighbours)[1:], alone, atol=1e-5)


def test_width_is_a_parameter() -> None:
    small = SPyNet(channels=8)
    assert small.basic_module[0].basic_module[1].conv.weight.shape == (16, 8, 7, 7)
    assert small(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)).shape == (1, 2, 8, 8)
    with pytest.raises(ValueError, match="expected an even number, 2 or more, got 3"):
        SPyNet(channels=3)


def test_published_constants_are_kept() -> None:
    state = SPyNet().state_dict()
    assert np.allclose(state["mean"].flatten(), [0.485, 0.456, 0.406])
    assert np.allclose(state["std"].flatten(), [0.229, 0.224, 0.225])
