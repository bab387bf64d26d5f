"""What a decoded frame carries beside its planes: color, HDR10 metadata, and what we cannot keep."""

import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

from ffmpeg_filter.media.dynamic_hdr import DOLBY_VISION, HDR10_PLUS
from ffmpeg_filter.media.pixels import Layout

_METADATA_NOT_CARRIED = {
    "DYNAMIC_HDR_PLUS": HDR10_PLUS,
    "DOVI_RPU_BUFFER": DOLBY_VISION,
    "DOVI_METADATA": DOLBY_VISION,
    "A53_CC": "closed captions inside the picture",
    "STEREO3D": "stereo 3D layout",
    "SPHERICAL": "spherical projection",
    "S12M_TIMECODE": "timecodes inside the picture",
    "ICC_PROFILE": "embedded color profile (ICC)",
}


# Image codecs: their gray is full range by convention, although few of them can say so.
# fmt: off
_IMAGE_CODECS = frozenset((
    "apng", "bmp", "dpx", "gif", "jpeg2000", "jpegls", "jpegxl", "libjxl", "libopenjpeg", "libwebp", "ljpeg", "mjpeg",
    "mjpegb", "pam", "pfm", "pgm", "png", "ppm", "qoi", "sgi", "targa", "tiff", "webp", "webp_anim",
))
# fmt: on


def color_properties(frame: av.VideoFrame, layout: Layout, codec: str) -> dict[str, int]:
    """The frame's color under VapourSynth's property names; what the frame does not declare is absent."""
    properties: dict[str, int] = {}
    if layout.format.family == "RGB":
        properties["_Matrix"] = 0
    elif int(frame.colorspace) not in (0, 2):
        properties["_Matrix"] = int(frame.colorspace)
    if int(frame.color_trc) not in (0, 2):
        properties["_Transfer"] = int(frame.color_trc)
    if int(frame.color_primaries) not in (0, 2):
        properties["_Primaries"] = int(frame.color_primaries)
    if layout.format.family != "RGB" and (int(frame.color_range) in (1, 2) or layout.full_range):
        properties["_Range"] = int(int(frame.color_range) == 2 or layout.full_range)
    elif layout.format.family == "GRAY" and codec in _IMAGE_CODECS:
        properties["_Range"] = 1
    if int(frame.chroma_location) > 0:
        properties["_ChromaLocation"] = int(frame.chroma_location) - 1
    return properties


def mastering_display_of(frame: av.VideoFrame) -> str | None:
    """In x265's notation; None if the frame has none or only half of it."""
    raw = _side_data(frame, "MASTERING_DISPLAY_METADATA")
    return mastering_display_text(raw) if raw is not None else None


def mastering_display_text(raw: bytes) -> str | None:
    """FFmpeg's AVMasteringDisplayMetadata as x265 and ffmpeg 9 take it; None if it lacks a half."""
    numbers = struct.unpack("22i", raw[:88])
    if not (numbers[20] and numbers[21]):
        return None
    values = [Fraction(a, b) if b else Fraction(0) for a, b in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
    red, green, blue, white = (tuple(round(v * 50000) for v in values[i : i + 2]) for i in (0, 2, 4, 6))
    darkest, brightest = (round(v * 10000) for v in values[8:10])
    pairs = zip(("G", "B", "R", "WP", "L"), (green, blue, red, white, (brightest, darkest)), strict=True)
    return "".join(f"{name}({a},{b})" for name, (a, b) in pairs)


def content_light_of(frame: av.VideoFrame) -> str | None:
    """Its brightest pixel and its brightest frame on average, in nits: "1000,400"."""
    raw = _side_data(frame, "CONTENT_LIGHT_LEVEL")
    return "{},{}".format(*struct.unpack("2I", raw[:8])) if raw is not None else None


def lost_side_data(frame: av.VideoFrame) -> Iterator[str]:
    """What the frame carries that no output of ours will, in words."""
    for name, _ in _side_data_items(frame):
        if name in _METADATA_NOT_CARRIED:
            yield _METADATA_NOT_CARRIED[name]


def _side_data(frame: av.VideoFrame, name: str) -> bytes | None:
    return next((bytes(data) for key, data in _side_data_items(frame) if key == name), None)


def _side_data_items(frame: av.VideoFrame) -> Iterable[tuple[str, memoryview]]:
    return ((str(getattr(key, "name", key)), memoryview(data)) for key, data in frame.side_data.items())
