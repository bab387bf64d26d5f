"""What a GPU must show: the authors' pixels, guarantees 1 and 2, other memory strategies when memory runs out, speed.

Runs from a checkout without installation. Every check runs even if another fails; the exit code is 1 if one failed.
"""

import argparse
import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from benchmarking.cases import ON_CPU, ON_GPU, PROPERTIES, QUICK, YUV420P8, YUV420P10, make_clip
from benchmarking.driving import Planes, fetch, open_session
from benchmarking.report import environment, table
from benchmarking.speed import Row, psnr, speed_rows
from benchmarking.timing import forget_peak, peak_memory
from torch import Tensor

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.networks.goldens import golden
from vs_iconvsr.colorspace import Format
from vs_iconvsr.engine import PRECISIONS, MemoryStrategy
from vs_iconvsr.networks import edvr
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import HrFrame, Session

FLOAT32_TOLERANCE = 5e-5
LEAST_PSNR_DB = {"float16": 60.0, "bfloat16": 45.0}
GOLDENS = {
    "basic_mid16_b2_t6_64x64": (lambda: BasicVSR(mid_channels=16, num_blocks=2), 64, 64),
    "icon_basicsr_feat16_b2_t7_64x64": (lambda: IconVSR(mid_channels=16, num_blocks=2, edvr_channels=16), 64, 64),
    "basic_t6_64x64": (BasicVSR, 64, 64),
    "icon_t6_64x64": (IconVSR, 64, 64),
    "icon_t7_64x80": (IconVSR, 64, 80),
    "icon_pad3_t7_64x64": (lambda: IconVSR(temporal_padding=3), 64, 64),
}
QUICK_GOLDENS = 1


@dataclass(frozen=True)
class CheckResult:
    """One check. ok None: not run, for the reason in detail."""

    check: str
    ok: bool | None
    detail: str
    seconds: float


@dataclass(frozen=True)
class DeviceInfo:
    """Where the checks run, and whether with tiny networks."""

    device: torch.device
    quick: bool

    @property
    def name(self) -> str:
        return str(self.device)


def check_goldens(machine: DeviceInfo, precision: str) -> tuple[bool, str]:
    """The hr frames of the authors' code: float32 by the largest difference, the others by PSNR."""
    worst = 0.0 if precision == "float32" else 1e9
    at = ""
    for name, (build, h, w) in list(GOLDENS.items())[: QUICK_GOLDENS if machine.quick else None]:
        theirs = golden(name)
        lr = sequence(len(theirs["mean"]), h, w, seed=int(theirs["seed"])).to(machine.device, PRECISIONS[precision])
        network = filled(build()).to(machine.device, PRECISIONS[precision])
        with torch.inference_mode():
            hr = network(lr)[0].float().cpu()[..., ::15, ::15]
        probe = torch.from_numpy(theirs["probe"].astype(np.float32))
        if precision == "float32":
            found = (hr - probe).abs().max().item()
            worse = not found <= worst
        else:
            found = psnr(hr, probe)
            worse = not found >= worst
        if worse or not at:
            worst, at = found, name
    if precision == "float32":
        return worst <= FLOAT32_TOLERANCE, f"largest difference {worst:.1e} ({at}), allowed {FLOAT32_TOLERANCE:.0e}"
    return worst >= LEAST_PSNR_DB[
        precision
    ], f"least PSNR {worst:.1f} dB ({at}), expected {LEAST_PSNR_DB[precision]:.0f}"


