"""The one thread on which all torch work of a device runs."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Protocol

import torch

logger = logging.getLogger(__name__)


class StepProvider(Protocol):
    """Somebody with work to do on a device. threads: torch's threads for each operation, None to leave them alone."""

    @property
    def threads(self) -> int | None: ...

    def next_step(self) -> Callable[[], None] | None:
        """One small piece of work, or None when there is nothing to do. Must not raise or block."""

    def fail(self, error: BaseException) -> None:
        """Its work has ended: a step that it gave could not be taken, or raised. Must not raise or block."""


class Worker:
    """A thread that takes one step at a time from its providers in turn; ends when the last one detaches.

    Why one: inference mode and the thread count of torch belong to a thread, and the same kernels must meet the same
    batch in any order of requests. Each step runs with as many of torch's threads as its provider says.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._providers: list[StepProvider] = []
        self._changed = threading.Condition()
        self._woken = False
        self._thread: threading.Thread | None = None
        self._running: StepProvider | None = None

    def attach(self, provider: StepProvider) -> None:
        """The provider's steps run from the first `wake` on: nothing that a forked child would lack exists before."""
        with self._changed:
            self._providers.append(provider)

    def detach(self, provider: StepProvider) -> None:
        """Returns when no step of this provider runs any more and none will."""
        with self._changed:
            if provider in self._providers:
                self._providers.remove(provider)
            self._woken = True
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:
                self._changed.wait_for(lambda: self._running is not provider)

    def wake(self) -> None:
        """A provider may have work now."""
        with self._changed:
            if self._thread is None and self._providers:
                # A daemon: an interpreter that exits must not wait for a filter that VapourSynth frees only later.
                self._thread = threading.Thread(target=self._run, name=f"iconvsr-{self.device}", daemon=True)
                self._thread.start()
            self._woken = True
            self._changed.notify_all()

    def _run(self) -> None:
        threads: int | None = None
        while True:
            step, provider = self._wait_for_step()
            if step is None or provider is None:
                return
            try:
                threads = _set_threads(provider.threads, threads)
                step()
            except BaseException as error:  # it is the provider's alone, and must not end others' work
                logger.exception("a step on %s failed", self.device)
                provider.fail(error)
            finally:
                # A segment, with all its features, would be held as long as this thread waits for the next step.
                del step, provider
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _wait_for_step(self) -> tuple[Callable[[], None] | None, StepProvider | None]:
        """The next step and who gave it; None when the last provider has gone."""
        while True:
            with self._changed:
                if not self._providers:
                    self._thread = None
                    return None, None
                self._woken = False
                providers = list(self._providers)
            for provider in providers:
                step = provider.next_step()
                if step is None:
                    continue
                with self._changed:
                    if provider not in self._providers:
                        continue
                    self._running = provider
                    self._providers.remove(provider)
                    self._providers.append(provider)
                return step, provider
            with self._changed:
                self._changed.wait_for(lambda: self._woken or not self._providers)


def _set_threads(wanted: int | None, now: int | None) -> int | None:
    """What torch has from here on, on this thread. Raises ValueError where it refuses."""
    if wanted is None or wanted == now:
        return now
    try:
        torch.set_num_threads(wanted)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"threads: expected a number that torch takes, got {wanted}: {error}") from error
    return wanted


_workers: dict[tuple[int, str, int], Worker] = {}  # the process first: a forked child has none of its parent's threads
_workers_lock = threading.Lock()


def worker_for(device: torch.device, *, nth: int = 0) -> Worker:
    """The worker of a device, the same one for every caller; nth tells several workers of one device apart."""
    with _workers_lock:
        return _workers.setdefault((os.getpid(), str(device), nth), Worker(device))
