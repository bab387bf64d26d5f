"""VapourSynth's planes to tensors and back: the only file that meets strides."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vs_iconvsr.colorspace import Format, Planes

type Plane = tuple[memoryview, int, int, int]
"""Memory of one plane of a frame, its width and height in samples, and its stride in bytes."""


def copy_from(planes: Sequence[Plane], format: Format) -> Planes:
    """Tensors that own their memory: the frame may go at once."""
    return tuple(torch.from_numpy(_samples(plane, format).copy()) for plane in planes)


def copy_to(planes: Sequence[Plane], tensors: Planes, format: Format) -> None:
    """Fills a frame. Padding at the end of its rows is left alone."""
    for plane, tensor in zip(planes, tensors, strict=True):
        _samples(plane, format)[...] = tensor.numpy()


def _samples(plane: Plane, format: Format) -> NDArray[np.generic]:
    """The visible samples (height, width), without a copy."""
    memory, width, height, stride = plane
    dtype = np.dtype(str(format.dtype).removeprefix("torch."))
    rows = np.frombuffer(memory, dtype=dtype).reshape(height, stride // dtype.itemsize)
    return rows[:, :width]
