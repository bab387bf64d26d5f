"""Options of a run that do not affect its results: where it computes, how data is loaded, when it stops."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

PREFETCH = 2  # batches that each worker keeps ready


@dataclass(frozen=True)
class RunOptions:
    """How a run executes. None of these change its results.

    recompute: recompute features in the backward pass instead of storing them: much less memory, more time, identical
    gradients. until: the value of time.monotonic() at which the run saves and stops, as it does after SIGTERM.
    tensorboard: also write scalars and images for TensorBoard to the run's folder.
    """

    device: str = "cpu"
    workers: int = 0
    recompute: bool = False
    until: float = math.inf
    tensorboard: bool = False


class TrainingError(RuntimeError):
    """A run cannot continue; the message gives the reason and what to change."""


class RunStopped(Exception):  # noqa: N818  (not a failure)
    """The run was asked to stop; its state is saved, and the same command resumes it."""


class Batches[T](Protocol):
    """Random access to batches: the batch of any step."""

    def __getitem__(self, step: int) -> T: ...


def load_batches[T](source: Batches[T], steps: range, options: RunOptions) -> Iterator[T]:
    """The batches of these steps in order, prepared by worker processes where options asks for any."""
    if options.workers == 0:
        yield from (source[step] for step in steps)
        return
    yield from torch.utils.data.DataLoader(
        source,  # type: ignore[arg-type]  # it needs less than its annotation demands
        batch_size=None,
        sampler=steps,
        num_workers=options.workers,
        prefetch_factor=PREFETCH,
        multiprocessing_context="forkserver",  # forking a process in which torch has started threads can deadlock
    )


@contextlib.contextmanager
def stop_requests(options: RunOptions) -> Iterator[Callable[[], bool]]:
    """A function that returns whether to stop: SIGTERM or SIGINT arrived, or time is up. Restores the old handlers."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda got, _: received.append(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(received) or time.monotonic() >= options.until
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
