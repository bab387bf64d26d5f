"""Planes in any VapourSynth format ↔ RGB in [0, 1], and colorimetry ↔ frame properties; for both frontends."""

from vs_iconvsr.colorspace.chroma import CUBIC_B, CUBIC_C, enlarge_bicubic
from vs_iconvsr.colorspace.codes import DITHERS
from vs_iconvsr.colorspace.colorimetry import (
    COLOR_PROPERTIES,
    Colorimetry,
    colorimetry_of,
    output_colorimetry,
    properties_of,
    range_warnings,
)
from vs_iconvsr.colorspace.convert import from_rgb, gray_from_rgb, to_rgb
from vs_iconvsr.colorspace.formats import Format, Planes
from vs_iconvsr.colorspace.matrices import MATRIX_RGB, UNSPECIFIED, matrix_named, usual_matrix

__all__ = [
    "COLOR_PROPERTIES",
    "CUBIC_B",
    "CUBIC_C",
    "DITHERS",
    "MATRIX_RGB",
    "UNSPECIFIED",
    "Colorimetry",
    "Format",
    "Planes",
    "colorimetry_of",
    "enlarge_bicubic",
    "from_rgb",
    "gray_from_rgb",
    "matrix_named",
    "output_colorimetry",
    "properties_of",
    "range_warnings",
    "to_rgb",
    "usual_matrix",
]
