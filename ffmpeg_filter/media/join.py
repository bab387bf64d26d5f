"""Parts as one video: their packets with exact timestamps, written into the pipe of the ffmpeg that muxes them."""

import contextlib
import itertools
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ffmpeg_filter.media import dynamic_hdr, ffmpeg
from ffmpeg_filter.media.ffmpeg import Child, FfmpegError
from vs_iconvsr import system

# A fragment is held in memory, here and by ffmpeg, until it is whole.
_FRAGMENT_BYTES = 4 << 20


class MuxError(Exception):
    """A video that came out of joining or muxing differently from what went in."""


@dataclass(frozen=True)
class PacketTable:
    """What the packets of one file's video say: presentation timestamps in decoding order and the codec's header."""

    pts: tuple[int, ...]
    extradata: bytes | None

    def ranks(self) -> list[int]:
        """For each packet its place in presentation order."""
        ranks = [0] * len(self.pts)
        for rank, position in enumerate(sorted(range(len(self.pts)), key=lambda i: (self.pts[i], i))):
            ranks[position] = rank
        return ranks


def read_packets(path: Path) -> PacketTable:
    """Reads the packets of a file that we wrote. Raises MuxError if it cannot be read."""
    try:
        with av.open(ffmpeg.safe_name(path)) as container:
            stream = container.streams.video[0]
            pts = tuple(p.pts for p in container.demux(stream) if p.size and p.pts is not None)
            return PacketTable(pts, stream.codec_context.extradata)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise MuxError(f"{path.name}: cannot be read back: {error}") from error


@dataclass(frozen=True)
class JoinedVideo:
    """The packets of all parts as one video with the timestamps of a table.

    parts, tables: the files and what their packets say. pts, last_duration: of the frames, in units of time_base; the
    parts' own timestamps only rank their frames. rotation: degrees counterclockwise, where the ffmpeg that muxes has no
    option for it. hdr10_plus: messages by frame, see `dynamic_hdr`.
    """

    parts: tuple[Path, ...]
    tables: tuple[PacketTable, ...]
    pts: tuple[int, ...]
    last_duration: int
    time_base: Fraction
    rotation: float = 0
    hdr10_plus: Mapping[int, bytes] = field(default_factory=dict)

    def input_options(self) -> list[str]:
        """Of the ffmpeg that reads it on its standard input, which then sees the timestamps of the table."""
        return input_options(self._suffix, self._first_decoding * self.time_base)

    def write(self, pipe: IO[bytes]) -> None:
        """All packets, into a pipe. Raises OSError if nobody reads on."""
        # Matroska on a pipe counts from 0, and MP4 in fragments from its first packet whatever that says.
        lead = round(_lead(self._first_decoding * self.time_base) / self.time_base) if self._suffix == "mkv" else 0
        form = {"mkv": "matroska"}.get(self._suffix, self._suffix)
        options = _container_options(form)
        with av.open(system.for_pyav(pipe), "w", format=form, container_options=options) as output:
            stream = self._add_stream(output)
            for packet in self._packets(lead):
                packet.stream = stream
                output.mux(packet)

    @property
    def _suffix(self) -> str:
        return self.parts[0].name.split(".", 1)[1].removesuffix(".part")

    @property
    def _delay(self) -> int:
        return max(i - rank for table in self.tables for i, rank in enumerate(table.ranks()))

    @property
    def _step(self) -> int:
        """How much earlier the first frames are decoded, each: little, or they would make the video longer."""
        return min((b - a for a, b in itertools.pairwise(self.pts)), default=self.last_duration)

    @property
    def _first_decoding(self) -> int:
        return self.pts[0] - self._delay * self._step

    def _add_stream(self, output: OutputContainer) -> VideoStream:
        """A stream like the video of a part."""
        with av.open(ffmpeg.safe_name(self.parts[0])) as first:
            template = first.streams.video[0]
            stream = output.add_stream_from_template(template, opaque=True)
            # ProRes and DNxHR store their profile in the four-character code, which is not copied from the template.
            stream.codec_context.codec_tag = template.codec_context.codec_tag
        stream.time_base = self.time_base
        if self.rotation:
            stream.set_display_rotation(int(self.rotation))
        return stream

    def _packets(self, lead: int) -> Iterator["Packet[VideoStream]"]:
        """In decoding order, with the timestamps of the table; lead: what is added to all of them."""
        decoding = [self._first_decoding + i * self._step for i in range(self._delay)] + list(self.pts)
        durations = [b - a for a, b in itertools.pairwise(self.pts)] + [self.last_duration]
        header = self.tables[0].extradata or b""
        for position, (coded, frame) in enumerate(self._ranked_packets()):
            message = self.hdr10_plus.get(frame)
            packet = coded if message is None else dynamic_hdr.with_message(coded, message, header)
            packet.time_base = self.time_base
            packet.pts, packet.dts = self.pts[frame] + lead, decoding[position] + lead
            packet.duration = durations[frame]
            yield packet

    def _ranked_packets(self) -> Iterator[tuple["Packet[VideoStream]", int]]:
        """The packets of all parts in decoding order, each with the number of its frame."""
        start = 0
        for path, table in zip(self.parts, self.tables, strict=True):
            with av.open(ffmpeg.safe_name(path)) as container:
                packets = (p for p in container.demux(container.streams.video[0]) if p.size)
                for packet, rank in zip(packets, table.ranks(), strict=True):
                    yield packet, start + rank
            start += len(table.pts)


