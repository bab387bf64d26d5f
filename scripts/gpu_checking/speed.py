"""How fast it is and what it takes: profile and levers. No speed is required; a path that fails loses only itself."""

from collections.abc import Iterator
from dataclasses import asdict
from unittest import mock

import torch
from benchmarking.cases import ON_CPU, ON_GPU, QUICK, Case, load_network, make_clip
from benchmarking.driving import fetch, open_session, run_session
from benchmarking.speed import speed_rows
from benchmarking.timing import forget_peak, time_interleaved
from levers import Lever, on_a_gpu, on_the_cpu
from torch.profiler import ProfilerActivity, profile

from gpu_checking.machine import Machine, engine_frames, equal
from gpu_checking.results import Check, Finding
from tests.vs_iconvsr.networks.deterministic import sequence
from vs_iconvsr.engine import MemoryStrategy, Upscaler
from vs_iconvsr.plan import Settings, plan_for
from vs_iconvsr.segments import Segment
from vs_iconvsr.streaming import transfer

KERNELS_LISTED = 25


def profiled(machine: Machine) -> Iterator[Check]:
    """In five minutes: memory of a step beside the plan, time of a frame, and where it goes."""
    cases = QUICK if machine.quick else [*ON_GPU, Case("light", 960, 540, 15)] if machine.is_gpu else ON_CPU
    for case in cases:
        size = f"{case.model} {case.width}x{case.height}"
        yield Check("profile", f"memory of a step, {size}", lambda c=case: check_step_memory(machine, c))
        yield Check("profile", f"kernels, {size}", lambda c=case: kernel_table(machine, c))
        yield Check("profile", f"speed, {size}", lambda c=case: measure_speed(machine, c))


def levers(machine: Machine) -> Iterator[Check]:
    """In eight minutes: each lever against what it would replace, in one process and in turns."""
    found = on_a_gpu(machine.device) if machine.is_gpu else on_the_cpu()
    while True:
        try:
            what, plain, others = next(found)
        except StopIteration:
            break
        except Exception as error:
            why = f"{type(error).__name__}: {str(error)[:300]}"
            yield Check("levers", "preparation", lambda why=why: Finding(False, why))
            break
        for name, work in others.items():
            lever = (what, plain, {name: work})
            yield Check("levers", f"{what}: {name}", lambda lever=lever: measure_lever(machine, lever))
        if machine.quick:
            break
    yield Check("levers", "planes to the host beside the next step", lambda: planes_beside(machine))


def planes_beside(machine: Machine) -> Finding:
    """A clip through a session, with and without, in turns; and whether each frame has the same bytes."""
    if not machine.is_gpu:
        return Finding(None, "planes travel from a GPU only")
    case = Case("light", 48, 32, 4) if machine.quick else Case("light", 960, 540, 30)
    network, settings = load_network(case.model), Settings(device=str(machine.device), context=0)
    clip = make_clip(sequence(case.frames, case.height, case.width)[0])

    def run(beside: bool) -> None:
        with mock.patch.object(transfer, "BESIDE", beside):
            run_session(network, settings, clip)

    elapsed = time_interleaved({"plain": lambda: run(False), "beside": lambda: run(True)}, machine.device, 3)
    frames = []
    for beside in (False, True):
        with mock.patch.object(transfer, "BESIDE", beside), open_session(network, settings, clip) as session:
            frames.append([fetch(session, clip, n) for n in range(min(case.frames, 4))])
    same = all(equal(one, other) for one, other in zip(*frames, strict=True))
    ratio = elapsed["plain"].clock / elapsed["beside"].clock
    figures = {"plain_ms": 1e3 * elapsed["plain"].clock / case.frames, "ratio": ratio}
    return Finding(same, f"{ratio:.2f} x plain, {'the same' if same else 'OTHER'} bytes", figures)


def check_step_memory(machine: Machine, case: Case) -> Finding:
    """The peak of any step above what the segment holds; the workspace of libraries is in it."""
    if not machine.is_gpu:
        return Finding(None, "the peak of a step is measured on a GPU only")
    network = load_network(case.model)
    plan = plan_for(Settings(device=str(machine.device)), network, case.width, case.height)
    upscaler = Upscaler(network, machine.device, plan.shape(case.width, case.height))
    lr = sequence(6, case.height, case.width)[0].to(machine.device)
    propagation = upscaler.propagate(Segment(range(6), range(6)), lambda n: lr[n], strategy=MemoryStrategy.KEEP)
    propagation.step()  # it takes the planned memory on purpose
    worst = 0
    while not propagation.finished:
        forget_peak(machine.device)
        propagation.step()
        held = torch.cuda.memory_allocated(machine.device)
        worst = max(worst, torch.cuda.max_memory_allocated(machine.device) - held)
    figures = {"planned_bytes": plan.working_bytes, "measured_bytes": worst, "px": case.width * case.height}
    detail = f"{worst / 2**20:.0f} MiB, planned {plan.working_bytes / 2**20:.0f} MiB"
    return Finding(worst <= plan.working_bytes, detail, figures)


def measure_speed(machine: Machine, case: Case) -> Finding:
    rows = speed_rows(case, machine.device, 1 if machine.quick else 3)
    best = max(rows, key=lambda row: row.speedup)
    broken = [row.path for row in rows if row.psnr_db != row.psnr_db]
    detail = f"{best.path}: {best.ms_per_frame:.1f} ms a frame, {best.speedup:.2f} x plain float32"
    if broken:
        detail = f"NaN by {', '.join(broken)}; {detail}"
    return Finding(not broken, detail, {"rows": [asdict(row) for row in rows]})


def kernel_table(machine: Machine, case: Case) -> Finding:
    """The operations that take most of the device's time, for one segment of six frames, the second time."""
    network = load_network(case.model)
    lr = sequence(2 if machine.quick else 6, case.height, case.width)[0]
    precision = machine.precisions[min(1, len(machine.precisions) - 1)]
    engine_frames(machine, network, lr, precision=precision)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if machine.is_gpu else [])]
    with profile(activities=activities) as profiler:
        engine_frames(machine, network, lr, precision=precision)
    column = "self_device_time_total" if machine.is_gpu else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, column))
    rows = [
        {"name": event.key[:120], "calls": event.count, "us": round(getattr(event, column))}
        for event in events[:KERNELS_LISTED]
    ]
    most = rows[0]
    return Finding(True, f"most time: {most['name']}, {most['us']} us in {most['calls']} calls", {"kernels": rows})


def measure_lever(machine: Machine, lever: Lever) -> Finding:
    what, plain, others = lever
    ((name, work),) = others.items()
    with torch.inference_mode():
        expected = plain().float()
        elapsed = time_interleaved({"plain": plain, name: work}, machine.device, 1 if machine.quick else 5)
        error = work().float() - expected
    difference = float(error.square().mean().sqrt() / expected.square().mean().sqrt())
    ratio = elapsed["plain"].clock / elapsed[name].clock
    figures = {"plain_ms": 1e3 * elapsed["plain"].clock, "ratio": ratio, "difference": difference}
    finite = difference == difference
    return Finding(finite, f"{ratio:.2f} x plain ({what}), difference {difference:.1e}", figures)
