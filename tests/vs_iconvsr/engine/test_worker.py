"""The worker: one thread, sources in turn, an end to it."""

import threading
from collections.abc import Callable

import torch

from vs_iconvsr.engine.worker import Worker, worker_for

CPU = torch.device("cpu")


class Counting:
    """A source of so many steps, which notes the threads that they ran on."""

    def __init__(self, steps: int, *, fails: bool = False) -> None:
        self.left = steps
        self.threads: set[str] = set()
        self.order: list[int] = []
        self.done = threading.Event()
        self._fails = fails
        if not steps:
            self.done.set()

    def next_step(self, worker: Worker) -> Callable[[], None] | None:
        del worker
        return self._step if self.left else None

    def _step(self) -> None:
        self.left -= 1
        self.threads.add(threading.current_thread().name)
        if not self.left:
            self.done.set()
        if self._fails:
            raise RuntimeError("a step failed")


def test_all_steps_of_all_sources_run_on_one_thread() -> None:
    worker = Worker(CPU, threads=1)
    sources = [Counting(5), Counting(7)]
    for source in sources:
        worker.attach(source)
    assert all(source.done.wait(10) for source in sources)
    assert len(sources[0].threads | sources[1].threads) == 1
    for source in sources:
        worker.detach(source)


def test_the_thread_ends_with_its_last_source_and_starts_again() -> None:
    worker = Worker(CPU, threads=1)
    for _ in range(3):
        source = Counting(2)
        worker.attach(source)
        assert source.done.wait(10)
        thread = worker._thread
        assert thread is not None
        worker.detach(source)
        thread.join(10)
        assert not thread.is_alive()


def test_a_failing_step_does_not_end_the_work_of_others() -> None:
    worker = Worker(CPU, threads=1)
    failing, working = Counting(3, fails=True), Counting(3)
    worker.attach(failing)
    worker.attach(working)
    assert failing.done.wait(10)
    assert working.done.wait(10)
    worker.detach(failing)
    worker.detach(working)


def test_detaching_waits_for_the_step_that_runs() -> None:
    worker = Worker(CPU, threads=1)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Counting):
        def _step(self) -> None:
            self.left -= 1
            begun.set()
            go_on.wait(10)

    source = Slow(1)
    worker.attach(source)
    assert begun.wait(10)
    detaching = threading.Thread(target=worker.detach, args=(source,))
    detaching.start()
    detaching.join(0.2)
    assert detaching.is_alive()
    go_on.set()
    detaching.join(10)
    assert not detaching.is_alive()


def test_a_device_has_one_worker_unless_more_are_asked_for() -> None:
    assert worker_for(CPU) is worker_for(CPU)
    assert worker_for(CPU) is not worker_for(CPU, nth=1)
