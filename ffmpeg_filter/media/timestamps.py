"""The exact table of a video's timestamps: those of the container where they are usable, otherwise repaired."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Stream

from ffmpeg_filter.media.container import exact, is_cover
from ffmpeg_filter.media.source import SourceError, Timeline
from ffmpeg_filter.media.unreadable import is_encrypted, is_encrypted_stream

# Extensions by which ffmpeg writes video alone; others are named as their codec.
_RAW = {"mpeg2video": "m2v", "mpeg4": "m4v"}

# Seeking lands late there (measured: 9 of 9 wrong), so a reader that must start in the middle decodes from the start.
_SEEKS_LATE = ("mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "vc1")


# Containers whose clock may be set anew at any time; ffmpeg takes a larger leap for a new clock.
_CLOCKED = ("mpegts", "mpeg")
_LEAP_S = 10

# Where a container gives the time of few frames, those guessed for the others may be off by so many frames.
_GUESSED_FRAMES = 4


class DiscontinuityError(SourceError):
    """Timestamps run backwards or leap; rewrapping with ffmpeg makes them continuous."""


@dataclass(frozen=True)
class PacketTimes:
    """One packet's timestamps and duration, in units of its stream's time base."""

    pts: int | None
    dts: int | None
    duration: int


@dataclass(frozen=True)
class PacketScan:
    """What the packets of a whole file say.

    video: of every packet that becomes a visible frame, in decoding order. first: the time in seconds of the first
    packet of every stream that has one. encrypted: the numbers of the streams whose packets are. leaps: by how many
    seconds the time of all streams together leaps forward, where it does. other_bytes: of all streams but the video.
    """

    video: tuple[PacketTimes, ...]
    first: Mapping[int, Fraction]
    encrypted: frozenset[int]
    leaps: tuple[int, ...] = ()
    other_bytes: int = 0


def scan_packets(container: InputContainer, stream: av.VideoStream) -> PacketScan:
    """Reads every packet of the file. stream: the video."""
    video: list[PacketTimes] = []
    first: dict[int, Fraction] = {}
    encrypted = {s.index for s in container.streams if is_encrypted_stream(s)}
    clock, leaps, other_bytes = _Clock(), [], 0
    for packet in container.demux():
        index = packet.stream_index
        if not packet.size:
            continue
        if packet.dts is not None and packet.stream.type in ("audio", "video"):
            leaps += clock.leap_to(packet.dts * float(exact(packet.time_base)))
        other_bytes += packet.size if index != stream.index else 0
        if index not in first:
            first[index] = _time_of(packet)
            encrypted |= {index} if is_encrypted(packet) else set()
        if index == stream.index and not packet.is_discard and _is_shown(stream, bytes(memoryview(packet)[:1])):
            video.append(PacketTimes(packet.pts, packet.dts, packet.duration or 0))
    return PacketScan(tuple(video), first, frozenset(encrypted), tuple(leaps), other_bytes)


class _Clock:
    """The time of all streams together: where one goes on, nothing has leapt."""

    def __init__(self) -> None:
        self._latest: float | None = None

    def leap_to(self, seconds: float) -> list[int]:
        before, self._latest = self._latest, max(seconds, self._latest if self._latest is not None else seconds)
        return [] if before is None or seconds - before <= _LEAP_S else [round(seconds - before)]


def _time_of(packet: "av.Packet[Stream]") -> Fraction:
    stamp = packet.pts if packet.pts is not None else packet.dts or 0
    return stamp * exact(packet.time_base)


def build_timeline(
    scan: PacketScan, container: InputContainer, stream: av.VideoStream, first: av.VideoFrame
) -> tuple[Timeline, tuple[str, ...]]:
    """The timestamps that the frames will carry, and notes on what was repaired. first: the first decoded frame.

    Raises SourceError for timestamps that cannot be used.
    """
    packets = scan.video
    start = min((start for s in container.streams if (start := _start_of(s)) is not None), default=Fraction(0))
    stamps = [p.pts for p in packets if p.pts is not None]
    if not stamps:
        return _constant_rate(len(packets), stream, start)
    name = container.format.name
    _check_complete(stamps, packets, stream.codec_context.name)
    if name.split(",")[0] in _CLOCKED:
        _check_leaps(scan.leaps, name)
        if (even := _made_even(packets, stream, start)) is not None:
            return even
    _check_ascending(packets, name)
    by_order = name.split(",")[0] == "avi"
    if by_order:  # AVI has no presentation times: those of frames that wait for others are an estimate, shuffled
        stamps = [p.dts for p in packets if p.dts is not None] or stamps
    pts = sorted(set(stamps))
    kept_leap = scan.leaps and name.split(",")[0] == "mpeg"
    notes = [f"timestamps leap forward by up to {max(scan.leaps)} s: the pause is kept"] if kept_leap else []
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
    last = durations.get(pts[-1]) or _usual_step(pts) or _frame_length(stream, time_base)
    seekable = not by_order and name.split(",")[0] not in _SEEKS_LATE
    return Timeline(time_base, tuple(pts), last, start, by_order, seekable), tuple(notes)


def _constant_rate(num_frames: int, stream: av.VideoStream, start: Fraction) -> tuple[Timeline, tuple[str, ...]]:
    rate = exact(stream.guessed_rate) or exact(stream.average_rate) or Fraction(25)
    note = f"the file carries no timestamps: frames are shown at the {float(rate):.6g} fps that it declares"
    pts = tuple(n * rate.denominator for n in range(num_frames))
    timeline = Timeline(Fraction(1, rate.numerator), pts, rate.denominator, start, by_order=True, seekable=False)
    return timeline, (note,)


def _made_even(
    packets: Sequence[PacketTimes], stream: av.VideoStream, start: Fraction
) -> tuple[Timeline, tuple[str, ...]] | None:
    """The timeline of a constant rate where timestamps jitter around one; None where they do not.

    A pack of a program stream holds the time of its first frame alone. Those of the others are guessed.
    """
    stamps = sorted(p.pts for p in packets if p.pts is not None)
    step = packets[0].duration
    shuffled = any(b < a for a, b in itertools.pairwise(p.dts for p in packets if p.dts is not None))
    if len(set(stamps)) == len(packets) and not shuffled:
        return None
    if step <= 0 or any(p.duration != step for p in packets):
        return None
    grid = tuple(stamps[0] + n * step for n in range(len(packets)))
    off = max(abs(a - b) for a, b in zip(stamps, grid, strict=False))
    if off > _GUESSED_FRAMES * step:
        return None
    time_base = exact(stream.time_base)
    note = f"timestamps jitter by up to {float(off * time_base) * 1000:.0f} ms: replaced by a constant rate"
    return Timeline(time_base, grid, step, start, by_order=True, seekable=False), (note,)


def _usual_step(pts: Sequence[int]) -> int:
    """The median distance between frames: a pause before the last frame does not tell how long that one is shown."""
    steps = sorted(b - a for a, b in itertools.pairwise(pts))
    return steps[(len(steps) - 1) // 2] if steps else 0


def _check_leaps(leaps: Sequence[int], container: str) -> None:
    """Program streams hold too few timestamps for ffmpeg to rewrap them."""
    if leaps and container == "mpegts":
        raise DiscontinuityError(
            f"input: timestamps leap forward {len(leaps)} time(s), by {max(leaps)} s at most, as in recordings that "
            "were joined byte by byte"
        )


def _check_complete(stamps: Sequence[int], packets: Sequence[PacketTimes], codec: str) -> None:
    if len(stamps) < len(packets):
        raise SourceError(
            f"input: {len(packets) - len(stamps)} of {len(packets)} frames carry no timestamp; "
            "rewrap it: ffmpeg -fflags +genpts -i IN -map 0 -c copy OUT.mkv; where that fails, extract the "
            f"video, which then has a constant rate: ffmpeg -i IN -map 0:v:0 -c copy OUT.{_RAW.get(codec, codec)}"
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
