"""The engine: lr frames of one segment in, hr frames out one by one. Knows tensors and devices, no clip and no file."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from vs_iconvsr.engine.tiles import Tile, tiles_of
from vs_iconvsr.networks import fast
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class MemoryStrategy(StrEnum):
    """Where backward features wait for the forward branch. Never changes a pixel, only memory and time."""

    KEEP = "keep"  # on the device
    OFFLOAD = "offload"  # in host memory, pinned where the device is CUDA
    RECOMPUTE = "recompute"  # about every √t-th is kept, the others are computed again in blocks


@dataclass(frozen=True)
class Shape:
    """How a frame is cut for the device, and in which precision: the part of a plan that the engine needs."""

    width: int
    height: int
    tile: tuple[int, int] = (0, 0)
    halo: int = 0
    precision: str = "float32"


class Upscaler:
    """A network on a device, ready to upscale segments of frames of one size.

    network: float32 on the CPU; it is copied, never changed. Raises ValueError for a precision that is not one of
    PRECISIONS or that the device has no fast arithmetic for.
    """

    def __init__(self, network: VideoNetwork, device: torch.device, shape: Shape) -> None:
        if shape.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {shape.precision}")
        if device.type == "cpu" and shape.precision != "float32":
            raise ValueError(
                f"precision: expected float32 on the CPU, which multiplies other types about 100 times slower, "
                f"got {shape.precision}"
            )
        self.device = device
        self.shape = shape
        self.dtype = PRECISIONS[shape.precision]
        self.tiles = tiles_of(shape.width, shape.height, shape.tile, shape.halo)
        self.network = _on_device(network, device, self.dtype)

    def propagate(
        self, segment: Segment, lr_frame: Callable[[int], Tensor], *, strategy: MemoryStrategy
    ) -> "Propagation":
        """Begins a segment. lr_frame(n) → (3, h, w) RGB in [0, 1] of frame n on the device, for n in segment.read."""
        return Propagation(self, segment, lr_frame, strategy)


class Propagation:
    """One segment on its way through the network: backward branch first, then hr frames one by one.

    Each `step` is one step of one tile. `rewind` starts the forward branch again; the backward one is not repeated.
    Nothing in it points back at it: a segment's features are gone with its last user, not when garbage is collected.
    """

    def __init__(
        self, upscaler: Upscaler, segment: Segment, lr_frame: Callable[[int], Tensor], strategy: MemoryStrategy
    ) -> None:
        self.segment = segment
        self.next_kept = segment.kept.start  # the number of the next hr frame
        self.backward_done = False
        self._upscaler = upscaler
        self._tracks = [_Track(upscaler.network, tile, segment, strategy) for tile in upscaler.tiles]
        self._backward = _backward_branch(self._tracks, segment, lr_frame, coupled=upscaler.network.coupled)
        self._forward = _forward_branch(self._tracks, segment, upscaler)

    @property
    def finished(self) -> bool:
        return self.next_kept == self.segment.kept.stop

    def step(self) -> Tensor | None:
        """Does one step; the hr frame (3, s*h, s*w), float32, unclamped, when the step has completed one.

        The frame's number is `next_kept` before the call. Call it on one thread only, and not when `finished`.
        """
        with torch.inference_mode():
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
        for track in self._tracks:
            track.rewind()
        self.next_kept = self.segment.kept.start
        self._forward = _forward_branch(self._tracks, self.segment, self._upscaler)


def _backward_branch(
    tracks: list["_Track"], segment: Segment, lr_frame: Callable[[int], Tensor], *, coupled: bool
) -> Iterator[None]:
    """Steps over all frames read, last first; down to the first kept one only where none before it needs a feature."""
    read = segment.read
    first = read.start if coupled else segment.kept.start
    for n in read:
        lr = lr_frame(n)[None]  # float32 in any precision: what is added to lr keeps all its bits
        for track in tracks:
            track.add_frame(lr)
    for n in reversed(range(first, read.stop)):
        for track in tracks:
            track.backward(n - read.start)
            yield None


def _forward_branch(tracks: list["_Track"], segment: Segment, upscaler: Upscaler) -> Iterator[Tensor | None]:
    """Steps up to the last kept frame; an hr frame when its last tile is done."""
    shape, scale, first = upscaler.shape, upscaler.network.scale, segment.read.start
    for n in range(first, segment.kept.start):
        for track in tracks:
            track.forward(n - first)
            yield None
    for n in segment.kept:
        hr = torch.empty(3, scale * shape.height, scale * shape.width, device=upscaler.device)
        for i, track in enumerate(tracks):
            track.forward(n - first)
            track.paste(hr, n - first)
            yield hr if i + 1 == len(tracks) else None


class _Track:
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
        self._features = _FeatureStore(strategy, t, needed=len(self._needed))
        self._refill: dict[int, Tensor] = {}
        self._carried_back: Tensor | None = None
        self._carried: Tensor | None = None

    def add_frame(self, lr: Tensor) -> None:
        rows, columns = self._tile.read_rows, self._tile.read_columns
        self._frames.append(
            self._network.prepare(lr[..., rows.start : rows.stop, columns.start : columns.stop]).contiguous()
        )

    def backward(self, i: int) -> None:
        """The backward feature of frame i, from that of frame i + 1."""
        self._carried_back = self._backward_step(i, self._carried_back)
        self._features.put(i, self._carried_back, needed=i in self._needed)

    def forward(self, i: int) -> None:
        """The forward feature of frame i, from that of frame i - 1."""
        flow = self._network.flow(self._frames[i], self._frames[i - 1]) if i > 0 else None
        # A network that is not coupled ignores its backward argument, which in the context does not even exist.
        backward = self._backward_feature(i) if self._network.coupled else self._frames[i]
        self._carried = self._network.forward_step(
            self._frames[i], backward, self._carried, flow, self._refill_features(i)
        )

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


class _FeatureStore:
    """Backward features of one tile over t frames, by the strategy that memory allows."""

    def __init__(self, strategy: MemoryStrategy, t: int, *, needed: int) -> None:
        self._strategy = strategy
        self._stride = math.isqrt(max(t - 1, 0)) + 1
        self._shelf = _Shelf(-(-t // self._stride) if strategy is MemoryStrategy.RECOMPUTE else needed)
        self._stored: dict[int, Tensor] = {}
        self._block: dict[int, Tensor] = {}
        self._block_shelf = _Shelf(self._stride)

    def put(self, i: int, feature: Tensor, *, needed: bool) -> None:
        if self._strategy is MemoryStrategy.RECOMPUTE:
            if i % self._stride == 0:  # needed or not: a block that ends here starts from it
                self._stored[i] = self._shelf.hold(feature)
        elif needed:
            self._stored[i] = self._shelf.hold(feature, on_host=self._strategy is MemoryStrategy.OFFLOAD)

    def put_again(self, i: int, feature: Tensor) -> None:
        """A feature computed again; only those of one block are held."""
        self._block[i] = self._block_shelf.hold(feature)

    def get(self, i: int, device: torch.device) -> Tensor | None:
        feature = self._stored.get(i, self._block.get(i))
        return None if feature is None else feature.to(device, non_blocking=True)

    def missing_block(self, i: int, length: int) -> range:
        """The frames between two stored ones that frame i lies among; forgets the block held before."""
        self._block.clear()
        self._block_shelf = _Shelf(self._stride)
        start = i - i % self._stride + 1
        return range(start, min(start + self._stride - 1, length))


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


def _on_device(network: VideoNetwork, device: torch.device, dtype: torch.dtype) -> VideoNetwork:
    """An equal network there; the caller's stays as it is."""
    state = {
        key: value.to(device, dtype if value.is_floating_point() else value.dtype)
        for key, value in network.state_dict().items()
    }
    copy = type(network)(**network.hyper_parameters).eval().requires_grad_(False)
    copy.load_state_dict(state, assign=True)
    copy.to(device)
    if uses_fast_convolutions(device, dtype):
        fast.use_fast_convolutions(copy)
    return copy


def uses_fast_convolutions(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether an Upscaler there takes the kernels of `networks.fast`: its pixels depend on it, by rounding errors."""
    return device.type == "cpu" and dtype == torch.float32 and fast.is_available()
