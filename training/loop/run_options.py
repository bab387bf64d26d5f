"""The means of a run, which change no result: where it computes, how data gets there, when it saves and ends."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

PREFETCH = 2  # batches that each worker has ready


@dataclass(frozen=True)
class Means:
    """What a run may do differently without other results: where it computes, how data gets there, what it shows.

    recompute: features are computed again in the backward pass instead of kept: much less memory, more time, the same
    gradients. until: the moment of time.monotonic() at which a run saves and ends, as after SIGTERM.
    tensorboard: write scalars and pictures for TensorBoard into the run's folder, too.
    """

    device: str = "cpu"
    workers: int = 0
    recompute: bool = False
    until: float = math.inf
    tensorboard: bool = False


class TrainingError(RuntimeError):
    """A run cannot go on; the message says why and what to change."""


class Stopped(Exception):  # noqa: N818  (nothing went wrong)
    """The run was asked to end; what it had is saved, and the same command goes on."""


class Batches[T](Protocol):
    """Batch `step` for any step, as data for `batches`."""

    def __getitem__(self, step: int) -> T: ...


def batches[T](source: Batches[T], steps: range, means: Means) -> Iterator[T]:
    """The batches of these steps in order."""
    if means.workers == 0:
        yield from (source[step] for step in steps)
        return
    yield from torch.utils.data.DataLoader(
        source,  # type: ignore[arg-type]  # it wants less than its type says
        batch_size=None,
        sampler=steps,
        num_workers=means.workers,
        prefetch_factor=PREFETCH,
        multiprocessing_context="forkserver",  # a fork of a process whose torch has threads may hang
    )


@contextlib.contextmanager
def stop_requests(means: Means) -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM or SIGINT has come or the time is up; the handlers before come back."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda got, _: came.append(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(came) or time.monotonic() >= means.until
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