def join_parts(
    parts: Sequence[Path],
    pts: Sequence[int],
    last_duration: int,
    time_base: Fraction,
    *,
    rotation: float = 0,
    hdr10_plus: Mapping[int, bytes] | None = None,
) -> JoinedVideo:
    """The parts as one video, see JoinedVideo. Raises MuxError if they do not fit together."""
    tables = [read_packets(part) for part in parts]
    _check_joinable(parts, tables, len(pts))
    return JoinedVideo(tuple(parts), tuple(tables), tuple(pts), last_duration, time_base, rotation, hdr10_plus or {})


def input_options(suffix: str, first_s: Fraction) -> list[str]:
    """The input options for a joined video. first_s: its first decoding timestamp."""
    offset = -_lead(first_s) if suffix == "mkv" else first_s
    form = {"mkv": "matroska"}.get(suffix, suffix)
    return [*(["-itsoffset", f"{float(offset):.6f}"] if offset else []), "-f", form, "-i", "pipe:"]


def mux_joined(command: Sequence[str | bytes], video: JoinedVideo, *, patience_s: float | None = None) -> None:
    """Runs an ffmpeg that reads the video on its standard input. Raises FfmpegError.

    patience_s: after so long it is stopped, and what it has written is good enough.
    """
    child = Child(command, stdin=subprocess.PIPE)
    stdin = child.process.stdin
    assert stdin is not None
    try:
        try:
            video.write(stdin)
            stdin.close()
        except OSError as error:  # a broken pipe is only the symptom
            with contextlib.suppress(OSError):
                stdin.close()
            raise FfmpegError(child.failure()) from error
        if patience_s is None or child.ends_within(patience_s):
            child.finish(ffmpeg.CLOSE_TIMEOUT_S * 100)
    finally:
        child.kill(at_once=patience_s is None)
        with contextlib.suppress(OSError):
            stdin.close()


def _lead(first_s: Fraction) -> int:
    """Whole seconds that make a timestamp positive."""
    return max(0, math.ceil(-first_s))


def _container_options(form: str) -> dict[str, str]:
    if form == "matroska":
        return {"fflags": "+bitexact"}
    return {
        "movflags": "frag_keyframe+empty_moov",
        "frag_size": str(_FRAGMENT_BYTES),
        "fflags": "+bitexact",
    }


def _check_joinable(parts: Sequence[Path], tables: Sequence[PacketTable], num_frames: int) -> None:
    total = sum(len(table.pts) for table in tables)
    if total != num_frames:
        raise MuxError(f"parts: expected {num_frames} frames together, got {total}; pass --restart")
    for path, table in zip(parts, tables, strict=True):
        if table.extradata != tables[0].extradata:
            raise MuxError(
                f"{path.name}: its codec header differs from that of {parts[0].name}, so they cannot be joined; "
                "they were encoded with different builds or settings: pass --restart"
            )
