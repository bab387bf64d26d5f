"""Single changes that might make the CPU path faster, each beside what it would replace; see benchmark.md.

Run: PYTHONPATH=. .venv/bin/python scripts/levers.py. The ratio is of processor time, which other users of the machine
disturb least; the difference is the root mean square over that of the result.
"""

import argparse
from collections.abc import Callable, Iterator

import benchmark
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr.networks import edvr, fast
from vs_iconvsr.networks.spynet import SPyNet
from vs_iconvsr.networks.warp import warp

type Lever = tuple[str, Callable[[], Tensor], dict[str, Callable[[], Tensor]]]

LAST = torch.channels_last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    fast.is_available()
    print("| what | plain ms | lever | x plain in CPU time | difference |\n|---|---|---|---|---|")
    with torch.inference_mode():
        for what, plain, others in levers():
            spent = benchmark.interleaved({"": plain} | others, torch.device("cpu"), options.turns)
            expected = plain().float()
            for name, lever in others.items():
                difference = (lever().float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
                ratio = spent[""].cpu / spent[name].cpu
                print(f"| {what} | {1e3 * spent[''].cpu:.1f} | {name} | {ratio:.2f} | {difference:.0e} |", flush=True)


def levers() -> Iterator[Lever]:
    yield convolution(64, 64, 3, 64, 64)
    yield convolution(64, 64, 3, 180, 320)
    yield convolution(32, 32, 3, 240, 320)
    yield convolution(64, 64, 3, 360, 640)
    yield convolution(32, 64, 7, 96, 96)
    yield residual_block()
    yield deformable_convolution()
    yield warping()
    yield both_flows()


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


def residual_block() -> Lever:
    conv = fast.FastConv2d(nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False))
    x = torch.rand(1, 64, 180, 320)
    in_place = {"activation and sum in place": lambda: conv(F.relu_(conv(x))).add_(x)}
    return "residual block of fast convolutions, 320x180", lambda: x + conv(F.relu(conv(x))), in_place


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
