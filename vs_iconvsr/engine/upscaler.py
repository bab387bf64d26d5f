"""A network on a device, ready to upscale segments of frames of one size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vs_iconvsr.engine.features import MemoryStrategy
from vs_iconvsr.engine.memory import Room
from vs_iconvsr.engine.propagation import Propagation, TiledNetwork
from vs_iconvsr.engine.tiles import tiles_of
from vs_iconvsr.networks import fast
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """How a frame is cut for the device, and in which precision: the part of a plan that the engine needs.

    cleaning: how often the network cleans frames; 0: as often as it does by itself. working_bytes, pinned_bytes: see
    `memory.Room`; they shape no pixel.
    """

    width: int
    height: int
    tile: tuple[int, int] = (0, 0)
    halo: int = 0
    precision: str = "float32"
    cleaning: int = 0
    working_bytes: int = 0
    pinned_bytes: int | None = None


class Upscaler:
    """A network on a device, ready to upscale segments of frames of one size.

    network: float32 on the CPU; it is copied, never changed. Raises ValueError for a precision that is not one of
    PRECISIONS or that the device has no fast arithmetic for.
    """

    def __init__(self, network: VideoNetwork, device: torch.device, shape: Shape) -> None:
        check_precision(shape.precision, device)
        self.device = device
        self.shape = shape
        self.dtype = PRECISIONS[shape.precision]
        self.tiles = tiles_of(shape.width, shape.height, shape.tile, shape.halo)
        self.network = _on_device(network, device, self.dtype, shape.cleaning)

    def propagate(
        self, segment: Segment, lr_frame: Callable[[int], Tensor], *, strategy: MemoryStrategy
    ) -> Propagation:
        """Begins a segment. lr_frame(n) → (3, h, w) RGB in [0, 1] of frame n on the device, for n in segment.read."""
        room = Room(self.device, self.shape.working_bytes, self.shape.pinned_bytes)
        tiled = TiledNetwork(self.network, self.device, self.shape.width, self.shape.height, self.tiles, room)
        return Propagation(tiled, segment, lr_frame, strategy)


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ValueError for one that is not of PRECISIONS or that the device has no fast arithmetic for."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision}")
    if device.type == "cpu" and precision != "float32":
        raise ValueError(
            f"precision: expected float32 on the CPU, which multiplies other types about 100 times slower, "
            f"got {precision}"
        )


def _on_device(network: VideoNetwork, device: torch.device, dtype: torch.dtype, cleaning: int) -> VideoNetwork:
    """An equal network there, but for how often it cleans; the caller's stays as it is."""
    arguments = network.hyper_parameters | ({"cleaning": cleaning} if cleaning else {})
    state = {
        key: value.to(device, dtype if value.is_floating_point() else value.dtype)
        for key, value in network.state_dict().items()
    }
    with torch.device("meta"):  # no initial weights: they would shift a caller's random numbers
        copy = type(network)(**arguments).eval().requires_grad_(False)
    copy.load_state_dict(state, assign=True)
    if uses_fast_convolutions(device, dtype):
        fast.use_fast_convolutions(copy)
    return copy


def uses_fast_convolutions(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether an Upscaler there takes the kernels of `networks.fast`: its pixels depend on it, by rounding errors."""
    return device.type == "cpu" and dtype == torch.float32 and fast.is_available()
