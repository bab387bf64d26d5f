"""YUV, GRAY and RGB planes → RGB in [0, 1] and back: range, matrix, chroma siting, bit depth, dither.

zimg (VapourSynth's `resize`) is the reference. In its terms, chroma is resampled both ways with
`Bicubic(filter_param_a_uv=0, filter_param_b_uv=0.5)`, mirrored at the edges. Sums are single multiplications and
additions in a fixed order, so the result does not depend on the number of threads.

Light is not linearized: PQ and HLG are upscaled as they are encoded.
"""

import functools

import torch
from torch import Tensor

from vs_iconvsr.colorspace.chroma import downsample_chroma, upsample_chroma
from vs_iconvsr.colorspace.codes import DITHERS, decode, encode
from vs_iconvsr.colorspace.colorimetry import Colorimetry
from vs_iconvsr.colorspace.formats import Format, Planes
from vs_iconvsr.colorspace.matrices import luma_weights


def to_rgb(planes: Planes, format: Format, color: Colorimetry) -> Tensor:
    """Planes → RGB (3, height, width), float32, clamped to [0, 1], on the planes' device."""
    height, width = planes[0].shape
    _check_planes(planes, format)
    if format.family == "GRAY":
        return decode(planes[0], format, color.full_range).clamp_(0, 1).expand(3, -1, -1).contiguous()
    if format.family == "RGB":
        return torch.stack([decode(plane, format, color.full_range) for plane in planes]).clamp_(0, 1)
    luma = decode(planes[0], format, color.full_range)
    cb, cr = (
        upsample_chroma(decode(plane, format, color.full_range, chroma=True), format, color, width, height)
        for plane in planes[1:]
    )
    red, green, blue = luma_weights(color.matrix)
    rgb = torch.empty(3, height, width, dtype=torch.float32, device=luma.device)
    torch.add(luma, cr * (2 * (1 - red)), out=rgb[0])
    torch.add(luma, cb * (2 * (1 - blue)), out=rgb[2])
    torch.sub(luma, cb * (2 * (1 - blue) * blue / green), out=rgb[1])
    rgb[1] -= cr * (2 * (1 - red) * red / green)
    return rgb.clamp_(0, 1)


def from_rgb(rgb: Tensor, format: Format, color: Colorimetry, *, dither: str = "ordered") -> Planes:
    """rgb (3, height, width) → planes, on its device. rgb is clamped to [0, 1] first.

    dither: "ordered" adds a pattern that depends only on the position before rounding down, "none" rounds to nearest.
    Both leave values unchanged that the format can represent.
    """
    _check_rgb(rgb, dither)
    channel = functools.partial(_channel, rgb)  # one at a time: hr frames are large
    if format.family == "RGB":
        return tuple(encode(channel(i), format, color.full_range, dither, i) for i in range(3))
    red, _, blue = luma_weights(color.matrix)
    luma = _luma(rgb, color.matrix)
    planes = [encode(luma, format, color.full_range, dither, 0)]
    if format.family == "YUV":
        for i, at, weight in ((1, 2, blue), (2, 0, red)):
            chroma = downsample_chroma(channel(at).sub_(luma), format, color)
            chroma *= 1 / (2 * (1 - weight))
            planes.append(encode(chroma, format, color.full_range, dither, i, chroma=True))
    return tuple(planes)


def gray_from_rgb(rgb: Tensor, format: Format, color: Colorimetry, *, matrix: int, dither: str = "ordered") -> Planes:
    """As `from_rgb`, for a picture that has no color however much the channels differ, such as that of a GRAY source.

    matrix: weighs the channels, whatever the format. Chroma is exactly neutral; red, green and blue are one plane.
    """
    _check_rgb(rgb, dither)
    luma = _luma(rgb, matrix)
    gray = encode(luma, format, color.full_range, dither, 0)
    if format.family == "RGB":
        return gray, gray, gray
    chroma_sizes = format.plane_sizes(luma.shape[1], luma.shape[0])[1:]
    neutral = [luma.new_zeros(height, width) for width, height in chroma_sizes]
    return gray, *(encode(zeros, format, color.full_range, "none", 1, chroma=True) for zeros in neutral)


def _check_rgb(rgb: Tensor, dither: str) -> None:
    if dither not in DITHERS:
        raise ValueError(f"dither: expected one of {', '.join(DITHERS)}, got {dither!r}")
    if rgb.ndim != 3 or rgb.shape[0] != 3:
        raise ValueError(f"rgb: expected (3, height, width), got {tuple(rgb.shape)}")


def _check_planes(planes: Planes, format: Format) -> None:
    height, width = planes[0].shape
    expected = [(h, w) for w, h in format.plane_sizes(width, height)]
    if [tuple(plane.shape) for plane in planes] != expected or any(plane.dtype != format.dtype for plane in planes):
        got = [f"{tuple(plane.shape)} {plane.dtype}" for plane in planes]
        raise ValueError(f"planes: expected {expected} of {format.dtype} for {format}, got {', '.join(got)}")


def _luma(rgb: Tensor, matrix: int) -> Tensor:
    """The weighted sum of the channels as a new float32 tensor (height, width)."""
    weights = luma_weights(matrix)
    luma = _channel(rgb, 0).mul_(weights[0])
    luma += _channel(rgb, 1).mul_(weights[1])
    luma += _channel(rgb, 2).mul_(weights[2])
    return luma


def _channel(rgb: Tensor, i: int) -> Tensor:
    """One channel as a new float32 tensor in [0, 1]."""
    return rgb[i].to(torch.float32).clamp(0, 1)
