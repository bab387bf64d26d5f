"""Where the features of one tile wait for a later pass, by one of three memory strategies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from vs_iconvsr.engine import memory
from vs_iconvsr.networks.propagation import Pass


class MemoryStrategy(StrEnum):
    """Where features wait for a later pass. Never changes a pixel, only memory and time."""

    KEEP = "keep"  # on the device
    OFFLOAD = "offload"  # in host memory, pinned where the device is CUDA
    RECOMPUTE = "recompute"  # about every √t-th is kept, the others are computed again in blocks


@dataclass(frozen=True)
class FeatureKind:
    """What all features of one store have in common. device: where they are computed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def block_length(passes: Sequence[Pass], t: int) -> int:
    """How many frames apart features are kept to recompute from. All passes share it: their blocks then coincide."""
    return math.isqrt(max(at.order for at in passes) * max(t - 1, 0)) + 1


class FeatureStore:
    """Features of one pass and tile, by the strategy that memory allows.

    needed: how many of them a later pass takes. order: see `Pass`. stride: see `block_length`.
    """

    def __init__(self, strategy: MemoryStrategy, t: int, *, needed: int, order: int, stride: int) -> None:
        self._strategy = strategy
        self._order, self._stride = order, stride
        recomputes = strategy is MemoryStrategy.RECOMPUTE
        on_host = strategy is MemoryStrategy.OFFLOAD
        self._shelf = _Shelf(-(-t // stride) * order if recomputes else needed, on_host=on_host)
        self._block_shelf = _Shelf(stride if recomputes else 0)
        self._stored: dict[int, Tensor] = {}
        self._block: dict[int, Tensor] = {}

    def pinned_bytes(self, kind: FeatureKind) -> int:
        """The pinned host memory that `reserve` will take."""
        if self._strategy is not MemoryStrategy.OFFLOAD or kind.device.type != "cuda":
            return 0
        return memory.pinned_bytes(self._shelf.places, kind.size_bytes)

    def reserve(self, kind: FeatureKind) -> None:
        """Takes the memory for all features that will be put in. Raises what `memory.is_out_of_memory` knows."""
        self._shelf.reserve(kind)
        self._block_shelf.reserve(kind)

    def put(self, i: int, feature: Tensor, *, needed: bool) -> None:
        if self._strategy is MemoryStrategy.RECOMPUTE:
            if i % self._stride < self._order:  # needed or not: a block that ends here starts from it
                self._stored[i] = self._shelf.hold(feature)
        elif needed:
            self._stored[i] = self._shelf.hold(feature)

    def put_missing(self, i: int, feature: Tensor) -> None:
        """A feature of `missing_block`. One computed again is held with its block only."""
        if self._strategy is MemoryStrategy.RECOMPUTE:
            self._block[i] = self._block_shelf.hold(feature)
        else:
            self.put(i, feature, needed=True)

    def get(self, i: int, device: torch.device) -> Tensor | None:
        feature = self._stored.get(i, self._block.get(i))
        return None if feature is None else feature.to(device, non_blocking=True)

    def missing_block(self, i: int, runs: range) -> range:
        """The frames to compute for frame i: all between two stored ones. Forgets the block held before.

        runs: the frames that the pass steps over. Where nothing is recomputed, i alone: a pass without order was not
        there yet.
        """
        if self._strategy is not MemoryStrategy.RECOMPUTE:
            return range(i, i + 1)
        self._block.clear()
        self._block_shelf.clear()
        start = i - i % self._stride
        return range(max(start + self._order, runs.start), min(start + self._stride, runs.stop))


class _Shelf:
    """Room for some features in few large allocations: at once by `reserve`, or as they come.

    Kept one by one, among a step's passing tensors, each leaves a hole of its own size in the process's memory: a
    segment then takes twice what its features are. on_host: in host memory, pinned where the features' device is CUDA.
    """

    PIECE = 8  # features in one allocation on the device: pieces of one size serve one segment after the other

    def __init__(self, places: int, *, on_host: bool = False) -> None:
        self.places = places
        self._on_host = on_host
        self._room: list[Tensor] = []
        self._used = 0

    def reserve(self, kind: FeatureKind) -> None:
        while len(self._room) < self.places:
            self._room += self._piece(kind)

    def hold(self, feature: Tensor) -> Tensor:
        """A copy in the next free place."""
        if self._used == len(self._room):
            self._room += self._piece(FeatureKind(tuple(feature.shape), feature.dtype, feature.device))
        self._used += 1
        return self._room[self._used - 1].copy_(feature)

    def clear(self) -> None:
        """Makes all places free again."""
        self._used = 0

    def _piece(self, kind: FeatureKind) -> list[Tensor]:
        pinned = self._on_host and kind.device.type == "cuda"
        most = memory.pinned_piece(kind.size_bytes) if pinned else self.PIECE
        shape = (min(most, self.places - len(self._room)), *kind.shape)
        if pinned:
            return list(memory.empty_pinned(shape, kind.dtype))
        return list(torch.empty(shape, dtype=kind.dtype, device="cpu" if self._on_host else kind.device))
