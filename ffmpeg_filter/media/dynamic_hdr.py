"""HDR metadata that changes from frame to frame: HDR10+ goes from HEVC to HEVC as it is, Dolby Vision is named.

HDR10+ (ST 2094-40) describes the light of whole pictures, which upscaling keeps. Its messages are taken from the
source's packets and put into those of the joined video: no encoder needs to know of them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ffmpeg_filter.media.container import open_file, select_video
from ffmpeg_filter.media.source import MediaSource, SourceError

HDR10_PLUS, DOLBY_VISION = "HDR10+ dynamic metadata", "Dolby Vision metadata"

ENCODERS = ("libx265", "hevc_nvenc")

# Of ITU-T T.35: country, provider, the provider's code, and the application with its identifier.
_HDR10_PLUS_HEAD = bytes.fromhex("b5003c000104")

# Types of NAL units of HEVC (table 7-1) and of SEI messages (D.2.1).
_FIRST_NON_VCL, _PREFIX_SEI, _REGISTERED_BY_T35 = 32, 39, 4


def settle(source: MediaSource, codec: str | None, *, drop: bool) -> MediaSource:
    """The source without HDR10+ among what is lost, where a video of that codec will carry it.

    codec: FFmpeg's encoder, None for images. Raises SourceError for what will be lost, unless it is to be dropped.
    """
    lost = [text for text in (HDR10_PLUS, DOLBY_VISION) if text in source.lost]
    if HDR10_PLUS in lost and _obstacle(source, codec) is None:
        lost.remove(HDR10_PLUS)
        source = replace(
            source, lost=tuple(text for text in source.lost if text != HDR10_PLUS), carries_hdr10_plus=True
        )
    if lost and not drop:
        reason = "nothing here can adapt it" if DOLBY_VISION in lost else _obstacle(source, codec)
        raise SourceError(
            f"input: expected a video whose HDR metadata the output can carry, got {' and '.join(lost)}: {reason}; "
            "pass --drop-dynamic-hdr to go on without it (docs/formats.md says how other tools put it back)"
        )
    return source


def _obstacle(source: MediaSource, codec: str | None) -> str | None:
    """Why HDR10+ cannot be carried, None if it can."""
    if codec not in ENCODERS:
        return "only HEVC carries it here, pass --encoder x265"
    if source.video.codec != "hevc":
        return f"it is carried from HEVC only, and this is {source.video.codec}"
    if source.timeline.by_order:
        return "the file has no timestamps that would tell its frame, rewrap it as Matroska with mkvmerge"
    if next(hdr10_plus_messages(source), None) is None:
        return "it is not where HEVC has it, before the slices of a picture"
    return None


def hdr10_plus_messages(source: MediaSource) -> Iterator[tuple[int, bytes]]:
    """(frame, message) for each frame that has one, in decoding order, read from the packets.

    A message is the payload of an SEI message, without its type and size.
    """
    numbers = {pts: n for n, pts in enumerate(source.timeline.pts)}
    with open_file(source.path) as container:
        for pts, message in _messages(container, select_video(container, source.video.index)):
            if pts in numbers:
                yield numbers[pts], message


def messages_written(container: InputContainer) -> list[bytes]:
    """The messages in a finished file, in the order in which they are shown."""
    return [message for _, message in sorted(_messages(container, container.streams.video[0]))]


def _messages(container: InputContainer, stream: VideoStream) -> Iterator[tuple[int, bytes]]:
    length_bytes = _length_bytes(stream.codec_context.extradata)
    for packet in container.demux(stream):
        if packet.pts is not None and packet.size:
            message = _message_in(memoryview(packet), length_bytes)
            if message is not None:
                yield packet.pts, message


def with_message(packet: "Packet[VideoStream]", message: bytes, extradata: bytes) -> "Packet[VideoStream]":
    """The packet, of HEVC as MP4 stores it, with an HDR10+ message before the first slice.

    extradata: the header of the stream. Timestamps are not copied.
    """
    length_bytes = _length_bytes(extradata)
    assert length_bytes is not None, "parts of HEVC are .mov"
    unit = _sei_unit(message)
    content = memoryview(packet)
    at = next(at for at, end in _units(content, length_bytes) if _type_of(content[at:end]) < _FIRST_NON_VCL)
    at -= length_bytes
    pieces = (content[:at], len(unit).to_bytes(length_bytes), unit, content[at:])
    changed = cast("Packet[VideoStream]", Packet(b"".join(pieces)))
    changed.is_keyframe = packet.is_keyframe
    return changed


# ---- the bitstream of HEVC ----


def _length_bytes(extradata: bytes | None) -> int | None:
    """How many bytes hold the length of a unit; None where units begin with a start code."""
    return extradata[21] % 4 + 1 if extradata and len(extradata) > 21 and extradata[0] == 1 else None


def _type_of(unit: memoryview) -> int:
    return unit[0] >> 1 & 0x3F


def _message_in(packet: memoryview, length_bytes: int | None) -> bytes | None:
    """The HDR10+ message before the first slice of a picture."""
    for start, end in _units(packet, length_bytes):
        unit = packet[start:end]
        if _type_of(unit) < _FIRST_NON_VCL:
            return None
        if _type_of(unit) == _PREFIX_SEI:
            for kind, payload in _sei_messages(bytes(unit[2:]).replace(b"\0\0\3", b"\0\0")):
                if kind == _REGISTERED_BY_T35 and payload.startswith(_HDR10_PLUS_HEAD):
                    return payload
    return None


def _units(packet: memoryview, length_bytes: int | None) -> Iterator[tuple[int, int]]:
    """Where each NAL unit begins and ends. Of a damaged packet, those before the damage."""
    if length_bytes is None:
        starts = [match.end() for match in re.finditer(b"\0\0\1", packet)]
        ends: Sequence[int] = [start - 3 for start in starts[1:]] + [len(packet)]
        yield from ((start, end) for start, end in zip(starts, ends, strict=False) if end - start > 2)
        return
    start = length_bytes
    while start < len(packet):
        end = start + int.from_bytes(packet[start - length_bytes : start])
        if not start + 2 < end <= len(packet):
            return
        yield start, end
        start = end + length_bytes


def _sei_messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each message in an SEI unit, from which the header and emulation prevention are taken."""
    at = 0
    while at + 2 < len(content):  # the last byte ends the unit
        numbers = []
        for _ in ("type", "size"):
            number = 0
            while at < len(content) and content[at] == 0xFF:
                number, at = number + 0xFF, at + 1
            number, at = number + content[at : at + 1].ljust(1, b"\0")[0], at + 1
            numbers.append(number)
        kind, size = numbers
        yield kind, content[at : at + size]
        at += size


def _sei_unit(payload: bytes) -> bytes:
    """A prefix SEI unit with one message that is registered by T.35."""
    size = b"\xff" * (len(payload) // 0xFF) + bytes([len(payload) % 0xFF])
    content = bytes([_REGISTERED_BY_T35]) + size + payload + b"\x80"
    # Two zeros before a byte up to 3 would look like the start of a unit, or its end.
    return bytes([_PREFIX_SEI << 1, 1]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", content)
