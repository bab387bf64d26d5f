"""Opens local media files, but nothing that they refer to, and finds the video in them."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext

from ffmpeg_filter.media.ffmpeg import INPUT_PROTOCOLS, safe_name
from ffmpeg_filter.media.source import SourceError
from ffmpeg_filter.media.unreadable import missing_index

# Demuxers that read one file and follow nothing: playlists and concat scripts that call themselves .mp4 are refused.
# fmt: off
_DEMUXERS = (
    "matroska", "webm", "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "mpegts", "mpegtsraw", "mpeg", "mpegvideo", "avi",
    "nut", "flv", "live_flv", "asf", "ogg", "mxf", "mxf_opatom", "h264", "hevc", "vvc", "m4v", "h263", "ivf", "obu",
    "av1", "yuv4mpegpipe", "gif", "apng", "dv", "rm", "vc1", "vc1test", "wtv", "mjpeg", "mjpeg_2000", "dirac", "gxf",
    "png_pipe", "jpeg_pipe", "jpegls_pipe", "tiff_pipe", "bmp_pipe", "webp_pipe", "exr_pipe", "dpx_pipe", "ppm_pipe",
    "pgm_pipe", "pam_pipe", "j2k_pipe", "qoi_pipe", "sgi_pipe", "jpegxl_pipe", "webp_anim",
    "wav", "mp3", "flac", "aac", "ac3", "eac3", "aiff", "dts", "truehd", "w64", "caf", "au", "amr", "srt", "ass",
)
# fmt: on

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")  # Path has made one slash of two


class Ratio(Protocol):
    """PyAV's ratios: Fraction in some versions, its own type in others."""

    @property
    def numerator(self) -> int: ...

    @property
    def denominator(self) -> int: ...


def open_file(path: Path) -> InputContainer:
    """Opens a local video, but nothing that it refers to. Raises SourceError with the reason."""
    check_file(path)
    options = {"protocol_whitelist": INPUT_PROTOCOLS, "format_whitelist": ",".join(_DEMUXERS)}
    try:
        return av.open(safe_name(path), options=options)
    except PermissionError as error:
        raise SourceError(f"input: expected a readable file, got no permission to read {path}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = missing_index(path) or reason_of(error)
        raise SourceError(
            f"input: expected a video file, got one that cannot be read as such: {path} ({reason})"
        ) from error


def check_file(path: Path) -> None:
    """Raises SourceError, with the remedy, for a path that is not a file with content."""
    if str(path) == "-":
        raise SourceError("input: expected a file, got standard input; upscale a stream with iconvsr pipe")
    if _ADDRESS.match(path.as_posix()) and not path.exists():
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


def select_video(container: InputContainer, index: int | None = None) -> av.VideoStream:
    """The stream to upscale: the first default one that is no cover image. Raises SourceError if there is none."""
    streams = [s for s in container.streams.video if not is_cover(s) and _size(s) != (0, 0)]
    if index is not None:
        return next(s for s in streams if s.index == index)
    if not streams:
        kinds = ", ".join(sorted({_unusable(s) for s in container.streams}))
        found = f"one with only {kinds}" if kinds else "one without any stream"
        path = container.name[5:]
        reason = f" ({reason})" if Path(path).is_file() and (reason := missing_index(Path(path))) else ""
        raise SourceError(f"input: expected a file with a video stream, got {found}: {path}{reason}")
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), _size(s)[0] * _size(s)[1], -s.index))


def data_streams(path: Path) -> list[int]:
    """The numbers of a file's data streams."""
    with open_file(path) as container:
        return [s.index for s in container.streams if s.type == "data"]


def is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def kind_of(stream: Stream) -> str:
    """As in `Track.kind`."""
    return "cover" if is_cover(stream) else stream.type


def _unusable(stream: Stream) -> str:
    """What a stream is that cannot be upscaled."""
    kind = kind_of(stream)
    return "video of an unknown codec or size" if kind == "video" else kind


def exact(ratio: Ratio | None) -> Fraction:
    """As Fraction; 0 for what is unknown, which FFmpeg writes as 0/1, 0/0 or nothing."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio is not None and ratio.denominator else Fraction(0)


def reason_of(error: Exception) -> str:
    """What FFmpeg reported of an error, as precisely as it is known."""
    log = getattr(error, "log", None)
    logged = log[2].strip() if log and len(log) > 2 else ""
    return logged or str(getattr(error, "strerror", None) or error)


def _size(stream: av.VideoStream) -> tuple[int, int]:
    """(0, 0) also for an unknown codec, for which PyAV has no context."""
    context: VideoCodecContext | None = stream.codec_context
    return (context.width, context.height) if context is not None else (0, 0)
