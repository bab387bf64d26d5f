"""Whole jobs on real files: every frame with its timestamp, from any container to any other."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]


# Frames of 40, 20, 60 … ms: no constant rate fits them. In units of 1/1000 s for mkv and of 1/90000 s for mp4.
VARIABLE = "settb=1/90000,setpts=N*3003+mod(N\\,3)*1201+90*gt(N\\,5)"


def times(source: MediaSource) -> list[Fraction]:
    return [pts * source.timeline.time_base for pts in source.timeline.pts]


@pytest.fixture
def variable(ffmpeg: Make) -> Make:
    def make(name: str, *options: str) -> Path:
        graph = f"testsrc2=s=48x32:r=30,format=yuv420p,{VARIABLE}"
        exact = ("-video_track_timescale", "90000") if name.endswith(("mp4", "mov")) else ()
        rate = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000")
        return ffmpeg(name, "-f", "lavfi", "-i", graph, "-frames:v", "14", *rate, *exact, *options)

    return make


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_variable_rate_keeps_every_timestamp(variable: Make, upscaled: Upscaled, tmp_path: Path, suffix: str) -> None:
    source = variable("in.mp4", "-c:v", "libx264", "-bf", "3")
    upscaled(source, tmp_path / f"out.{suffix}")
    before, after = probe(source), probe(tmp_path / f"out.{suffix}")
    assert len({b - a for a, b in zip(before.timeline.pts, before.timeline.pts[1:], strict=False)}) > 2
    worst = max(abs(a - b) for a, b in zip(times(before), times(after), strict=True))
    assert worst <= (Fraction(1, 2000) if suffix == "mkv" else 0)


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.mov", "in.ts", "in.webm", "in.avi"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_every_container_goes_into_every_other(
    clip: Make, upscaled: Upscaled, tmp_path: Path, name: str, suffix: str
) -> None:
    codec = {"in.webm": "libvpx-vp9", "in.avi": "mpeg4"}.get(name, "libx264")
    source = clip(name, "-c:v", codec)
    output = tmp_path / f"out.{suffix}"
    summary = upscaled(source, output)
    before, after = probe(source), probe(output)
    assert (after.video.width, after.video.height, after.num_frames) == (192, 128, 12)
    assert str(after.video.layout.format) == "YUV420P10"
    start = before.timeline.start if name == "in.ts" else 0
    worst = max(abs(a - start - b) for a, b in zip(times(before), times(after), strict=True))
    assert worst <= (Fraction(1, 2000) if suffix == "mkv" else 0)
    assert summary.left == ()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_late_start_of_the_video_stays_late(ffmpeg: Make, upscaled: Upscaled, tmp_path: Path, suffix: str) -> None:
    source = ffmpeg(
        f"in.{suffix}",
        *("-f", "lavfi", "-itsoffset", "1.5", "-i", "testsrc2=s=48x32:r=25", "-f", "lavfi", "-i", "sine=d=3"),
        *("-map", "0", "-map", "1", "-frames:v", "10", "-c:v", "libx264", "-c:a", "aac"),
    )
    upscaled(source, tmp_path / f"out.{suffix}")
    before, after = probe(source), probe(tmp_path / f"out.{suffix}")
    assert after.timeline.time_of(0) == pytest.approx(before.timeline.time_of(0), abs=0.0005)
    assert after.timeline.time_of(0) > 1.4


def test_a_stream_without_timestamps_gets_those_of_its_rate(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.264", "-c:v", "libx264", "-f", "h264")
    upscaled(source, tmp_path / "out.mp4")
    assert times(probe(tmp_path / "out.mp4")) == [Fraction(n, 25) for n in range(12)]


def test_files_joined_byte_by_byte_get_continuous_timestamps(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    once = clip("once.ts", "-c:v", "libx264").read_bytes()
    source = tmp_path / "twice.ts"
    source.write_bytes(once + once)
    summary = upscaled(source, tmp_path / "out.mkv")
    assert summary.frames == 24
    assert not (tmp_path / "out.mkv.iconvsr").exists()


def test_a_single_frame_is_a_video_too(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    upscaled(clip("in.mp4", "-c:v", "libx264", frames=1), tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").num_frames == 1


def test_odd_sizes_are_upscaled_whole(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "crop=47:33:0:0:exact=1", "-c:v", "ffv1", size="64x48")
    upscaled(source, tmp_path / "out.mkv")
    after = probe(tmp_path / "out.mkv")
    assert (after.video.width, after.video.height) == (188, 132)


def test_a_preview_shows_the_pixels_of_the_whole_job(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", frames=30)
    upscaled(source, tmp_path / "whole.mkv", encoder="ffv1", speed=None)
    upscaled(source, tmp_path / "piece.mkv", encoder="ffv1", speed=None, start_s=0.4, duration_s=0.4)
    with av.open(str(tmp_path / "whole.mkv")) as whole, av.open(str(tmp_path / "piece.mkv")) as piece:
        pixels = [f.to_ndarray().tobytes() for f in whole.decode(video=0)][10:20]
        preview = [(f.pts, f.to_ndarray().tobytes()) for f in piece.decode(video=0)]
    assert [content for _, content in preview] == pixels
    assert preview[0][0] == 0
