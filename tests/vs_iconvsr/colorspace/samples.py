"""Formats, colorimetries and random planes that the tests of this package share."""

import itertools
from collections.abc import Iterator

import torch

from vs_iconvsr.colorspace import Colorimetry, Format, Planes

SUBSAMPLINGS = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 2), (0, 1)]
SAMPLES = [*(("integer", bits) for bits in (8, 9, 10, 12, 14, 16)), ("float", 16), ("float", 32)]
MATRICES = (1, 4, 5, 6, 7, 9)
YUV420P8 = Format("YUV", "integer", 8, 1, 1)
YUV444P16 = Format("YUV", "integer", 16)
RGBS = Format("RGB", "float", 32)
GRAY8 = Format("GRAY", "integer", 8)


def every_format() -> Iterator[Format]:
    for sample, bits in SAMPLES:
        yield Format("GRAY", sample, bits)
        yield Format("RGB", sample, bits)
        yield from (Format("YUV", sample, bits, *subsampling) for subsampling in SUBSAMPLINGS)


ALL_FORMATS = list(every_format())


def random_planes(format: Format, width: int, height: int, seed: int = 0) -> Planes:
    generator = torch.Generator().manual_seed(seed)

    def plane(size: tuple[int, int], chroma: bool) -> torch.Tensor:
        if format.sample == "integer":
            codes = torch.randint(0, 1 << format.bits, (size[1], size[0]), generator=generator, dtype=torch.int32)
            return codes.to(format.dtype)
        return (torch.rand(size[1], size[0], generator=generator) - 0.5 * chroma).to(format.dtype)

    sizes = format.plane_sizes(width, height)
    return tuple(plane(size, format.family == "YUV" and i > 0) for i, size in enumerate(sizes))


def size_for(format: Format) -> tuple[int, int]:
    """Odd where the format allows it, and hardly larger than the kernel, so that edges matter."""
    return (5 << format.subsampling_w, 7 << format.subsampling_h)


def colors_for(format: Format) -> Iterator[Colorimetry]:
    locations = range(6) if format.subsampled else (0,)
    matrices = (0,) if format.family == "RGB" else MATRICES
    for matrix, full_range in itertools.product(matrices, (False, True)):
        yield Colorimetry(matrix, full_range)
    yield from (
        Colorimetry(matrices[0], full_range, location) for full_range in (False, True) for location in locations
    )
