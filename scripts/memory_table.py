"""Memory of every network for frames of one size, as the plan counts it: the tables of docs/memory.md.

    .venv/bin/python scripts/memory_table.py                        # 960x540, 30 frames kept and 10 of context
    .venv/bin/python scripts/memory_table.py --measure 96x64        # beside it, what a CPU really takes at that size
    .venv/bin/python scripts/memory_table.py --time 64x64           # beside it, processor time for each frame

Measured is the peak above the start of a process of one thread, with one residual block in place of all: the number of
blocks costs time, not memory. Time is that of the whole network with made-up weights.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.engine.features import block_length
from vs_iconvsr.engine.passes import flows_are_shared
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR
from vs_iconvsr.plan import Settings, plan_for
from vs_iconvsr.segments import Segment

MIB, GIB = 2**20, 2**30
NETWORKS: dict[str, tuple[type[VideoNetwork], dict[str, int]]] = {
    "light": (LightVSR, {}),
    "BasicVSR": (BasicVSR, {}),
    "RealBasicVSR": (RealBasicVSR, {}),
    "IconVSR": (IconVSR, {}),
    "BasicVSR++, 64 channels": (BasicVSRPlusPlus, {}),
    "BasicVSR++, 128 channels": (BasicVSRPlusPlus, {"mid_channels": 128, "num_blocks": 25}),
    "BasicVSR++, 128 channels, same size": (BasicVSRPlusPlus, {"mid_channels": 128, "num_blocks": 25, "scale": 1}),
}


@dataclass(frozen=True)
class Need:
    """Bytes of one step, of the features of a segment that are kept, and of those held while recomputing."""

    step: int
    kept: int
    recomputed: int


def need(network: VideoNetwork, width: int, height: int, *, frames: int, value_bytes: int = 4) -> Need:
    """value_bytes: of a feature, 2 on a GPU; lr and hr frames are float32 everywhere."""
    plan = plan_for(Settings(device="cpu", tile=(0, 0)), network, width, height)
    px = network.padded_side(width) * network.padded_side(height)
    lr_bytes, flow_bytes = 12 * px, 4 * network.stored_flow_values * px
    hr_bytes = 12 * width * height * network.scale**2
    features = (plan.frame_bytes - lr_bytes - flow_bytes) * value_bytes // 4
    both_ways = (
        flow_bytes if flows_are_shared(network.passes) else 2 * flow_bytes
    )  # what is recomputed takes them again
    stride, earlier = block_length(network.passes, frames), network.passes[:-1]
    held = sum(math.ceil(frames / stride) * at.order + stride for at in earlier) / len(earlier)
    return Need(
        step=(plan.working_bytes - hr_bytes) * value_bytes // 4 + hr_bytes,
        kept=frames * (features + lr_bytes + flow_bytes),
        recomputed=round(held * features) + frames * (lr_bytes + both_ways),
    )


def table(width: int, height: int, frames: int) -> Iterator[str]:
    yield "| network | one step, float16 | features, float16 | one step, float32 | features, float32 | recomputed |"
    yield "|---|---|---|---|---|---|"
    for name, (kind, arguments) in NETWORKS.items():
        with torch.device("meta"):
            network = kind(**arguments)
        half, single = (need(network, width, height, frames=frames, value_bytes=value_bytes) for value_bytes in (2, 4))
        sizes = (half.step, half.kept, single.step, single.kept, single.recomputed)
        yield f"| {name} | " + " | ".join(f"{size / GIB:.2f} GiB" for size in sizes) + " |"


def measured_table(width: int, height: int, frames: int) -> Iterator[str]:
    yield "| network | planned, kept | measured, kept | planned, recomputed | measured, recomputed |"
    yield "|---|---|---|---|---|"
    for name in NETWORKS:
        network = _narrow(name)
        planned = need(network, width, height, frames=frames)
        sizes = [
            planned.step + planned.kept,
            _peak_in_a_process(name, width, height, frames, MemoryStrategy.KEEP),
            planned.step + planned.recomputed,
            _peak_in_a_process(name, width, height, frames, MemoryStrategy.RECOMPUTE),
        ]
        yield f"| {name} | " + " | ".join(f"{size / MIB:.0f} MiB" for size in sizes) + " |"


def timed_table(width: int, height: int, frames: int) -> Iterator[str]:
    """All of `frames` are kept: context comes on top, 10 frames for every segment of 30."""
    yield "| network | processor time per frame |"
    yield "|---|---|"
    for name, (kind, arguments) in NETWORKS.items():
        network = kind(**arguments).eval().requires_grad_(False)
        _upscale(network, width, height, 1, MemoryStrategy.KEEP)  # what only the first call takes
        begun = time.process_time()
        _upscale(network, width, height, frames, MemoryStrategy.KEEP)
        yield f"| {name} | {(time.process_time() - begun) / frames:.2f} s |"


def _narrow(name: str) -> VideoNetwork:
    kind, arguments = NETWORKS[name]
    blocks = {"num_blocks": 1} | ({"cleaning_blocks": 1} if kind is RealBasicVSR else {})
    return kind(**{**arguments, **blocks}).eval().requires_grad_(False)


def _peak_in_a_process(name: str, width: int, height: int, frames: int, strategy: MemoryStrategy) -> int:
    words = ["--peak", name, "--measure", f"{width}x{height}", "--frames", str(frames), "--strategy", strategy]
    ran = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    return int(ran.stdout)


def _peak(name: str, width: int, height: int, frames: int, strategy: MemoryStrategy) -> int:
    torch.set_num_threads(1)
    network = _narrow(name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _resident("VmRSS")
    _upscale(network, width, height, frames, strategy)
    return _resident("VmHWM") - before


def _upscale(network: VideoNetwork, width: int, height: int, frames: int, strategy: MemoryStrategy) -> None:
    upscaler = Upscaler(network, torch.device("cpu"), Shape(width, height))
    still = torch.rand(3, height, width)
    segment = Segment(range(frames), range(frames))
    propagation = upscaler.propagate(segment, lambda n: still.roll(n, dims=2), strategy=strategy)
    while not propagation.finished:
        propagation.step()


def _resident(of: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(of))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", type=_size, default=(960, 540), metavar="WxH")
    options.add_argument("--frames", type=int, default=40, metavar="N", help="frames read for one segment")
    options.add_argument("--measure", type=_size, metavar="WxH", help="measure at this size, too")
    options.add_argument("--time", type=_size, metavar="WxH", help="time at this size, too")
    options.add_argument("--peak", help=argparse.SUPPRESS)
    options.add_argument("--strategy", type=MemoryStrategy, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.peak:
        print(_peak(given.peak, *given.measure, given.frames, given.strategy))
        return 0
    print("\n".join(table(*given.size, given.frames)))
    for size, measured in ((given.measure, measured_table), (given.time, timed_table)):
        if size:
            print()
            for line in measured(*size, given.frames):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
