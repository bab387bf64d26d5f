"""The engine: lr frames of one segment in, hr frames out one by one. Knows tensors and devices, no clip and no file."""

from vs_iconvsr.engine.features import MemoryStrategy
from vs_iconvsr.engine.propagation import Propagation
from vs_iconvsr.engine.upscaler import PRECISIONS, Shape, Upscaler, check_precision, uses_fast_convolutions

__all__ = [
    "PRECISIONS",
    "MemoryStrategy",
    "Propagation",
    "Shape",
    "Upscaler",
    "check_precision",
    "uses_fast_convolutions",
]
