"""The machine, the table and the plot."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import vs_iconvsr
from benchmarking.speed import Row
from vs_iconvsr.engine import uses_fast_convolutions


def environment(device: torch.device) -> dict[str, str | int]:
    """What the figures depend on: device, threads, load, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": name,
        "kind": device.type,
        "threads": torch.get_num_threads(),
        "load": f"{load():.1f}",
        "fast_convolutions": uses_fast_convolutions(device, torch.float32),
        "vs_iconvsr": vs_iconvsr.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cuda": str(torch.version.cuda),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| model | lr size | frames | path | ms/frame | fps | GFLOP/s | % of peak | x plain | in CPU time | PSNR dB "
        "| peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {r.size} | {r.frames} | {r.path} | {r.ms_per_frame:.1f} | {r.fps:.2f} | {r.gflop_per_s:.0f} "
        f"| {r.percent_of_peak:.0f} | {r.speedup:.2f} | {r.cpu_speedup:.2f} | {r.psnr_db:.1f} | {r.peak_mib:.0f} |"
        for r in rows
    ]
    return lines


def plot(path: Path, grown: dict) -> None:
    """Time per frame and per pixel as bars; bars of equal height mean linear growth."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (760, 320), "white")
    draw = ImageDraw.Draw(image)
    for i, over in enumerate(("frames", "pixels")):
        measured, left = grown[over], 20 + 380 * i
        each = [s / a for s, a in zip(measured["seconds"], measured["amount"], strict=True)]
        draw.text(
            (left, 10), f"{grown['model']}: time per {over[:-1]}; time ~ {over}^{measured['exponent']:.2f}", "black"
        )
        for k, (amount, value) in enumerate(zip(measured["amount"], each, strict=True)):
            x, top = left + 90 * k, 270 - round(210 * value / max(each))
            draw.rectangle((x, top, x + 60, 270), fill=(70, 110, 180))
            draw.text((x, 275), f"{amount} {over}\n{1e6 * value:.4g} us", "black")
    image.save(path)


def processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def load() -> float:
    return os.getloadavg()[0]
