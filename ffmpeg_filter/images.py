"""Numbered pictures in place of a video file: as a source, and as an output."""

import itertools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

from ffmpeg_filter.pixels import layout_of
from ffmpeg_filter.probe import Source, SourceError, colour_properties, exact, open_file, video_stream

READ = (".png", ".tif", ".tiff", ".dpx", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")

# Encoder and pixel formats, by bits, of what is written.
WRITTEN = {
    ".png": ("png", {8: "rgb24", 16: "rgb48be"}),
    ".tif": ("tiff", {8: "rgb24", 16: "rgb48le"}),
    ".tiff": ("tiff", {8: "rgb24", 16: "rgb48le"}),
    ".dpx": ("dpx", {8: "rgb24", 16: "rgb48be"}),
}

_PLACE = re.compile(r"%(0\d+)?d")


def is_series(path: Path) -> bool:
    """Whether a path means numbered pictures: a folder, or a name with %d or %05d in it that is no file."""
    return path.is_dir() or (_PLACE.search(path.name) is not None and not path.exists())


def name_of(pattern: Path, number: int) -> Path:
    """The pattern with its place filled: out_%04d.png, 7 → out_0007.png."""
    match = _PLACE.search(pattern.name)
    if match is None:
        raise ValueError(f"output: wanted a name with %d or %05d in it, got {pattern.name}")
    width = int(match.group(1) or 0)
    return pattern.with_name(f"{pattern.name[: match.start()]}{number:0{width}d}{pattern.name[match.end() :]}")


def find(path: Path) -> tuple[Path, ...]:
    """The pictures in order. Raises SourceError for a gap, for several series in one folder, and if there is none."""
    if path.is_dir():
        candidates = [p for p in path.iterdir() if p.suffix.lower() in READ]
        numbered = [(m, p) for p in candidates if (m := re.fullmatch(r"(.*?)(\d+)(\D*)", p.name))]
    else:
        start, end = _PLACE.split(path.name)[0], _PLACE.split(path.name)[-1]
        shape = re.compile(f"({re.escape(start)})(\\d+)({re.escape(end)})")
        folder = path.parent if path.parent.is_dir() else Path("/nonexistent")
        numbered = [(m, p) for p in (folder.iterdir() if folder.is_dir() else ()) if (m := shape.fullmatch(p.name))]
    if not numbered:
        raise SourceError(f"input: wanted numbered pictures ({', '.join(READ)}), got none: {path}")
    if len({(m.group(1), m.group(3)) for m, _ in numbered}) > 1:
        raise SourceError(
            f"input: wanted one series of pictures, got several in {path}; name one: {path}/NAME_%05d.png"
        )
    by_number = {int(m.group(2)): p for m, p in numbered}
    numbers = sorted(by_number)
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            raise SourceError(
                f"input: wanted pictures without gaps, got none between {by_number[before].name} "
                f"and {by_number[after].name} in {by_number[before].parent}"
            )
    return tuple(by_number[n] for n in numbers)


def probe_images(path: Path, rate: Fraction | None) -> Source:
    """The series as a source of constant rate. Raises SourceError, and ValueError without a rate."""
    files = find(path)
    if rate is None:
        raise ValueError("rate: wanted the frames per second of the pictures, got none; pass, for example, --rate 24")
    first = read(files[0])
    try:
        layout = layout_of(first.format.name)
    except ValueError as error:
        raise SourceError(f"input: {files[0]}: {error}") from error
    return Source(
        path=path,
        container="images",
        stream=0,
        codec=files[0].suffix[1:],
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        layout=layout,
        time_base=1 / rate,
        pts=tuple(range(len(files))),
        last_duration=1,
        by_order=False,
        seeks=True,
        start=Fraction(0),
        sample_aspect_ratio=Fraction(0),
        rotation=0,
        interlaced=False,
        properties=colour_properties(first, layout),
        tags={},
        disposition=(),
        tracks=(),
        chapters=0,
        mastering_display=None,
        content_light=None,
        lost=(),
        notes=(),
        images=files,
    )


def read(path: Path) -> VideoFrame:
    """One picture. Raises SourceError if it cannot be decoded: a series has no neighbour to mend it with."""
    with open_file(path) as container:
        try:
            return next(container.decode(video_stream(container)))
        except (av.FFmpegError, OSError, StopIteration) as error:
            raise SourceError(f"input: wanted a picture, got one that cannot be decoded: {path}") from error


def numbered(files: Sequence[Path], first: int) -> Iterator[tuple[int, VideoFrame]]:
    """(number, picture) from `first` on."""
    for n in range(first, len(files)):
        yield n, read(files[n])


def encoded(frame: VideoFrame, suffix: str, bits: int) -> bytes:
    """The frame as a file of that kind, RGB of 8 or 16 bits. RGB of the same depth goes in without loss."""
    codec, formats = WRITTEN[suffix.lower()]
    packed = frame.reformat(format=formats[bits], threads=1)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = packed.width, packed.height, formats[bits]
    encoder.time_base = Fraction(1, 25)
    if exact(frame.time_base) == 0:
        packed.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*encoder.encode(packed), *encoder.encode(None)])
