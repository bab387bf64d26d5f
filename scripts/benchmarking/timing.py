"""Time by the clock and of the processors, and peak memory."""

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Elapsed:
    """How long something took, in seconds: by the clock, and in processor time."""

    clock: float = math.inf
    cpu: float = math.inf


def time_interleaved(paths: Mapping[str, Callable[[], Tensor]], device: torch.device, turns: int) -> dict[str, Elapsed]:
    """The best time of each path over all turns, taken in turns; on a GPU after a warm-up turn."""
    best = {name: Elapsed() for name in paths}
    for turn in range(turns + (device.type == "cuda")):
        for name, path in paths.items():
            wait(device)
            start, cpu_start = time.perf_counter(), time.process_time()
            path()
            wait(device)
            clock, cpu = time.perf_counter() - start, time.process_time() - cpu_start
            if turn >= (device.type == "cuda"):
                best[name] = Elapsed(min(best[name].clock, clock), min(best[name].cpu, cpu))
    return best


def measure(work: Callable[[], object]) -> Elapsed:
    """How long the work takes, including the processor time of child processes."""
    start, cpu_start = time.perf_counter(), cpu_s()
    work()
    return Elapsed(time.perf_counter() - start, cpu_s() - cpu_start)


def cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """In bytes: on a GPU since the last `forget_peak`, on the CPU of the whole process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
