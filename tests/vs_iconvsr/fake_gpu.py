"""A CUDA device without the device: shapes, kernels and memory are torch's, values there are none.

torch's fake tensors say what each operation gives; on top of them this counts the operations that launch kernels, adds
up what is allocated, and runs out of memory where the device that it stands for would.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vs_iconvsr.colorspace import codes

CUDA = torch.device("cuda:0")

# Neither launches a kernel nor copies: a new look at the same memory, or memory without contents.
WITHOUT_KERNEL = (
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "narrow", "new_empty",
    "permute", "device", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose",
    "unbind", "unsqueeze", "view", "_unsafe_view", "_reshape_alias", "unsafe_split", "lift_fresh", "is_same_size",
)  # fmt: skip

ONE_KERNEL = ("aten::upsample_", "aten::_upsample_")  # on a GPU; torch's composed forms are for other devices


class FakeGpu(TorchDispatchMode):
    """memory_bytes: what the device has. hidden: bytes that an operation takes inside, by its name.

    kernels: launches by operation. live_bytes, peak_bytes: of tensors on the device. computed: operations, in order.
    """

    def __init__(
        self,
        memory_bytes: float = float("inf"),
        hidden: dict[str, Callable[[Sequence[Any], Tensor], int]] | None = None,
    ) -> None:
        super().__init__()
        self.memory_bytes, self.hidden = memory_bytes, hidden or {}
        self.kernels: Counter[str] = Counter()
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
            self.kernels[name] += 1
        if on_gpu and name == "convolution" and args[2] is not None:
            self.kernels["bias of a convolution"] += 1  # torch adds it after cuDNN
        for tensor in on_gpu:
            self._hold(tensor)
        if on_gpu and name in self.hidden:
            self._see(self.hidden[name](args, result))
        return result

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
    hidden = {"deform_conv2d": _columns, "convolution": _both_layouts}
    codes._dither_band.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), FakeGpu(memory_bytes, hidden) as gpu:
            yield gpu
    finally:
        codes._dither_band.cache_clear()  # of tensors that are none outside


def _both_layouts(args: Sequence[Any], result: Tensor) -> int:
    """cuDNN's tensor cores want channels last: it reorders what goes in and what comes out."""
    return int(args[0].numel() * args[0].itemsize + result.numel() * result.itemsize)


def _columns(args: Sequence[Any], result: Tensor) -> int:
    """What torchvision's kernel unrolls: nine samples of each channel, float32."""
    del result
    features, weight = args[0], args[1]
    return int(features.numel() * weight.shape[-1] * weight.shape[-2] * features.itemsize)
