"""Whether the pixels are right: smoke and correctness."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarking.cases import load_network
from benchmarking.speed import psnr
from torch import Tensor

from gpu_checking.guarantees import check_any_order, check_both_frontends
from gpu_checking.machine import Machine, engine_frames, engine_hash, small_network
from gpu_checking.results import Check, Finding, at_least, within
from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.networks.goldens import golden
from vs_iconvsr import colorspace, doctor
from vs_iconvsr.engine import MemoryStrategy
from vs_iconvsr.engine.exact import exact_switches
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import DEFAULT_HALO_PX

FLOAT32_TOLERANCE = 5e-5
LEAST_PSNR_DB = {"float32": 90.0, "float16": 60.0, "bfloat16": 45.0}
GOLDENS: dict[str, tuple[Callable[[], VideoNetwork], int, int]] = {
    "basic_mid16_b2_t6_64x64": (lambda: BasicVSR(mid_channels=16, num_blocks=2), 64, 64),
    "icon_basicsr_feat16_b2_t7_64x64": (lambda: IconVSR(mid_channels=16, num_blocks=2, edvr_channels=16), 64, 64),
    "basic_t6_64x64": (BasicVSR, 64, 64),
    "icon_t6_64x64": (IconVSR, 64, 64),
    "icon_t7_64x80": (IconVSR, 64, 80),
    "icon_pad3_t7_64x64": (lambda: IconVSR(temporal_padding=3), 64, 64),
}
FIRST_GOLDEN = next(iter(GOLDENS))
PATTERN_PX = (90, 70)


def smoke(machine: Machine) -> Iterator[Check]:
    """In two minutes: whether anything works at all."""

    def check(name: str, run: Callable[[], Finding]) -> Check:
        return Check("smoke", name, run)

    yield check("float16 gives numbers", lambda: check_half(machine))
    yield check("switches", lambda: check_switches(machine))
    for precision in machine.precisions:
        yield check(f"golden {precision}", lambda p=precision: check_golden(machine, FIRST_GOLDEN, p))
    yield check("light", lambda: check_light(machine, machine.precisions[min(1, len(machine.precisions) - 1)]))


def correctness(machine: Machine) -> Iterator[Check]:
    """In six minutes: every promise about pixels."""

    def check(name: str, run: Callable[[], Finding]) -> Check:
        return Check("correctness", name, run)

    names = list(GOLDENS)[: 2 if machine.quick else None]
    for precision in machine.precisions:
        for name in names:
            yield check(f"golden {name} {precision}", lambda n=name, p=precision: check_golden(machine, n, p))
        yield check(f"memory strategies {precision}", lambda p=precision: check_strategies(machine, p))
        yield check(f"second process {precision}", lambda p=precision: check_second_process(machine, p))
        yield check(f"light {precision}", lambda p=precision: check_light(machine, p))
        yield check(f"tiles {precision}", lambda p=precision: check_tiles(machine, p))
    yield check("any order of requests", lambda: check_any_order(machine))
    yield check("both frontends", lambda: check_both_frontends(machine))
    for target in ("YUV", "RGB"):
        yield check(f"conversion to {target}", lambda t=target: check_conversion(machine, t))


def check_half(machine: Machine) -> Finding:
    if not machine.is_gpu:
        return Finding(None, "half precision is for GPUs")
    return within(doctor.half_precision_error(machine.device), doctor.HALF_TOLERANCE, "convolutions differ by")


def check_switches(machine: Machine) -> Finding:
    """Asserted while the engine steps, with another user of torch who wants the opposite; never set here for good."""
    network = small_network(machine)
    seen: list[bool] = []

    class Watched(type(network)):  # type: ignore[misc]
        def upsample(self, frame: Tensor, features: Sequence[Tensor]) -> Tensor:
            seen.append(all(getattr(owner, name) == value for owner, name, value in exact_switches()))
            upsampled: Tensor = super().upsample(frame, features)
            return upsampled

    network.__class__ = Watched
    torch.backends.cudnn.benchmark = True
    try:
        engine_frames(machine, network, sequence(2, 32, 32)[0])
        kept = torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = False
    return Finding(
        bool(seen) and all(seen) and kept, f"set in {sum(seen)} of {len(seen)} steps; others' given back: {kept}"
    )


def check_golden(machine: Machine, name: str, precision: str) -> Finding:
    """The hr frames of the authors' code, by the engine: float32 by the largest difference, the others by PSNR."""
    build, h, w = GOLDENS[name]
    theirs = golden(name)
    lr = sequence(len(theirs["mean"]), h, w, seed=int(theirs["seed"]))[0]
    hr = engine_frames(machine, filled(build()), lr, precision=precision)[..., ::15, ::15]
    probe = torch.from_numpy(theirs["probe"].astype(np.float32))
    if precision == "float32":
        return within(largest_difference(hr, probe), FLOAT32_TOLERANCE, "largest difference")
    return at_least(decibels(hr, probe), LEAST_PSNR_DB[precision], "PSNR")


