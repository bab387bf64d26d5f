"""WebM: AV1 or VP9 with Opus or Vorbis and WebVTT; what it cannot hold is converted, named, or refused."""

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media.probe import probe

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]
SRT = "1\n00:00:00,040 --> 00:00:00,300\nHello\n"
FAST = {"svtav1": "12", "vp9": "8"}


@pytest.fixture
def rich(ffmpeg: Make, tmp_path: Path) -> Make:
    """rich("libopus"): video with B-frames, sound in that codec, subtitles, a font and a chapter."""

    def make(codec: str) -> Path:
        (tmp_path / "s.srt").write_text(SRT)
        (tmp_path / "font.ttf").write_bytes(b"no font, but somebody's file")
        (tmp_path / "m.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=One\n")
        picture = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p")
        others = ("-f", "lavfi", "-i", "sine=d=0.8:r=48000", "-i", "s.srt", "-i", "m.txt", "-map_metadata", "3")
        attached = ("-attach", "font.ttf", "-metadata:s:t:0", "mimetype=font/ttf")
        mapped = ("-map", "0", "-map", "1", "-map", "2", *attached)
        coded = ("-c:v", "libx264", "-c:a", codec, "-c:s", "srt")
        return ffmpeg("in.mkv", *picture, *others, *mapped, "-frames:v", "20", *coded)

    return make


@pytest.mark.parametrize("encoder", ["svtav1", "vp9"])
def test_webm_holds_all_but_the_font(rich: Make, upscaled: Upscaled, tmp_path: Path, encoder: str) -> None:
    source = rich("libopus")
    summary = upscaled(source, tmp_path / "out.webm", encoder=encoder, speed=FAST[encoder])
    with av.open(str(tmp_path / "out.webm")) as after:
        codecs = [stream.codec_context.name for stream in (*after.streams.audio, *after.streams.subtitles)]
        assert (after.streams.video[0].codec_context.name in ("libdav1d", "av1", "vp9", "libvpx-vp9")) is True
        assert codecs == ["opus", "webvtt"]
        assert len(after.chapters()) == 1
    assert (tmp_path / "out.webm").read_bytes()[:64].find(b"webm") > 0
    assert probe(tmp_path / "out.webm").timeline.pts == probe(source).timeline.pts
    assert [text for text in summary.left if "attachments" in text]
    assert [text for text in summary.kept if "webvtt" in text]
    assert len(summary.left) == 1


def test_without_a_name_the_encoder_of_webm_is_av1(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    upscaled(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.webm", speed="12")
    with av.open(str(tmp_path / "out.webm")) as after:
        assert after.streams.video[0].codec_context.codec.canonical_name == "av1"


def test_sound_that_webm_cannot_hold_is_refused_with_the_remedy(rich: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    message = r"\.webm cannot hold the sound audio 1 .*; name the output \.mkv or \.mp4"
    with pytest.raises(ValueError, match=message):
        upscaled(rich("aac"), tmp_path / "out.webm", encoder="vp9", speed="8")


def test_an_encoder_whose_video_webm_cannot_hold_is_refused(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fits into \.webm, got x264; name the output \.mkv or \.mp4 or \.mov"):
        upscaled(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.webm", encoder="x264")


@pytest.mark.parametrize("encoder", ["svtav1", "vp9"])
def test_the_bytes_do_not_change_from_run_to_run(clip: Make, upscaled: Upscaled, tmp_path: Path, encoder: str) -> None:
    source = clip("in.mkv", "-c:v", "libx264", frames=24)
    for name in ("one.webm", "two.webm"):
        upscaled(source, tmp_path / name, encoder=encoder, speed=FAST[encoder])
    assert (tmp_path / "one.webm").read_bytes() == (tmp_path / "two.webm").read_bytes()


def test_a_turned_video_stays_so(ffmpeg: Make, clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    upright = clip("in.mp4", "-c:v", "libx264")
    turned = ffmpeg("turned.mp4", "-display_rotation", "90", "-i", upright, "-c", "copy")
    upscaled(turned, tmp_path / "out.webm", encoder="vp9", speed="8")
    assert probe(tmp_path / "out.webm").video.orientation == probe(turned).video.orientation
