"""A CUDA device without the device: shapes, kernels and memory are torch's, values there are none.

torch's fake tensors say what each operation gives; on top of them this counts the operations that launch kernels, adds
up what is allocated, and runs out of memory where the device that it stands for would.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vs_iconvsr.colorspace import Colorimetry, Format, codes, from_rgb, to_rgb
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks import warp
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment

CUDA = torch.device("cuda:0")
BT709 = Colorimetry(matrix=1, full_range=False)

# Neither launches a kernel nor copies: a new look at the same memory, or memory without contents.
WITHOUT_KERNEL = (
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "narrow", "new_empty",
    "permute", "device", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose",
    "unbind", "unsqueeze", "view", "_unsafe_view", "_reshape_alias", "unsafe_split", "lift_fresh", "is_same_size",
)  # fmt: skip

ONE_KERNEL = ("aten::upsample_", "aten::_upsample_")  # on a GPU; torch's composed forms are for other devices


BIAS = "bias of a convolution"  # torch adds it after cuDNN


@dataclass(frozen=True)
class Launch:
    """One kernel: the bytes that it reads and writes, what it computes, and in which of the caller's parts of the work.

    layout_bytes: read and written besides if convolutions want another memory layout than their tensors have.
    """

    operation: str
    moved_bytes: int
    flop: int = 0
    layout_bytes: int = 0
    part: str = ""


class FakeGpu(TorchDispatchMode):
    """memory_bytes: what the device has. hidden: bytes that an operation takes inside, by its name.

    kernels: launches by operation. launches: one by one. part: what the following ones are part of. live_bytes,
    peak_bytes: of tensors on the device.
    """

    def __init__(
        self,
        memory_bytes: float = float("inf"),
        hidden: dict[str, Callable[[Sequence[Any], Tensor], int]] | None = None,
    ) -> None:
        super().__init__()
        self.memory_bytes, self.hidden = memory_bytes, hidden or {}
        self.kernels: Counter[str] = Counter()
        self.launches: list[Launch] = []
        self.part = ""
        self.live_bytes = self.peak_bytes = 0
        self._storages: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is not torch.ops.prim.device.default and not func._schema.name.startswith(ONE_KERNEL):
            with self:  # in inference mode composed operations arrive whole
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1]
        on_gpu = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor) and t.device.type == "cuda"]
        if on_gpu and name not in WITHOUT_KERNEL:
            self._launch(name, args, kwargs or {}, result)
        for tensor in on_gpu:
            self._hold(tensor)
        if on_gpu and name in self.hidden:
            self._see(self.hidden[name](args, result))
        return result

    def _launch(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        read = args[1:] if name.startswith("copy") else args  # what is copied to is written only
        touched = tree_leaves((read, {key: value for key, value in kwargs.items() if key != "out"}, result))
        moved = sum(_touched_bytes(t) for t in touched if isinstance(t, Tensor))
        flop = layout = 0
        if name in ("convolution", "deform_conv2d"):
            weight = args[1]
            flop = 2 * result.numel() * weight[0].numel()
            layout = 2 * _both_layouts(args, result) if name == "convolution" else 0
            moved += 0 if name == "convolution" else 2 * _columns(args, result)
        self._add(Launch(name, moved, flop, layout, self.part))
        if name == "convolution" and args[2] is not None:
            self._add(Launch(BIAS, 2 * _touched_bytes(result), part=self.part))

    def _add(self, launch: Launch) -> None:
        self.kernels[launch.operation] += 1
        self.launches.append(launch)

    def forget_peak(self) -> None:
        self.peak_bytes = self.live_bytes

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = storage.nbytes()

        def free(_: Any) -> None:
            self._storages.pop(key, None)
            self.live_bytes -= size

        self._storages[key] = weakref.ref(storage, free)
        self.live_bytes += size
        self._see(0)

    def _see(self, more: int) -> None:
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + more)
        if self.live_bytes + more > self.memory_bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {self.live_bytes + more} of {self.memory_bytes} bytes")


@contextmanager
def fake_gpu(memory_bytes: float = float("inf")) -> Iterator[FakeGpu]:
    """Inside, "cuda:0" is a device of so much memory; tensors made outside do not mix with those made here."""
    if torch.__version__.startswith("2.6."):
        pytest.skip("torch 2.6 indexes fake CUDA tensors only where there is a driver")
    hidden = {"deform_conv2d": _columns, "convolution": _both_layouts}
    _forget_constants()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), FakeGpu(memory_bytes, hidden) as gpu:
            yield gpu
    finally:
        _forget_constants()


def _forget_constants() -> None:
    """Tensors that are held for the next frame: those made inside are none outside."""
    codes._dither_band.cache_clear()
    warp._positions.cache_clear()


def upscaled_on_a_gpu(
    gpu: FakeGpu, network: VideoNetwork, width: int, height: int, frames: int, *, source: Format, target: Format
) -> None:
    """One segment without context in float16, from planes to planes, in the parts "conversion" and "network"."""

    def lr_frame(n: int) -> Tensor:
        del n
        before, gpu.part = gpu.part, "conversion"
        sizes = source.plane_sizes(width, height)
        planes = tuple(torch.empty(h, w, dtype=source.dtype, device=CUDA) for w, h in sizes)
        rgb = to_rgb(planes, source, BT709)
        gpu.part = before
        return rgb

    gpu.part = "network"
    segment = Segment(range(frames), range(frames))
    upscaler = Upscaler(network, CUDA, Shape(width, height, precision="float16"))
    propagation = upscaler.propagate(segment, lr_frame, strategy=MemoryStrategy.KEEP)
    while not propagation.finished:
        gpu.part = "network"
        if (hr := propagation.step()) is not None:
            gpu.part = "conversion"
            from_rgb(hr, target, BT709)


def _touched_bytes(tensor: Tensor) -> int:
    """Of a tensor that repeats its memory only that."""
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())


def _both_layouts(args: Sequence[Any], result: Tensor) -> int:
    """cuDNN's tensor cores want channels last: it reorders what goes in and what comes out."""
    return int(args[0].numel() * args[0].itemsize + result.numel() * result.itemsize)


def _columns(args: Sequence[Any], result: Tensor) -> int:
    """What torchvision's kernel unrolls: nine samples of each channel, float32."""
    del result
    features, weight = args[0], args[1]
    return int(features.numel() * weight.shape[-1] * weight.shape[-2] * features.itemsize)
