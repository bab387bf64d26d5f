"""The engine beside the same network in plain float32 PyTorch, and how time grows with frames and pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarking.cases import Case, load_network
from benchmarking.timing import forget_peak, peak_memory, time_interleaved
from tests.vs_iconvsr.networks.deterministic import sequence
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks import edvr
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment


@dataclass(frozen=True)
class Row:
    """One line of the table. psnr_db, speedup: compared with the plain path of the same case.

    cpu_speedup: the same in processor time, which is the better measure when others use the machine too.
    """

    model: str
    size: str
    frames: int
    path: str
    ms_per_frame: float
    fps: float
    gflop_per_s: float
    percent_of_peak: float
    speedup: float
    cpu_speedup: float
    psnr_db: float
    peak_mib: float


def speed_rows(case: Case, device: torch.device, turns: int) -> list[Row]:
    """The plain path of one case and those of the engine."""
    network = load_network(case.model)
    lr = sequence(case.frames, case.height, case.width).to(device)
    plain = load_network(case.model).to(device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        plain(lr[:, : min(case.frames, 5)])
    flop = counter.get_total_flops() / min(case.frames, 5)

    paths = {"plain float32": lambda: run_plain(plain, lr)}
    for name, upscaler in upscalers(network, case, device).items():
        paths[name] = lambda upscaler=upscaler: run_engine(upscaler, lr[0])
    side = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=_peak_type(device)) for _ in range(2))
    spent = time_interleaved({"peak": lambda: a @ b, **paths}, device, turns)
    peak = 2 * side**3 / spent.pop("peak").clock

    reference = run_plain(plain, lr).cpu()
    rows = []
    for name, path in paths.items():
        forget_peak(device)
        hr = path().cpu()
        each = spent[name].clock / case.frames
        rows.append(
            Row(
                model=case.model,
                size=f"{case.width}x{case.height}",
                frames=case.frames,
                path=name,
                ms_per_frame=each * 1e3,
                fps=1 / each,
                gflop_per_s=flop / each / 1e9,
                percent_of_peak=100 * flop / each / peak,
                speedup=spent["plain float32"].clock / spent[name].clock,
                cpu_speedup=spent["plain float32"].cpu / spent[name].cpu,
                psnr_db=psnr(hr, reference),
                peak_mib=peak_memory(device) / 2**20,
            )
        )
    return rows


def psnr(hr: Tensor, reference: Tensor) -> float:
    """In dB, of values in [0, 1]; infinite for equal frames."""
    error = (hr.double() - reference.double()).square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def growth(model: str, device: torch.device, sizes: Sequence[int], lengths: Sequence[int], turns: int) -> dict:
    """Time over frames and over pixels; exponent 1 is linear. On the CPU it is the processor time of all threads."""
    network = load_network(model)
    found: dict = {"model": model}
    for over, cases in (
        ("frames", [Case(model, sizes[0], sizes[0], t) for t in lengths]),
        ("pixels", [Case(model, side, side, lengths[0]) for side in sizes]),
    ):
        paths = {}
        for case in cases:
            upscaler = next(iter(upscalers(network, case, device).values()))
            lr = sequence(case.frames, case.height, case.width)[0].to(device)
            paths[str(case)] = lambda upscaler=upscaler, lr=lr: run_engine(upscaler, lr)
        spent = time_interleaved(paths, device, turns)
        amounts = [case.frames if over == "frames" else case.width * case.height for case in cases]
        times = [spent[str(case)].cpu if device.type == "cpu" else spent[str(case)].clock for case in cases]
        found[over] = {"amount": amounts, "seconds": times, "exponent": exponent(amounts, times)}
    return found


def exponent(amounts: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(amount), by least squares."""
    xs, ys = [math.log(a) for a in amounts], [math.log(v) for v in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def upscalers(network: VideoNetwork, case: Case, device: torch.device) -> dict[str, Upscaler]:
    precisions = ("float32", "float16", "bfloat16") if device.type == "cuda" else ("float32",)
    made = {
        f"engine {precision}": Upscaler(network, device, Shape(case.width, case.height, precision=precision))
        for precision in precisions
    }
    if device.type == "cuda":  # the engine does not do this unless it proves faster
        last = Upscaler(network, device, Shape(case.width, case.height, precision="float16"))
        last.network.to(memory_format=torch.channels_last)
        made["engine float16, weights channels_last"] = last
    return made


def run_plain(network: VideoNetwork, lr: Tensor) -> Tensor:
    """As in the authors' code, with torchvision's deformable convolution on the CPU too."""
    with torch.inference_mode(), mock.patch.object(edvr, "sampled_deform_conv", edvr.torchvision_deform_conv):
        return network(lr)[0]


def run_engine(upscaler: Upscaler, lr: Tensor) -> Tensor:
    return run_segments(upscaler, lr, 0, 0)


def run_segments(upscaler: Upscaler, lr: Tensor, segment: int, context: int) -> Tensor:
    """All hr frames, in segments with context like those of a session; segment 0 is the whole clip."""
    t = len(lr)
    hr = []
    for start in range(0, t, segment or t):
        kept = range(start, min(start + (segment or t), t))
        read = range(max(kept.start - context, 0), min(kept.stop + context, t))
        propagation = upscaler.propagate(Segment(kept, read), lambda n: lr[n], strategy=MemoryStrategy.KEEP)
        while not propagation.finished:
            frame = propagation.step()
            if frame is not None:
                hr.append(frame)
    return torch.stack(hr)


def _peak_type(device: torch.device) -> torch.dtype:
    return torch.float16 if device.type == "cuda" else torch.float32
