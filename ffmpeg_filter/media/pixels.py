"""FFmpeg's pixel formats and ours: which planes a decoded frame has, and what an encoder is sent."""

from dataclasses import dataclass

from vs_iconvsr.colorspace import Format

_SUBSAMPLING = {"444": (0, 0), "422": (1, 0), "420": (1, 1), "411": (2, 0), "410": (2, 2), "440": (0, 1)}
_INTEGER_BITS = (9, 10, 12, 14, 16)

# FFmpeg stores planar RGB as green, blue, red.
_RGB_ORDER = (2, 0, 1)

# Packed or half-packed layouts and the planar one that holds exactly the same samples.
_UNPACKED = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "nv42": "yuv444p",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "p216le": "yuv422p16le",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "y210le": "yuv422p10le",
    "xv30le": "yuv444p10le",
    "xv36le": "yuv444p12le",
    "rgb24": "gbrp",
    "bgr24": "gbrp",
    "rgb0": "gbrp",
    "bgr0": "gbrp",
    "0rgb": "gbrp",
    "0bgr": "gbrp",
    "pal8": "gbrp",
    "rgb8": "gbrp",
    "bgr8": "gbrp",
    "rgb48le": "gbrp16le",
    "rgb48be": "gbrp16le",
    "bgr48le": "gbrp16le",
    "bgr48be": "gbrp16le",
    "x2rgb10le": "gbrp10le",
    "monow": "gray",
    "monob": "gray",
}

# The same for layouts with alpha, which is left out.
_PACKED_WITH_ALPHA = {
    "rgba": "gbrp",
    "bgra": "gbrp",
    "argb": "gbrp",
    "abgr": "gbrp",
    "rgba64le": "gbrp16le",
    "rgba64be": "gbrp16le",
    "bgra64le": "gbrp16le",
    "bgra64be": "gbrp16le",
    "ya8": "gray",
    "ya16le": "gray16le",
    "ya16be": "gray16le",
    "ayuv64le": "yuv444p16le",
    "ayuv": "yuv444p",
    "vuya": "yuv444p",
    "uyva": "yuv444p",
}


@dataclass(frozen=True)
class Layout:
    """How the planes of a decoded frame are read.

    format: what they hold. decode_as: the planar pixel format to unpack to first, where the decoder's own is packed.
    order: for each of our planes, the number of FFmpeg's. full_range: the yuvj formats say so by their name.
    """

    format: Format
    decode_as: str | None = None
    order: tuple[int, ...] = (0, 1, 2)
    full_range: bool = False


def layout_of(pixel_format: str, *, opaque: bool = False) -> Layout:
    """opaque: nothing shows through the frames, so that their alpha may be left out (see media.alpha).

    Raises ValueError for other alpha and for what has no planar form of 8 to 16 bits or float.
    """
    if has_alpha(pixel_format) and not opaque:
        raise ValueError(alpha_message(pixel_format))
    packed = _UNPACKED | _PACKED_WITH_ALPHA
    planar = packed.get(pixel_format) or _little_endian(_without_alpha(pixel_format))
    found = _planar_formats().get(planar)
    if found is None:
        raise ValueError(f"pixel format: expected YUV, RGB or GRAY of 8 to 16 bits, got {pixel_format}")
    order = _RGB_ORDER if found.family == "RGB" else tuple(range(1 if found.family == "GRAY" else 3))
    in_place = pixel_format.startswith("yuvj") or planar == _without_alpha(pixel_format)
    return Layout(found, None if in_place else planar, order, pixel_format.startswith("yuvj"))


def alpha_message(pixel_format: str) -> str:
    """What is said of frames through which something could be seen."""
    return (
        f"pixel format: expected one without alpha, got {pixel_format}; "
        "remove it first, for example with ffmpeg -i IN -vf format=yuv444p10le -c:v ffv1 OUT.mkv"
    )


def has_alpha(pixel_format: str) -> bool:
    """Whether the format has a place for transparency."""
    return pixel_format.startswith(("yuva", "gbrap", *_PACKED_WITH_ALPHA))


def _without_alpha(pixel_format: str) -> str:
    """The planar format whose planes are the first ones of a planar format with alpha."""
    if pixel_format.startswith("yuva"):
        return "yuv" + pixel_format[4:]
    return "gbrp" + pixel_format[5:] if pixel_format.startswith("gbrap") else pixel_format


def pixel_format_of(wanted: Format) -> str:
    """FFmpeg's planar name for a format. Raises ValueError where there is none."""
    for name, known in _planar_formats().items():
        if known == wanted and not name.startswith("yuvj"):
            return name
    raise ValueError(f"format: expected one that FFmpeg has, got {wanted}")


def has_pixel_format(wanted: Format) -> bool:
    """Whether `pixel_format_of` finds a name: FFmpeg has no 4:1:1 of 10 bits, for example."""
    return wanted in _planar_formats().values()


def plane_order(chosen: Format) -> tuple[int, ...]:
    """For each of FFmpeg's planes, the number of ours."""
    if chosen.family == "GRAY":
        return (0,)
    return (1, 2, 0) if chosen.family == "RGB" else (0, 1, 2)


def _little_endian(pixel_format: str) -> str:
    return pixel_format[:-2] + "le" if pixel_format.endswith("be") else pixel_format


def _planar_formats() -> dict[str, Format]:
    formats: dict[str, Format] = {"gray": Format("GRAY", "integer", 8), "gbrp": Format("RGB", "integer", 8)}
    for name, (w, h) in _SUBSAMPLING.items():
        formats[f"yuv{name}p"] = Format("YUV", "integer", 8, w, h)
        formats[f"yuvj{name}p"] = Format("YUV", "integer", 8, w, h)
    for bits in _INTEGER_BITS:
        formats[f"gray{bits}le"] = Format("GRAY", "integer", bits)
        formats[f"gbrp{bits}le"] = Format("RGB", "integer", bits)
        for name in ("420", "422", "444"):
            formats[f"yuv{name}p{bits}le"] = Format("YUV", "integer", bits, *_SUBSAMPLING[name])
    for bits in (10, 12):
        formats[f"yuv440p{bits}le"] = Format("YUV", "integer", bits, 0, 1)
    for bits in (16, 32):
        formats[f"grayf{bits}le"] = Format("GRAY", "float", bits)
        formats[f"gbrpf{bits}le"] = Format("RGB", "float", bits)
    return formats