def check_guarantee_1(machine: DeviceInfo) -> tuple[bool, str]:
    """The same bytes in any order, on any thread, with a cold and a warm store."""
    network, clip = small_network(machine), moving_clip(machine, 9 if machine.quick else 24)
    count = len(clip)
    shuffled = random.Random(0).sample(range(count), count)
    with session_for(machine, network, clip) as session:
        expected = [fetch(session, clip, n) for n in range(count)]
    with session_for(machine, network, clip) as session:
        for n in [*reversed(range(count)), *shuffled]:
            if not equal(fetch(session, clip, n), expected[n]):
                return False, f"frame {n} differs in another order"
    for n in (count - 1, count // 2):
        with session_for(machine, network, clip) as session:
            if not equal(fetch(session, clip, n), expected[n]):
                return False, f"frame {n} alone differs"
    with session_for(machine, network, clip, in_flight=4) as session, ThreadPoolExecutor(4) as pool:
        for n, hr in zip(shuffled, pool.map(lambda n: fetch(session, clip, n), shuffled), strict=True):
            if not equal(hr, expected[n]):
                return False, f"frame {n} differs with four threads"
    return True, f"{count} frames: backwards, shuffled, alone, by four threads: the same bytes"


def check_guarantee_2(machine: DeviceInfo) -> tuple[bool, str]:
    """The filter hands VapourSynth the frames that the command gets; planes go in and out as memory of VapourSynth."""
    from vs_iconvsr import plugin
    from vs_iconvsr.plugin import arguments as plugin_arguments

    network, clip = small_network(machine), moving_clip(machine, 4 if machine.quick else 10)
    with session_for(machine, network, clip, target=YUV420P8) as session:
        expected = [fetch(session, clip, n) for n in range(len(clip))]
    height, width = clip[0][0].shape
    arguments = {"device": [machine.name], "segment": [4], "context": [2]}
    with mock.patch.object(plugin_arguments.weights, "load", return_value=network):
        made = plugin.call("Upscale", (YUV420P8.id, width, height, len(clip)), arguments, 4, lambda *_: None)
    try:
        for n in range(len(clip)):
            missing = made.start(n)
            while missing:
                for k in missing:
                    planes = [as_memory(plane) for plane in clip[k]]
                    made.take(k, planes, {name: [value] for name, value in PROPERTIES.items()}, None)
                missing = made.more(n)
            hr, _, properties = made.finish(n)
            frame = [as_memory(torch.zeros_like(plane)) for plane in hr.planes]
            made.write(hr, frame)
            for (memory, w, h, _), plane in zip(frame, expected[n].planes, strict=True):
                if bytes(memory) != plane.numpy().tobytes() or (h, w) != tuple(plane.shape):
                    return False, f"frame {n} differs between the frontends"
            if properties != expected[n].properties:
                return False, f"properties of frame {n} differ between the frontends"
    finally:
        made.close()
    return True, f"{len(clip)} frames: the filter's planes and properties are the session's"


def check_out_of_memory(machine: DeviceInfo) -> tuple[bool | None, str]:
    """With nearly all memory taken by somebody else the memory strategy changes and the bytes do not."""
    if machine.device.type != "cuda":
        return None, "needs a GPU"
    network = filled(BasicVSR(mid_channels=64, num_blocks=2))
    clip = moving_clip(machine, 64, width=640, height=360)
    settings = {"segment": 64, "context": 0}
    with session_for(machine, network, clip, **settings) as session:
        expected = [fetch(session, clip, n) for n in range(len(clip))]
    features = 64 * 640 * 360 * 2 * len(clip)
    # Less and less room: at some point the features no longer fit, and a step still does.
    for room in (0.9, 0.7, 0.5, 0.35):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(machine.device)
        step = network.working_values * 640 * 360 * 2
        taken = torch.empty(max(0, int(free - step - room * features)), dtype=torch.uint8, device=machine.device)
        try:
            with session_for(machine, network, clip, **settings) as session:
                same = all(equal(fetch(session, clip, n), expected[n]) for n in range(len(clip)))
                strategy = session.status.memory_strategy
        finally:
            del taken
        if not same:
            return False, f"other bytes with room for {room:.0%} of the features"
        if strategy is not MemoryStrategy.KEEP:
            return True, f"room for {room:.0%} of the features: memory strategy {strategy}, the same bytes"
    return False, "memory never ran out: nothing was checked"


def check_memory(machine: DeviceInfo) -> tuple[bool, str]:
    """The peak of the default plan, 540p to 2160p, 90 frames in one scene; more frames must not need more."""
    width, height, count = (32, 24, 12) if machine.quick else (960, 540, 90)
    network = filled(IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8) if machine.quick else IconVSR())
    peaks = []
    for frames in (count * 2 // 3, count):
        clip = moving_clip(machine, 2, width=width, height=height) * (frames // 2)
        forget_peak(machine.device)
        with session_for(machine, network, clip, segment=30, context=5) as session:
            for n in range(len(clip)):
                fetch(session, clip, n)
        peaks.append(peak_memory(machine.device) / 2**30)
    detail = f"{width}x{height}: {peaks[0]:.2f} GiB for {count * 2 // 3} frames, {peaks[1]:.2f} GiB for {count}"
    limit = 8.0 if machine.device.type == "cuda" else 64.0
    return peaks[1] <= limit and peaks[1] <= 1.05 * peaks[0] + 0.1, f"{detail}; allowed {limit:.0f}"


def check_speed(machine: DeviceInfo, rows: list[Row]) -> tuple[bool | None, str]:
    """The table of benchmark.py, for information: no speed is required."""
    cases = QUICK[1:] if machine.quick else ON_GPU if machine.device.type == "cuda" else ON_CPU
    for case in cases:
        rows += speed_rows(case, machine.device, 1 if machine.quick else 3)
    best = max(rows, key=lambda row: row.speedup)
    return True, f"{len(rows)} rows; most: {best.speedup:.2f} x plain float32 ({best.model} {best.size}, {best.path})"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0", help="default: %(default)s; cpu to try the script itself")
    parser.add_argument("--quick", action="store_true", help="tiny networks and sizes")
    parser.add_argument(
        "--limit", type=float, default=500, metavar="S", help="start no check after this time (default: %(default)g)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    machine = DeviceInfo(torch.device(options.device), options.quick)
    if machine.device.type == "cuda" and not torch.cuda.is_available():
        print(
            f"gpu_check: expected a GPU, got none that torch {torch.__version__} can use; "
            "--device cpu tries the script itself"
        )
        return 2
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    has_torchvision = importlib.util.find_spec("torchvision") is not None
    if not has_torchvision:  # our own sampling replaces its deformable convolution
        edvr.torchvision_deform_conv = edvr.sampled_deform_conv

    environment_here = environment(machine.device) | {"torchvision": has_torchvision}
    for key, value in environment_here.items():
        print(f"{key}: {value}")
    rows: list[Row] = []
    checks: dict[str, Callable[[], tuple[bool | None, str]]] = {
        "goldens float32": lambda: check_goldens(machine, "float32"),
        "guarantee 1": lambda: check_guarantee_1(machine),
        "guarantee 2": lambda: check_guarantee_2(machine),
        "out of memory": lambda: check_out_of_memory(machine),
        "speed": lambda: check_speed(machine, rows),
        "memory": lambda: check_memory(machine),
    }
    if machine.device.type == "cuda":
        half = {f"goldens {p}": lambda p=p: check_goldens(machine, p) for p in LEAST_PSNR_DB}
        checks = {"goldens float32": checks["goldens float32"]} | half | checks
    results = run_all(checks, options.limit)
    print("\n".join(table(rows)))
    if options.json:
        found = {
            "machine": environment_here,
            "checks": [asdict(r) for r in results],
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(found, indent=1))
    return int(any(result.ok is False for result in results))


def run_all(checks: dict[str, Callable[[], tuple[bool | None, str]]], limit_s: float) -> list[CheckResult]:
    """Runs one check after the other; a failure is a result like any other. None starts after limit_s."""
    start = time.monotonic()
    results = []
    for name, check in checks.items():
        began = time.monotonic()
        ok: bool | None
        if began - start > limit_s:
            ok, detail = None, "no time left"
        else:
            try:
                ok, detail = check()
            except Exception as error:
                ok, detail = False, f"{type(error).__name__}: {error}"
        results.append(CheckResult(name, ok, detail, time.monotonic() - began))
        word = {True: "ok", False: "FAILED", None: "not run"}[ok]
        print(f"{name}: {word}: {detail} ({results[-1].seconds:.1f} s)", flush=True)
    return results


def small_network(machine: DeviceInfo) -> VideoNetwork:
    width = 8 if machine.quick else 16
    return filled(IconVSR(mid_channels=width, num_blocks=1, edvr_channels=width))


def moving_clip(machine: DeviceInfo, frames: int, *, width: int = 0, height: int = 0) -> list[Planes]:
    """YUV420P8 that moves."""
    width, height = width or (24 if machine.quick else 160), height or (16 if machine.quick else 90)
    clip = make_clip(sequence(2 if width > 320 else frames, height, width)[0])
    return (clip * -(-frames // len(clip)))[:frames]


def session_for(
    machine: DeviceInfo,
    network: VideoNetwork,
    clip: Sequence[Planes],
    *,
    target: Format = YUV420P10,
    in_flight: int = 1,
    segment: int = 4,
    context: int = 2,
) -> Session:
    settings = Settings(device=machine.name, segment=segment, context=context)
    return open_session(network, settings, clip, target=target, in_flight=in_flight)


def equal(one: HrFrame, other: HrFrame) -> bool:
    same = all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
    return same and one.properties == other.properties


def as_memory(plane: Tensor) -> tuple[memoryview, int, int, int]:
    samples = plane.numpy()
    height, width = samples.shape
    return memoryview(samples).cast("B"), width, height, width * samples.itemsize


if __name__ == "__main__":
    sys.exit(main())
