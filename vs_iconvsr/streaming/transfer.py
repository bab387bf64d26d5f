"""hr planes on their way from the device to host memory: at once, or beside the next step."""

import functools

import torch
from torch import cuda

from vs_iconvsr.colorspace import Planes
from vs_iconvsr.engine import memory

BESIDE = False
"""Whether planes travel beside the computation. The bytes are the same; off until a GPU has shown what it gains: see
docs/gpu.md."""


class Arriving:
    """Planes in host memory, perhaps still being filled. Any thread may ask."""

    def __init__(self, planes: Planes, arrived: cuda.Event | None = None) -> None:
        self._planes, self._arrived = planes, arrived

    @property
    def size_bytes(self) -> int:
        """Does not wait."""
        return sum(plane.numel() * plane.element_size() for plane in self._planes)

    def wait(self) -> Planes:
        """The planes, once all of them have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._planes


def to_host(planes: Planes) -> Arriving:
    """planes: of one frame, on its device; they may be forgotten at once."""
    if BESIDE and planes[0].device.type == "cuda":
        try:
            return beside(planes)
        except MemoryError:
            pass  # no more pinned memory: the same bytes, but the device waits for them
    return Arriving(tuple(plane.cpu() for plane in planes))


def beside(planes: Planes) -> Arriving:
    """Begins to copy planes of a CUDA device into pinned memory. Raises MemoryError where that cannot be had."""
    host = _pinned_like(planes)
    side = _side_stream(planes[0].device)
    side.wait_stream(cuda.current_stream(planes[0].device))  # which is still computing them
    with cuda.stream(side):
        for there, plane in zip(host, planes, strict=True):
            there.copy_(plane, non_blocking=True)
            plane.record_stream(side)  # its memory is given to nobody before the copy has read it
    arrived = cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # who waits sleeps
    arrived.record(side)
    return Arriving(host, arrived)


def _pinned_like(planes: Planes) -> Planes:
    """In one allocation, because each is rounded up to a power of two."""
    sizes = [plane.numel() * plane.element_size() for plane in planes]
    pieces = torch.split(memory.empty_pinned((sum(sizes),), torch.uint8), sizes)
    return tuple(piece.view(plane.dtype).view(plane.shape) for piece, plane in zip(pieces, planes, strict=True))


@functools.cache
def _side_stream(device: torch.device) -> cuda.Stream:
    return cuda.Stream(device)  # type: ignore[no-untyped-call]
