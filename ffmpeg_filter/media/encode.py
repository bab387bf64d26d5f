"""Frames to one encoded file: an ffmpeg process fed raw planes with exact timestamps."""

import contextlib
import errno
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch

from ffmpeg_filter.media import ffmpeg
from ffmpeg_filter.media.ffmpeg import CLOSE_TIMEOUT_S, Child, Executable, FfmpegError
from ffmpeg_filter.media.pixels import pixel_format_of, plane_order
from ffmpeg_filter.media.target_size import LARGEST_RATIO_TERM
from vs_iconvsr import system
from vs_iconvsr.colorspace import Colorimetry, Format, Planes

PIPE_BYTES = 1 << 20
TRIAL_S = 60.0


@dataclass(frozen=True)
class Encoding:
    """Everything that the bytes of an encoded part depend on, besides its frames and their timestamps.

    arguments: of the encoder. input_options: placed before its input, for HDR metadata. suffix: the container of a
    part. full_range_coded: whether the encoder accepts full range; if not, ffmpeg would convert it to limited range.
    """

    width: int
    height: int
    format: Format
    color: Colorimetry
    sample_aspect_ratio: Fraction
    time_base: Fraction
    arguments: tuple[str, ...]
    input_options: tuple[str, ...]
    suffix: str
    full_range_coded: bool = True

    @property
    def full_range_tagged(self) -> bool:
        """Whether only the container can mark the values as full range."""
        return self.color.full_range and not self.full_range_coded

    def command(self, executable: Executable, path: Path) -> list[str | bytes]:
        """The ffmpeg command that reads NUT on standard input and writes the part."""
        return [
            *ffmpeg.command_prefix(executable),
            "-copyts",
            *self.input_options,
            *("-f", "nut", "-i", "pipe:0", "-map", "0:v:0", "-fps_mode", "passthrough"),
            *("-enc_time_base", f"{self.time_base.numerator}/{self.time_base.denominator}"),
            *("-vf", self._filters()),
            *(("-chroma_sample_location", str(self.color.chroma_location + 1)) if self.format.subsampled else ()),
            *self.arguments,
            *("-fflags", "+bitexact"),
            *container_options(self.suffix, self.time_base),
            ffmpeg.safe_url(path),
        ]

    def _filters(self) -> str:
        color = self.color
        # The numbers of H.273: names differ between versions. Output options are ignored by ffmpeg 9.
        space = "" if self.format.family == "RGB" else f":colorspace={color.matrix}"
        tags = (
            f"setparams=field_mode=prog:range={2 if color.full_range and self.full_range_coded else 1}"
            f":color_primaries={color.primaries}:color_trc={color.transfer}{space}"
        )
        sar = self.sample_aspect_ratio
        return tags + (f",setsar={sar.numerator}/{sar.denominator}:max={LARGEST_RATIO_TERM}" if sar else "")


def container_options(suffix: str, time_base: Fraction) -> list[str]:
    """Options that make a muxer keep timestamps unchanged."""
    if suffix in ("mkv", "webm"):
        return ["-f", {"mkv": "matroska"}.get(suffix, suffix), "-avoid_negative_ts", "disabled"]
    form = {"mov": "mov", "mp4": "mp4"}[suffix]
    scale = ["-movie_timescale", "90000", "-video_track_timescale", str(time_base.denominator)]
    return ["-f", form, *scale, "-strict", "-2"]


def hdr_options(
    executable: Executable, codec: str, mastering_display: str | None, content_light: str | None
) -> tuple[list[str], list[str], bool]:
    """Options before the input, settings for the encoder's own parameter string, and whether HDR10 metadata is kept."""
    if mastering_display is None and content_light is None:
        return [], [], True
    if {"mastering_display", "content_light"} <= executable.options:
        before = [*_option("-mastering_display", mastering_display), *_option("-content_light", content_light)]
        return before, [], True
    if codec == "libx265":
        inside = [f"master-display={mastering_display}"] if mastering_display else []
        return (
            [],
            [*inside, *([f"max-cll={content_light}"] if content_light else []), "hdr10=1", "repeat-headers=1"],
            True,
        )
    return [], [], False