def check_strategies(machine: Machine, precision: str) -> Finding:
    network, lr = small_network(machine), sequence(4 if machine.quick else 12, 32, 48)[0]
    kept = engine_frames(machine, network, lr, precision=precision)
    if not kept.isfinite().all():
        return Finding(False, "NaN or infinity in hr frames")
    for strategy in (MemoryStrategy.OFFLOAD, MemoryStrategy.RECOMPUTE):
        if not torch.equal(engine_frames(machine, network, lr, precision=precision, strategy=strategy), kept):
            return Finding(False, f"{strategy} gives other bytes than keep")
    return Finding(True, "keep, offload and recompute give the same bytes")


def check_second_process(machine: Machine, precision: str) -> Finding:
    script = Path(__file__).parents[1] / "gpu_check.py"
    quick = ["--quick"] if machine.quick else []
    command = [sys.executable, str(script), "hash", "--device", str(machine.device), "--precision", precision, *quick]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return Finding(False, f"the second process failed: {answer.stderr.strip()[-300:]}")
    same = answer.stdout.split()[-1] == engine_hash(machine, precision)
    return Finding(same, "a second process makes the same bytes" if same else "a second process makes other bytes")


def check_light(machine: Machine, precision: str) -> Finding:
    """The bundled network beside itself on the CPU in float32."""
    lr = sequence(3, 32, 48)[0] if machine.quick else sequence(8, 180, 320)[0]
    network = load_network("light")
    expected = engine_frames(Machine(torch.device("cpu"), machine.quick), network, lr)
    hr = engine_frames(machine, network, lr, precision=precision)
    return at_least(decibels(hr, expected), LEAST_PSNR_DB[precision], "PSNR to the CPU's float32")


def check_tiles(machine: Machine, precision: str) -> Finding:
    """At the default halo a joint differs from the whole frame by less than a code value of 8 bits."""
    lr = sequence(4, 72, 160)[0]
    network = load_network("light")
    whole = engine_frames(machine, network, lr, precision=precision)
    tiled = engine_frames(machine, network, lr, precision=precision, tile=(80, 0), halo=DEFAULT_HALO_PX)
    return within(largest_difference(tiled, whole), 1 / 255, "largest difference")


def check_conversion(machine: Machine, family: str) -> Finding:
    """Planes from a device are those of the CPU within one code value, and in nearly all samples equal."""
    is_rgb = family == "RGB"
    target = colorspace.Format(family, "integer", 10, *((0, 0) if is_rgb else (1, 1)))
    color = colorspace.Colorimetry(matrix=0 if is_rgb else 1, full_range=is_rgb)
    rgb = sequence(1, PATTERN_PX[1], PATTERN_PX[0])[0, 0]
    expected = colorspace.from_rgb(rgb, target, color)
    planes = colorspace.from_rgb(rgb.to(machine.device), target, color)
    differences = [(a.cpu().int() - b.int()).abs() for a, b in zip(planes, expected, strict=True)]
    share = sum(int((d > 0).sum()) for d in differences) / sum(d.numel() for d in differences)
    largest = max(int(d.max()) for d in differences)
    return Finding(largest <= 1 and share < 0.01, f"{share:.2%} of the samples differ, by at most {largest}")


def largest_difference(hr: Tensor, expected: Tensor) -> float:
    """NaN where either has one: max() of a tensor hands it on, max() of Python does not."""
    return float((hr - expected).abs().max())


def decibels(hr: Tensor, expected: Tensor) -> float:
    """PSNR; NaN where hr has one."""
    return psnr(hr, expected) if hr.isfinite().all() else math.nan
