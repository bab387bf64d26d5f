"""What happens when memory gets scarce, and a short training run."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarking.driving import fetch
from benchmarking.timing import forget_peak, peak_memory

from gpu_checking.machine import Machine, equal, moving_clip, session_for
from gpu_checking.results import Check, Finding
from tests.vs_iconvsr.networks.deterministic import filled
from vs_iconvsr.engine import MemoryStrategy
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR

ROOT = Path(__file__).parents[2]
TRAINING_S = 240
FEW_STEPS = ("flow.steps=1", "optimiser.steps=2", "watch.log=1", "watch.evaluate=2")
RECIPE = """
network: {architecture: BasicVSR, arguments: {mid_channels: 16, num_blocks: 2, flow_channels: 8}}
data:
  train: train
  held_out: held_out
  train_generator: {seed: 1, clips: 4, frames: 5, size: 128, canvases: 1, canvas_px: 320}
  held_out_generator: {seed: 2, clips: 1, frames: 3, size: 128, canvases: 1, canvas_px: 320}
patches: {batch: 2, frames: 5, patch_px: 16}
flow: {steps: 5, batch: 1, gate: 100.0}
optimiser: {steps: 60, learning_rate: 2.0e-3, warm_up: 2, average: 0.5}
watch: {log: 10, evaluate: 60, save: 20}
"""


def pressure(machine: Machine) -> Iterator[Check]:
    """In three minutes."""
    yield Check("pressure", "out of memory", lambda: check_out_of_memory(machine))
    yield Check("pressure", "memory does not grow", lambda: check_memory(machine))


def training(machine: Machine) -> Iterator[Check]:
    """In two minutes."""
    yield Check("training", "a short run", lambda: check_training(machine))


def check_out_of_memory(machine: Machine) -> Finding:
    """With nearly all memory taken by somebody else the memory strategy changes and the bytes do not."""
    if not machine.is_gpu:
        return Finding(None, "needs a GPU")
    network = filled(BasicVSR(mid_channels=64, num_blocks=2))
    clip = moving_clip(machine, 64, width=640, height=360)
    settings = {"segment": 64, "context": 0}
    with session_for(machine, network, clip, **settings) as session:
        expected = [fetch(session, clip, n) for n in range(len(clip))]
        step = session.plan.working_bytes
    features = 64 * 640 * 360 * 2 * len(clip)
    # Less and less room: at some point the features no longer fit, and a step still does.
    for room in (0.9, 0.7, 0.5, 0.35):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(machine.device)
        taken = torch.empty(max(0, int(free - step - room * features)), dtype=torch.uint8, device=machine.device)
        try:
            with session_for(machine, network, clip, **settings) as session:
                same = all(equal(fetch(session, clip, n), expected[n]) for n in range(len(clip)))
                strategy = session.status.memory_strategy
        finally:
            del taken
        if not same:
            return Finding(False, f"other bytes with room for {room:.0%} of the features")
        if strategy is not MemoryStrategy.KEEP:
            return Finding(True, f"room for {room:.0%} of the features: memory strategy {strategy}, the same bytes")
    return Finding(False, "memory never ran out: nothing was examined")


def check_memory(machine: Machine) -> Finding:
    """The peak of the default plan, 540p to 2160p, in one scene: within the plan, and not growing with the clip."""
    width, height, count = (32, 24, 12) if machine.quick else (960, 540, 90)
    network = filled(IconVSR(mid_channels=8, num_blocks=1, edvr_channels=8) if machine.quick else IconVSR())
    peaks, planned = [], 0.0
    for frames in (count * 2 // 3, count):
        clip = moving_clip(machine, 2, width=width, height=height) * (frames // 2)
        forget_peak(machine.device)
        with session_for(machine, network, clip, segment=30, context=5) as session:
            for n in range(len(clip)):
                fetch(session, clip, n)
            segments = 2 * (30 + 2 * 5) * session.plan.frame_bytes
            planned = (session.plan.working_bytes + segments) / 2**30
        peaks.append(peak_memory(machine.device) / 2**30)
    detail = f"{width}x{height}: {peaks[0]:.2f} GiB for {count * 2 // 3} frames, {peaks[1]:.2f} GiB for {count}"
    figures = {"peaks_gib": peaks, "planned_gib": planned}
    limit = 1.1 * planned + 0.3 if machine.is_gpu else 64.0  # on a CPU it is the whole process, torch included
    ok = peaks[1] <= limit and peaks[1] <= 1.05 * peaks[0] + 0.1
    return Finding(ok, f"{detail}; allowed {limit:.2f}", figures)


def check_training(machine: Machine) -> Finding:
    """A network of a few thousand weights, on generated clips: it steps, saves, and its loss is a number."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "tiny.yaml"
        recipe.write_text(RECIPE)
        run = Path(folder) / "run"
        command = [
            sys.executable, str(ROOT / "scripts" / "train_gpu.py"), str(recipe), "--device", str(machine.device),
            "--data", str(Path(folder) / "data"), "--run", str(run), "--minutes", "2", "--workers", "0",
            *[word for change in (FEW_STEPS if machine.quick else ()) for word in ("--set", change)],
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TRAINING_S)
        lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    if not lines and answer.returncode == 3:
        return Finding(None, "two minutes were too short for the first line of its log")
    if not lines:
        return Finding(False, f"exit code {answer.returncode}: {(answer.stderr or answer.stdout).strip()[-300:]}")
    figures = {key: value for line in lines for key, value in json.loads(line).items()}
    numbers = [value for value in figures.values() if isinstance(value, float)]
    finite = bool(numbers) and all(value == value for value in numbers)
    # Exit code 1: so few steps do not beat bicubic, so that nothing is exported.
    return Finding(finite and answer.returncode in (0, 1, 3), f"exit code {answer.returncode}, {figures}", figures)
