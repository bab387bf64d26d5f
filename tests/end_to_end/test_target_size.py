"""A target size: the same planes from the script and from the command, and the same file after a resume."""

import hashlib
import io
import runpy
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import vapoursynth as vs

from ffmpeg_filter import cli
from ffmpeg_filter.job.journal import JournalError
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.ffmpeg import find_executable
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.target_size import TargetSize
from vs_iconvsr.plan import Settings

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.needs_ffmpeg]

WIDTH, HEIGHT, FRAMES = 72, 48, 12
FAST = ["--device", "cpu", "--threads", "1", "--encoder", "ffv1"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A lossless file with the pixels of a DVD, tagged."""
    path = tmp_path / "in.mkv"
    color = "color_primaries=smpte170m:color_trc=bt709:colorspace=smpte170m"
    picture = f"testsrc2=s={WIDTH}x{HEIGHT}:r=24,format=yuv420p,setparams=range=tv:{color},setsar=8/9"
    command = [find_executable().path, "-v", "error", "-f", "lavfi", "-i", picture, "-frames:v", str(FRAMES)]
    subprocess.run([*command, "-c:v", "ffv1", str(path)], check=True, timeout=60)
    return path


def planes(path: Path) -> list[list[np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(plane, np.uint16).reshape(plane.height, plane.line_size // 2)[:, : plane.width]
                for plane in frame.planes
            ]
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize(
    "size",
    [
        ["--size", "130x98"],
        ["--height", "100", "--square-pixels", "--kernel", "lanczos"],
        ["--size", "130x98", "--linear-light"],
    ],
)
def test_the_script_and_the_command_make_the_same_planes(
    source: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: list[str]
) -> None:
    made, script = tmp_path / "out.mkv", tmp_path / "in.vpy"
    model = ["--model", str(tiny_model)]
    assert cli.main(["upscale", str(source), str(made), *FAST, *size, *model]) == 0
    assert cli.main(["vpy", str(source), str(script), *size, *model]) == 0
    capsys.readouterr()
    assert f"format={int(vs.YUV420P16)})\n" in script.read_text(), "it is rounded once, by zimg"
    runpy.run_path(str(script))
    clip = vs.get_output(0).clip
    by_command = planes(made)
    assert (len(by_command), clip.width, clip.height) == (FRAMES, by_command[0][0].shape[1], by_command[0][0].shape[0])
    for n, frame in enumerate(clip.frames(close=True)):
        for p in range(3):
            assert np.array_equal(np.asarray(frame[p]), by_command[n][p]), (n, p)
    vs.clear_outputs()


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("out.mp4", ["--height", "100"], (150, 100, Fraction(8, 9))),
        ("out.mov", ["--size", "144x108"], (144, 108, Fraction(1))),
        ("out.mkv", ["--scale", "2", "--square-pixels"], (128, 96, Fraction(1))),
        ("out.mp4", ["--size", "100x100"], (100, 100, Fraction(4, 3))),
        ("out.mkv", ["--size", "146x86"], (146, 86, Fraction(172, 219))),
    ],
)
def test_the_file_has_the_size_and_the_shape_of_pixels(
    source: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    size: list[str],
    expected: tuple[int, int, Fraction],
) -> None:
    words = ["--device", "cpu", "--preset", "ultrafast", "--model", str(tiny_model), *size]
    assert cli.main(["upscale", str(source), str(tmp_path / name), *words]) == 0
    video = probe(tmp_path / name).video
    assert (video.width, video.height, video.sample_aspect_ratio or Fraction(1)) == expected
    assert "WARNING" not in capsys.readouterr().err


def test_images_are_resized_too(source: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--model", str(tiny_model), "--size", "101x75", "--duration", "0.05"]
    assert cli.main(["upscale", str(source), str(tmp_path / "out_%d.png"), *words]) == 0
    with av.open(str(tmp_path / "out_0.png")) as picture:
        frame = next(picture.decode(video=0))
    assert (frame.width, frame.height) == (101, 75)


class StopAfter(PlainProgress):
    def __init__(self, frames: int, stop: threading.Event) -> None:
        super().__init__(io.StringIO())
        self._left, self._stop = frames, stop

    def advance(self, segment: int | None = None) -> None:
        super().advance(segment)
        self._left -= 1
        if self._left == 0:
            self._stop.set()


@pytest.fixture
def resized(source: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., str]:
    """resized("out.mkv", height=100, stop_after=9): the sha256 of what it made."""

    def make(name: str, *, stop_after: int = 99, height: int = 100) -> str:
        output, stop = tmp_path / name, threading.Event()
        settings = Settings(segment=4, context=1, device="cpu", threads=1)
        job = JobOptions(source, output, model=str(tiny_model), settings=settings, part_frames=4, speed="ultrafast")
        job = JobOptions(**{**vars(job), "target_size": TargetSize(height=height)})
        run_job(job, StopAfter(stop_after, stop), stop)
        return hashlib.sha256(output.read_bytes()).hexdigest()

    return make


def test_a_resumed_job_makes_the_bytes_of_an_undisturbed_one(resized: Callable[..., str]) -> None:
    with pytest.raises(Interrupted):
        resized("out.mkv", stop_after=7)
    assert resized("out.mkv") == resized("undisturbed.mkv")


def test_another_size_does_not_resume(resized: Callable[..., str]) -> None:
    with pytest.raises(Interrupted):
        resized("out.mkv", stop_after=7)
    with pytest.raises(
        JournalError, match=r"size: the parts have 150x100 by spline36, this run has 120x80 by spline36"
    ):
        resized("out.mkv", height=80)
