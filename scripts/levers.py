"""Single changes that might make the engine faster, each compared with what it would replace; see benchmark.md.

Run: PYTHONPATH=. .venv/bin/python scripts/levers.py [--device cuda:0]. The difference is its root mean square over that
of the result. Times are by the clock, also on a CPU, which must therefore be idle: in processor time a kernel that
leaves a core unused looks as good as one that uses it.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from benchmarking.timing import time_interleaved
from torch import Tensor, nn

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr.networks import edvr, fast, spynet
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.blocks import ResidualBlock, ResidualTrunk
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.spynet import SPyNet
from vs_iconvsr.networks.warp import warp

type Lever = tuple[str, Callable[[], Tensor], dict[str, Callable[[], Tensor]]]

LAST = torch.channels_last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0 (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    fast.is_available()
    device = torch.device(options.device)
    print("| what | plain ms | lever | x plain | difference |\n|---|---|---|---|---|")
    with torch.inference_mode():
        for what, plain, others in on_the_cpu() if device.type == "cpu" else on_a_gpu(device):
            expected = plain().float()
            for name, lever in others.items():
                try:
                    elapsed = time_interleaved({"plain": plain, name: lever}, device, options.turns)
                    error = lever().float() - expected
                except Exception as failure:  # what this torch or device does not support must not stop the rest
                    print(f"| {what} | – | {name} | {type(failure).__name__}: {str(failure)[:80]!r} | – |", flush=True)
                    continue
                difference = error.square().mean().sqrt() / expected.square().mean().sqrt()
                ratio = elapsed["plain"].clock / elapsed[name].clock
                print(
                    f"| {what} | {1e3 * elapsed['plain'].clock:.2f} | {name} | {ratio:.2f} | {difference:.0e} |",
                    flush=True,
                )


def on_the_cpu() -> Iterator[Lever]:
    yield convolution(64, 64, 3, 64, 64)
    yield convolution(64, 64, 3, 180, 320)
    yield convolution(32, 32, 3, 240, 320)
    yield convolution(64, 64, 3, 360, 640)
    yield convolution(32, 64, 7, 96, 96)
    yield trunk(35, 32, 240, 320)
    yield trunk(67, 64, 180, 320)
    yield last_layers()
    yield deformable_convolution()
    yield warping()
    yield both_flows()


def on_a_gpu(device: torch.device) -> Iterator[Lever]:
    """float16, 320x180, IconVSR as published: the parts of a frame, and alternatives for each."""
    parts = GpuParts(device)
    yield parts.backward_step()
    yield parts.trunk()
    yield parts.flows()
    yield parts.flows_both_ways()
    yield parts.four_keyframes()
    yield parts.one_keyframe()
    yield parts.warping()
    yield parts.last_layers()


class GpuParts:
    """What the levers of a GPU have in common. last: the same network, or features, in channels_last."""

    def __init__(self, device: torch.device) -> None:
        self.network, last = (filled(IconVSR()).to(device, torch.float16) for _ in range(2))
        self.last = last.to(memory_format=LAST)
        self.frames = sequence(16, 180, 320)[0].to(device)
        self.frame, self.following = self.frames[:1], self.frames[1:2]
        self.carried = torch.rand(1, 64, 180, 320, device=device, dtype=torch.float16)
        self.carried_last = self.carried.to(memory_format=LAST)

    def backward_step(self) -> Lever:
        plain, last = self._step(self.network, self.carried), self._step(self.last, self.carried_last)
        others = {"channels_last": last, "CUDA graph": captured(plain), "CUDA graph, channels_last": captured(last)}
        return "backward step with its flow", plain, others

    def trunk(self) -> Lever:
        entering = torch.cat([self.frame.to(self.carried.dtype), self.carried], dim=1)
        entering_last = entering.to(memory_format=LAST)
        plain, last = self.network.backward_resblocks, self.last.backward_resblocks
        compiled = torch.compile(plain, dynamic=False)
        fused, fused_last = with_fused_relu(plain), with_fused_relu(last)
        others = {
            "channels_last": lambda: last(entering_last),
            "bias and ReLU in the convolution": lambda: fused(entering),
            "bias and ReLU in the convolution, channels_last": lambda: fused_last(entering_last),
            "torch.compile": lambda: compiled(entering),
            "torch.compile, channels_last": lambda: compiled(entering_last),
            "bfloat16": halved(plain, entering),
        }
        return "trunk of 30 blocks", lambda: plain(entering), others

    def flows(self) -> Lever:
        frames, flow = self.frames, self.network.flow
        others = {
            "as one batch": lambda: flow(frames[:-1], frames[1:]),
            "as one batch, channels_last": lambda: self.last.flow(frames[:-1], frames[1:]),
        }
        plain = lambda: torch.cat([flow(frames[i : i + 1], frames[i + 1 : i + 2]) for i in range(15)])  # noqa: E731
        return "15 flows, one by one", plain, others

    def flows_both_ways(self) -> Lever:
        """The engine takes the batch: it asks for half as many kernels."""

        def both() -> Tensor:
            return torch.cat(self.network.flows(self.frame, self.following))

        def one_by_one() -> Tensor:
            with mock.patch.object(spynet, "ONE_BY_ONE", (self.frame.device.type,)):
                return both()

        return "flows both ways, one after the other", one_by_one, {"as one batch": both}

    def four_keyframes(self) -> Lever:
        windows = torch.stack([self.frames[i : i + 5] for i in range(4)])

        def one_by_one(network: IconVSR) -> Callable[[], Tensor]:
            return lambda: torch.cat([network.refill(windows[i : i + 1]) for i in range(4)])

        others = {"as one batch": lambda: self.network.refill(windows), "channels_last": one_by_one(self.last)}
        return "refill features of four keyframes, one by one", one_by_one(self.network), others

    def one_keyframe(self) -> Lever:
        def plain() -> Tensor:
            return self.network.refill(self.frames[None, :5])

        others = {"CUDA graph": captured(plain), "deformable conv by grid_sample": sampled(plain)}
        return "refill features of one keyframe", plain, others

    def warping(self) -> Lever:
        flow = self.network.flow(self.frame, self.following)

        def plain() -> Tensor:
            return warp(self.carried, flow)

        return "warp of carried features", plain, {"CUDA graph": captured(plain)}

    def last_layers(self) -> Lever:
        def last() -> Tensor:
            return self.last.upsample(self.frame, [self.carried_last])

        others = {"channels_last": last, "CUDA graph, channels_last": captured(last)}
        return "last layers", lambda: self.network.upsample(self.frame, [self.carried]), others

    def _step(self, network: IconVSR, features: Tensor) -> Callable[[], Tensor]:
        def step() -> Tensor:
            flow = network.flow(self.frame, self.following)
            return network.step(
                network.passes[0], self.frame, earlier=[], carried=[features], flows=[flow], refill=None
            )

        return step


class FusedReluBlock(nn.Module):
    """A ResidualBlock whose first convolution adds its bias and takes the ReLU as it writes, by cuDNN."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2

    def forward(self, features: Tensor) -> Tensor:
        conv = self.conv1
        inside = torch.cudnn_convolution_relu(
            features, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        change: Tensor = self.conv2(inside)
        return change.add_(features)


def with_fused_relu(trunk: nn.Module) -> nn.Module:
    """A trunk with the same weights, whose residual blocks are FusedReluBlocks."""
    fused = copy.deepcopy(trunk)
    for module in list(fused.modules()):
        for name, child in module.named_children():
            if isinstance(child, ResidualBlock):
                setattr(module, name, FusedReluBlock(child))
    return fused


def captured(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same kernels, launched as one CUDA graph, which is captured at the first call."""
    held: list[tuple[torch.cuda.CUDAGraph, Tensor]] = []

    def replay() -> Tensor:
        if not held:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    work()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = work()
            held.append((graph, result))
        held[0][0].replay()
        return held[0][1]

    return replay


def halved(trunk: nn.Module, entering: Tensor) -> Callable[[], Tensor]:
    other = copy.deepcopy(trunk).to(torch.bfloat16)
    features = entering.to(torch.bfloat16)
    return lambda: other(features)


def sampled(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def with_sampling() -> Tensor:
        with mock.patch.object(edvr, "torchvision_deform_conv", edvr.sampled_deform_conv):
            return work()

    return with_sampling


def convolution(narrow: int, wide: int, side: int, h: int, w: int) -> Lever:
    conv = nn.Conv2d(narrow, wide, side, padding=side // 2).requires_grad_(False)
    x = torch.rand(1, narrow, h, w)
    half = nn.Conv2d(narrow, wide, side, padding=side // 2).requires_grad_(False)
    half.load_state_dict(conv.state_dict())
    half = half.bfloat16().to(memory_format=LAST)
    last = nn.Conv2d(narrow, wide, side, padding=side // 2).requires_grad_(False)
    last.load_state_dict(conv.state_dict())
    last = last.to(memory_format=LAST)
    quick = fast.FastConv2d(conv)
    x_last, x_half = x.to(memory_format=LAST), x.bfloat16().to(memory_format=LAST)
    others = {
        "channels_last": lambda: last(x_last),
        "bfloat16, channels_last": lambda: half(x_half),
        "fast convolution": lambda: quick(x),
    }
    return f"conv {side}x{side} {narrow}→{wide}, {w}x{h}", lambda: conv(x), others


def trunk(entering: int, channels: int, h: int, w: int) -> Lever:
    plain = ResidualTrunk(entering, channels, num_blocks=5).requires_grad_(False)
    last = copy.deepcopy(plain).to(memory_format=LAST)
    quick = nn.Sequential(copy.deepcopy(plain))
    fast.use_fast_convolutions(quick)
    x = torch.rand(1, entering, h, w)
    x_last = x.to(memory_format=LAST)
    compiled = torch.compile(copy.deepcopy(plain), dynamic=False)
    others = {
        "channels_last": lambda: last(x_last),
        "torch.compile": lambda: compiled(x),
        "fast convolutions, in place": lambda: quick(x),
    }
    return f"trunk of 5 blocks {entering}→{channels}, {w}x{h}", lambda: plain(x), others


def last_layers() -> Lever:
    plain = filled(BasicVSR(num_blocks=1))
    quick = filled(BasicVSR(num_blocks=1))
    fast.use_fast_convolutions(quick)
    frame, features = torch.rand(1, 3, 180, 320), torch.rand(1, 64, 180, 320)
    others = {"fast, in bands": lambda: quick.upsample(frame, [features, features])}
    return "last layers, 320x180", lambda: plain.upsample(frame, [features, features]), others


def deformable_convolution() -> Lever:
    n, h, w = 1, 64, 64
    arguments = (
        torch.randn(n, 64, h, w),
        2 * torch.randn(n, 144, h, w),
        torch.rand(n, 72, h, w),
        torch.randn(64, 64, 3, 3) / 24,
        torch.randn(64),
    )
    others = {"by grid_sample": lambda: edvr.sampled_deform_conv(*arguments)}
    return "deformable conv 64→64, 64x64", lambda: edvr.torchvision_deform_conv(*arguments), others


def warping() -> Lever:
    features, flow = torch.rand(1, 64, 180, 320), torch.zeros(1, 2, 180, 320)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 180), torch.linspace(-1, 1, 320), indexing="ij")
    grid = torch.stack([x, y], dim=-1)[None]
    others = {"a grid that costs nothing": lambda: F.grid_sample(features, grid, align_corners=True)}
    return "warp 64 channels, 320x180", lambda: warp(features, flow), others


def both_flows() -> Lever:
    network = filled(SPyNet())
    fast.use_fast_convolutions(network)
    a, b = sequence(2, 96, 96)[0].split(1)

    def one_by_one() -> Tensor:
        return torch.cat([network(a, b), network(b, a)])

    return (
        "both flows of a pair, 96x96",
        one_by_one,
        {"as one batch": lambda: network(torch.cat([a, b]), torch.cat([b, a]))},
    )


if __name__ == "__main__":
    main()
