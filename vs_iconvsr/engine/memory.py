"""Memory of a device: what running out of it looks like, and making it run out before anything is computed.

cuDNN answers a failed allocation with another algorithm, and so with other pixels, or with an error of its own. Hence
a segment takes what it will need at its start: its stores for good, the working memory of one step for a moment.
"""

from dataclasses import dataclass

import torch

CLAIM_PIECES = 4
"""The largest tensor of a step is about a quarter of its working memory; in one piece it might not fit between what
other segments hold."""

PINNED_PIECE_BYTES = 512 * 2**20
"""Pinned memory comes in powers of two (pytorch/pytorch#95823), and a driver may refuse a few large pieces where it
grants many small ones."""

_TEXTS = (
    "out of memory",  # CUDA, ROCm, Metal and others: AcceleratorError, or RuntimeError in older versions of torch
    "ALLOC_FAILED",  # cuDNN, cuBLAS
    "unable to find an engine",  # cuDNN, when no algorithm got its workspace
    "cublasCreate",  # cuBLAS, when there is no memory for its own state
    "DefaultCPUAllocator",
)


@dataclass(frozen=True)
class Room:
    """What a segment may take. working_bytes: of one step, on the device. pinned_bytes: of features, None: any."""

    device: torch.device
    working_bytes: int = 0
    pinned_bytes: int | None = None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is one of the forms in which torch and its libraries report that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def claim(device: torch.device, working_bytes: int) -> None:
    """Takes so much memory of a device and gives it back to torch's cache. Raises what `is_out_of_memory` knows."""
    if device.type == "cpu":
        return  # the system hands out pages when they are written to: nothing would be found out
    piece = -(-working_bytes // CLAIM_PIECES)
    held = [torch.empty(piece, dtype=torch.uint8, device=device) for _ in range(CLAIM_PIECES)]
    del held


def pinned_piece(feature_bytes: int) -> int:
    """How many features of this size one piece of pinned memory takes."""
    return max(PINNED_PIECE_BYTES // feature_bytes, 1)


def pinned_bytes(features: int, feature_bytes: int) -> int:
    """The host memory that so many features take when pinned, each piece rounded up to a power of two."""
    each = pinned_piece(feature_bytes)
    pieces, rest = divmod(features, each)
    return pieces * _rounded_up(each * feature_bytes) + (_rounded_up(rest * feature_bytes) if rest else 0)


def empty_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Pinned host memory. Raises MemoryError where it cannot be had, whatever the driver calls that."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    raise MemoryError(f"pinned host memory: expected {shape} of {dtype}, got {reason}")


def _rounded_up(size_bytes: int) -> int:
    return 1 << (size_bytes - 1).bit_length()
