"""The worker: one thread, providers in turn, each with its own number of torch threads, an end to it."""

import threading
from collections.abc import Callable

import torch

from vs_iconvsr.engine.worker import Worker, worker_for

CPU = torch.device("cpu")


class Counting:
    """A provider of so many steps, which records the threads that they ran on and how many torch had there."""

    def __init__(self, steps: int, *, threads: int | None = 1, fails: bool = False) -> None:
        self.left = steps
        self.threads = threads
        self.ran_on: set[str] = set()
        self.torch_threads: set[int] = set()
        self.done = threading.Event()
        self.failures: list[BaseException] = []
        self._fails = fails
        if not steps:
            self.done.set()

    def next_step(self) -> Callable[[], None] | None:
        return self._step if self.left else None

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.done.set()

    def _step(self) -> None:
        self.left -= 1
        self.ran_on.add(threading.current_thread().name)
        self.torch_threads.add(torch.get_num_threads())
        if not self.left:
            self.done.set()
        if self._fails:
            raise RuntimeError("a step failed")


def run(worker: Worker, *providers: Counting) -> None:
    for provider in providers:
        worker.attach(provider)
    worker.wake()
    assert all(provider.done.wait(10) for provider in providers)
    for provider in providers:
        worker.detach(provider)


def test_all_steps_of_all_providers_run_on_one_thread() -> None:
    providers = Counting(5), Counting(7)
    run(Worker(CPU), *providers)
    assert len(providers[0].ran_on | providers[1].ran_on) == 1


def test_each_provider_gets_the_torch_threads_that_it_asks_for() -> None:
    """Also when the worker has run before with another number: what a plan prints is what is used."""
    worker = Worker(CPU)
    run(worker, Counting(3, threads=2))
    providers = Counting(20, threads=1), Counting(20, threads=3)
    run(worker, *providers)
    assert [provider.torch_threads for provider in providers] == [{1}, {3}]


def test_the_thread_ends_with_its_last_provider_and_starts_again() -> None:
    worker = Worker(CPU)
    for _ in range(3):
        run(worker, Counting(2))
        thread = next((t for t in threading.enumerate() if t.name == "iconvsr-cpu" and t is worker._thread), None)
        if thread is not None:
            thread.join(10)
        assert worker._thread is None


def test_there_is_no_thread_before_there_is_work() -> None:
    worker, provider = Worker(CPU), Counting(1)
    worker.attach(provider)
    assert worker._thread is None
    worker.wake()
    assert provider.done.wait(10)
    worker.detach(provider)


def test_a_failing_step_does_not_end_the_work_of_others() -> None:
    failing, other = Counting(3, fails=True), Counting(3)
    run(Worker(CPU), failing, other)
    assert {str(error) for error in failing.failures} == {"a step failed"}
    assert (other.left, other.failures) == (0, [])


def test_a_number_of_threads_that_torch_refuses_fails_the_provider_and_not_the_others() -> None:
    refused, other = Counting(1, threads=0), Counting(3)
    run(Worker(CPU), refused, other)
    assert [str(error).split(":")[:2] for error in refused.failures] == [
        ["threads", " expected a number that torch takes, got 0"]
    ] * len(refused.failures)
    assert refused.failures
    assert refused.left == 1
    assert (other.left, other.failures) == (0, [])


def test_detaching_waits_for_the_step_that_runs() -> None:
    worker = Worker(CPU)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Counting):
        def _step(self) -> None:
            self.left -= 1
            begun.set()
            go_on.wait(10)

    provider = Slow(1)
    worker.attach(provider)
    worker.wake()
    assert begun.wait(10)
    detaching = threading.Thread(target=worker.detach, args=(provider,))
    detaching.start()
    detaching.join(0.2)
    assert detaching.is_alive()
    go_on.set()
    detaching.join(10)
    assert not detaching.is_alive()


def test_a_device_has_one_worker_unless_more_are_asked_for() -> None:
    assert worker_for(CPU) is worker_for(CPU)
    assert worker_for(CPU) is not worker_for(CPU, nth=1)
