"""What is in a source file: its video with an exact table of timestamps, its color, and everything else to be kept."""

import itertools
import logging
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ffmpeg_filter.media.ffmpeg import INPUT_PROTOCOLS, safe_name
from ffmpeg_filter.media.pixels import Layout, layout_of

logger = logging.getLogger(__name__)

# Demuxers that read one file and follow nothing: playlists and concat scripts that call themselves .mp4 are refused.
# fmt: off
_DEMUXERS = (
    "matroska", "webm", "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "mpegts", "mpegtsraw", "mpeg", "mpegvideo", "avi",
    "nut", "flv", "live_flv", "asf", "ogg", "mxf", "mxf_opatom", "h264", "hevc", "vvc", "m4v", "h263", "ivf", "obu",
    "av1", "yuv4mpegpipe", "gif", "apng", "dv", "rm", "vc1", "vc1test", "wtv", "mjpeg", "mjpeg_2000", "dirac", "gxf",
    "png_pipe", "jpeg_pipe", "jpegls_pipe", "tiff_pipe", "bmp_pipe", "webp_pipe", "exr_pipe", "dpx_pipe", "ppm_pipe",
    "pgm_pipe", "pam_pipe", "j2k_pipe", "qoi_pipe", "sgi_pipe", "jpegxl_pipe",
    "wav", "mp3", "flac", "aac", "ac3", "eac3", "aiff", "dts", "truehd", "w64", "caf", "au", "amr", "srt", "ass",
)
# fmt: on

# Endings by which ffmpeg writes video alone; others are named as their codec.
_RAW = {"mpeg2video": "m2v", "mpeg4": "m4v"}

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")  # Path has made one slash of two

# Seeking lands late there (facts: 9 of 9 wrong), so a reader that must start in the middle decodes from the start.
_SEEKS_LATE = ("mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "vc1")

# Frames looked at for interlacing at each of a few places: flags may begin after a progressive studio logo.
_LOOK_FRAMES = 6
_LOOK_PLACES = 4

# Remuxing and rewrapping move no picture, but these lie about a stream after its video has been replaced.
STALE_TAGS = frozenset(
    {"encoder", "vendor_id", "duration", "bps", "number_of_frames", "number_of_bytes", "handler_name"}
)

_METADATA_NOT_CARRIED = {
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "A53_CC": "closed captions inside the picture",
    "STEREO3D": "stereo 3D layout",
    "SPHERICAL": "spherical projection",
    "S12M_TIMECODE": "timecodes inside the picture",
    "ICC_PROFILE": "embedded color profile (ICC)",
}


class SourceError(Exception):
    """A source that cannot be upscaled as it is; the message says what it is and what to do."""


@dataclass(frozen=True)
class Track:
    """One stream beside the video. kind: audio, subtitle, attachment, data, video or cover."""

    index: int
    kind: str
    codec: str
    language: str = ""
    title: str = ""

    def __str__(self) -> str:
        words = [self.kind, str(self.index), self.codec, self.language, f'"{self.title}"' if self.title else ""]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class MediaSource:
    """A video file as one job sees it.

    pts: the presentation timestamp of every frame in units of time_base, strictly ascending. by_order: the container's
    timestamps cannot be matched to decoded frames, so frames are counted. start: the file's first timestamp in seconds.
    properties: color of the first frame under VapourSynth's names. notes: what was repaired, for the user.
    mastering_display, content_light: HDR10 metadata as x265 writes it. images: the pictures of a series, see `images`;
    first_number: of its names; peak: the linear light that goes to the models as white, None where values are coded.
    """

    path: Path
    container: str
    stream: int
    codec: str
    width: int
    height: int
    pixel_format: str
    layout: Layout
    time_base: Fraction
    pts: tuple[int, ...]
    last_duration: int
    by_order: bool
    seeks: bool
    start: Fraction
    sample_aspect_ratio: Fraction
    rotation: int
    interlaced: bool
    properties: dict[str, int]
    tags: dict[str, str]
    disposition: tuple[str, ...]
    tracks: tuple[Track, ...]
    chapters: int
    mastering_display: str | None
    content_light: str | None
    lost: tuple[str, ...]
    notes: tuple[str, ...]
    images: tuple[Path, ...] = ()
    first_number: int = 0
    peak: float | None = None

    @property
    def num_frames(self) -> int:
        return len(self.pts)

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float((self.pts[-1] + self.last_duration - self.pts[0]) * self.time_base)

    def time_of(self, frame: int) -> float:
        """Seconds at which a frame is shown."""
        return float(self.pts[frame] * self.time_base)


def open_file(path: Path) -> InputContainer:
    """Opens a local video and nothing that it may point at. Raises SourceError with the reason."""
    check_file(path)
    options = {"protocol_whitelist": INPUT_PROTOCOLS, "format_whitelist": ",".join(_DEMUXERS)}
    try:
        return av.open(safe_name(path), options=options)
    except PermissionError as error:
        raise SourceError(f"input: expected a readable file, got no permission to read {path}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"input: expected a video file, got one that cannot be read as such: {path} ({_reason(error)})"
        ) from error


def check_file(path: Path) -> None:
    """Raises SourceError, with the remedy, for a name that means no file with something in it."""
    if str(path) == "-":
        raise SourceError("input: expected a file, got standard input; upscale a stream with iconvsr pipe")
    if _ADDRESS.match(str(path)) and not path.exists():
        raise SourceError(
            f"input: expected a file, got an address: {path}; save it first: ffmpeg -i URL -c copy FILE.mkv"
        )
    if not path.exists():
        raise SourceError(f"input: expected a video file, got no such file: {path}")
    if path.is_dir():
        raise SourceError(f"input: expected a video file, got a folder: {path}")
    if not path.is_file():
        raise SourceError(
            f"input: expected a file, which can be read more than once, got a pipe or a device: {path}; "
            "save it first, or upscale a stream with iconvsr pipe"
        )
    if path.stat().st_size == 0:
        raise SourceError(f"input: expected a video file, got one of zero bytes: {path}")


def video_stream(container: InputContainer, index: int | None = None) -> VideoStream:
    """The stream to upscale: the first default one that is no cover picture. Raises SourceError if there is none."""
    streams = [s for s in container.streams.video if not _is_cover(s) and _size(s) != (0, 0)]
    if index is not None:
        return next(s for s in streams if s.index == index)
    if not streams:
        kinds = ", ".join(sorted({_kind(s) for s in container.streams})) or "nothing"
        raise SourceError(
            f"input: expected a file with a video stream, got one with only {kinds}: {container.name[5:]}"
        )
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), _size(s)[0] * _size(s)[1], -s.index))


