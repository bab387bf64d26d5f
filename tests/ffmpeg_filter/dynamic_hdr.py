"""HEVC files with HDR10+ and Dolby Vision, made of others."""

import struct
from collections.abc import Sequence
from pathlib import Path

import av


def hdr10_plus_unit(brightness: int) -> bytes:
    """A NAL unit of HEVC with dynamic metadata of ST 2094-40: one window, nothing in it but a brightness.

    Before it, in the same unit, another message.
    """
    fields = [(8, 0xB5), (16, 0x3C), (16, 1), (8, 4), (8, 1), (2, 1), (27, 1000), (1, 0)]  # T.35 codes, then the head
    fields += [(17, 0), (17, brightness), (17, 3), (17, 50), (4, 1), (7, 99), (17, 400), (10, 0)]
    fields += [(1, 0)] * 3
    bits = "".join(format(value, f"0{size}b") for size, value in fields)
    payload = int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes(-(-len(bits) // 8))
    content = bytes([137, 24]) + bytes(24) + bytes([4, len(payload)]) + payload + b"\x80"
    unit, zeros = bytearray(b"\x4e\1"), 0
    for byte in content:
        if zeros == 2 and byte <= 3:  # three zeros in a row would look like the start of a unit
            unit.append(3)
            zeros = 0
        unit.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(unit)


def with_units(path: Path, before: Sequence[bytes], to: Path) -> None:
    """The HEVC of a file with a unit before each picture, in decoding order."""
    with av.open(str(path)) as source, av.open(str(to), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        stream.codec_context.codec_tag = "hvc1"
        for unit, packet in zip(before, (p for p in source.demux() if p.size), strict=True):
            changed = av.Packet(b"".join((len(unit).to_bytes(4), unit, bytes(packet))))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.duration, changed.stream = packet.is_keyframe, packet.duration, stream
            output.mux(changed)


def declare_dolby_vision(path: Path, profile: int, compatibility: int) -> None:
    """Writes a configuration record into the sample entry of an mp4 whose index is its last box."""
    content = bytearray(path.read_bytes())
    record = bytes([1, 0]) + struct.pack(">H", profile << 9 | 6 << 3 | 0b101) + bytes([compatibility << 4]) + bytes(19)
    box = struct.pack(">I", 8 + len(record)) + b"dvcC" + record
    entry = content.index(b"hvcC") - 4
    at = entry + int.from_bytes(content[entry : entry + 4])
    content[at:at] = box
    for kind in (b"hvc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        begin = content.rindex(kind, 0, at) - 4
        content[begin : begin + 4] = (int.from_bytes(content[begin : begin + 4]) + len(box)).to_bytes(4)
    path.write_bytes(content)
