"""Wrapped steps: recomputed ones give the same gradients with less memory, compiled ones equal up to rounding."""

import pytest
import torch
from torch import Tensor

from training.loop.steps import STEPS, wrap_steps
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

NETWORKS = {
    "LightVSR": lambda: LightVSR(mid_channels=8, num_blocks=1, flow_channels=8),
    "BasicVSR": lambda: BasicVSR(mid_channels=8, num_blocks=1, flow_channels=4),
    "IconVSR": lambda: IconVSR(mid_channels=8, num_blocks=1, flow_channels=4, edvr_channels=8),
}
LR = torch.rand(2, 7, 3, 12, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> VideoNetwork:
    torch.manual_seed(0)
    made = NETWORKS[request.param]()
    generator = torch.Generator().manual_seed(2)
    for parameter in made.parameters():  # no weight is zero, so that each one has a gradient
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


def gradients(through: VideoNetwork, precision: str = "float32") -> dict[str, Tensor]:
    through.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        hr = through(LR)
    hr.square().mean().backward()
    return {name: value.grad.clone() for name, value in through.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_recomputation_gives_the_same_gradients_to_the_bit(network: VideoNetwork, precision: str) -> None:
    kept = gradients(network, precision)
    again = gradients(wrap_steps(network, recompute=True, compiled=False), precision)
    assert kept.keys() == again.keys()
    assert len(kept) > 20
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_recomputation_stores_a_fraction_for_the_backward_pass(network: VideoNetwork) -> None:
    def kept_bytes(through: VideoNetwork) -> int:
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            through(LR)
        return sum(kept.values())

    assert kept_bytes(wrap_steps(network, recompute=True, compiled=False)) < 0.2 * kept_bytes(network)


def test_the_wrapped_network_shares_its_weights_with_the_original(network: VideoNetwork) -> None:
    other = wrap_steps(network, recompute=True, compiled=False)
    assert type(other) is type(network)
    assert [id(value) for value in other.parameters()] == [id(value) for value in network.parameters()]
    assert vars(other).keys() >= set(STEPS)
    assert not vars(network).keys() & set(STEPS)
    assert wrap_steps(network, recompute=False, compiled=False) is network


@pytest.mark.long
@pytest.mark.timeout(1800)  # compiling takes minutes
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_steps_give_the_same_gradients_within_rounding(recompute: bool) -> None:
    torch.manual_seed(0)
    network = NETWORKS["LightVSR"]()
    torch.nn.init.normal_(network.tail_last.weight, std=0.1)
    eager = gradients(network)
    compiled = gradients(wrap_steps(network, recompute=recompute, compiled=True))
    for name in eager:
        assert torch.allclose(eager[name], compiled[name], rtol=1e-3, atol=1e-6), name
