"""Image sequences instead of a video file: as a source, and as an output."""

import itertools
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

from ffmpeg_filter.media import alpha, linear_light
from ffmpeg_filter.media.container import exact, open_file, select_video
from ffmpeg_filter.media.frames import frame_of, planes_of
from ffmpeg_filter.media.metadata import color_properties, lost_side_data
from ffmpeg_filter.media.orientation import orientation_of
from ffmpeg_filter.media.pixels import Layout, layout_of
from ffmpeg_filter.media.source import ImageSequence, MediaSource, SourceError, Timeline, VideoStream
from vs_iconvsr.colorspace import Format

READ = (".png", ".tif", ".tiff", ".dpx", ".exr", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")

# Encoder and pixel formats, by bits, of what is written. EXR's half floats are made from 16 bits on a curve.
WRITTEN: Mapping[str, tuple[str, Mapping[int, str]]] = {
    ".png": ("png", {8: "rgb24", 16: "rgb48be"}),
    ".tif": ("tiff", {8: "rgb24", 16: "rgb48le"}),
    ".tiff": ("tiff", {8: "rgb24", 16: "rgb48le"}),
    ".dpx": ("dpx", {8: "rgb24", 16: "rgb48be"}),
    ".exr": ("exr", {16: "gbrpf32le"}),
}
_OPTIONS = {"exr": {"compression": "zip16", "format": "half"}}
_WITH_METADATA = (".dpx", ".exr", ".tif", ".tiff")
LARGEST_HALF = 65504.0
_FLOAT_RGB = Format("RGB", "float", 32)

_PLACE = re.compile(r"(?<!%)%(0\d+)?d")  # as in ffmpeg, where %% stands for %


def is_image_sequence(path: Path) -> bool:
    """Whether a path means images: a folder, a name with %d or %05d in it that is no file, or a single .exr."""
    return (
        path.is_dir()
        or (is_linear(path) and path.is_file())
        or (_PLACE.search(path.name) is not None and not path.exists())
    )


def is_linear(path: Path) -> bool:
    """Whether images of that name hold linear light."""
    return path.suffix.lower() == ".exr"


def name_of(pattern: Path, number: int) -> Path:
    """The pattern with its place filled: out_%04d.png, 7 → out_0007.png; without one, itself. ValueError for two."""
    found = list(_PLACE.finditer(pattern.name))
    if not found:
        return pattern
    if len(found) > 1:
        raise ValueError(f"output: expected a name with one %d or %05d in it, got {pattern.name}")
    width = int(found[0].group(1) or 0)
    before, after = _prefix_and_suffix(pattern)
    return pattern.with_name(f"{before}{number:0{width}d}{after}")


def find_images(path: Path) -> dict[int, Path]:
    """The images by their numbers, ascending.

    Raises SourceError for a gap, for two of one number, for several sequences in one folder, and if there is none.
    """
    if path.is_file():
        return {0: path}
    if path.is_dir():
        candidates = [p for p in path.iterdir() if p.suffix.lower() in READ and not p.name.startswith(".")]
        numbered = [(m, p) for p in candidates if (m := re.fullmatch(r"(.*?)(\d+)(\D*)", p.name))]
    else:
        before, after = (re.escape(text) for text in _prefix_and_suffix(path))
        folder = path.parent
        numbered = [
            (m, p)
            for p in (folder.iterdir() if folder.is_dir() else ())
            if (m := re.fullmatch(f"({before})(\\d+)({after})", p.name))
        ]
    if not numbered:
        raise SourceError(f"input: expected numbered images ({', '.join(READ)}), got none: {path}")
    if len({(m.group(1), m.group(3)) for m, _ in numbered}) > 1:
        raise SourceError(f"input: expected one image sequence, got several in {path}; name one: {path}/NAME_%05d.png")
    by_number: dict[int, Path] = {}
    for match, picture in numbered:
        other = by_number.setdefault(int(match.group(2)), picture)
        if other != picture:
            raise SourceError(f"input: expected one image for each number, got {other.name} and {picture.name}")
    _check_gaps(by_number)
    return dict(sorted(by_number.items()))


def _prefix_and_suffix(pattern: Path) -> tuple[str, str]:
    """What stands before and after the number."""
    parts = _PLACE.split(pattern.name)
    if len(parts) != 3:
        raise SourceError(f"input: expected a name with one %d or %05d in it, got {pattern.name}")
    return parts[0].replace("%%", "%"), parts[2].replace("%%", "%")


def _check_gaps(by_number: Mapping[int, Path]) -> None:
    for before, after in itertools.pairwise(sorted(by_number)):
        if after != before + 1:
            raise SourceError(
                f"input: expected an image sequence without gaps, got no image between {by_number[before].name} "
                f"and {by_number[after].name} in {by_number[before].parent}"
            )


def probe_images(path: Path, rate: Fraction | None, peak: float | None = None) -> MediaSource:
    """The sequence as a source of constant rate.

    peak: the linear light that is white for the models, for EXR; what is brighter is clipped. None: 1, and images
    with light outside 0 to 1 are refused. Raises SourceError, and ValueError without a rate.
    """
    by_number = find_images(path)
    files = tuple(by_number.values())
    if rate is None and len(files) == 1:
        rate = Fraction(1)  # a single image may be shown for any time
    if rate is None:
        raise ValueError(
            "rate: expected the frames per second of the image sequence, got none; pass, for example, --rate 24"
        )
    first, sample_aspect_ratio, codec = _read_with_aspect(files[0])
    layout = _layout(first, codec, files, path)
    properties, lost, notes = color_properties(first, layout, codec), set(lost_side_data(first)), []
    if files[0].suffix.lower() in _WITH_METADATA:
        lost.add("other metadata in the image headers (time codes, camera, comments)")
    if is_linear(files[0]):
        properties["_Transfer"] = linear_light.SRGB
        lost |= unread_channels(files[0])
        peak, note = _resolve_peak(files, peak)
        notes.append(note)
    elif peak is not None:
        raise ValueError(
            f"peak: expected no value for images that do not hold linear light, got {peak:g}; leave it out"
        )
    orientation = orientation_of(first)
    video = VideoStream(
        index=0,
        codec=codec,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        layout=layout,
        properties=properties,
        sample_aspect_ratio=sample_aspect_ratio,
        rotation=orientation.angle,
        mirrored=orientation.mirrored,
    )
    return MediaSource(
        path=path,
        container="images",
        video=video,
        timeline=Timeline(time_base=1 / rate, pts=tuple(range(len(files))), last_duration=1),
        images=ImageSequence(files, min(by_number), peak),
        lost=tuple(sorted(lost)),
        notes=tuple(notes),
    )


def _layout(first: VideoFrame, codec: str, files: Sequence[Path], path: Path) -> Layout:
    """How the sequence at `path`, whose first frame is given, is read. Raises SourceError for one that cannot be."""
    linear, file = is_linear(files[0]), files[0]
    try:
        alpha.refuse_four_colors(codec, first)
        layout = layout_of(first.format.name, opaque=_are_opaque(first, files))
    except ValueError as error:
        remedy = f"; remove it first: ffmpeg -i {path} -vf format=gbrpf32le OUT_%05d.exr" if linear else ""
        raise SourceError(f"input: {file}: {error}{remedy}") from error
    # The conversion from linear light needs more precision than half floats have.
    return Layout(Format(layout.format.family, "float", 32), order=layout.order) if linear else layout


def read_image(path: Path) -> VideoFrame:
    """One image. Raises SourceError if it cannot be decoded: unlike a damaged frame of a video, it is not replaced."""
    return _read_with_aspect(path)[0]


def read_images(files: Sequence[Path], first: int) -> Iterator[tuple[int, VideoFrame]]:
    """(number, image) from `first` on."""
    for n in range(first, len(files)):
        yield n, read_image(files[n])


def _are_opaque(first: VideoFrame, files: Sequence[Path]) -> bool:
    """All of them: one in the middle must not end the work. EXR's never, whose light is multiplied by its alpha."""
    if not alpha.has_place(first):
        return True
    return not is_linear(files[0]) and all(alpha.is_opaque(read_image(path)) for path in files)


def _read_with_aspect(path: Path) -> tuple[VideoFrame, Fraction, str]:
    """One image, the aspect ratio of its pixels (0 where it has none), and its codec."""
    with open_file(path) as container:
        stream = select_video(container)
        try:
            frame = next(container.decode(stream))
        except (av.FFmpegError, OSError, StopIteration) as error:
            raise SourceError(f"input: expected an image, got a file that cannot be decoded: {path}") from error
        return frame, exact(stream.codec_context.sample_aspect_ratio), stream.codec_context.name


def _resolve_peak(files: Sequence[Path], peak: float | None) -> tuple[float, str]:
    """The linear light that is white for the model, and a note for the user."""
    if peak is None:
        _check_light(files)
        peak = 1.0
    elif not 0 < peak <= LARGEST_HALF:
        raise ValueError(f"peak: expected more than 0 and at most {LARGEST_HALF:g}, got {peak:g}")
    return (
        peak,
        f"light from 0 to {peak:g} is encoded with the sRGB curve for the model; only .exr output is linear again",
    )


def _check_light(files: Sequence[Path]) -> None:
    """All of them before the work: a bright image in the middle must not end the work after hours."""
    lowest, highest, where = 0.0, 1.0, files[0]
    for path in files:
        for plane in planes_of(read_image(path)):
            values = plane.float().nan_to_num(nan=-math.inf)
            lowest = min(lowest, float(values.min()))
            if float(values.max()) > highest:
                highest, where = float(values.max()), path
    if highest > 1:
        raise SourceError(
            f"input: expected linear light from 0 to 1, got up to {highest:g} in {where.name}; pass --peak "
            f"{math.ceil(highest * 100) / 100:g} to keep all of it, or --peak 1 to clip what is brighter than 1"
        )
    if lowest < 0:
        raise SourceError(
            f"input: expected linear light from 0 to 1, got as low as {lowest:g}; pass --peak 1 to clip it at 0"
        )


def unread_channels(path: Path) -> set[str]:
    """What an EXR holds besides one image: the decoder reads only R, G, B or Y of its first part."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    lost = {"additional parts of the EXR"} if struct.unpack_from("<I", head, 4)[0] & 0x1000 else set()
    at = head.find(b"channels\0chlist\0") + 20  # after the two names and the size
    while at >= 20 and (end := head.find(b"\0", at)) > at:
        channel = head[at:end].decode(errors="replace")
        if channel not in ("R", "G", "B", "Y", "A"):
            lost.add(f"channel {channel} of the EXR")
        at = end + 17  # each name is followed by 16 bytes: type, linearity, sampling
    return lost


def check_not_taken(output: Path, frames: Sequence[int], source: MediaSource, *, overwrite: bool) -> None:
    """Raises ValueError if an image to be written already exists, or is one of the source's own."""
    names = [name_of(output, source.image_number(n)) for n in frames]
    if len(set(names)) < len(names):
        raise ValueError(
            f"output: expected a name with a number placeholder for {len(names)} images, such as out_%05d.png, "
            f"got {output}"
        )
    own = {path.resolve() for path in (source.images.files if source.images else ())}
    for path in names:
        if path.resolve() in own:
            raise ValueError(f"output: expected other names than those of the input, got the same: {path}")
        if path.exists() and not overwrite:
            raise ValueError(
                f"output: expected new images, got one that exists: {path}; pass --overwrite to replace it"
            )


def check_format(output: Path, bits: int, transfer: int) -> None:
    """Raises ValueError for a depth or a transfer that images of that name cannot hold."""
    depths = WRITTEN[output.suffix.lower()][1]
    if bits not in depths:
        raise ValueError(f"bits: expected {' or '.join(map(str, depths))} for {output.suffix} images, got {bits}")
    if is_linear(output):
        linear_light.check_transfer(transfer)


def encode_image(
    frame: VideoFrame,
    suffix: str,
    bits: int,
    *,
    aspect: Fraction = Fraction(0),
    transfer: int = 2,
    peak: float = 1.0,
) -> bytes:
    """The frame as a file of that kind, RGB of 8 or 16 bits. RGB of the same depth goes in without loss.

    aspect: of its pixels, 0 where nothing is said.
    EXR is linear light of half float: transfer and peak say how `frame` stands for light, see `linear_light.to_linear`.
    """
    codec, formats = WRITTEN[suffix.lower()]
    if codec == "exr":
        planes = (linear_light.to_linear(plane.float() / 65535, transfer, peak) for plane in planes_of(frame))
        # Rounded here: the encoder cuts off what a half float does not hold.
        halves = tuple(plane.clamp(max=LARGEST_HALF).half().float() for plane in planes)
        packed = frame_of(halves, _FLOAT_RGB, frame.width, frame.height)
    else:
        packed = frame.reformat(format=formats[bits], threads=1)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = packed.width, packed.height, formats[bits]
    encoder.time_base = Fraction(1, 25)
    encoder.sample_aspect_ratio = aspect
    encoder.options = _OPTIONS.get(codec, {})
    if exact(packed.time_base) == 0:
        packed.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*encoder.encode(packed), *encoder.encode(None)])
