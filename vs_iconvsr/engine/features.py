"""Where the features of one tile wait for a later pass, by one of three memory strategies."""

import math
from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor

from vs_iconvsr.networks.propagation import Pass


class MemoryStrategy(StrEnum):
    """Where features wait for a later pass. Never changes a pixel, only memory and time."""

    KEEP = "keep"  # on the device
    OFFLOAD = "offload"  # in host memory, pinned where the device is CUDA
    RECOMPUTE = "recompute"  # about every √t-th is kept, the others are computed again in blocks


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
        self._shelf = _Shelf(-(-t // stride) * order if strategy is MemoryStrategy.RECOMPUTE else needed)
        self._stored: dict[int, Tensor] = {}
        self._block: dict[int, Tensor] = {}
        self._block_shelf = _Shelf(stride)

    def put(self, i: int, feature: Tensor, *, needed: bool) -> None:
        if self._strategy is MemoryStrategy.RECOMPUTE:
            if i % self._stride < self._order:  # needed or not: a block that ends here starts from it
                self._stored[i] = self._shelf.hold(feature)
        elif needed:
            self._stored[i] = self._shelf.hold(feature, on_host=self._strategy is MemoryStrategy.OFFLOAD)

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
        self._block_shelf = _Shelf(self._stride)
        start = i - i % self._stride
        return range(max(start + self._order, runs.start), min(start + self._stride, runs.stop))


class _Shelf:
    """Room for some features in few large allocations.

    Kept one by one, among a step's passing tensors, each leaves a hole of its own size in the process's memory: a
    segment then takes twice what its features are. And pinned memory comes in powers of two (pytorch/pytorch#95823).
    """

    PIECE = 8  # features in one allocation: few enough that the last ones, while empty, are no burden

    def __init__(self, features: int) -> None:
        self._to_come = features
        self._free: list[Tensor] = []

    def hold(self, feature: Tensor, *, on_host: bool = False) -> Tensor:
        """A copy, on the feature's device or in host memory, pinned where the device is CUDA."""
        if not self._free:
            self._free = self._piece(feature, torch.device("cpu") if on_host else feature.device)
        self._to_come -= 1
        return self._free.pop().copy_(feature)

    def _piece(self, feature: Tensor, device: torch.device) -> list[Tensor]:
        count = min(self.PIECE, self._to_come)
        pinned = feature.device.type == "cuda" and device.type == "cpu"
        if pinned:
            one = feature.numel() * feature.itemsize
            count = min((1 << (count * one - 1).bit_length()) // one, self._to_come)
        return list(torch.empty((count, *feature.shape), dtype=feature.dtype, device=device, pin_memory=pinned))
