"""The muxer is asked before the work: what it refuses is converted, named, or ends the job with a remedy that works."""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.listing import ListedStream, list_streams, read_listing
from ffmpeg_filter.media.source import SourceError
from tests.ffmpeg_filter.dynamic_hdr import declare_dolby_vision

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p")
SRT = "1\n00:00:00,000 --> 00:00:00,300\nHello\n\n2\n00:00:00,320 --> 00:00:00,400\nHello\n"


@pytest.fixture
def with_sound(ffmpeg: Make) -> Make:
    """with_sound("in.mkv", "wmav2"): half a second of picture and of sound in that codec."""

    def make(name: str, codec: str, *options: str) -> Path:
        sound = ("-f", "lavfi", "-i", "sine=d=0.5:r=48000")
        coded = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", codec, "-strict", "-2", *options)
        return ffmpeg(name, *PICTURE, *sound, "-frames:v", "12", *coded)

    return make


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("in.wmv", "wmav2", ()),
        ("in.avi", "adpcm_ms", ()),
        ("in.wav.mkv", "g722", ("-ar", "16000", "-ac", "1")),
        ("in.mov", "pcm_alaw", ("-ar", "8000")),
        ("in.ts", "mp2", ()),
    ],
)
def test_mkv_takes_whatever_its_muxer_takes(
    with_sound: Make, upscaled: Upscaled, tmp_path: Path, name: str, codec: str, options: tuple[str, ...]
) -> None:
    upscaled(with_sound(name, codec, *options), tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as after:
        assert [stream.codec_context.name for stream in after.streams.audio] == [codec]


@pytest.mark.parametrize(
    ("codec", "suffix", "remedies"),
    [
        ("libopus", "mov", {"mkv", "mp4"}),
        ("flac", "mov", {"mkv", "mp4"}),
        ("truehd", "mov", {"mkv", "mp4"}),
        ("wmav2", "mp4", {"mkv", "mov"}),
    ],
)
def test_sound_that_a_container_cannot_hold_ends_the_job_before_the_work_with_a_remedy_that_works(
    with_sound: Make, upscaled: Upscaled, tmp_path: Path, codec: str, suffix: str, remedies: set[str]
) -> None:
    source = with_sound("in.mkv", codec)
    with pytest.raises(ValueError, match=rf"\.{suffix} cannot hold the sound audio 1 .*; name the output \.") as raised:
        upscaled(source, tmp_path / f"out.{suffix}")
    assert not (tmp_path / f"out.{suffix}.iconvsr").exists()
    offered = {other for other in ("mkv", "mp4", "mov") if f".{other}" in str(raised.value).split("name the output")[1]}
    assert offered
    assert offered <= remedies
    for other in offered:
        upscaled(source, tmp_path / f"out.{other}")


@pytest.mark.parametrize("codec", ["dvb_subtitle", "dvd_subtitle"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_bitmap_subtitles_are_kept_or_named_with_who_keeps_them(
    ffmpeg: Make, upscaled: Upscaled, tmp_path: Path, codec: str, suffix: str
) -> None:
    (tmp_path / "s.sup").write_bytes(one_subtitle())
    name = "in.ts" if codec == "dvb_subtitle" else "in.mkv"
    source = ffmpeg(name, *PICTURE, "-i", "s.sup", "-frames:v", "50", "-c:v", "libx264", "-c:s", codec)
    summary = upscaled(source, tmp_path / f"out.{suffix}")
    with av.open(str(tmp_path / f"out.{suffix}")) as after:
        there = len(after.streams.subtitles)
    assert there == sum("subtitle track" in text for text in summary.kept)
    named = [text for text in summary.left if text.startswith("subtitle 1")]
    assert there + len(named) == 1
    assert suffix != "mkv" or there == 1
    assert all(f".{suffix} cannot hold it; .mkv" in text for text in named)


def one_subtitle() -> bytes:
    """A Blu-ray subtitle of 8x8 pixels, shown at 0.2 s and taken off at 0.6 s."""

    def segment(time: int, kind: int, content: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", time, 0, kind, len(content)) + content

    def composition(number: int, state: int, objects: bytes) -> bytes:
        return struct.pack(">HHBHBBBB", 48, 32, 0x10, number, state, 0, 0, len(objects) // 8) + objects

    window = struct.pack(">BBHHHH", 1, 0, 0, 0, 8, 8)
    lines = b"".join(b"\x00\x88\x01\x00\x00" for _ in range(8))
    picture = struct.pack(">HBB", 0, 0, 0xC0) + (len(lines) + 4).to_bytes(3) + struct.pack(">HH", 8, 8) + lines
    shown, gone = 18000, 54000
    return b"".join(
        (
            segment(shown, 0x16, composition(0, 0x80, struct.pack(">HBBHH", 0, 0, 0, 0, 0))),
            segment(shown, 0x17, window),
            segment(shown, 0x14, bytes([0, 0, 1, 235, 128, 128, 255])),
            segment(shown, 0x15, picture),
            segment(shown, 0x80, b""),
            segment(gone, 0x16, composition(1, 0, b"")),
            segment(gone, 0x17, window),
            segment(gone, 0x80, b""),
        )
    )


@pytest.fixture
def with_telemetry(ffmpeg: Make, tmp_path: Path) -> Path:
    """As a GoPro writes it: a track of telemetry (gpmd) and one that nobody knows (fdsc)."""
    (tmp_path / "s.srt").write_text(SRT)
    inputs = (*PICTURE, "-i", "s.srt", "-i", "s.srt", "-map", "0", "-map", "1", "-map", "2")
    path = ffmpeg("in.mp4", *inputs, "-frames:v", "12", "-c:v", "libx264", "-c:s", "mov_text")
    content = path.read_bytes().replace(b"tx3g", b"gpmd", 1).replace(b"tx3g", b"fdsc", 1).replace(b"sbtl", b"meta")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_telemetry_is_carried_or_named(
    with_telemetry: Path, executable: Executable, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    summary = upscaled(with_telemetry, tmp_path / f"out.{suffix}")
    tags = [stream.tag for stream in list_streams(executable, tmp_path / f"out.{suffix}") if stream.kind == "Data"]
    assert tags == ([] if suffix == "mkv" else ["gpmd"])
    left = [text for text in summary.left if text.startswith("data")]
    assert len(left) == 2 - len(tags)
    assert all(f".{suffix} cannot hold it" in text for text in left)
    assert suffix != "mkv" or "keep it" in left[0]


def test_data_of_a_broadcast_is_named(ffmpeg: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    (tmp_path / "klv.bin").write_bytes(bytes(300))
    klv = ("-f", "data", "-i", "klv.bin", "-map", "0", "-map", "1", "-c:d", "copy")
    source = ffmpeg("in.ts", *PICTURE, *klv, "-frames:v", "12", "-c:v", "libx264")
    for suffix in ("mkv", "mp4"):
        summary = upscaled(source, tmp_path / f"out.{suffix}")
        assert summary.left == (f"data 1 bin_data: .{suffix} cannot hold it",)


def test_time_codes_and_chapter_titles_are_written_anew_and_not_named(
    ffmpeg: Make, upscaled: Upscaled, tmp_path: Path
) -> None:
    (tmp_path / "m.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=480\ntitle=eins\n")
    coded = ("-map_metadata", "1", "-frames:v", "12", "-c:v", "libx264", "-timecode", "01:00:00:00")
    summary = upscaled(ffmpeg("in.mov", *PICTURE, "-i", "m.txt", *coded), tmp_path / "out.mov")
    assert summary.left == ()
    with av.open(str(tmp_path / "out.mov")) as after:
        assert [chapter["metadata"]["title"] for chapter in after.chapters()] == ["eins"]
        assert after.streams.video[0].metadata["timecode"] == "01:00:00:00"


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_report_of_stereo_says_what_is_in_the_file(
    clip: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    source = clip("in.mkv", "-c:v", "libx264", "-metadata:s:v:0", "stereo_mode=left_right")
    summary = upscaled(source, tmp_path / f"out.{suffix}")
    with av.open(str(tmp_path / f"out.{suffix}")) as after:
        there = "STEREO3D" in {getattr(k, "name", k) for k in next(after.decode(video=0)).side_data.keys()}  # noqa: SIM118
    assert ("stereo 3D layout" in summary.kept) == there
    assert any("stereo 3D" in text for text in summary.left) != there
    assert there == (suffix == "mkv")
    assert summary.warnings == ()
    assert upscaled(source, tmp_path / f"dry.{suffix}", dry_run=True).kept == summary.kept


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_dolby_vision_without_a_picture_for_others_is_refused(
    clip: Make, ffmpeg: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    coded = ("-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1", "-pix_fmt", "yuv420p10le")
    for profile, compatibility in ((8, 1), (5, 0)):
        plain = clip("plain.mp4", *coded, frames=2, size="64x64")
        declare_dolby_vision(plain, profile, compatibility)
        source = plain if suffix == "mp4" else ffmpeg("in.mkv", "-i", plain, "-c", "copy")
        if profile == 8:
            with pytest.raises(SourceError, match=r"got Dolby Vision metadata: .* pass --drop-dynamic-hdr"):
                upscaled(source, tmp_path / "out.mkv", dry_run=True)
            left = upscaled(source, tmp_path / "out.mkv", drop_dynamic_hdr=True, dry_run=True).left
            assert any(text.startswith("Dolby Vision metadata") for text in left)
            continue
        with pytest.raises(
            SourceError, match=r"got Dolby Vision profile 5, whose colors are IPT; .*libplacebo=apply_d"
        ):
            upscaled(source, tmp_path / "out.mkv")


def test_the_listing_of_ffmpeg_is_read() -> None:
    text = (
        "  Stream #0:0[0x1](und): Video: hevc (Main 10) (hvc1 / 0x31637668), yuv420p10le(tv), 64x64, 25 fps (default)\n"
        "    Metadata:\n      title           :   Stream #0:7: Audio: aac (LC)\n    Side data:\n"
        "      DOVI configuration record: version: 1.0, profile: 5, level: 6, rpu flag: 1, compatibility id: 0\n"
        "  Stream #0:1[0x2](eng): Data: none (fdsc / 0x63736466), 0 kb/s\n"
        "  Stream #0:2: Subtitle: ass (default)\n"
    )
    assert read_listing(text) == (
        ListedStream("Video", "hevc", "hvc1", (5, 0)),
        ListedStream("Data", "none", "fdsc"),
        ListedStream("Subtitle", "ass"),
    )
