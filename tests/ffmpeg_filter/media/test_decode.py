from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch

from ffmpeg_filter.media import decode
from ffmpeg_filter.media.decode import Damage, DecodedFrame, decode_frames
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError
from vs_iconvsr.colorspace import Format

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]


def equal(a: DecodedFrame, b: DecodedFrame) -> bool:
    return a.index == b.index and all(torch.equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


def read(source: MediaSource, first: int = 0, **options: bool) -> list[DecodedFrame]:
    return list(decode_frames(source, first, Damage(), **options))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mkv", ("-c:v", "libx264", "-g", "7", "-bf", "3")),
        ("a.mp4", ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=7:open-gop=1")),
        ("a.mp4", ("-c:v", "libx264", "-x264-params", "keyint=7:open-gop=1:bframes=3")),
        ("a.webm", ("-c:v", "libvpx-vp9", "-g", "7")),
        ("a.ts", ("-c:v", "libx264", "-g", "7")),
        ("a.avi", ("-c:v", "libx264", "-g", "7", "-bf", "2")),
        ("a.264", ("-c:v", "libx264", "-g", "7")),
    ],
)
@pytest.mark.parametrize("first", [1, 6, 7, 8, 13, 24])
def test_starting_in_the_middle_gives_the_same_frames(
    clip: Make, name: str, options: tuple[str, ...], first: int
) -> None:
    source = probe(clip(name, *options, frames=25, size="96x64"))
    whole, piece = read(source), read(source, first)
    assert [p.index for p in whole] == list(range(25))
    assert len(piece) == 25 - first
    assert all(equal(a, b) for a, b in zip(whole[first:], piece, strict=True))


@pytest.mark.parametrize("first", [1, 9, 14])
def test_deinterlacing_does_not_depend_on_the_start(clip: Make, first: int) -> None:
    interlaced = ("-vf", "setfield=tff", "-c:v", "libx264", "-g", "5", "-flags", "+ildct+ilme")
    source = probe(clip("in.mkv", *interlaced, frames=20, size="64x64"))
    whole, piece = read(source, parity="auto"), read(source, first, parity="auto")
    assert [p.index for p in whole] == list(range(20))
    assert all(equal(a, b) for a, b in zip(whole[first:], piece, strict=True))


def test_an_interlaced_frame_that_the_samples_missed_is_refused(clip: Make) -> None:
    source = probe(clip("in.mkv", "-vf", "setfield=tff", "-c:v", "libx264", "-flags", "+ildct+ilme", size="64x64"))
    with pytest.raises(SourceError, match=r"got an interlaced frame 0 \(0\.000 s\); pass --deinterlace"):
        read(source)
    assert len(read(source, ignore_interlaced=True)) == source.num_frames


def test_missing_frames_repeat_their_neighbor(clip: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    source = probe(clip("in.mkv", "-c:v", "ffv1", frames=8))
    whole = read(source)
    numbered = decode._indexed_frames

    def gappy(*arguments: object, **options: bool) -> object:
        return ((n, f) for n, f in numbered(*arguments, **options) if n not in (0, 3, 4, 7))  # type: ignore[arg-type]

    monkeypatch.setattr(decode, "_indexed_frames", gappy)
    damage = Damage()
    shown = list(decode_frames(source, 0, damage))
    assert [p.index for p in shown] == list(range(8))
    assert damage.missing == [0, 3, 4, 7]
    for n, stand_in in ((0, 1), (3, 2), (4, 2), (7, 6)):
        assert all(torch.equal(a, b) for a, b in zip(shown[n].planes, whole[stand_in].planes, strict=True))


def test_a_change_of_size_that_the_probe_missed_is_refused_by_frame(
    clip: Make, ffmpeg: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ffmpeg_filter.media.probe._check_constant_size", lambda *_: None
    )  # it looks at a few frames only
    small = clip("small.ts", "-c:v", "mpeg2video", frames=5)
    large = clip("large.ts", "-c:v", "mpeg2video", frames=5, size="96x64")
    both = ffmpeg("both.mkv", "-i", f"concat:{small}|{large}", "-c", "copy")
    with pytest.raises(SourceError, match=r"expected 48x32 yuv420p to the end, got 96x64 yuv420p from frame 5 on"):
        read(probe(both))


@pytest.mark.parametrize(
    ("pixels", "planar"),
    [
        ("nv12", "yuv420p"),
        ("p010le", "yuv420p10le"),
        ("yuyv422", "yuv422p"),
        ("rgb24", "gbrp"),
        ("bgr0", "gbrp"),
        ("rgb48le", "gbrp16le"),
        ("yuv422p10be", "yuv422p10le"),
    ],
)
def test_packed_formats_are_unpacked_without_loss(pixels: str, planar: str) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = av.VideoFrame(46, 34, planar)
    for plane in whole.planes:
        noise = torch.randint(0, 256, (plane.buffer_size,), generator=generator, dtype=torch.uint8)
        if planar.endswith("10le"):
            noise[1::2] &= 3
        plane.update(noise.numpy().tobytes())
    packed = whole.reformat(format=pixels, threads=1)
    for _ in range(20):  # what races is seen now and then
        back = planes_of(packed)
        assert all(torch.equal(a, b) for a, b in zip(back, planes_of(whole), strict=True))


def test_padding_after_each_row_is_not_read() -> None:
    frame = av.VideoFrame(47, 33, "yuv420p")
    for plane in frame.planes:
        plane.update(b"\x07" * plane.buffer_size)
    planes = planes_of(frame)
    assert [tuple(p.shape) for p in planes] == [(33, 47), (17, 24), (17, 24)]
    assert all(p.is_contiguous() for p in planes)
    assert [(h, w) for w, h in Format("YUV", "integer", 8, 1, 1).plane_sizes(47, 33)] == [
        tuple(p.shape) for p in planes
    ]


def test_rgb_planes_are_red_green_blue() -> None:
    frame = av.VideoFrame(2, 2, "gbrp")
    for plane, value in zip(frame.planes, (20, 30, 10), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    assert [int(p[0, 0]) for p in planes_of(frame)] == [10, 20, 30]
