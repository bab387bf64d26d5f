"""The recurrent state of one tile of a segment."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vs_iconvsr.engine import memory
from vs_iconvsr.engine.features import FeatureKind, FeatureStore, MemoryStrategy
from vs_iconvsr.engine.tiles import Tile
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment


class TileState:
    """The recurrent state of one tile. Frames are numbered from the first read one."""

    def __init__(self, network: VideoNetwork, tile: Tile, segment: Segment, strategy: MemoryStrategy) -> None:
        t = len(segment.read)
        self._network = network
        self._tile = tile
        self._length = t
        self._needed = range(
            0 if network.coupled else segment.kept.start - segment.read.start, segment.kept.stop - segment.read.start
        )
        self._keyframes = set(network.keyframes(t))
        self._frames: list[Tensor] = []
        self._features = FeatureStore(strategy, t, needed=len(self._needed))
        self._refill: dict[int, Tensor] = {}
        self._carried_back: Tensor | None = None
        self._carried: Tensor | None = None

    def add_frame(self, lr: Tensor) -> None:
        rows, columns = self._tile.read_rows, self._tile.read_columns
        self._frames.append(
            self._network.prepare(lr[..., rows.start : rows.stop, columns.start : columns.stop]).contiguous()
        )

    def pinned_bytes(self) -> int:
        """The pinned host memory that `reserve` will take; ask once all frames are there."""
        return self._features.pinned_bytes(self._kind())

    def reserve(self) -> None:
        """Takes the memory for all features; call it once all frames are there."""
        self._features.reserve(self._kind())

    def backward(self, i: int) -> None:
        """The backward feature of frame i, from that of frame i + 1."""
        self._carried_back = self._backward_step(i, self._carried_back)
        self._features.put(i, self._carried_back, needed=i in self._needed)
        if i >= self._needed.stop:
            self._refill.pop(i, None)  # the forward branch does not come here

    def forward(self, i: int) -> None:
        """The forward feature of frame i, from that of frame i - 1."""
        flow = self._network.flow(self._frames[i], self._frames[i - 1]) if i > 0 else None
        # A network that is not coupled ignores its backward argument, which in the context does not even exist.
        backward = self._backward_feature(i) if self._network.coupled else self._frames[i]
        self._carried = self._network.forward_step(
            self._frames[i], backward, self._carried, flow, self._refill_features(i)
        )
        self._refill.pop(i, None)  # it is large; a rewound branch, which is rare, extracts it again

    def paste(self, hr: Tensor, i: int) -> None:
        """Upsamples frame i into its place in hr."""
        network, tile, s = self._network, self._tile, self._network.scale
        assert self._carried is not None
        upsampled = network.upsample(self._frames[i], self._backward_feature(i), self._carried)[0]
        top, left = tile.kept_rows.start - tile.read_rows.start, tile.kept_columns.start - tile.read_columns.start
        hr[
            :,
            s * tile.kept_rows.start : s * tile.kept_rows.stop,
            s * tile.kept_columns.start : s * tile.kept_columns.stop,
        ] = upsampled[:, s * top : s * (top + len(tile.kept_rows)), s * left : s * (left + len(tile.kept_columns))]

    def rewind(self) -> None:
        self._carried = None

    def _kind(self) -> FeatureKind:
        frame = self._frames[0]
        shape = (1, self._network.carried_channels, *frame.shape[-2:])
        return FeatureKind(shape, next(self._network.parameters()).dtype, frame.device)

    def _backward_step(self, i: int, carried: Tensor | None) -> Tensor:
        flow = self._network.flow(self._frames[i], self._frames[i + 1]) if carried is not None else None
        return self._network.backward_step(self._frames[i], carried, flow, self._refill_features(i))

    def _backward_feature(self, i: int) -> Tensor:
        """The stored feature, or, where only every k-th is kept, the block round it computed again."""
        feature = self._features.get(i, self._frames[i].device)
        if feature is not None:
            return feature
        block = self._features.missing_block(i, self._length)
        carried = self._features.get(block.stop, self._frames[i].device) if block.stop < self._length else None
        for k in reversed(block):
            carried = self._backward_step(k, carried)
            self._features.put_again(k, carried)
        feature = self._features.get(i, self._frames[i].device)
        assert feature is not None
        return feature

    def _refill_features(self, i: int) -> Tensor | None:
        if i not in self._keyframes:
            return None
        if i not in self._refill:
            window = torch.stack([self._frames[k] for k in self._network.window(i, self._length)], dim=1)
            self._refill[i] = self._network.refill(window)
        return self._refill[i]


def reserve(tiles: Sequence[TileState], room: memory.Room) -> None:
    """Takes what a segment will hold, and for a moment what a step needs: memory runs out here or not at all.

    Raises what `memory.is_out_of_memory` knows, before anything is computed.
    """
    pinned = sum(tile.pinned_bytes() for tile in tiles)
    if room.pinned_bytes is not None and pinned > room.pinned_bytes:
        raise MemoryError(f"pinned host memory: expected at most {room.pinned_bytes} bytes of a segment, got {pinned}")
    for tile in tiles:
        tile.reserve()
    memory.claim(room.device, room.working_bytes)
