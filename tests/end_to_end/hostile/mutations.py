"""Damage to files, all of it decided by a seeded random.Random: cut off, flipped, spliced, and headers that lie."""

import json
import re
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

type Mutation = Callable[[bytes, bytes, Random], bytes]

_EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)
_MOST_FLIPS = 40
_HEADER_BYTES = 512

# By container: what stands before a field that can lie (size, count, duration, rate), how far the field is from it, and
# how long it is. MP4's boxes have a version, flags and more before most fields; any word of them may lie.
# fmt: off
_WORDS_OF_BOXES = tuple((name, 4 * word, 4) for name in (
    b"mvhd", b"tkhd", b"mdhd", b"elst", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"stss", b"hvcC", b"avcC", b"mp4v",
) for word in range(1, 9))
_FIELDS: dict[str, tuple[tuple[bytes, int, int], ...]] = {
    "mp4": (*_WORDS_OF_BOXES, *((name, 28, 4) for name in (b"hvc1", b"hev1", b"avc1", b"mp4v"))),
    "mkv": (
        (b"\x44\x89\x88", 3, 8), (b"\x2a\xd7\xb1", 4, 3), (b"\x23\xe3\x83", 4, 4), (b"\xb0\x81", 2, 1),
        (b"\xba\x81", 2, 1), (b"\x54\xb0\x81", 3, 1), (b"\x54\xba\x81", 3, 1), (b"\xe7\x81", 2, 1), (b"\xe7\x82", 2, 2),
        (b"\xd7\x81", 2, 1), (b"\x1f\x43\xb6\x75", 4, 8), (b"\x16\x54\xae\x6b", 4, 8), (b"\xa3", 1, 2), (b"\xa3", 3, 2),
    ),
    "avi": (
        *((b"avih", 8 + 4 * word, 4) for word in range(10)), *((b"strh", 16 + 4 * word, 4) for word in range(10)),
        *((b"strf", 8 + 4 * word, 4) for word in range(6)), (b"idx1", 4, 4), (b"movi", -8, 4), (b"00dc", 4, 4),
    ),
    "ts": (
        (b"\x00\x00\x01\xe0", 4, 2), (b"\x00\x00\x01\xe0", 9, 5), (b"\x00\x00\x01\xe0", 14, 5),
        (b"\x00\x00\x01\xc0", 9, 5), (b"\x00\x02\xb0", 2, 2), (b"\x00\x00\xb0", 2, 2), (b"\x47\x50", 2, 4),
    ),
    "exr": (
        (b"dataWindow\0box2i\0", 20, 4), (b"dataWindow\0box2i\0", 28, 4), (b"dataWindow\0box2i\0", 32, 4),
        (b"displayWindow\0box2i\0", 31, 4), (b"chlist\0", 7, 4), (b"compression\0compression\0", 28, 1),
        (b"lineOrder\0", 10, 4), (b"pixelAspectRatio\0float\0", 27, 4),
    ),
    "zip": (
        *((b"PK\x03\x04", at, 4) for at in (14, 18, 22)), *((b"PK\x01\x02", at, 4) for at in (10, 20, 24, 42)),
        *((b"PK\x05\x06", at, 4) for at in (8, 12, 16)), (b"K", 1, 1), (b"M", 1, 2), (b"J", 1, 4), (b"\x8a", 2, 4),
        (b"X", 1, 4), (b"q", 1, 1), (b"h", 1, 1),
    ),
    "nut": ((b"NM\x7aV\x11", 8, 4), (b"NS\x11", 8, 4), (b"NK", 8, 4)),
}
# fmt: on
_Y4M_LIES = (
    (rb"W\d+", (b"W0", b"W1", b"W-5", b"W65536", b"W99999999999")),
    (rb"H\d+", (b"H0", b"H1", b"H65536", b"H4294967295")),
    (rb"F\d+:\d+", (b"F0:0", b"F1:0", b"F-25:1", b"F2147483647:1", b"F1:2147483647", b"F99999999999:1")),
    (rb"C\w+", (b"C444", b"Cmono", b"C420p16", b"Cnonsense")),
)


def cut(content: bytes, other: bytes, dice: Random) -> bytes:
    """The beginning of the file."""
    del other
    return content[: dice.randrange(1, len(content))]


def flip(content: bytes, other: bytes, dice: Random) -> bytes:
    """Some bits changed, near the beginning or anywhere."""
    del other
    made = bytearray(content)
    reach = min(len(made), dice.choice((_HEADER_BYTES, len(made))))
    for _ in range(dice.randint(1, _MOST_FLIPS)):
        made[dice.randrange(reach)] ^= 1 << dice.randrange(8)
    return bytes(made)


