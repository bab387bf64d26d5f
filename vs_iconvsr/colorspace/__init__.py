"""YUV, GRAY and RGB planes to RGB in [0, 1] and back: range, matrix, chroma siting, bit depth, dither; for both doors.

zimg (VapourSynth's `resize`) is the oracle. In its words: chroma goes up and comes down with
`Bicubic(filter_param_a_uv=0, filter_param_b_uv=0.5)`, mirrored at the edges. Sums are made of single multiplications
and additions in a fixed order, so the result does not depend on the number of threads.

Light is not linearised: PQ and HLG are upscaled as they are encoded.
"""

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Planes = tuple[Tensor, ...]
"""1 or 3 planes, (height, width) each, of the format's dtype."""

CUBIC_B, CUBIC_C = 0.0, 0.5
"""The bicubic kernel of chroma, as zimg's filter_param_a_uv and filter_param_b_uv."""


@dataclass(frozen=True)
class Format:
    """A constant VapourSynth video format: family GRAY, RGB or YUV; sample integer (8-16 bits) or float (16 or 32).

    Subsampling is log2, as in VapourSynth. Raises ValueError for what VapourSynth or we do not have.
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
                "convert with resize.Bicubic(format=…)"
            )
        subsampling = (self.subsampling_w, self.subsampling_h)
        if max(subsampling) > 2 or min(subsampling) < 0 or (self.family != "YUV" and any(subsampling)):
            raise ValueError(f"format: expected chroma at 1, 1/2 or 1/4 size in YUV alone, got log2 {subsampling}")

    @classmethod
    def from_id(cls, packed: int) -> Self:
        """From VapourSynth's format id (API 4). Raises ValueError, also for 0, which stands for a variable format."""
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
        """What one sample of a plane is stored in."""
        if self.sample == "float":
            return torch.float16 if self.bits == 16 else torch.float32
        return torch.uint8 if self.bits == 8 else torch.uint16

    @property
    def subsampled(self) -> bool:
        """Whether chroma planes are smaller than luma."""
        return self.subsampling_w + self.subsampling_h > 0

    def plane_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """(width, height) of each plane of a frame; chroma of odd frames is rounded up, as decoders do."""
        chroma = (-(-width >> self.subsampling_w), -(-height >> self.subsampling_h))
        return [(width, height)] if self.family == "GRAY" else [(width, height), chroma, chroma]

    def __str__(self) -> str:
        depth = {16: "H", 32: "S"}[self.bits] if self.sample == "float" else str(self.bits)
        if self.family == "GRAY":
            return f"GRAY{depth}"
        if self.family == "RGB":
            return f"RGB{depth}" if self.sample == "float" else f"RGB{3 * self.bits}"
        subsampling = (self.subsampling_w, self.subsampling_h)
        known = {(0, 0): "444", (1, 0): "422", (1, 1): "420", (2, 0): "411", (2, 2): "410", (0, 1): "440"}
        return f"YUV{known.get(subsampling, f'ssw{subsampling[0]}ssh{subsampling[1]}')}P{depth}"


@dataclass(frozen=True)
class Colorimetry:
    """What the numbers in the planes mean: matrix, transfer and primaries of H.273, as in frame properties.

    chroma_location: 0 left, 1 center, 2 top left, 3 top, 4 bottom left, 5 bottom.
    """

    matrix: int
    full_range: bool
    chroma_location: int = 0
    transfer: int = 2
    primaries: int = 2


