"""Parts to one video: their packets copied with exact timestamps."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from ffmpeg_filter.media import ffmpeg
from ffmpeg_filter.media.encode import container_options

FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


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


def join_parts(
    parts: Sequence[Path],
    pts: Sequence[int],
    last_duration: int,
    time_base: Fraction,
    to: Path,
    *,
    rotation: int = 0,
    full_range: bool = False,
) -> None:
    """Copies the packets of all parts into one video with the timestamps of the table, exactly.

    The parts' own timestamps only rank their frames. to: its suffix says the container; written whole or not at all is
    the caller's care. full_range: tag the video so where its encoder could not. Raises MuxError.
    """
    tables = [read_packets(part) for part in parts]
    _check_joinable(parts, tables, len(pts))
    delay = max(i - rank for table in tables for i, rank in enumerate(table.ranks()))
    step = pts[1] - pts[0] if len(pts) > 1 else last_duration
    decoding = [pts[0] - (delay - i) * step for i in range(delay)] + list(pts)
    durations = [b - a for a, b in itertools.pairwise(pts)] + [last_duration]
    with _open_output(to, time_base) as output:
        stream = _add_stream(output, parts[0], time_base, rotation=rotation, full_range=full_range)
        for position, (packet, frame) in enumerate(_ranked_packets(parts, tables)):
            packet.time_base = time_base
            packet.pts, packet.dts, packet.duration = pts[frame], decoding[position], durations[frame]
            packet.stream = stream
            output.mux(packet)


def _open_output(to: Path, time_base: Fraction) -> OutputContainer:
    # The muxer finds its options by name; the last two words are the container, which `format` says.
    pairs = container_options(to.suffix[1:], time_base)[2:]
    options = dict(zip([name[1:] for name in pairs[::2]], pairs[1::2], strict=True)) | {"fflags": "+bitexact"}
    kind = "matroska" if to.suffix == ".mkv" else to.suffix[1:]
    return av.open(ffmpeg.safe_name(to), "w", format=kind, container_options=options)


def _add_stream(
    output: OutputContainer, part: Path, time_base: Fraction, *, rotation: int, full_range: bool
) -> VideoStream:
    """A stream like the video of a part."""
    with av.open(ffmpeg.safe_name(part)) as first:
        template = first.streams.video[0]
        stream = output.add_stream_from_template(template, opaque=True)
        # ProRes and DNxHR store their profile in the four-character code, which is not copied from the template.
        stream.codec_context.codec_tag = template.codec_context.codec_tag
    stream.time_base = time_base
    if full_range:
        stream.codec_context.color_range = FULL_RANGE
    if rotation:
        stream.set_display_rotation(rotation)
    return stream


def _ranked_packets(
    parts: Sequence[Path], tables: Sequence[PacketTable]
) -> Iterator[tuple["av.Packet[VideoStream]", int]]:
    """The packets of all parts in decoding order, each with the number of its frame."""
    start = 0
    for path, table in zip(parts, tables, strict=True):
        with av.open(ffmpeg.safe_name(path)) as container:
            packets = (p for p in container.demux(container.streams.video[0]) if p.size)
            for packet, rank in zip(packets, table.ranks(), strict=True):
                yield packet, start + rank
        start += len(table.pts)


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
