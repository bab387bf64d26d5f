"""The exact table of a video's timestamps: the container's where they make sense, else repaired."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Stream

from ffmpeg_filter.media.container import exact, is_cover
from ffmpeg_filter.media.source import SourceError, Timeline

# Extensions by which ffmpeg writes video alone; others are named as their codec.
_RAW = {"mpeg2video": "m2v", "mpeg4": "m4v"}

# Seeking lands late there (measured: 9 of 9 wrong), so a reader that must start in the middle decodes from the start.
_SEEKS_LATE = ("mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "vc1")


class DiscontinuityError(SourceError):
    """Timestamps run backwards; rewrapping by ffmpeg makes one line of them."""


@dataclass(frozen=True)
class PacketTimes:
    """One packet's timestamps and duration, in units of its stream's time base."""

    pts: int | None
    dts: int | None
    duration: int


def read_packet_times(container: InputContainer, stream: av.VideoStream) -> list[PacketTimes]:
    """Of every packet that becomes a visible frame, in decoding order."""
    return [
        PacketTimes(p.pts, p.dts, p.duration or 0)
        for p in container.demux(stream)
        if p.size and not p.is_discard and _is_shown(stream, bytes(memoryview(p)[:1]))
    ]


def build_timeline(
    packets: Sequence[PacketTimes], container: InputContainer, stream: av.VideoStream, first: av.VideoFrame
) -> tuple[Timeline, tuple[str, ...]]:
    """The timestamps that the frames will carry, and notes on what was repaired. first: the first decoded frame.

    Raises SourceError for timestamps that make no sense.
    """
    start = min((start for s in container.streams if (start := _start_of(s)) is not None), default=Fraction(0))
    stamps = [p.pts for p in packets if p.pts is not None]
    if not stamps:
        return _constant_rate(len(packets), stream, start)
    name = container.format.name
    _check_complete(stamps, packets, stream.codec_context.name)
    _check_ascending(packets, name)
    by_order = name.split(",")[0] == "avi"
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
    time_base = exact(stream.time_base) or Fraction(1, 90000)
    durations = {p.dts if by_order else p.pts: p.duration for p in packets}
    last = durations.get(pts[-1]) or (pts[-1] - pts[-2] if len(pts) > 1 else 0) or _frame_length(stream, time_base)
    seekable = not by_order and name.split(",")[0] not in _SEEKS_LATE
    return Timeline(time_base, tuple(pts), last, start, by_order, seekable), tuple(notes)


def _constant_rate(num_frames: int, stream: av.VideoStream, start: Fraction) -> tuple[Timeline, tuple[str, ...]]:
    rate = exact(stream.guessed_rate) or exact(stream.average_rate) or Fraction(25)
    note = f"the file carries no timestamps: frames are shown at the {float(rate):.6g} fps that it declares"
    pts = tuple(n * rate.denominator for n in range(num_frames))
    timeline = Timeline(Fraction(1, rate.numerator), pts, rate.denominator, start, by_order=True, seekable=False)
    return timeline, (note,)


def _check_complete(stamps: Sequence[int], packets: Sequence[PacketTimes], codec: str) -> None:
    if len(stamps) < len(packets):
        raise SourceError(
            f"input: {len(packets) - len(stamps)} of {len(packets)} frames carry no timestamp; "
            "rewrap it: ffmpeg -fflags +genpts -i IN -map 0 -c copy OUT.mkv; where that fails, take the video out, "
            f"to be shown at a constant rate: ffmpeg -i IN -map 0:v:0 -c copy OUT.{_RAW.get(codec, codec)}"
        )


def _check_ascending(packets: Sequence[PacketTimes], container: str) -> None:
    jumps = sum(1 for a, b in itertools.pairwise(p.dts for p in packets if p.dts is not None) if b < a)
    if jumps and container != "avi":
        raise DiscontinuityError(
            f"input: timestamps jump backwards {jumps} time(s), as in files that were joined byte by byte"
        )


def _frame_length(stream: av.VideoStream, time_base: Fraction) -> int:
    rate = exact(stream.guessed_rate) or Fraction(25)
    return max(1, round(1 / (rate * time_base)))


def _start_of(stream: Stream) -> Fraction | None:
    if stream.start_time is None or stream.time_base is None or is_cover(stream):
        return None
    return stream.start_time * exact(stream.time_base)


def _is_shown(stream: av.VideoStream, head: bytes) -> bool:
    """False for VP8's reference frames that are decoded but never shown (RFC 6386, section 9.1)."""
    return stream.codec_context.name not in ("vp8", "libvpx") or not head or bool(head[0] & 0x10)
