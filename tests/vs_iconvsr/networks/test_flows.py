"""Flows both ways at once: on a CPU the bytes of one after the other, on a GPU for the kernels of one."""

from collections.abc import Callable

import pytest
import torch

from tests.vs_iconvsr.fake_gpu import CUDA, fake_gpu
from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR

NETWORKS: dict[str, Callable[[], VideoNetwork]] = {
    "BasicVSR": lambda: BasicVSR(mid_channels=8, num_blocks=1, flow_channels=4),
    "RealBasicVSR": lambda: RealBasicVSR(mid_channels=8, num_blocks=1, cleaning_blocks=1, flow_channels=4),
    "BasicVSR++ of the same size": lambda: BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=4, scale=1),
    "light": lambda: LightVSR(mid_channels=8, num_blocks=1, flow_channels=8),
}


@pytest.mark.parametrize("size", [(96, 64), (70, 45)])
@pytest.mark.parametrize("name", NETWORKS)
def test_flows_both_ways_are_the_bytes_of_each_alone(name: str, size: tuple[int, int]) -> None:
    network = filled(NETWORKS[name]())
    frame, neighbour = sequence(2, *size)[0].unsqueeze(1)
    with torch.inference_mode():
        there, back = network.flows(frame, neighbour)
        assert not torch.equal(there, back)
        assert torch.equal(there, network.flow(frame, neighbour))
        assert torch.equal(back, network.flow(neighbour, frame))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_computes_both_in_one_batch(name: str) -> None:
    with fake_gpu() as gpu, torch.device(CUDA):
        network = NETWORKS[name]()
        frames = torch.empty(3, 3, 64, 64), torch.empty(3, 3, 64, 64)
        flow = network.flow(*frames)
        alone = gpu.kernels["convolution"]
        gpu.kernels.clear()
        assert [both.shape for both in network.flows(*frames)] == [flow.shape] * 2
        assert gpu.kernels["convolution"] == alone


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_gives_the_flows_of_each_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other devices than a CPU do, on a CPU."""
    network = filled(NETWORKS[name]())
    frame, neighbour = sequence(2, 64, 48)[0].unsqueeze(1)
    with torch.inference_mode():
        expected = network.flows(frame, neighbour)
        monkeypatch.setattr("vs_iconvsr.networks.spynet.ONE_BY_ONE", ())
        found = network.flows(frame, neighbour)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
