"""The device under examination, and small jobs for it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from benchmarking.cases import YUV420P10, make_clip
from benchmarking.driving import Planes, open_session
from torch import Tensor

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from vs_iconvsr.colorspace import Format
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings
from vs_iconvsr.segments import Segment
from vs_iconvsr.streaming import HrFrame, Session


@dataclass(frozen=True)
class Machine:
    """Where the checks run. quick: with tiny networks and sizes, to try the script itself."""

    device: torch.device
    quick: bool

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that the engine takes here."""
        if not self.is_gpu:
            return ("float32",)
        from vs_iconvsr import plan

        half = ("float16", "bfloat16") if plan.has_bfloat16(self.device) else ("float16",)
        return ("float32", *half)


def engine_frames(
    machine: Machine,
    network: VideoNetwork,
    lr: Tensor,
    *,
    precision: str = "float32",
    strategy: MemoryStrategy = MemoryStrategy.KEEP,
    tile: tuple[int, int] = (0, 0),
    halo: int = 0,
) -> Tensor:
    """lr (t, 3, h, w) in [0, 1] → all hr frames of one segment on the CPU, float32, by the engine's own steps."""
    shape = Shape(lr.shape[-1], lr.shape[-2], tile, halo, precision)
    upscaler = Upscaler(network, machine.device, shape)
    segment = Segment(range(len(lr)), range(len(lr)))
    propagation = upscaler.propagate(segment, lambda n: lr[n].to(machine.device), strategy=strategy)
    hr = []
    while not propagation.finished:
        if (made := propagation.step()) is not None:
            hr.append(made.cpu())
    return torch.stack(hr)


def engine_hash(machine: Machine, precision: str) -> str:
    """Of hr frames that every process on this machine must make alike."""
    network, lr = small_network(machine), sequence(2 if machine.quick else 6, 32, 48)[0]
    return hashlib.sha256(engine_frames(machine, network, lr, precision=precision).numpy().tobytes()).hexdigest()


def small_network(machine: Machine) -> VideoNetwork:
    width = 8 if machine.quick else 16
    return filled(IconVSR(mid_channels=width, num_blocks=1, edvr_channels=width))


def moving_clip(machine: Machine, frames: int, *, width: int = 0, height: int = 0) -> list[Planes]:
    """YUV420P8 that moves."""
    width, height = width or (24 if machine.quick else 160), height or (16 if machine.quick else 90)
    clip = make_clip(sequence(2 if width > 320 else frames, height, width)[0])
    return (clip * -(-frames // len(clip)))[:frames]


def session_for(
    machine: Machine,
    network: VideoNetwork,
    clip: Sequence[Planes],
    *,
    target: Format = YUV420P10,
    in_flight: int = 1,
    segment: int = 4,
    context: int = 2,
) -> Session:
    settings = Settings(device=str(machine.device), segment=segment, context=context)
    return open_session(network, settings, clip, target=target, in_flight=in_flight)


def equal(one: HrFrame, other: HrFrame) -> bool:
    same = all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
    return same and one.properties == other.properties