def splice(content: bytes, other: bytes, dice: Random) -> bytes:
    """A piece of the file replaced by a piece of another, repeated, left out, or filled with zeros."""
    begin, end = sorted(dice.randrange(len(content)) for _ in range(2))
    match dice.choice(("other", "repeated", "without", "zeros", "joined")):
        case "other":
            return content[:begin] + other[dice.randrange(len(other)) :][: end - begin] + content[end:]
        case "repeated":
            return content[:end] + content[begin:]
        case "without":
            return content[:begin] + content[end:]
        case "zeros":
            return content[:begin] + bytes(end - begin) + content[end:]
    return content[:begin] + other[dice.randrange(len(other)) :]


def lie(kind: str) -> Mutation:
    """Fields in the headers of that kind of file with other values: sizes, counts, durations, rates."""
    kind = {"webm": "mkv", "pth": "zip"}.get(kind, kind)  # which share their headers
    special = {"png": _lie_in_png, "y4m": _lie_in_y4m, "json": _lie_in_json, "safetensors": _lie_in_safetensors}
    if kind in special:
        return special[kind]

    def mutate(content: bytes, other: bytes, dice: Random) -> bytes:
        del other
        made = bytearray(content)
        there = [field for field in _FIELDS.get(kind, ()) if field[0] in content]
        for marker, offset, length in dice.sample(there, min(len(there), dice.randint(1, 3))):
            for found in re.finditer(re.escape(marker), content):
                at = found.start() + offset
                if at >= 0 and at + length <= len(made):
                    made[at : at + length] = _number(dice, length)
                if dice.random() < 0.3:
                    break  # else every occurrence: each frame, each track
        return bytes(made) if made != content else flip(content, b"", dice)

    return mutate


def _number(dice: Random, length: int) -> bytes:
    value = dice.choice((*_EXTREMES, dice.getrandbits(8 * length)))
    return (value % (1 << 8 * length)).to_bytes(length, dice.choice(("big", "little")))


def _lie_in_png(content: bytes, other: bytes, dice: Random) -> bytes:
    """Another size, depth or color type in IHDR, with a valid checksum."""
    del other
    header = bytearray(content[16:29])
    at = dice.choice((0, 4, 8, 9, 12))
    length = 4 if at < 8 else 1
    header[at : at + length] = dice.choice(
        (struct.pack(">I", dice.choice((0, 1, 47, 49, 16384, 2**31 - 1))), _number(dice, 4))
    )[-length:]
    return content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


def _lie_in_y4m(content: bytes, other: bytes, dice: Random) -> bytes:
    del other
    pattern, lies = dice.choice(_Y4M_LIES)
    return re.sub(pattern, lambda _: dice.choice(lies), content, count=1)


def _lie_in_safetensors(content: bytes, other: bytes, dice: Random) -> bytes:
    """Another length of the header, or other values in it and a length that fits."""
    length = struct.unpack("<Q", content[:8])[0]
    if dice.random() < 0.2:
        return _number(dice, 8) + content[8:]
    header = _lie_in_json(content[8 : 8 + length], other, dice)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _lie_in_json(content: bytes, other: bytes, dice: Random) -> bytes:
    """Some values replaced by others of any type, left out, or nested too deeply."""
    del other
    whole = json.loads(content)
    for _ in range(dice.randint(1, 3)):
        whole = _changed(whole, dice)
    return json.dumps(whole).replace('"DEEP"', "[" * 100_000 + "]" * 100_000).encode()


def _changed(value: Any, dice: Random) -> Any:
    """The value with something inside it changed, or, now and then, another one."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(sorted(value))
        if dice.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: _changed(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        at = dice.randrange(len(value))
        return [*value[:at], _changed(value[at], dice), *value[at + 1 :]]
    numbers = (-1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1e308, float("nan"), float("inf"), 0.5)
    texts = ("", "0", "x" * 10_000, "../../../tmp/x", "/", "\0", "\ud800", "DEEP")
    return dice.choice((*numbers, *texts, None, True, [], {}, [[]], {"": None}, [1, 2], ["a"]))


MUTATIONS: dict[str, Callable[[str], Mutation]] = {
    "cut": lambda _: cut,
    "flip": lambda _: flip,
    "splice": lambda _: splice,
    "lie": lie,
}
