"""Planes on their way to host memory beside the computation, on a device that is as early or as late as it may be."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vs_iconvsr.engine import memory
from vs_iconvsr.streaming import transfer

GARBAGE = 250


class Stream(torch.Stream):
    """Work in order. done: how much of it the device has done."""

    def __new__(cls) -> "Stream":
        return super().__new__(cls, stream_id=1, device_index=0, device_type=1)  # record_stream takes no other class

    def __init__(self) -> None:
        self.work: list[Callable[[], object]] = []
        self.done = 0

    def run(self, until: int | None = None) -> None:
        until = len(self.work) if until is None else until
        while self.done < until:
            self.done += 1
            self.work[self.done - 1]()

    def wait_stream(self, other: "Stream") -> None:
        until = len(other.work)
        self.work.append(lambda: other.run(until))


class Event:
    def __init__(self, *, blocking: bool) -> None:
        assert blocking

    def record(self, stream: Stream) -> None:
        self._stream, self._until = stream, len(stream.work)

    def synchronize(self) -> None:
        self._stream.run(self._until)


class Device(TorchDispatchMode):
    """Stands for torch.cuda and its allocator, with memory of the host.

    eager: the side stream does its work as soon as nothing holds it back; otherwise only when somebody waits.
    """

    Event = Event

    def __init__(self, *, eager: bool) -> None:
        super().__init__()
        self.main, self.side = Stream(), Stream()
        self._current: Stream | None = None
        self._eager = eager
        self._recorded: set[int] = set()  # memory that the side stream reads

    def Stream(self, device: torch.device) -> Stream:  # noqa: N802
        del device
        return self.side

    def current_stream(self, device: torch.device) -> Stream:
        del device
        return self.main

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self._current = self._current, stream
        yield
        self._current = before

    def compute(self, value: int, *shape: int) -> Tensor:
        """A plane that the main stream will have filled; once forgotten, its memory is the next computation's."""
        plane = torch.full(shape, GARBAGE, dtype=torch.uint8)
        contents = plane.detach()
        self.main.work.append(lambda: contents.fill_(value))

        def give_to_another() -> None:
            if contents.data_ptr() in self._recorded:
                self.main.wait_stream(self.side)
            self.main.work.append(lambda: contents.fill_(GARBAGE))

        weakref.finalize(plane, give_to_another)
        return plane

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = func._schema.name
        if name == "aten::record_stream":
            self._recorded.add(args[0].data_ptr())
            return None
        if name == "aten::copy_" and self._current is not None:
            there, contents, non_blocking = args[0].detach(), args[1].detach(), args[2]
            assert non_blocking
            self._current.work.append(lambda: there.copy_(contents))
            if self._eager:
                self._current.run()
            return args[0]
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=["early", "late"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    simulated = Device(eager=request.param == "early")
    monkeypatch.setattr(transfer, "cuda", simulated)
    monkeypatch.setattr(
        memory, "empty_pinned", lambda shape, dtype: torch.full(shape, GARBAGE, dtype=torch.uint8).view(dtype)
    )
    transfer._side_stream.cache_clear()
    with simulated:
        yield simulated
    transfer._side_stream.cache_clear()


def test_planes_arrive_as_they_were_computed_though_forgotten_at_once(device: Device) -> None:
    """Copied neither before they are computed nor after their memory serves the next frame."""
    frames = []
    for n in range(3):
        planes = device.compute(10 * n, 4, 6), device.compute(10 * n + 1, 2, 3)
        frames.append(transfer.beside(planes))
        del planes
    device.main.run()  # the device computes as far ahead as it can
    for n, frame in enumerate(frames):
        luma, chroma = frame.wait()
        assert luma.shape == (4, 6)
        assert chroma.shape == (2, 3)
        assert luma.unique().tolist() == [10 * n]
        assert chroma.unique().tolist() == [10 * n + 1]


def test_who_takes_a_frame_waits_for_it(device: Device) -> None:
    frame = transfer.beside((device.compute(7, 2, 2),))
    for _ in range(2):
        assert frame.wait()[0].unique().tolist() == [7]
    assert frame.size_bytes == 4


def test_a_frame_that_nobody_takes_leaves_the_next_alone(device: Device) -> None:
    transfer.beside((device.compute(1, 2, 2),))
    frame = transfer.beside((device.compute(2, 2, 2),))
    device.main.run()
    assert frame.wait()[0].unique().tolist() == [2]


def test_planes_of_wider_samples_share_one_pinned_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(
        memory, "empty_pinned", lambda shape, dtype: sizes.append(shape) or torch.empty(shape, dtype=dtype)
    )
    planes = torch.zeros(3, 5, dtype=torch.uint16), torch.zeros(2, 3, dtype=torch.uint16)
    host = transfer._pinned_like(planes)
    assert [(plane.shape, plane.dtype) for plane in host] == [(plane.shape, plane.dtype) for plane in planes]
    assert sizes == [(2 * (15 + 6),)]


def test_without_pinned_memory_planes_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(planes: tuple[Tensor, ...]) -> transfer.Arriving:
        raise MemoryError(f"pinned host memory for {len(planes)} planes")

    class OnGpu:
        device = torch.device("cuda:0")

        def cpu(self) -> Tensor:
            return torch.ones(2)

    monkeypatch.setattr(transfer, "BESIDE", True)
    monkeypatch.setattr(transfer, "beside", refuse)
    assert transfer.to_host((OnGpu(),)).wait()[0].tolist() == [1, 1]  # type: ignore[arg-type]


def test_planes_of_a_cpu_are_not_copied() -> None:
    plane = torch.zeros(2, 2)
    assert transfer.to_host((plane,)).wait()[0] is plane
