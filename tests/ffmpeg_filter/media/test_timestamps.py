"""Clocks that wrap, leap, pause or are guessed: every frame is shown when it was, to the container's tick."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media import timestamps
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.timestamps import DiscontinuityError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]
Times = Callable[[Path, str], Sequence[Sequence[float]]]
TICK_S = {"mkv": 0.00051, "mov": 0.000012, "mp4": 0.000012}


@pytest.fixture
def recording(ffmpeg: Make) -> Make:
    """recording("in.ts", "-output_ts_offset", "7200"): a second of picture and sound."""

    def make(name: str, *options: str, seconds: int = 1) -> Path:
        picture = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p", "-f", "lavfi", "-i", "sine")
        coded = ("-t", str(seconds), "-c:v", "libx264", "-bf", "2", "-preset", "ultrafast", "-c:a", "aac")
        return ffmpeg(name, *picture, *coded, *options)

    return make


@pytest.mark.parametrize("encoder", ["x264", "ffv1"])
@pytest.mark.parametrize("suffix", ["mkv", "mov", "mp4"])
def test_a_clock_that_wraps_is_exact(
    recording: Make, upscaled: Upscaled, packet_times: Times, tmp_path: Path, suffix: str, encoder: str
) -> None:
    if encoder == "ffv1" and suffix != "mkv":
        return
    source = recording("in.ts", "-output_ts_offset", "95443.1", "-mpegts_copyts", "1")  # 33 bits end at 95443.7 s
    upscaled(source, tmp_path / f"out.{suffix}", encoder=encoder, speed=None)
    before, after = (
        [packet_times(path, kind)[0] for kind in ("video", "audio")] for path in (source, tmp_path / f"out.{suffix}")
    )
    origin = min(before[0] + before[1])
    for ours, theirs in zip(after, before, strict=True):
        assert sorted(ours) == pytest.approx([t - origin for t in sorted(theirs)], abs=TICK_S[suffix])


def test_a_leap_of_hours_is_closed_and_named(
    recording: Make, upscaled: Upscaled, packet_times: Times, tmp_path: Path
) -> None:
    source = leaping(recording, tmp_path / "in.ts")
    with pytest.raises(DiscontinuityError, match=r"timestamps leap forward 1 time\(s\), by 719\d s at most, as in"):
        probe(source)
    summary = upscaled(source, tmp_path / "out.mp4")
    assert summary.frames == 50
    ((*video,), (*audio,)) = (packet_times(tmp_path / "out.mp4", kind)[0] for kind in ("video", "audio"))
    assert max(b - a for a, b in zip(sorted(video), sorted(video)[1:], strict=False)) < 0.1
    assert abs(max(video) - max(audio)) < 0.1


def leaping(recording: Make, to: Path) -> Path:
    """Two recordings joined byte by byte, the second of which began two hours later."""
    coded = ("-c:v", "mpeg2video", "-c:a", "mp2")
    first = recording(f"a{to.suffix}", *coded)
    second = recording(f"b{to.suffix}", *coded, "-output_ts_offset", "7200")
    to.write_bytes(first.read_bytes() + second.read_bytes())
    return to


def test_a_leap_in_a_program_stream_is_kept_and_named(recording: Make, tmp_path: Path) -> None:
    source = probe(leaping(recording, tmp_path / "in.vob"))
    assert source.timeline.seconds == pytest.approx(7201, abs=2)
    assert any(note.startswith("timestamps leap forward by up to 7") and "is kept" in note for note in source.notes)


def test_a_pause_of_the_picture_while_the_sound_goes_on_is_no_leap(ffmpeg: Make) -> None:
    picture = "testsrc2=s=48x32:r=25:d=2,format=yuv420p,setpts='PTS+if(gt(N,19),15/TB,0)'"
    sound = ("-f", "lavfi", "-i", "sine=d=17", "-fps_mode", "passthrough", "-c:v", "libx264", "-bf", "0")
    source = probe(ffmpeg("in.ts", "-f", "lavfi", "-i", picture, *sound, "-c:a", "mp2"))
    assert source.timeline.seconds == pytest.approx(17)


@pytest.mark.parametrize("after", [0, 24, 48])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_a_pause_anywhere_does_not_make_the_video_longer(
    ffmpeg: Make, upscaled: Upscaled, tmp_path: Path, suffix: str, after: int
) -> None:
    picture = f"testsrc2=s=48x32:r=25:d=2,format=yuv420p,setpts='PTS+if(gt(N,{after}),8/TB,0)'"
    coded = ("-fps_mode", "passthrough", "-c:v", "libx264", "-bf", "2", "-preset", "ultrafast")
    upscaled(ffmpeg("in.mkv", "-f", "lavfi", "-i", picture, *coded), tmp_path / f"out.{suffix}")
    with av.open(str(tmp_path / f"out.{suffix}")) as output:
        assert output.duration is not None
        assert output.duration / 1e6 == pytest.approx(10, abs=0.05)


def test_a_pause_before_the_last_frame_does_not_say_how_long_that_is_shown() -> None:
    assert timestamps._usual_step((0, 40, 80, 8080)) == 40
    assert timestamps._usual_step((0, 8000)) == 8000
    assert timestamps._usual_step((5,)) == 0


def test_packs_of_many_frames_are_made_even_and_named(ffmpeg: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p", "-t", "3")
    source = ffmpeg("in.mpg", *picture, "-c:v", "mpeg2video", "-b:v", "30k", "-bf", "2")
    timeline, notes = probe(source).timeline, probe(source).notes
    assert set(timeline.durations) == {3600}
    assert timeline.num_frames == 75
    assert len(notes) == 1
    assert notes[0].startswith("timestamps jitter by up to ")
    upscaled(source, tmp_path / "out.mp4")
    after = probe(tmp_path / "out.mp4").timeline
    assert [p * after.time_base for p in after.pts] == [Fraction(n, 25) for n in range(75)]


@pytest.mark.parametrize("start_s", [0.8, 6.0])
@pytest.mark.parametrize("name", ["in.mkv", "late.mkv", "in.mp4", "in.ts", "late.ts"])
def test_the_sound_of_a_preview_begins_and_ends_with_its_picture(
    recording: Make, ffmpeg: Make, upscaled: Upscaled, packet_times: Times, tmp_path: Path, name: str, start_s: float
) -> None:
    whole = recording("whole.mkv", "-g", "250", seconds=8)
    offset = ("-output_ts_offset", "100") if name.startswith("late") else ()
    source = ffmpeg(name, "-i", whole, "-c", "copy", *offset)
    packet_s = 1024 / 44100
    for suffix in ("mkv", "mp4"):
        upscaled(source, tmp_path / f"out.{suffix}", start_s=start_s, duration_s=0.4)
        (video,), (audio,) = (packet_times(tmp_path / f"out.{suffix}", kind) for kind in ("video", "audio"))
        assert (min(video), len(video)) == (0, 10)
        assert 0 <= min(audio) <= packet_s + 0.001
        assert 0.4 - packet_s - 0.001 <= max(audio) <= 0.4
        (before,) = packet_times(source, "audio")
        origin = sorted(packet_times(source, "video")[0])[round(start_s * 25)]
        assert min(audio) == pytest.approx(min(t - origin for t in before if t >= origin - 1e-4), abs=0.0011)