def colorimetry_of(
    properties: Mapping[str, int], format: Format, width: int, height: int, *, matrix: int | None = None
) -> tuple[Colorimetry, list[str]]:
    """The color of a frame (width, height) from its properties, and what the user should be told of once.

    matrix: the user's word; goes before the frame's `_Matrix`, and for RGB it is only checked (see `output_colorimetry`).
    A matrix that nobody names is guessed by size. Absent range: limited for YUV and GRAY, full for RGB.
    Raises ValueError for a matrix we do not know, interlaced frames and alpha.
    """
    _refuse_fields_and_alpha(properties)
    if matrix is not None:
        _luma_weights(matrix)
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
    """What the user should be told where much of a frame lies outside limited range, and so is clipped by `to_rgb`.

    Cameras write full range and do not say so. A little beyond either end is ringing and means nothing.
    """
    if color.full_range or format.family == "RGB" or format.sample == "float":
        return []
    outside = (_decoded(luma, format, full_range=False) - 0.5).abs_() > 0.5 + RINGING
    if torch.count_nonzero(outside) < CLIPPED_SHARE * luma.numel():
        return []
    return [
        f"range: more than {CLIPPED_SHARE:.0%} of a frame is darker or brighter than limited range allows, and is "
        "clipped; if the clip is full range, say so: clip.std.SetFrameProps(_Range=1), or, for a file of H.264, "
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
    """The color of the hr frame (width, height are its size) in the target format.

    The source's own, but: an RGB target has matrix 0 and full range; a target with luma from an RGB source has limited
    range and the user's matrix, else the usual one for its size.
    """
    if source.family == "RGB" and target.family != "RGB":
        chosen = usual_matrix(width, height) if matrix is None else matrix
        return Colorimetry(chosen, False, color.chroma_location, color.transfer, color.primaries)
    if target.family == "RGB" and source.family != "RGB":
        return Colorimetry(MATRIX_RGB, True, color.chroma_location, color.transfer, color.primaries)
    return color


def properties_of(color: Colorimetry, format: Format) -> dict[str, int]:
    """The frame properties that say this color, and that nothing here is interlaced.

    An hr frame carries these and none of the other COLOR_PROPERTIES, whatever its source frame carried.
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


def to_rgb(planes: Planes, format: Format, color: Colorimetry) -> Tensor:
    """planes → RGB (3, height, width), float32, clamped to [0, 1], on the planes' device."""
    height, width = planes[0].shape
    _check_planes(planes, format)
    if format.family == "GRAY":
        return _decoded(planes[0], format, color.full_range).clamp_(0, 1).expand(3, -1, -1).contiguous()
    if format.family == "RGB":
        return torch.stack([_decoded(plane, format, color.full_range) for plane in planes]).clamp_(0, 1)
    luma = _decoded(planes[0], format, color.full_range)
    cb, cr = (
        _chroma_up(_decoded(plane, format, color.full_range, chroma=True), format, color, width, height)
        for plane in planes[1:]
    )
    red, green, blue = _luma_weights(color.matrix)
    rgb = torch.empty(3, height, width, dtype=torch.float32, device=luma.device)
    torch.add(luma, cr * (2 * (1 - red)), out=rgb[0])
    torch.add(luma, cb * (2 * (1 - blue)), out=rgb[2])
    torch.sub(luma, cb * (2 * (1 - blue) * blue / green), out=rgb[1])
    rgb[1] -= cr * (2 * (1 - red) * red / green)
    return rgb.clamp_(0, 1)


def from_rgb(rgb: Tensor, format: Format, color: Colorimetry, *, dither: str = "ordered") -> Planes:
    """rgb (3, height, width) → planes, on its device; clamped to [0, 1] before anything else.

    dither: "ordered" adds a pattern that depends on the position alone before rounding down, "none" rounds to nearest.
    Both leave values alone that the format can hold.
    """
    if dither not in DITHERS:
        raise ValueError(f"dither: expected one of {', '.join(DITHERS)}, got {dither!r}")
    if rgb.ndim != 3 or rgb.shape[0] != 3:
        raise ValueError(f"rgb: expected (3, height, width), got {tuple(rgb.shape)}")
    channel = functools.partial(_clamped, rgb)  # one at a time: hr frames are large
    if format.family == "RGB":
        return tuple(_encoded(channel(i), format, color.full_range, dither, i) for i in range(3))
    red, green, blue = _luma_weights(color.matrix)
    luma = channel(0).mul_(red)
    luma += channel(1).mul_(green)
    luma += channel(2).mul_(blue)
    planes = [_encoded(luma, format, color.full_range, dither, 0)]
    if format.family == "YUV":
        for i, at, weight in ((1, 2, blue), (2, 0, red)):
            chroma = _chroma_down(channel(at).sub_(luma), format, color)
            chroma *= 1 / (2 * (1 - weight))
            planes.append(_encoded(chroma, format, color.full_range, dither, i, chroma=True))
    return tuple(planes)


DITHERS = ("ordered", "none")
UNSPECIFIED = 2
MATRIX_RGB = 0
RINGING = 0.02  # of the range
CLIPPED_SHARE = 0.01  # of a frame's pixels

_FAMILIES = {1: "GRAY", 2: "RGB", 3: "YUV"}
_SAMPLES = {0: "integer", 1: "float"}

_KNOWN_MATRICES = {
    1: ("709", 0.2126, 0.0722),
    4: ("fcc", 0.30, 0.11),
    5: ("470bg", 0.299, 0.114),
    6: ("170m", 0.299, 0.114),
    7: ("240m", 0.212, 0.087),
    9: ("2020ncl", 0.2627, 0.0593),
}
"""H.273 number: zimg's name, weight of red and of blue in luma."""

_OTHER_MATRICES = {
    0: "rgb",
    2: "unspec",
    3: "reserved",
    8: "ycgco",
    10: "2020cl",
    11: "ydzdx",
    12: "chromancl",
    13: "chromacl",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}

_TRANSFER_WARNINGS = {
    8: "_Transfer=8 (linear light): upscaled as it is; models know gamma-encoded pictures, so edges may ring",
    16: "_Transfer=16 (PQ): upscaled as it is encoded and tagged PQ again; models know SDR pictures",
    18: "_Transfer=18 (HLG): upscaled as it is encoded and tagged HLG again; models know SDR pictures",
}


def matrix_named(name: str) -> int | None:
    """ "709" or "1" → 1; "" → None. Names are zimg's. Raises ValueError for a matrix that we do not know."""
    if not name:
        return None
    numbers = {zimg: number for number, (zimg, _, _) in _KNOWN_MATRICES.items()}
    others = {zimg: number for number, zimg in _OTHER_MATRICES.items()}
    number = (numbers | others).get(name.lower(), int(name) if name.isdigit() and len(name) < 3 else -1)
    if number == -1:
        raise ValueError(f"matrix: expected one of {', '.join(numbers)} or their H.273 numbers, got {name}")
    _luma_weights(number)
    return number


def usual_matrix(width: int, height: int) -> int:
    """The matrix of untagged video of this size: 470BG for PAL heights, 170M for other SD, 709 for what is larger."""
    if width > 1024 or height > 576:
        return 1
    return 5 if height in (288, 576) else 6


def _chosen_matrix(tagged: int, given: int | None, format: Format, width: int, height: int) -> tuple[int, list[str]]:
    """The matrix to use and warnings. GRAY keeps quiet: no matrix changes what it looks like."""
    if given is not None:
        return given, []
    if tagged == UNSPECIFIED or (format.family == "GRAY" and tagged not in _KNOWN_MATRICES):
        guess = usual_matrix(width, height)
        name = _KNOWN_MATRICES[guess][0]
        told = f"matrix: the clip does not say; took {name}, usual for {width}x{height}; matrix= chooses another"
        return guess, [told] if format.family == "YUV" else []
    _luma_weights(tagged)
    return tagged, []


def _luma_weights(matrix: int) -> tuple[float, float, float]:
    """The weights of red, green and blue in luma. Raises ValueError for matrices that are not made of such weights."""
    if matrix not in _KNOWN_MATRICES:
        known = ", ".join(f"{number} ({name})" for number, (name, _, _) in _KNOWN_MATRICES.items())
        raise ValueError(
            f"matrix: expected one of {known}, got {matrix} ({_OTHER_MATRICES.get(matrix, 'unknown')}); "
            "convert first, or name the right one with matrix="
        )
    _, red, blue = _KNOWN_MATRICES[matrix]
    return red, 1 - red - blue, blue


def _refuse_fields_and_alpha(properties: Mapping[str, int]) -> None:
    if properties.get("_FieldBased", 0) in (1, 2):
        raise ValueError(
            f"_FieldBased: expected progressive frames (0), got {properties['_FieldBased']} (interlaced); deinterlace "
            "first, or, where frames are progressive and only the tag is wrong, clip.std.SetFieldBased(0)"
        )
    if "_Alpha" in properties:
        raise ValueError(
            '_Alpha: expected frames without transparency, got an alpha plane; clip.std.RemoveFrameProps("_Alpha") drops '
            'it, clip.std.PropToClip("_Alpha") gives it as a clip to upscale on its own'
        )


def _one_of(properties: Mapping[str, int], name: str, allowed: Collection[int], *, default: int) -> int:
    value = properties.get(name, default)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {value}")
    return value


def _check_planes(planes: Planes, format: Format) -> None:
    height, width = planes[0].shape
    expected = [(h, w) for w, h in format.plane_sizes(width, height)]
    if [tuple(plane.shape) for plane in planes] != expected or any(plane.dtype != format.dtype for plane in planes):
        got = [f"{tuple(plane.shape)} {plane.dtype}" for plane in planes]
        raise ValueError(f"planes: expected {expected} of {format.dtype} for {format}, got {', '.join(got)}")


def _code_scale(format: Format, full_range: bool, chroma: bool) -> tuple[float, float]:
    """(scale, offset): code = value * scale + offset, for luma or RGB in [0, 1] and chroma in [-1/2, 1/2]."""
    if format.sample == "float":
        return 1.0, 0.0
    unit = float(1 << format.bits - 8)
    middle = 128 * unit if chroma else 0.0
    if full_range:
        return 256 * unit - 1, middle
    return (224 * unit, middle) if chroma else (219 * unit, 16 * unit)


def _decoded(plane: Tensor, format: Format, full_range: bool, *, chroma: bool = False) -> Tensor:
    """A plane's codes → a new float32 tensor of values: luma and RGB nominally in [0, 1], chroma in [-1/2, 1/2]."""
    scale, offset = _code_scale(format, full_range, chroma)
    values = plane.to(torch.float32, copy=True)
    return values if format.sample == "float" else values.sub_(offset).mul_(1 / scale)


def _clamped(rgb: Tensor, i: int) -> Tensor:
    """One channel as a new float32 tensor in [0, 1]."""
    return rgb[i].to(torch.float32).clamp(0, 1)


def _encoded(
    values: Tensor,
    format: Format,
    full_range: bool,
    dither: str,
    plane: int,
    *,
    chroma: bool = False,
) -> Tensor:
    """values → codes. Works band by band, so that a band stays in the processor's cache."""
    if format.sample == "float":
        return values.to(format.dtype)
    scale, offset = _code_scale(format, full_range, chroma)
    threshold: Tensor | float = 0.5
    if dither == "ordered":
        threshold = _dither_band(values.shape[1], plane, values.device)
    codes = torch.empty(values.shape, dtype=format.dtype, device=values.device)
    for top in range(0, values.shape[0], DITHER_ROWS):
        band = values[top : top + DITHER_ROWS] * scale
        band += offset
        band += threshold if isinstance(threshold, float) else threshold[: band.shape[0]]
        band = band.floor_().clamp_(0, (1 << format.bits) - 1)
        codes[top : top + DITHER_ROWS] = band if format.bits == 8 else band.to(torch.int32)
    return codes


DITHER_ROWS = 64
"""The dither pattern repeats after so many rows."""


@functools.lru_cache(maxsize=16)
def _dither_band(width: int, plane: int, device: torch.device) -> Tensor:
    """Thresholds in (0, 1), (DITHER_ROWS, width): a rank-1 lattice, evenly spread over any small neighbourhood.

    The steps are near the golden-ratio pair for the plane (1/1.3247, 1/1.3247²), the vertical one a multiple of
    1/DITHER_ROWS so that bands join; each plane starts elsewhere. Integers, so that all devices agree.
    """
    columns = torch.arange(width, dtype=torch.int64) * 49471
    rows = torch.arange(DITHER_ROWS, dtype=torch.int64) * (37 * 1024) + plane * 21845
    lattice = (rows[:, None] + columns[None, :]) & 0xFFFF
    return ((lattice.to(torch.float32) + 0.5) * (1 / 65536)).to(device)


def _chroma_up(plane: Tensor, format: Format, color: Colorimetry, width: int, height: int) -> Tensor:
    """A chroma plane of any subsampling → (height, width), where luma samples are."""
    across, down = _siting(format, color)
    if format.subsampling_h:
        plane = _upsampled(plane, format.subsampling_h, down, dim=0)[:height]
    if format.subsampling_w:
        plane = _upsampled(plane, format.subsampling_w, across, dim=1)[:, :width]
    return plane


def _chroma_down(plane: Tensor, format: Format, color: Colorimetry) -> Tensor:
    """A plane at luma's size → the format's subsampling; rows first, because whole rows are fast to add."""
    across, down = _siting(format, color)
    if format.subsampling_h:
        plane = _downsampled(plane, format.subsampling_h, down, dim=0)
    if format.subsampling_w:
        plane = _downsampled(plane, format.subsampling_w, across, dim=1)
    return plane


def _siting(format: Format, color: Colorimetry) -> tuple[float, float]:
    """Where the first chroma sample lies, (across, down), in luma pixels from the frame's corner; (0.5, 0.5) is the
    first luma sample's centre."""
    full_w, full_h = float(1 << format.subsampling_w), float(1 << format.subsampling_h)
    across = 0.5 if color.chroma_location in (0, 2, 4) else full_w / 2
    down = {2: 0.5, 3: 0.5, 4: full_h - 0.5, 5: full_h - 0.5}.get(color.chroma_location, full_h / 2)
    return across, down


def _upsampled(plane: Tensor, log2: int, first: float, *, dim: int) -> Tensor:
    """plane made 2**log2 times as large along dim. first: see `_siting`."""
    factor = 1 << log2
    phases = [_taps((i + 0.5 - first) / factor + 0.5, 1) for i in range(factor)]
    before = max(0, *(-start for start, _ in phases))
    after = max(0, *(start + len(weights) - 1 for start, weights in phases))
    length = plane.shape[dim]
    padded = _mirrored(plane, before, after, dim)
    parts = [
        _weighted([padded.narrow(dim, before + start + k, length) for k in range(len(weights))], weights)
        for start, weights in phases
    ]
    return torch.stack(parts, dim=dim + 1).flatten(dim, dim + 1)


def _downsampled(plane: Tensor, log2: int, first: float, *, dim: int) -> Tensor:
    """plane made 2**log2 times as small along dim, odd sizes rounded up. first: see `_siting`."""
    factor = 1 << log2
    start, weights = _taps(first, factor)
    length = plane.shape[dim]
    kept = -(-length // factor)
    before = -(-max(0, -start) // factor) * factor
    blocks = -(-(before + start + len(weights)) // factor) + kept
    padded = _mirrored(plane, before, blocks * factor - before - length, dim)
    offsets = [before + start + k for k in range(len(weights))]
    rows = padded.reshape(*plane.shape[:dim], blocks, factor, *plane.shape[dim + 1 :])
    combs = [rows.select(dim + 1, phase).contiguous() if dim else rows.select(1, phase) for phase in range(factor)]
    return _weighted([combs[at % factor].narrow(dim, at // factor, kept) for at in offsets], weights)


@functools.cache
def _taps(position: float, reduction: int) -> tuple[int, tuple[float, ...]]:
    """The index of the first source sample and the weights that give the value at a position in source samples
    (0.5 is the centre of the first); the kernel is widened by the reduction, as against aliasing."""
    size = 4 * reduction
    start = math.floor(position - size / 2 + 0.5)
    raw = [_cubic((start + k + 0.5 - position) / reduction) for k in range(size)]
    while raw[0] == 0:
        raw, start = raw[1:], start + 1
    while raw[-1] == 0:
        raw = raw[:-1]
    return start, tuple(weight / sum(raw) for weight in raw)


def _cubic(distance: float) -> float:
    """Mitchell and Netravali's family of kernels at CUBIC_B and CUBIC_C."""
    x, b, c = abs(distance), CUBIC_B, CUBIC_C
    if x < 1:
        return ((12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + (6 - 2 * b)) / 6
    if x < 2:
        return ((-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + (8 * b + 24 * c)) / 6
    return 0.0


def _mirrored(plane: Tensor, before: int, after: int, dim: int) -> Tensor:
    """plane with its own mirror image before and after it; what even that does not reach repeats the last sample."""
    length = plane.shape[dim]
    heads = [-i - 1 for i in range(-before, 0)]
    tails = [2 * length - i - 1 for i in range(length, length + after)]
    parts = [plane.narrow(dim, min(max(i, 0), length - 1), 1) for i in heads]
    parts.append(plane)
    parts += [plane.narrow(dim, min(max(i, 0), length - 1), 1) for i in tails]
    return torch.cat(parts, dim=dim)


def _weighted(samples: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """The weighted sum, in order. No fused multiply-adds: not every processor rounds those alike."""
    total = samples[0] * weights[0]
    product = torch.empty_like(total)
    for sample, weight in zip(samples[1:], weights[1:], strict=True):
        total += torch.mul(sample, weight, out=product)
    return total
