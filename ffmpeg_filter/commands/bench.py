"""`iconvsr bench`: how fast this machine upscales frames of a given size, and what a film would take."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from vs_iconvsr import plan, weights
from vs_iconvsr.engine import MemoryStrategy, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Plan, Settings
from vs_iconvsr.segments import Segment

Say = Callable[[str], object]

MEASURED_FRAMES = 6  # one more than the usual distance of keyframes
FILM_MINUTES = 100.0
FILM_FPS = 24.0


@dataclass(frozen=True)
class Speed:
    """What one frame costs in s: each time it is read backwards, read forwards for context only, and kept."""

    backward_s: float
    context_s: float
    kept_s: float

    def frame_s(self, settled: Plan) -> float:
        """Of a kept frame in the middle of a long scene, its share of the context included."""
        if settled.segment == 0:
            return self.backward_s + self.kept_s
        per_kept = settled.context / settled.segment
        return (1 + 2 * per_kept) * self.backward_s + per_kept * self.context_s + self.kept_s


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "bench",
        help="how fast this machine upscales, and with which settings it does so best",
        description="Upscales a few frames of noise with every choice that makes sense here. Decoding and encoding, "
        "which run beside it, are not measured.",
    )
    command.add_argument("--model", action="append", metavar="MODEL", help="name or weight file; may be given again")
    command.add_argument("--size", default="720x480", metavar="WxH", help="of the source (default: %(default)s)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, … (default: %(default)s)")
    command.add_argument("--segment", type=int, help="frames kept from one propagation")
    command.add_argument("--context", type=int, help="frames read on either side of a segment")
    command.add_argument("--threads", type=int, metavar="N", help="threads on the CPU")
    command.add_argument("--memory", type=float, metavar="GIB", help="what the device may use")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when something could be measured."""
    say: Say = options.say
    width, height = _size(options.size)
    given = {name: value for name in ("segment", "context", "threads") if (value := getattr(options, name)) is not None}
    if options.memory is not None:
        given["memory_bytes"] = round(options.memory * plan.GIB)
    asked = replace(Settings(device=options.device), **given)
    for model in options.model or [weights.DEFAULT_MODEL]:
        network = weights.load(model)
        found = {}
        for settings in candidates(asked):
            settled = plan.plan_for(settings, network, width, height)
            each_s = measure(network, settled, width, height).frame_s(settled)
            found[settled.precision] = each_s
            say(f"{model}, {width}x{height}: {told(each_s)}; {settled.describe()}")
        best = min(found, key=found.__getitem__)
        if len(found) > 1:
            say(f"{model}: fastest with --precision {best}")
    return 0


def candidates(asked: Settings) -> list[Settings]:
    """The precisions that the device has fast arithmetic for."""
    on_gpu = plan.devices_named(asked.device)[0].type == "cuda"
    return [replace(asked, precision=precision) for precision in (("float16", "float32") if on_gpu else ("float32",))]


def measure(network: VideoNetwork, settled: Plan, width: int, height: int) -> Speed:
    """Means over a few frames, on the first device of the plan; a first short propagation warms up and is not counted.

    Sets torch's threads for this thread, as the engine's own thread has them.
    """
    torch.set_num_threads(settled.threads)
    device = torch.device(settled.devices[0])
    upscaler = Upscaler(network, device, settled.shape(width, height))
    lr = torch.rand(MEASURED_FRAMES, 3, height, width, generator=torch.Generator().manual_seed(0))
    _propagation_s(upscaler, lr, kept=range(1))
    spent = _propagation_s(upscaler, lr, kept=range(MEASURED_FRAMES // 2, MEASURED_FRAMES))
    return Speed(*(sum(times) / len(times) for times in spent))


def told(each_s: float) -> str:
    """'2.50 fps, a film of 100 minutes at 24 fps in 16.0 hours'."""
    hours = FILM_MINUTES * 60 * FILM_FPS * each_s / 3600
    return f"{1 / each_s:.2f} fps, a film of {FILM_MINUTES:.0f} minutes at {FILM_FPS:.0f} fps in {hours:.1f} hours"


def _propagation_s(
    upscaler: Upscaler, lr: torch.Tensor, *, kept: range
) -> tuple[list[float], list[float], list[float]]:
    """The seconds of every frame backwards, forwards and kept."""
    read = range(kept.stop)
    propagation = upscaler.propagate(
        Segment(kept, read), lambda n: lr[n].to(upscaler.device), strategy=MemoryStrategy.KEEP
    )
    tiles = len(upscaler.tiles)
    first = read.start if upscaler.network.coupled else kept.start
    frames = (read.stop - first, kept.start, len(kept))
    times = [[_steps_s(propagation.step, tiles, upscaler.device) for _ in range(count)] for count in frames]
    return times[0], times[1] or [0.0], times[2]


def _steps_s(step: Callable[[], object], count: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"size: expected WIDTHxHEIGHT, got {text}")
    return int(parts[0]), int(parts[1])
