"""The recurrent state of one tile of a segment."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from vs_iconvsr.engine import memory
from vs_iconvsr.engine.features import FeatureKind, FeatureStore, MemoryStrategy, block_length
from vs_iconvsr.engine.flows import Flows
from vs_iconvsr.engine.passes import spans_of
from vs_iconvsr.engine.tiles import Tile
from vs_iconvsr.networks.propagation import Pass, VideoNetwork
from vs_iconvsr.segments import Segment


class TileState:
    """The recurrent state of one tile. Frames are numbered from the first read one.

    Passes are taken in the network's order, each from `begin_pass` on. Those without order need no step of their own.
    """

    def __init__(self, network: VideoNetwork, tile: Tile, segment: Segment, strategy: MemoryStrategy) -> None:
        t, first = len(segment.read), segment.read.start
        kept = range(segment.kept.start - first, segment.kept.stop - first)
        self._network = network
        self._tile = tile
        self._length = t
        self._keyframes = set(network.keyframes(t))
        self._frames: list[Tensor] = []
        spans = spans_of(network.passes, kept, t)
        self.spans = {at.name: span for at, span in zip(network.passes, spans, strict=True)}
        stride = block_length(network.passes, t)
        self._features = {
            at.name: FeatureStore(strategy, t, needed=len(self.spans[at.name].needed), order=at.order, stride=stride)
            for at in network.passes[:-1]
        }
        self._flows = Flows(network, self.spans, t, strategy)
        self._refill: dict[int, Tensor] = {}
        self._carried: list[Tensor] = []

    def add_frame(self, lr: Tensor) -> None:
        rows, columns = self._tile.read_rows, self._tile.read_columns
        self._frames.append(
            self._network.prepare(lr[..., rows.start : rows.stop, columns.start : columns.stop]).contiguous()
        )

    def pinned_bytes(self, device: torch.device) -> int:
        """The pinned host memory that `reserve` will take."""
        return sum(store.pinned_bytes(self._kind(device)) for store in self._features.values())

    def reserve(self, device: torch.device) -> int:
        """Takes the memory for all features and flows; the bytes that the frames will take."""
        for store in self._features.values():
            store.reserve(self._kind(device))
        self._flows.reserve(self._kind(device))
        height, width = self._padded_sides()
        return 3 * 4 * height * width * self._length

    def begin_pass(self) -> None:
        """Before the first step of each pass."""
        self._carried = []

    def step(self, at: Pass, i: int) -> None:
        """The feature of frame i in a pass, from those of the frames visited before."""
        feature = self._step(at, i, self._carried)
        self._carried = [feature, *self._carried][: at.order]
        if at.name in self._features:
            self._features[at.name].put(i, feature, needed=i in self.spans[at.name].needed)
        last = self._network.passes[-1]
        if at is last or i >= self.spans[last.name].runs.stop:
            self._refill.pop(i, None)  # it is large; a rewound pass, which is rare, extracts it again

    def paste(self, hr: Tensor, i: int) -> None:
        """Upsamples frame i, which the last pass has just visited, into its place in hr."""
        network, tile, s = self._network, self._tile, self._network.scale
        features = [self._carried[0] if at is network.passes[-1] else self._feature(at, i) for at in self._upsampled]
        upsampled = network.upsample(self._frames[i], features)[0]
        top, left = tile.kept_rows.start - tile.read_rows.start, tile.kept_columns.start - tile.read_columns.start
        hr[
            :,
            s * tile.kept_rows.start : s * tile.kept_rows.stop,
            s * tile.kept_columns.start : s * tile.kept_columns.stop,
        ] = upsampled[:, s * top : s * (top + len(tile.kept_rows)), s * left : s * (left + len(tile.kept_columns))]

    def _padded_sides(self) -> tuple[int, int]:
        sides = len(self._tile.read_rows), len(self._tile.read_columns)
        return self._network.padded_side(sides[0]), self._network.padded_side(sides[1])

    def _kind(self, device: torch.device) -> FeatureKind:
        network, (height, width) = self._network, self._padded_sides()
        shape = (1, network.carried_channels, height // network.reduction, width // network.reduction)
        return FeatureKind(shape, next(network.parameters()).dtype, device)

    @property
    def _upsampled(self) -> list[Pass]:
        return [self._pass(name) for name in self._network.upsampled]

    def _pass(self, name: str) -> Pass:
        return next(at for at in self._network.passes if at.name == name)

    def _step(self, at: Pass, i: int, carried: list[Tensor]) -> Tensor:
        return self._network.step(
            at,
            self._frames[i],
            earlier=[self._feature(self._pass(name), i) for name in at.reads],
            carried=carried,
            flows=[
                self._flows.between(self._frames, k, after)
                for k, after in pairwise((i, *at.visited_before(i, self._length)))
            ],
            refill=self._refill_features(i),
        )

    def _feature(self, at: Pass, i: int) -> Tensor:
        """The stored feature of an earlier pass; where only every k-th is kept, its block is computed again."""
        store = self._features[at.name]
        feature = store.get(i, self._device)
        if feature is None:
            for k in at.visits(store.missing_block(i, self.spans[at.name].runs)):
                carried = [self._feature(at, before) for before in at.visited_before(k, self._length)]
                store.put_missing(k, self._step(at, k, carried))
            feature = store.get(i, self._device)
            assert feature is not None
        return feature

    def _refill_features(self, i: int) -> Tensor | None:
        if i not in self._keyframes:
            return None
        if i not in self._refill:
            window = torch.stack([self._frames[k] for k in self._network.window(i, self._length)], dim=1)
            self._refill[i] = self._network.refill(window)
        return self._refill[i]

    @property
    def _device(self) -> torch.device:
        return self._frames[0].device


def reserve(tiles: Sequence[TileState], room: memory.Room) -> None:
    """Takes what a segment will hold, and for a moment its frames and what a step needs: memory runs out here or not
    at all.

    Raises what `memory.is_out_of_memory` knows, before anything is computed.
    """
    pinned = sum(tile.pinned_bytes(room.device) for tile in tiles)
    if room.pinned_bytes is not None and pinned > room.pinned_bytes:
        raise MemoryError(f"pinned host memory: expected at most {room.pinned_bytes} bytes of a segment, got {pinned}")
    frames_bytes = sum(tile.reserve(room.device) for tile in tiles)
    memory.claim(room.device, frames_bytes + room.working_bytes)