def probe(path: Path) -> MediaSource:
    """Reads headers, every packet's timestamps and a few frames. Raises SourceError for what cannot be upscaled."""
    with open_file(path) as container:
        stream = video_stream(container)
        try:
            packets = [
                _Stamp(p.pts, p.dts, p.duration or 0)
                for p in container.demux(stream)
                if p.size and not p.is_discard and _is_shown(stream, bytes(memoryview(p)[:1]))
            ]
        except av.FFmpegError as error:
            raise SourceError(f"input: cannot be read: {path} ({_reason(error)})") from error
    with open_file(path) as container:
        return _described(path, container, packets)


@dataclass(frozen=True)
class _Stamp:
    pts: int | None
    dts: int | None
    duration: int


def _described(path: Path, container: InputContainer, packets: Sequence[_Stamp]) -> MediaSource:
    stream = video_stream(container)
    codec = stream.codec_context
    frames = _sample_frames(container, stream, packets)
    if not frames:
        raise SourceError(f"input: expected a video with frames, got one of which no frame can be decoded: {path}")
    first = frames[0]
    try:
        layout = layout_of(first.format.name)
    except ValueError as error:
        raise SourceError(f"input: {path}: {error}") from error
    _refuse_changes(path, frames)
    table = _table_of(packets, stream, container.format.name, first)
    return MediaSource(
        path=path,
        container=container.format.name,
        stream=stream.index,
        codec=codec.name,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        layout=layout,
        time_base=table.time_base,
        pts=table.pts,
        last_duration=table.last_duration,
        by_order=table.by_order,
        seeks=not table.by_order and container.format.name.split(",")[0] not in _SEEKS_LATE,
        start=min((start for s in container.streams if (start := _start_of(s)) is not None), default=Fraction(0)),
        sample_aspect_ratio=exact(stream.sample_aspect_ratio),
        rotation=rotation_of(first),
        interlaced=any(f.interlaced_frame for f in frames),
        properties=color_properties(first, layout),
        tags={k: v for k, v in stream.metadata.items() if k.lower().split("-")[0] not in STALE_TAGS and k[0] != "_"},
        disposition=tuple(d.name for d in Disposition if d.name and stream.disposition & d),
        tracks=tuple(_track(s) for s in container.streams if s.index != stream.index),
        chapters=len(container.chapters()),
        mastering_display=_mastering_display(first),
        content_light=_content_light(first),
        lost=tuple(sorted({text for f in frames for text in lost_side_data(f)})),
        notes=table.notes,
    )


