"""One segment on its way through the network: backward branch first, then hr frames one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vs_iconvsr.engine.exact import exact_arithmetic
from vs_iconvsr.engine.features import MemoryStrategy
from vs_iconvsr.engine.memory import Room
from vs_iconvsr.engine.tile_state import TileState, reserve
from vs_iconvsr.engine.tiles import Tile
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment


@dataclass(frozen=True)
class TiledNetwork:
    """A network on a device, the tiles that it takes frames of width x height in, and the memory that it may take."""

    network: VideoNetwork
    device: torch.device
    width: int
    height: int
    tiles: Sequence[Tile]
    room: Room


class Propagation:
    """One segment on its way through the network: backward branch first, then hr frames one by one.

    Each `step` is one step of one tile. `rewind` starts the forward branch again; the backward one is not repeated.
    Nothing in it points back at it: a segment's features are gone with its last user, not when garbage is collected.
    """

    def __init__(
        self, tiled: TiledNetwork, segment: Segment, lr_frame: Callable[[int], Tensor], strategy: MemoryStrategy
    ) -> None:
        self.segment = segment
        self.next_kept = segment.kept.start  # the number of the next hr frame
        self.backward_done = False
        self._tiled = tiled
        self._tiles = [TileState(tiled.network, tile, segment, strategy) for tile in tiled.tiles]
        self._backward = _backward_branch(self._tiles, segment, lr_frame, tiled)
        self._forward = _forward_branch(self._tiles, segment, tiled)

    @property
    def finished(self) -> bool:
        return self.next_kept == self.segment.kept.stop

    def step(self) -> Tensor | None:
        """Does one step; the hr frame (3, s*h, s*w), float32, unclamped, when the step has completed one.

        The frame's number is `next_kept` before the call. Call it on one thread only, and not when `finished`.
        """
        with torch.inference_mode(), exact_arithmetic():
            if not self.backward_done:
                if next(self._backward, "done") is None:
                    return None
                self.backward_done = True
            hr = next(self._forward)
            if hr is not None:
                self.next_kept += 1
            return hr

    def rewind(self) -> None:
        """Makes the first kept frame the next one again."""
        if self.next_kept == self.segment.kept.start:
            return
        for tile in self._tiles:
            tile.rewind()
        self.next_kept = self.segment.kept.start
        self._forward = _forward_branch(self._tiles, self.segment, self._tiled)


def _backward_branch(
    tiles: Sequence[TileState], segment: Segment, lr_frame: Callable[[int], Tensor], tiled: TiledNetwork
) -> Iterator[None]:
    """Steps over all frames read, last first; down to the first kept one only where none before it needs a feature."""
    read = segment.read
    first = read.start if tiled.network.coupled else segment.kept.start
    for n in read:
        lr = lr_frame(n)[None]  # float32 in any precision: what is added to lr keeps all its bits
        for tile in tiles:
            tile.add_frame(lr)
    reserve(tiles, tiled.room)
    for n in reversed(range(first, read.stop)):
        for tile in tiles:
            tile.backward(n - read.start)
            yield None


def _forward_branch(tiles: Sequence[TileState], segment: Segment, tiled: TiledNetwork) -> Iterator[Tensor | None]:
    """Steps up to the last kept frame; an hr frame when its last tile is done."""
    scale, first = tiled.network.scale, segment.read.start
    for n in range(first, segment.kept.start):
        for tile in tiles:
            tile.forward(n - first)
            yield None
    for n in segment.kept:
        hr = torch.empty(3, scale * tiled.height, scale * tiled.width, device=tiled.device)
        for i, tile in enumerate(tiles):
            tile.forward(n - first)
            tile.paste(hr, n - first)
            yield hr if i + 1 == len(tiles) else None
