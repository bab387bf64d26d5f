"""The size that a user wants, as what is to be done after the network: a size, a kernel, and a shape of pixels."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command's help needs this module, and must not wait for torch
    from vs_iconvsr.colorspace import Format

KERNELS = {
    "bilinear": "Bilinear",
    "bicubic": "Bicubic",
    "lanczos": "Lanczos",
    "spline16": "Spline16",
    "spline36": "Spline36",
    "spline64": "Spline64",
}
"""Our names of zimg's kernels, and VapourSynth's: `core.resize.Spline36`."""

DEFAULT_KERNEL = "spline36"
MOST_PX = 1 << 15
LARGEST_RATIO_TERM = 65535  # H.264 and HEVC have 16 bits for each


@dataclass(frozen=True)
class TargetSize:
    """What the user asks for: at most one of size, height and scale (of the source); None: the network's own size.

    linear_light: resize light itself, not the values on their transfer curve.
    Raises ValueError for what cannot be.
    """

    size: tuple[int, int] | None = None
    height: int | None = None
    scale: Fraction | None = None
    kernel: str = DEFAULT_KERNEL
    square_pixels: bool = False
    linear_light: bool = False

    def __post_init__(self) -> None:
        given = [name for name in ("size", "height", "scale") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]}: expected one of size, height and scale, got {' and '.join(given)}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {self.kernel}")
        for name, value in (("size", min(self.size or (1,))), ("height", self.height), ("scale", self.scale)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else f"height {self.height}" if self.height else ""
        words = [size or (f"scale {self.scale}" if self.scale else "the network's"), self.kernel]
        return ", ".join([*words, *["square pixels"] * self.square_pixels, *["linear light"] * self.linear_light])


@dataclass(frozen=True)
class Resize:
    """What is done with each hr frame: zimg's kernel, to this size. aspect: of the resulting pixels, 0 if unknown."""

    width: int
    height: int
    kernel: str
    aspect: Fraction
    linear_light: bool = False

    def __str__(self) -> str:
        return f"{self.width}x{self.height} by {self.kernel}{' in linear light' if self.linear_light else ''}"


def resize_for(
    target: TargetSize, source_size: tuple[int, int], scale: int, aspect: Fraction, layout: "Format"
) -> Resize | None:
    """How to get from hr frames, `scale` times the source, to the target; None if they have that size already.

    aspect: of the source's pixels, 0 if unknown. layout: of the output, whose chroma decides which sizes there are.
    Raises ValueError for a size that it cannot have.
    """
    width, height, made = _wanted(target, source_size, scale, aspect, layout)
    _check(width, height, layout)
    if (width, height) == (source_size[0] * scale, source_size[1] * scale) and made == aspect:
        return None
    return Resize(width, height, target.kernel, made, target.linear_light)


def _wanted(
    target: TargetSize, source_size: tuple[int, int], scale: int, aspect: Fraction, layout: "Format"
) -> tuple[int, int, Fraction]:
    """Width, height and the shape of pixels: the picture keeps its shape as shown, to the nearest size there is."""
    shape = Fraction(*source_size)  # of the picture, in pixels
    pixels = aspect or Fraction(1)
    step_w, step_h = 1 << layout.subsampling_w, 1 << layout.subsampling_h
    if target.size is not None:
        exact = pixels * shape / Fraction(*target.size)
        if target.square_pixels:
            _check_square(target.size, exact, shape * pixels, step_w)
            exact = Fraction(1)
        return *target.size, _kept(exact, aspect)
    height = Fraction(source_size[1]) * (target.scale or scale) if target.height is None else Fraction(target.height)
    width = height * shape * (pixels if target.square_pixels else 1)
    made = Fraction(1) if target.square_pixels and aspect else aspect
    rows = target.height if target.height is not None else _nearest(height, step_h)
    return _nearest(width, step_w), rows, made


def _kept(exact: Fraction, aspect: Fraction) -> Fraction:
    """The source's own aspect where the size means no other: rounded to whole pixels, no size has quite its shape."""
    if abs(exact / (aspect or 1) - 1) < Fraction(1, 100):
        return aspect
    return exact.limit_denominator(LARGEST_RATIO_TERM)


def _check_square(size: tuple[int, int], exact: Fraction, shown: Fraction, step_w: int) -> None:
    if abs(exact - 1) >= Fraction(1, 100):
        raise ValueError(
            f"square-pixels: expected a size of the picture's shape, {float(shown):.3f}:1, got {size[0]}x{size[1]}; "
            f"pass --size {_nearest(shown * size[1], step_w)}x{size[1]}, or leave out --square-pixels"
        )


def _nearest(exact: Fraction, step: int) -> int:
    return max(step * round(exact / step), step)


def _check(width: int, height: int, layout: "Format") -> None:
    step_w, step_h = 1 << layout.subsampling_w, 1 << layout.subsampling_h
    if width % step_w or height % step_h:
        raise ValueError(
            f"size: expected a multiple of {step_w}x{step_h} for {layout}, got {width}x{height}; "
            f"pass --size {_nearest(Fraction(width), step_w)}x{_nearest(Fraction(height), step_h)}"
        )
    if max(width, height) > MOST_PX:
        raise ValueError(f"size: expected at most {MOST_PX} px on a side, got {width}x{height}")
