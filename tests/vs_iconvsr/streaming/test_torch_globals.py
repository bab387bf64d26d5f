"""Another part of a script may set torch's defaults and count on its random numbers: neither meets the other."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

from tests.vs_iconvsr.streaming.clip import CLIP, CUT, Clip, equal, open_session
from vs_iconvsr import weights
from vs_iconvsr.networks import fast
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.streaming import HrFrame

FIRST = CUT - 3
FRAMES = CLIP[FIRST : FIRST + 5]

NETWORKS: dict[str, Callable[[], VideoNetwork]] = {
    "LightVSR": lambda: LightVSR(mid_channels=16, num_blocks=1, flow_channels=16),
    "BasicVSR": lambda: BasicVSR(mid_channels=8, num_blocks=1, flow_channels=4),
    "IconVSR": lambda: IconVSR(mid_channels=8, num_blocks=1, flow_channels=4, edvr_channels=8),
}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


DEFAULTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of values that half precision cannot hold."""
    network = NETWORKS[request.param]()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    path = tmp_path_factory.mktemp("model") / "network.safetensors"
    weights.save(network, path, provenance={})
    return path


def played(model: Path, change: Callable[[], AbstractContextManager[object]] | None = None) -> list[HrFrame]:
    """Every hr frame; change: what is done to torch's defaults once the first one is there."""
    with open_session(weights.load(model), len(FRAMES), segment=2, context=1) as session:
        first = Clip(FRAMES).play(session, 0)
        if change is None:
            return first + Clip(FRAMES).play(session, *range(1, len(FRAMES)))
        with change():
            return first + Clip(FRAMES).play(session, *range(1, len(FRAMES)))


@pytest.fixture(scope="module")
def usual(model: Path) -> list[HrFrame]:
    return played(model)


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_torchs_defaults_change_no_byte_when_they_are_set_before(
    model: Path, usual: list[HrFrame], defaults: str
) -> None:
    fast.is_available.cache_clear()
    with DEFAULTS[defaults]():
        assert all(equal(hr, expected) for hr, expected in zip(played(model), usual, strict=True))


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_torchs_defaults_change_no_byte_when_they_are_set_in_between(
    model: Path, usual: list[HrFrame], defaults: str
) -> None:
    assert all(equal(hr, expected) for hr, expected in zip(played(model, DEFAULTS[defaults]), usual, strict=True))


def test_no_random_number_of_a_script_is_drawn(model: Path) -> None:
    state = torch.random.get_rng_state()
    played(model)
    assert torch.equal(torch.random.get_rng_state(), state)
