"""`iconvsr bench`: how fast this machine upscales frames of a given size, and how long a film would take."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ffmpeg_filter.commands.arguments import add_option, help_with_default, settings_from
from vs_iconvsr import options as upscaling
from vs_iconvsr import plan, weights
from vs_iconvsr.engine import MemoryStrategy, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Plan, Settings
from vs_iconvsr.segments import Segment

PrintLine = Callable[[str], object]

MEASURED_FRAMES = 6  # one more than the usual distance of keyframes
FILM_MINUTES = 100.0
FILM_FPS = 24.0


@dataclass(frozen=True)
class Speed:
    """Seconds for one frame: in all earlier passes, in the last one as context, in the last one as kept."""

    earlier_s: float
    context_s: float
    kept_s: float

    def frame_s(self, settled: Plan) -> float:
        """Seconds for a kept frame in the middle of a long scene, its share of the context included."""
        if settled.segment == 0:
            return self.earlier_s + self.kept_s
        per_kept = settled.context / settled.segment
        return (1 + 2 * per_kept) * self.earlier_s + per_kept * self.context_s + self.kept_s


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "bench",
        help="measure how fast this machine upscales, and with which settings",
        description="Upscales a few frames of noise with each precision that makes sense on this device. Decoding and "
        "encoding, which run in parallel, are not measured.",
    )
    add_option(command, upscaling.MODEL, action="append", help=_MODEL_HELP)
    command.add_argument("--size", default="720x480", metavar="WxH", help="size of the source (default: %(default)s)")
    for option in (upscaling.DEVICE, upscaling.SEGMENT, upscaling.CONTEXT, upscaling.THREADS, upscaling.MEMORY):
        add_option(command, option)
    command.set_defaults(run=run)


_MODEL_HELP = help_with_default(f"{upscaling.MODEL.help}; may be repeated", upscaling.MODEL.default)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when something could be measured."""
    print_line: PrintLine = options.print_line
    width, height = _size(options.size)
    requested = settings_from(options)
    for model in options.model or [upscaling.MODEL.default]:
        network = weights.load(model)
        frame_times_s = {}
        for settings in candidates(requested):
            settled = plan.plan_for(settings, network, width, height)
            frame_s = measure(network, settled, width, height).frame_s(settled)
            frame_times_s[settled.precision] = frame_s
            print_line(f"{model}, {width}x{height}: {describe_speed(frame_s)}; {settled.describe()}")
        if len(frame_times_s) > 1:
            print_line(f"{model}: fastest with --precision {min(frame_times_s, key=frame_times_s.__getitem__)}")
    return 0


def candidates(requested: Settings) -> list[Settings]:
    """The settings with each precision that the device has fast arithmetic for."""
    on_gpu = plan.devices_named(requested.device)[0].type == "cuda"
    return [
        replace(requested, precision=precision) for precision in (("float16", "float32") if on_gpu else ("float32",))
    ]


def measure(network: VideoNetwork, settled: Plan, width: int, height: int) -> Speed:
    """Averages over a few frames on the first device of the plan, after a short propagation that only warms up.

    Sets torch's thread count for this thread, as the engine's own thread has it.
    """
    torch.set_num_threads(settled.threads)
    device = torch.device(settled.devices[0])
    upscaler = Upscaler(network, device, settled.shape(width, height))
    lr = torch.rand(MEASURED_FRAMES, 3, height, width, generator=torch.Generator().manual_seed(0))
    _propagation_s(upscaler, lr, kept=range(1))
    times_s = _propagation_s(upscaler, lr, kept=range(MEASURED_FRAMES // 2, MEASURED_FRAMES))
    return Speed(*(sum(times) / len(times) for times in times_s))


def describe_speed(frame_s: float) -> str:
    """'2.50 fps, a film of 100 minutes at 24 fps in 16.0 hours'."""
    hours = FILM_MINUTES * 60 * FILM_FPS * frame_s / 3600
    return f"{1 / frame_s:.2f} fps, a film of {FILM_MINUTES:.0f} minutes at {FILM_FPS:.0f} fps in {hours:.1f} hours"


def _propagation_s(
    upscaler: Upscaler, lr: torch.Tensor, *, kept: range
) -> tuple[list[float], list[float], list[float]]:
    """Seconds for each frame: in the earlier passes, in the last one as context, in the last one as kept."""
    read = range(kept.stop)
    propagation = upscaler.propagate(
        Segment(kept, read), lambda n: lr[n].to(upscaler.device), strategy=MemoryStrategy.KEEP
    )
    tiles = len(upscaler.tiles)
    frames = (propagation.earlier_steps // tiles, kept.start, len(kept))
    times = [[_steps_s(propagation.step, tiles, upscaler.device) for _ in range(count)] for count in frames]
    walks = len(propagation.walks)
    return [walks * time_s for time_s in times[0]], times[1] or [0.0], times[2]


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
