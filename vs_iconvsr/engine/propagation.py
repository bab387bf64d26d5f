"""One segment on its way through the network: pass after pass, in the last one hr frames one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vs_iconvsr.engine.exact import exact_arithmetic
from vs_iconvsr.engine.features import MemoryStrategy
from vs_iconvsr.engine.memory import Room
from vs_iconvsr.engine.tile_state import TileState, reserve
from vs_iconvsr.engine.tiles import Tile
from vs_iconvsr.networks.propagation import Pass, VideoNetwork
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
    """One segment on its way through the network: pass after pass, in the last one hr frames one by one.

    Each `step` is one step of one tile. `rewind` starts the last pass again; the earlier ones are not repeated.
    Nothing in it points back at it: a segment's features are gone with its last user, not when garbage is collected.

    walks: the passes before the last one that are taken step by step; those without order are made when wanted.
    backward_done: whether they are done, so that hr frames follow. earlier_steps: how many steps that takes.
    """

    def __init__(
        self, tiled: TiledNetwork, segment: Segment, lr_frame: Callable[[int], Tensor], strategy: MemoryStrategy
    ) -> None:
        self.segment = segment
        self.next_kept = segment.kept.start  # the number of the next hr frame
        self.backward_done = False
        self._tiled = tiled
        self._tiles = [TileState(tiled.network, tile, segment, strategy) for tile in tiled.tiles]
        self.walks = [at for at in tiled.network.passes[:-1] if at.order > 0]
        self.earlier_steps = sum(len(tile.spans[at.name].runs) for tile in self._tiles for at in self.walks)
        self._earlier = _earlier_passes(self._tiles, segment, self.walks, lr_frame, tiled.room)
        self._last = _last_pass(self._tiles, segment, tiled)

    @property
    def finished(self) -> bool:
        return self.next_kept == self.segment.kept.stop

    def step(self) -> Tensor | None:
        """Does one step; the hr frame (3, s*h, s*w), float32, unclamped, when the step has completed one.

        The frame's number is `next_kept` before the call. Call it on one thread only, and not when `finished`.
        """
        with torch.inference_mode(), exact_arithmetic():
            if not self.backward_done:
                if next(self._earlier, "done") is None:
                    return None
                self.backward_done = True
            hr = next(self._last)
            if hr is not None:
                self.next_kept += 1
            return hr

    def rewind(self) -> None:
        """Makes the first kept frame the next one again."""
        if self.next_kept == self.segment.kept.start:
            return
        self.next_kept = self.segment.kept.start
        self._last = _last_pass(self._tiles, self.segment, self._tiled)


def _earlier_passes(
    tiles: Sequence[TileState],
    segment: Segment,
    walks: Sequence[Pass],
    lr_frame: Callable[[int], Tensor],
    room: Room,
) -> Iterator[None]:
    """Reads all frames, then takes every walk over as many of them as later passes need."""
    reserve(tiles, room)
    for n in segment.read:
        lr = lr_frame(n)[None]  # float32 in any precision: what is added to lr keeps all its bits
        for tile in tiles:
            tile.add_frame(lr)
    for at in walks:
        for tile in tiles:
            tile.begin_pass()
        for i in at.visits(tiles[0].spans[at.name].runs):
            for tile in tiles:
                tile.step(at, i)
                yield None


def _last_pass(tiles: Sequence[TileState], segment: Segment, tiled: TiledNetwork) -> Iterator[Tensor | None]:
    """Steps up to the last kept frame; an hr frame when its last tile is done."""
    scale, first, last = tiled.network.scale, segment.read.start, tiled.network.passes[-1]
    for tile in tiles:
        tile.begin_pass()
    for n in range(first, segment.kept.start):
        for tile in tiles:
            tile.step(last, n - first)
            yield None
    for n in segment.kept:
        size = (3, scale * tiled.height, scale * tiled.width)
        hr = torch.empty(size, dtype=torch.float32, device=tiled.device)
        for i, tile in enumerate(tiles):
            tile.step(last, n - first)
            tile.paste(hr, n - first)
            yield hr if i + 1 == len(tiles) else None