def color_properties(frame: VideoFrame, layout: Layout) -> dict[str, int]:
    """The frame's color under VapourSynth's property names; what the frame does not say is absent."""
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
    if int(frame.chroma_location) > 0:
        properties["_ChromaLocation"] = int(frame.chroma_location) - 1
    return properties


@dataclass(frozen=True)
class _Table:
    pts: tuple[int, ...]
    time_base: Fraction
    last_duration: int
    by_order: bool
    notes: tuple[str, ...]


def _table_of(packets: Sequence[_Stamp], stream: VideoStream, container: str, first: VideoFrame) -> _Table:
    """The timestamps that the frames will carry: the container's where they make sense, else repaired, and said so."""
    time_base = exact(stream.time_base) or Fraction(1, 90000)
    stamps = [p.pts for p in packets if p.pts is not None]
    codec = stream.codec_context.name
    if not stamps:
        return _counted(len(packets), stream)
    if len(stamps) < len(packets):
        raise SourceError(
            f"input: {len(packets) - len(stamps)} of {len(packets)} frames carry no timestamp; "
            "rewrap it: ffmpeg -fflags +genpts -i IN -map 0 -c copy OUT.mkv; where that fails, take the video out, "
            f"to be shown at a constant rate: ffmpeg -i IN -map 0:v:0 -c copy OUT.{_RAW.get(codec, codec)}"
        )
    jumps = sum(1 for a, b in itertools.pairwise(p.dts for p in packets if p.dts is not None) if b < a)
    if jumps and container != "avi":
        raise DiscontinuityError(
            f"input: timestamps jump backwards {jumps} time(s), as in files that were joined byte by byte"
        )
    by_order = container.split(",")[0] == "avi"
    if by_order:  # AVI has no presentation times: those of frames that wait for others are an estimate, shuffled
        stamps = [p.dts for p in packets if p.dts is not None] or stamps
    pts = sorted(set(stamps))
    notes = []
    if len(pts) < len(stamps):
        notes.append(f"{len(stamps) - len(pts)} packets share a timestamp with another and were counted once")
    if not by_order and first.pts is not None and first.pts > pts[0]:
        dropped = sum(1 for p in pts if p < first.pts)
        notes.append(
            f"the first {dropped} frames cannot be decoded (the recording starts in the middle) and are left out"
        )
        pts = pts[dropped:]
    ends = {p.dts if by_order else p.pts: p.duration for p in packets}
    last = ends.get(pts[-1]) or (pts[-1] - pts[-2] if len(pts) > 1 else 0) or _frame_length(stream, time_base)
    return _Table(tuple(pts), time_base, last, by_order, tuple(notes))


class DiscontinuityError(SourceError):
    """Timestamps run backwards; rewrapping by ffmpeg makes one line of them."""


def _counted(num_frames: int, stream: VideoStream) -> _Table:
    rate = exact(stream.guessed_rate) or exact(stream.average_rate) or Fraction(25)
    note = f"the file carries no timestamps: frames are shown at the {float(rate):.6g} fps that it declares"
    return _Table(
        tuple(n * rate.denominator for n in range(num_frames)),
        Fraction(1, rate.numerator),
        rate.denominator,
        by_order=True,
        notes=(note,),
    )


def _frame_length(stream: VideoStream, time_base: Fraction) -> int:
    rate = exact(stream.guessed_rate) or Fraction(25)
    return max(1, round(1 / (rate * time_base)))


