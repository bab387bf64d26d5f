"""The one thread on which all torch work of a device runs."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

import torch

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Somebody with work to do on a device."""

    def next_step(self, worker: "Worker") -> Callable[[], None] | None:
        """One small piece of work for this worker, or None when there is nothing to do. Must not raise or block."""


class Worker:
    """A thread that takes one step at a time from its sources in turn; ends when the last one detaches.

    Why one: inference mode and the thread count of torch belong to a thread, and the same kernels must meet the same
    batch in any order of requests. threads: torch's own threads for each operation, None to leave them alone.
    """

    def __init__(self, device: torch.device, threads: int | None) -> None:
        self.device = device
        self._threads = threads
        self._sources: list[Source] = []
        self._changed = threading.Condition()
        self._woken = False
        self._thread: threading.Thread | None = None
        self._running: Source | None = None

    def attach(self, source: Source) -> None:
        with self._changed:
            self._sources.append(source)
            if self._thread is None:
                # A daemon: an interpreter that exits must not wait for a filter that VapourSynth frees only later.
                self._thread = threading.Thread(target=self._run, name=f"iconvsr-{self.device}", daemon=True)
                self._thread.start()
        self.wake()

    def detach(self, source: Source) -> None:
        """Returns when no step of this source runs any more and none will."""
        with self._changed:
            if source in self._sources:
                self._sources.remove(source)
            self._woken = True
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:
                self._changed.wait_for(lambda: self._running is not source)

    def wake(self) -> None:
        """Tells the thread that a source may have work."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while True:
            step = self._wait_for_step()
            if step is None:
                return
            try:
                step()
            except BaseException:  # a source reports its own failures; what comes here must not end the others' work
                logger.exception("a step on %s failed", self.device)
            finally:
                del step  # it holds a segment, with all its features, as long as this thread would wait for the next
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _wait_for_step(self) -> Callable[[], None] | None:
        """The next step; None when the last source has gone."""
        while True:
            with self._changed:
                if not self._sources:
                    self._thread = None
                    return None
                self._woken = False
                sources = list(self._sources)
            for source in sources:
                step = source.next_step(self)
                if step is None:
                    continue
                with self._changed:
                    if source not in self._sources:
                        continue
                    self._running = source
                    self._sources.remove(source)
                    self._sources.append(source)
                return step
            with self._changed:
                self._changed.wait_for(lambda: self._woken or not self._sources)


_workers: dict[tuple[str, int], Worker] = {}
_workers_lock = threading.Lock()


def worker_for(device: torch.device, *, nth: int = 0, threads: int | None = None) -> Worker:
    """The worker of a device, the same one for every caller; nth tells several workers of one device apart."""
    with _workers_lock:
        key = (str(device), nth)
        if key not in _workers:
            _workers[key] = Worker(device, threads)
        return _workers[key]
