import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job import verify
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.verify import measure
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
FAST = ["--device", "cpu", "--threads", "1", "--segment", "4", "--context", "1", "--encoder", "ffv1"]


@pytest.fixture
def gray(ffmpeg: Make) -> Callable[..., Path]:
    """gray("a.mkv", 100, …): 12 frames of one luma, 96x64, or of another size, depth and range."""

    def make(
        name: str,
        luma: int,
        size: str = "96x64",
        form: str = "yuv420p",
        span: str = "tv",
        frames: int = 12,
        codec: str = "ffv1",
    ) -> Path:
        flat = f"color=black:s={size}:r=25,format={form},geq=lum={luma}:cb=128:cr=128,setparams=range={span}"
        options = ["-frames:v", str(frames), "-c:v", codec, "-qp", "0", "-color_range", span]
        return ffmpeg(name, "-f", "lavfi", "-i", flat, *options)

    return make


def test_equal_frames_are_equal_though_size_and_depth_differ(gray: Make) -> None:
    found = measure(JobOptions(gray("in.mkv", 100), gray("out.mkv", 400, "384x256", "yuv420p10le")), 12)
    assert (found.frames, found.psnr_db, found.ssim) == (12, math.inf, 1.0)


def test_psnr_is_that_of_the_difference(gray: Make) -> None:
    found = measure(JobOptions(gray("in.mkv", 100), gray("out.mkv", 410, "384x256", "yuv420p10le")), 12)
    assert found.psnr_db == pytest.approx(20 * math.log10(1023 / 10), abs=0.01)


@pytest.mark.parametrize(("luma", "deeper"), [(255, 1023), (85, 341)])
@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
def test_full_range_meets_full_range_of_another_depth(gray: Make, codec: str, luma: int, deeper: int) -> None:
    """H.264 is decoded as yuvj420p, as of phones: full range by its name, not by its tag."""
    source = gray("in.mkv", luma, span="pc", codec=codec)
    output = gray("out.mkv", deeper, "384x256", "yuv420p10le", "pc")
    assert measure(JobOptions(source, output), 12).psnr_db == math.inf


def test_vmaf_is_measured_where_ffmpeg_has_it(clip: Make, executable: Executable) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", size="96x64")
    found = measure(JobOptions(source, source), 12)
    if "libvmaf" not in executable.filters:
        assert found.vmaf is None
    else:
        assert found.vmaf is not None
        assert found.vmaf > 90


def test_a_missing_frame_is_noticed(gray: Make) -> None:
    with pytest.raises(FfmpegError, match="expected 12 pairs of frames, got 11"):
        measure(JobOptions(gray("in.mkv", 100, frames=11), gray("out.mkv", 100, "384x256", frames=11)), 12)
    with pytest.raises(FfmpegError, match="expected 11 pairs of frames, got 12"):
        measure(JobOptions(gray("in.mkv", 100), gray("out.mkv", 100, "384x256", frames=11)), 11)


def test_the_frames_of_a_preview_are_compared_with_their_own_source_frames(ffmpeg: Make) -> None:
    ramp = "color=black:s=96x64:r=25,format=yuv420p,geq=lum=40+10*N:cb=128:cr=128"
    source = ffmpeg("in.mkv", "-f", "lavfi", "-i", ramp, "-frames:v", "12", "-c:v", "ffv1")
    output = ffmpeg("out.mkv", "-i", source, "-vf", "trim=start_frame=5,setpts=PTS-STARTPTS", "-c:v", "ffv1")
    assert measure(JobOptions(source, output, start_s=0.2), 7).psnr_db == math.inf
    assert measure(JobOptions(source, output, duration_s=0.28), 7).psnr_db < 20


def test_a_comparison_that_is_stopped_ends_at_once(clip: Make) -> None:
    source = clip("in.mkv", "-c:v", "libx264", "-preset", "ultrafast", size="1920x1080", frames=250)
    stop = threading.Event()
    stopped: list[float] = []
    threading.Timer(0.5, lambda: (stopped.append(time.monotonic()), stop.set())).start()
    with pytest.raises(Interrupted):
        measure(JobOptions(source, source), 250, stop=stop)
    assert time.monotonic() - stopped[0] < 5


def test_a_stop_while_verifying_keeps_the_output_and_warns(
    clip: Make, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    monkeypatch.setattr(cli, "stop_on_interrupt", lambda: stop)

    def interrupt(*_: object, **__: object) -> None:
        stop.set()
        raise Interrupted

    monkeypatch.setattr(verify, "measure", interrupt)
    words = ["upscale", str(clip("in.mkv", "-c:v", "ffv1")), str(tmp_path / "out.mkv"), "--model", str(tiny_model)]
    assert cli.main([*words, *FAST, "--verify"]) == 130
    printed = capsys.readouterr().err
    assert "WARNING: not verified: stopped; the output is whole" in printed
    assert "kept: 12 frames" in printed
    assert (tmp_path / "out.mkv").exists()
    assert not (tmp_path / "out.mkv.iconvsr").exists()


def test_the_command_reports_the_quality_at_the_end(
    clip: Make, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "upscale",
        str(clip("in.mkv", "-c:v", "ffv1")),
        str(tmp_path / "out.mkv"),
        "--model",
        str(tiny_model),
        *FAST,
    ]
    assert cli.main([*words, "--verify", "--progress", "json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["quality"]["frames"] == 12
    assert 5 < summary["quality"]["psnr_db"] < 100
    assert cli.main([*words, "--verify", "--overwrite"]) == 0
    assert "verified: scaled down and compared with the source: PSNR " in capsys.readouterr().err


def test_what_cannot_be_compared_is_a_warning_at_the_end_and_images_are_refused_at_the_start(
    ffmpeg: Make, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ffmpeg("in.mkv", "-f", "lavfi", "-i", "testsrc2=s=48x32:d=0.2,format=gbrp", "-c:v", "ffv1")
    words = ["upscale", str(source), str(tmp_path / "out.mkv"), "--model", str(tiny_model), *FAST, "--verify"]
    assert cli.main(words) == 0
    assert "WARNING: not verified: verify: expected a YUV source, got RGB" in capsys.readouterr().err
    words[2] = str(tmp_path / "out_%05d.png")
    assert cli.main(words) == 1
    assert "verify: expected a video file in and out, got images" in capsys.readouterr().err
