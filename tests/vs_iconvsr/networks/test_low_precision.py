"""Half precision as a GPU computes it: features are stored in half, the sums inside a convolution are float32.

Real half convolutions run at 0.5 GFLOP/s on a CPU, so convolutions alone are done in float32 and rounded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork

ENOUGH_DB = {torch.float16: 65.0, torch.bfloat16: 50.0}


class Float32Sums(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if function is torch.conv2d:
            features, weight, bias, *others = arguments
            assert features.dtype == weight.dtype
            return function(features.float(), weight.float(), bias.float(), *others).to(features.dtype)
        return function(*arguments, **(options or {}))


class RoundedConvolutions(TorchFunctionMode):
    """Everything in float32, but what goes into a convolution and what comes out."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if function is torch.conv2d:
            features, *others = arguments
            return function(features.to(self.dtype).float(), *others).to(self.dtype).float()
        return function(*arguments, **(options or {}))


def psnr(network: VideoNetwork, lr: Tensor, dtype: torch.dtype) -> float:
    """Of the network with weights and features in that type against itself in float32."""
    wanted = network(lr)
    with Float32Sums():
        got = network.to(dtype)(lr)
    return decibels(got, wanted)


def decibels(got: Tensor, wanted: Tensor) -> float:
    return float(-10 * (got.double() - wanted.double()).square().mean().log10())


@pytest.mark.parametrize("dtype", ENOUGH_DB)
@pytest.mark.parametrize("network", [BasicVSR, IconVSR])
def test_half_precision_costs_little(network: type[BasicVSR | IconVSR], dtype: torch.dtype) -> None:
    edvr = {"edvr_channels": 16} if network is IconVSR else {}
    assert psnr(filled(network(mid_channels=16, num_blocks=2, **edvr)), sequence(5, 34, 40), dtype) >= ENOUGH_DB[dtype]


@pytest.mark.long
@pytest.mark.parametrize("dtype", ENOUGH_DB)
@pytest.mark.parametrize("network", [BasicVSR, IconVSR])
def test_rounded_convolutions_cost_little_at_full_width(network: type[BasicVSR | IconVSR], dtype: torch.dtype) -> None:
    lr, published = sequence(6, 64, 64, seed=1), filled(network())
    wanted = published(lr)
    for parameter in published.parameters():
        parameter.copy_(parameter.to(dtype))
    with RoundedConvolutions(dtype):
        assert decibels(published(lr), wanted) >= ENOUGH_DB[dtype]


@pytest.mark.parametrize("dtype", ENOUGH_DB)
@pytest.mark.parametrize("network", [BasicVSR, IconVSR])
def test_half_frames_give_half_hr(network: type[BasicVSR | IconVSR], dtype: torch.dtype) -> None:
    edvr = {"edvr_channels": 8} if network is IconVSR else {}
    small = filled(network(mid_channels=8, num_blocks=1, **edvr)).to(dtype)
    with Float32Sums():
        assert small(sequence(2, 8, 8).to(dtype)).dtype == dtype


def test_flows_are_float32_whatever_the_weights_are() -> None:
    network = filled(BasicVSR(mid_channels=8, num_blocks=1)).half()
    with Float32Sums():
        assert network.flow(*sequence(2, 32, 32)[0].unsqueeze(1)).dtype == torch.float32
