"""Video formats as VapourSynth describes them: family, sample type, bit depth, subsampling."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Planes = tuple[Tensor, ...]
"""One or three planes, (height, width) each, of the format's dtype."""


@dataclass(frozen=True)
class Format:
    """A constant VapourSynth video format: family GRAY, RGB or YUV; sample integer (8-16 bits) or float (16 or 32).

    Subsampling is log2, as in VapourSynth. Raises ValueError for formats that VapourSynth lacks or we do not support.
    """

    family: str
    sample: str
    bits: int
    subsampling_w: int = 0
    subsampling_h: int = 0

    def __post_init__(self) -> None:
        if self.family not in _FAMILIES.values():
            raise ValueError(f"format: expected the family GRAY, RGB or YUV, got {self.family}")
        depths = {"integer": range(8, 17), "float": (16, 32)}.get(self.sample, ())
        if self.bits not in depths:
            raise ValueError(
                f"format: expected 8 to 16 bit integers, or float of 16 or 32 bits, got {self.bits} bit {self.sample}; "
                "no filter of VapourSynth's own converts it: have it made with 8 to 16 bits, or in float"
            )
        subsampling = (self.subsampling_w, self.subsampling_h)
        if max(subsampling) > 2 or min(subsampling) < 0 or (self.family != "YUV" and any(subsampling)):
            raise ValueError(f"format: expected chroma at 1, 1/2 or 1/4 size in YUV alone, got log2 {subsampling}")

    @classmethod
    def from_id(cls, packed: int) -> Self:
        """From VapourSynth's format id (API 4). Raises ValueError for an unknown id, and for 0, a variable format."""
        family, sample = _FAMILIES.get(packed >> 28), _SAMPLES.get(packed >> 24 & 15)
        if family is None or sample is None:
            raise ValueError(f"format: expected a constant GRAY, RGB or YUV format, got the id {packed}")
        return cls(family, sample, packed >> 16 & 255, packed >> 8 & 255, packed & 255)

    @property
    def id(self) -> int:
        """VapourSynth's format id (API 4)."""
        family = next(number for number, name in _FAMILIES.items() if name == self.family)
        sample = next(number for number, name in _SAMPLES.items() if name == self.sample)
        return family << 28 | sample << 24 | self.bits << 16 | self.subsampling_w << 8 | self.subsampling_h

    @property
    def dtype(self) -> torch.dtype:
        """The type of one sample of a plane."""
        if self.sample == "float":
            return torch.float16 if self.bits == 16 else torch.float32
        return torch.uint8 if self.bits == 8 else torch.uint16

    @property
    def subsampled(self) -> bool:
        """Whether chroma planes are smaller than luma."""
        return self.subsampling_w + self.subsampling_h > 0

    def plane_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """(width, height) of each plane of a frame; chroma sizes of odd frames are rounded up, as in decoders."""
        chroma = (-(-width >> self.subsampling_w), -(-height >> self.subsampling_h))
        return [(width, height)] if self.family == "GRAY" else [(width, height), chroma, chroma]

    def __str__(self) -> str:
        depth = {16: "H", 32: "S"}[self.bits] if self.sample == "float" else str(self.bits)
        if self.family == "GRAY":
            return f"GRAY{depth}"
        if self.family == "RGB":
            return f"RGB{depth}" if self.sample == "float" else f"RGB{3 * self.bits}"
        subsampling = (self.subsampling_w, self.subsampling_h)
        names = {(0, 0): "444", (1, 0): "422", (1, 1): "420", (2, 0): "411", (2, 2): "410", (0, 1): "440"}
        return f"YUV{names.get(subsampling, f'ssw{subsampling[0]}ssh{subsampling[1]}')}P{depth}"


_FAMILIES = {1: "GRAY", 2: "RGB", 3: "YUV"}
_SAMPLES = {0: "integer", 1: "float"}
