"""Arithmetic that depends on the device alone: switches of the process, set for one step and then given back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0
_before: list[tuple[Any, str, Any]] = []


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """No algorithm chosen by timing, none that is not deterministic, and float32 with all its bits.

    torch's defaults multiply float32 as TF32, with 10 bits, and other users of torch in the process (another filter, a
    notebook) may have changed them: our bytes must not depend on that, nor theirs on us. The switches belong to the
    process, so while one device computes, the others' threads find them set, too; the last one to leave gives them
    back as the first one found them.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def exact_switches() -> list[tuple[Any, str, Any]]:
    """(owner, attribute, value) of each switch, as `exact_arithmetic` sets it."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = [
        (cudnn, "enabled", True),
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", True),
    ]
    if hasattr(cudnn, "conv"):  # torch 2.9 and later; allow_tf32 cannot even be read there once somebody has used this
        onednn: Any = torch.backends.mkldnn
        owners = (cudnn.conv, matmul, onednn.conv, onednn.matmul)
        return switches + [(owner, "fp32_precision", "ieee") for owner in owners]
    return [*switches, (cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]


def _enter() -> None:
    global _inside
    with _lock:
        if _inside == 0:
            for owner, name, value in exact_switches():
                _before.append((owner, name, getattr(owner, name)))
                setattr(owner, name, value)
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        while _inside == 0 and _before:
            setattr(*_before.pop())
