"""Why a video file cannot be read, and which tool helps: truncated recordings, encryption."""

import re
from collections.abc import Iterator
from pathlib import Path

from av.packet import Packet
from av.stream import Stream

# The first boxes that files of the MP4 and QuickTime family begin with.
_FIRST_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx"))
_ENCRYPTED_TAGS = frozenset(("encv", "enca", "drmi", "drms"))
_LOOK_BYTES = 8 << 20
_TS_PACKET, _TS_SYNC = 188, 0x47
_PICTURE_PES = re.compile(rb"\x00\x00\x01[\xe0-\xef]..([\x80-\xbf])", re.DOTALL)


def missing_index(path: Path) -> str | None:
    """What is missing in an MP4 or MOV that cannot be opened, with the remedy; None if it is not that."""
    boxes = list(_boxes(path))
    if not boxes or boxes[0][0] not in _FIRST_BOXES:
        return None
    kinds = {kind for kind, _ in boxes}
    if b"moov" not in kinds and b"moof" in kinds:
        return "its header (moov) is missing, as in a segment of a stream; prepend it: cat INIT.mp4 IN.m4s > OUT.mp4"
    if b"moov" not in kinds or dict(boxes)[b"moov"] > path.stat().st_size:
        return (
            "its index (moov) is missing, as in a truncated recording or an incomplete copy; copy it "
            "again, or repair it with untrunc and an intact recording of the same camera: untrunc WHOLE.mp4 IN.mp4"
        )
    return None


def _boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """The kind of each box of the file, and where it should end."""
    length = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + 8 <= length:
            file.seek(at)
            head = file.read(16)
            size, kind = int.from_bytes(head[:4]), head[4:8]
            if size == 1:
                size = int.from_bytes(head[8:16])
            elif size == 0:
                size = length - at  # to the end of the file
            if size < 8:
                return
            yield kind, at + size
            at += size


def is_encrypted(packet: "Packet[Stream]") -> bool:
    """Whether a packet is marked as encrypted (MP4)."""
    return packet.has_sidedata("encryption_info")


def is_encrypted_stream(stream: Stream) -> bool:
    """Whether a stream's header marks its packets as encrypted (old MP4, Matroska)."""
    return _codec_tag(stream) in _ENCRYPTED_TAGS or "enc_key_id" in stream.metadata


def _codec_tag(stream: Stream) -> str:
    """Four characters; "" where it is a number of other bytes, as in WAV."""
    context = getattr(stream, "codec_context", None)
    try:
        return str(context.codec_tag) if context is not None else ""
    except UnicodeDecodeError:
        return ""


def encryption_message(container: str, path: Path, track: str) -> str:
    """The error for an encrypted track. container: FFmpeg's name of the demuxer."""
    remedy = {
        "mpegts": "record or save it again with a receiver that descrambles it",
        "mpeg": "copy the disc with a program that decrypts it",
        "matroska": "save it again without encryption",
    }.get(container.split(",")[0], "with its key: ffmpeg -decryption_key KEY -i IN.mp4 -map 0 -c copy OUT.mp4")
    return f"input: expected a video that is not encrypted, got {track} encrypted; decrypt it first, {remedy}: {path}"


def is_scrambled(path: Path, container: str) -> bool:
    """Whether most pictures of a transport stream or of a disc's program stream are flagged as scrambled."""
    with path.open("rb") as file:
        content = file.read(_LOOK_BYTES)
    flags = {"mpegts": _transport_flags, "mpeg": _program_flags}.get(container.split(",")[0])
    found = list(flags(content)) if flags else []
    return sum(found) * 2 > len(found)


def _transport_flags(content: bytes) -> Iterator[bool]:
    step = next((n for n in (_TS_PACKET, 192, 204) if all(content[n * i : n * i + 1] == b"G" for i in range(4))), None)
    start = 0
    if step is None:  # Blu-ray and camcorders put four bytes of time before each packet
        start, step = 4, 192
    for at in range(start, len(content) - 3, step):
        if content[at] == _TS_SYNC and content[at + 3] & 0x10:
            yield bool(content[at + 3] & 0xC0)


def _program_flags(content: bytes) -> Iterator[bool]:
    return (bool(match.group(1)[0] & 0x30) for match in _PICTURE_PES.finditer(content))