def _sample_frames(container: InputContainer, stream: VideoStream, packets: Sequence[_Stamp]) -> list[VideoFrame]:
    """The first frames, then some from a few later places; the first of the list is the first of the file."""
    frames = list(itertools.islice(_decoded(container, stream), _LOOK_FRAMES))
    stamps = sorted(p.pts for p in packets if p.pts is not None)
    if not frames or len(stamps) <= _LOOK_FRAMES:
        return frames
    for place in range(1, _LOOK_PLACES):
        try:
            container.seek(stamps[len(stamps) * place // _LOOK_PLACES], stream=stream)
            frames += itertools.islice(_decoded(container, stream), _LOOK_FRAMES)
        except (av.FFmpegError, OSError):
            break  # a sample only: what cannot be sought is decoded from the start later
    return frames


def _refuse_changes(path: Path, frames: Sequence[VideoFrame]) -> None:
    """Found now where a sample shows it; else it ends the work at that frame."""
    first = frames[0]
    for frame in frames:
        if (frame.width, frame.height) != (first.width, first.height):
            raise SourceError(
                f"input: expected {first.width}x{first.height} to the end, got {frame.width}x{frame.height} "
                f"at {frame.time if frame.time is not None else 0:.3f} s; split the file there: {path}"
            )


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    try:
        yield from container.decode(stream)
    except (av.FFmpegError, OSError) as error:
        logger.debug("a sample stopped: %s", error)


def _is_shown(stream: VideoStream, head: bytes) -> bool:
    """False for VP8's reference pictures that are decoded but never shown (RFC 6386, section 9.1)."""
    return stream.codec_context.name not in ("vp8", "libvpx") or not head or bool(head[0] & 0x10)


def rotation_of(frame: VideoFrame) -> int:
    return int(frame.rotation) % 360


def _mastering_display(frame: VideoFrame) -> str | None:
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


def _content_light(frame: VideoFrame) -> str | None:
    raw = _side_data(frame, "CONTENT_LIGHT_LEVEL")
    return "{},{}".format(*struct.unpack("2I", raw[:8])) if raw is not None else None


def _side_data(frame: VideoFrame, name: str) -> bytes | None:
    return next((bytes(data) for key, data in _side_data_items(frame) if key == name), None)


def lost_side_data(frame: VideoFrame) -> Iterator[str]:
    for name, _ in _side_data_items(frame):
        if name in _METADATA_NOT_CARRIED:
            yield _METADATA_NOT_CARRIED[name]


def _side_data_items(frame: VideoFrame) -> Iterable[tuple[str, memoryview]]:
    return ((str(getattr(key, "name", key)), memoryview(data)) for key, data in frame.side_data.items())


def _size(stream: VideoStream) -> tuple[int, int]:
    """(0, 0) also for a codec that nobody knows, which PyAV gives no context."""
    context: VideoCodecContext | None = stream.codec_context
    return (context.width, context.height) if context is not None else (0, 0)


def _start_of(stream: Stream) -> Fraction | None:
    if stream.start_time is None or stream.time_base is None or _is_cover(stream):
        return None
    return stream.start_time * exact(stream.time_base)


class Ratio(Protocol):
    """PyAV's ratios: Fraction in some versions, a type of its own in others."""

    @property
    def numerator(self) -> int: ...

    @property
    def denominator(self) -> int: ...


def exact(ratio: Ratio | None) -> Fraction:
    """As Fraction; 0 for what is unknown, which FFmpeg writes as 0/1, 0/0 or nothing."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio is not None and ratio.denominator else Fraction(0)


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _kind(stream: Stream) -> str:
    return "cover" if _is_cover(stream) else stream.type


def _track(stream: Stream) -> Track:
    context = getattr(stream, "codec_context", None)
    tags = stream.metadata
    return Track(
        index=stream.index,
        kind=_kind(stream),
        codec=context.name if context is not None else tags.get("mimetype", "unknown"),
        language=tags.get("language", ""),
        title=tags.get("title", "") or tags.get("filename", ""),
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    log = getattr(error, "log", None)
    said = log[2].strip() if log and len(log) > 2 else ""
    return f"{said or text}"