def _option(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


def try_out(executable: Executable, encoding: Encoding, folder: Path) -> Path:
    """Encodes one black frame into a file in the folder: ffmpeg checks options only when the first frame arrives.

    Raises FfmpegError with its message, before minutes have gone into the first frame.
    """
    sizes = encoding.format.plane_sizes(encoding.width, encoding.height)
    black = tuple(torch.zeros(height, width, dtype=encoding.format.dtype) for width, height in sizes)
    encoder = FrameEncoder(executable, encoding, folder / f"part_000000.{encoding.suffix}")
    try:
        encoder.put(black, 0)
        encoder.finish(TRIAL_S)
    except FfmpegError as error:
        raise FfmpegError(f"encoder: cannot be used with these options: {error}") from error
    finally:
        encoder.close()
    return encoder.path


class FrameEncoder:
    """An ffmpeg process that encodes the frames it is given, in order, into one file.

    Frames go through a pipe as NUT, which carries our timestamps; the pipe is bounded, so `put` waits for the encoder.
    convert: what is done to each frame first, such as resizing it to the size of the encoding.
    Every way out goes through `finish` or `close`, by one thread at a time; only `kill` may come from another one.
    """

    def __init__(
        self,
        executable: Executable,
        encoding: Encoding,
        path: Path,
        *,
        convert: Callable[[Planes], Planes] | None = None,
    ) -> None:
        self.path = path
        self._convert = convert
        self.count = 0
        self._encoding = encoding
        self._child = Child(encoding.command(executable, path), stdin=subprocess.PIPE)
        stdin = self._child.process.stdin
        assert stdin is not None
        self._pipe = stdin
        try:
            self._open_nut()
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        return self._child.process.pid

    def put(self, planes: Planes, pts: int) -> None:
        """Encodes the next frame. Raises FfmpegError with ffmpeg's message if it no longer accepts any."""
        planes = planes if self._convert is None else self._convert(planes)
        data = torch.cat([plane.contiguous().view(torch.uint8).flatten() for plane in self._encoder_planes(planes)])
        packet = av.Packet(data.numpy().tobytes())
        packet.stream = self._stream
        packet.time_base = self._encoding.time_base
        packet.pts = packet.dts = pts
        packet.is_keyframe = True
        with self._quote_ffmpeg():
            self._nut.mux(packet)
        self.count += 1

    def finish(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Ends the input and waits until the file is complete. Raises FfmpegError."""
        try:
            with self._quote_ffmpeg():
                self._nut.close()
            self._close_pipe()
            self._child.finish(timeout_s)
        finally:
            self.close()

    def kill(self) -> None:
        """Ends the process, whatever it is doing, so that `put` and `finish` fail; from any thread, more than once.

        The pipe stays open: another thread may be writing to it, and its descriptor could be given to another file.
        """
        self._child.kill()

    def close(self) -> None:
        """Ends the process if it still runs and closes the pipe; safe to call more than once."""
        self.kill()
        self._close_pipe()
        with contextlib.suppress(AttributeError, av.FFmpegError, OSError):
            self._nut.close()

    def _open_nut(self) -> None:
        encoding = self._encoding
        system.enlarge_pipe(self._pipe, PIPE_BYTES)
        self._nut = av.open(system.for_pyav(self._pipe), "w", format="nut")
        stream = self._nut.add_stream("rawvideo")
        stream.width, stream.height = encoding.width, encoding.height
        stream.pix_fmt = pixel_format_of(encoding.format)
        stream.time_base = stream.codec_context.time_base = encoding.time_base
        self._stream = stream
        with self._quote_ffmpeg():
            self._nut.start_encoding()

    def _encoder_planes(self, planes: Planes) -> Sequence[torch.Tensor]:
        return [planes[i] for i in plane_order(self._encoding.format)]

    @contextlib.contextmanager
    def _quote_ffmpeg(self):  # type: ignore[no-untyped-def]
        """A broken pipe is only the symptom: raises FfmpegError with what ffmpeg printed instead."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            self._close_pipe()
            raise FfmpegError(self._child.failure()) from error

    def _close_pipe(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.close()
