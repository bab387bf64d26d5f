"""Colorimetry of frames: read from frame properties, guessed where they are absent, and written back to them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vs_iconvsr.colorspace.codes import decode
from vs_iconvsr.colorspace.formats import Format
from vs_iconvsr.colorspace.matrices import (
    MATRIX_RGB,
    UNSPECIFIED,
    is_supported,
    luma_weights,
    matrix_name,
    usual_matrix,
)


@dataclass(frozen=True)
class Colorimetry:
    """What the numbers in the planes mean: matrix, transfer and primaries of H.273, as in frame properties.

    chroma_location: 0 left, 1 center, 2 top left, 3 top, 4 bottom left, 5 bottom.
    """

    matrix: int
    full_range: bool
    chroma_location: int = 0
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED


def colorimetry_of(
    properties: Mapping[str, int], format: Format, width: int, height: int, *, matrix: int | None = None
) -> tuple[Colorimetry, list[str]]:
    """The colorimetry of a frame (width, height) from its properties, and warnings to show the user once.

    matrix: the user's choice; overrides the frame's `_Matrix`; for RGB it is only checked (see `output_colorimetry`).
    Without either, the matrix is guessed from the size. The default range is limited for YUV and GRAY, full for RGB.
    Raises ValueError for a matrix that is not supported, interlaced frames and alpha.
    """
    _refuse_fields_and_alpha(properties)
    if matrix is not None:
        luma_weights(matrix)
    transfer = properties.get("_Transfer", UNSPECIFIED)
    warnings = [_TRANSFER_WARNINGS[transfer]] if transfer in _TRANSFER_WARNINGS else []
    if format.family == "RGB":
        chosen = MATRIX_RGB
    else:
        chosen, guessed = _chosen_matrix(properties.get("_Matrix", UNSPECIFIED), matrix, format, width, height)
        warnings += guessed
    color = Colorimetry(
        matrix=chosen,
        full_range=bool(_one_of(properties, "_Range", (0, 1), default=int(format.family == "RGB"))),
        chroma_location=_one_of(properties, "_ChromaLocation", range(6), default=0),
        transfer=transfer,
        primaries=properties.get("_Primaries", UNSPECIFIED),
    )
    return color, warnings


def range_warnings(luma: Tensor, format: Format, color: Colorimetry) -> list[str]:
    """A warning if much of a frame lies outside limited range, which `to_rgb` clips.

    Some cameras write full range without tagging it. A little overshoot at either end is ringing and is ignored.
    """
    if color.full_range or format.family == "RGB" or format.sample == "float":
        return []
    outside = (decode(luma, format, full_range=False) - 0.5).abs_() > 0.5 + RINGING
    if torch.count_nonzero(outside) < CLIPPED_SHARE * luma.numel():
        return []
    return [
        f"range: more than {CLIPPED_SHARE:.0%} of a frame is darker or brighter than limited range allows, and is "
        "clipped; if the clip is full range, tag it: clip.std.SetFrameProps(_Range=1), or, for an H.264 file, "
        "ffmpeg -i IN -map 0 -c copy -bsf:v h264_metadata=video_full_range_flag=1 OUT"
    ]


def output_colorimetry(
    color: Colorimetry,
    source: Format,
    target: Format,
    width: int,
    height: int,
    *,
    matrix: int | None = None,
) -> Colorimetry:
    """The colorimetry of the hr frame (width, height are its size) in the target format.

    It is the source's, except that an RGB target has matrix 0 and full range, and a YUV or GRAY target of an RGB source
    has limited range and the user's matrix, or else the usual one for its size.
    """
    if source.family == "RGB" and target.family != "RGB":
        chosen = usual_matrix(width, height) if matrix is None else matrix
        return Colorimetry(chosen, False, color.chroma_location, color.transfer, color.primaries)
    if target.family == "RGB" and source.family != "RGB":
        return Colorimetry(MATRIX_RGB, True, color.chroma_location, color.transfer, color.primaries)
    return color


def properties_of(color: Colorimetry, format: Format) -> dict[str, int]:
    """The frame properties of progressive frames with this colorimetry.

    An hr frame carries these and no other COLOR_PROPERTIES, whatever its source frame carried.
    """
    properties = {
        "_Matrix": color.matrix,
        "_Range": int(color.full_range),
        "_Transfer": color.transfer,
        "_Primaries": color.primaries,
        "_FieldBased": 0,
    }
    if format.subsampled:
        properties["_ChromaLocation"] = color.chroma_location
    return properties


COLOR_PROPERTIES = ("_Matrix", "_Range", "_Transfer", "_Primaries", "_ChromaLocation", "_FieldBased")
"""Every frame property that `properties_of` may set."""

RINGING = 0.02
"""Overshoot beyond limited range that is expected of any video, as a share of the range."""
CLIPPED_SHARE = 0.01
"""The share of a frame's pixels beyond that from which on clipping is reported."""

_TRANSFER_WARNINGS = {
    8: "_Transfer=8 (linear light): upscaled as it is; models are trained on gamma-encoded video, so edges may ring",
    16: "_Transfer=16 (PQ): upscaled as it is encoded and tagged PQ again; models are trained on SDR video",
    18: "_Transfer=18 (HLG): upscaled as it is encoded and tagged HLG again; models are trained on SDR video",
}


def _chosen_matrix(tagged: int, given: int | None, format: Format, width: int, height: int) -> tuple[int, list[str]]:
    """The matrix to use and warnings; none for GRAY, whose look does not depend on the matrix."""
    if given is not None:
        return given, []
    if tagged == UNSPECIFIED or (format.family == "GRAY" and not is_supported(tagged)):
        guess = usual_matrix(width, height)
        warning = (
            f"matrix: the clip does not say; assuming {matrix_name(guess)}, usual for {width}x{height}; "
            "the option matrix chooses another"
        )
        return guess, [warning] if format.family == "YUV" else []
    luma_weights(tagged)
    return tagged, []


def _refuse_fields_and_alpha(properties: Mapping[str, int]) -> None:
    if properties.get("_FieldBased", 0) in (1, 2):
        raise ValueError(
            f"_FieldBased: expected progressive frames (0), got {properties['_FieldBased']} (interlaced); deinterlace "
            "first, or, if the frames are progressive and only the tag is wrong, clip.std.SetFieldBased(0)"
        )
    if "_Alpha" in properties:
        raise ValueError(
            '_Alpha: expected frames without transparency, got an alpha plane; clip.std.RemoveFrameProps("_Alpha") '
            'drops it, clip.std.PropToClip("_Alpha") gives it as a clip to upscale on its own'
        )


def _one_of(properties: Mapping[str, int], name: str, allowed: Collection[int], *, default: int) -> int:
    value = properties.get(name, default)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {value}")
    return value
