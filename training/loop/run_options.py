"""Options of a run that do not affect its results: where it computes, how data is loaded, when it stops."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Protocol

import torch

from vs_iconvsr import system

PREFETCH = 2  # batches that each worker keeps ready


@dataclass(frozen=True)
class RunOptions:
    """How a run executes. None of these change its results.

    recompute: recompute features in the backward pass instead of storing them: much less memory, more time, identical
    gradients. until: the value of time.monotonic() at which the run saves and stops, as it does after SIGTERM.
    tensorboard: also write scalars and images for TensorBoard to the run's folder. extend: a finished run may go on
    by a recipe that differs from its own in a larger number of steps.
    """

    device: str = "cpu"
    workers: int = 0
    recompute: bool = False
    until: float = math.inf
    tensorboard: bool = False
    extend: bool = False


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
    loader: torch.utils.data.DataLoader[T] = torch.utils.data.DataLoader(
        source,  # type: ignore[arg-type]  # it needs less than its annotation demands
        batch_size=None,
        sampler=steps,
        num_workers=options.workers,
        prefetch_factor=PREFETCH,
        multiprocessing_context=system.WORKER_START,
        worker_init_fn=_ignore_stop_signals,
    )
    with _deferred_signals():
        batches = iter(loader)
    yield from batches


@contextlib.contextmanager
def _deferred_signals() -> Iterator[None]:
    """Processes started in this block never receive the signals that stop a run; this one gets them at its end.

    A terminal's Ctrl-C and a service manager's SIGTERM reach worker processes, too, but only the run may act on them.
    """
    if system.WORKER_START == "forkserver":
        resource_tracker.ensure_running()  # or it starts in this block and ends the deferral
    with system.signals_blocked(system.STOP_SIGNALS):
        yield


def _ignore_stop_signals(_: int) -> None:
    """For a worker of a fork server that ran before: it has not inherited what _deferred_signals blocks."""
    for number in system.STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def stop_requests(options: RunOptions) -> Iterator[Callable[[], bool]]:
    """A function that returns whether to stop: SIGTERM or SIGINT arrived, or time is up. Restores the old handlers."""
    received: list[int] = []
    previous = {number: signal.signal(number, lambda got, _: received.append(got)) for number in system.STOP_SIGNALS}
    try:
        yield lambda: bool(received) or time.monotonic() >= options.until
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
