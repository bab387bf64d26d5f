"""Cuts from a list: they replace detection, and belong to the job."""

import io
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.journal import JournalError
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.scene_list import SceneList
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]
CUT, FRAMES = 9, 16


def run_silently(job: JobOptions) -> JobSummary:
    return run_job(job, PlainProgress(io.StringIO()), threading.Event())


def interrupt(job: JobOptions, after: int = 1) -> None:
    """Stops the job after so many frames."""
    stop = threading.Event()

    class Stops(PlainProgress):
        frames = 0

        def advance(self, segment: int | None = None) -> None:
            super().advance(segment)
            self.frames += 1
            if self.frames >= after:
                stop.set()

    with pytest.raises(Interrupted):
        run_job(job, Stops(io.StringIO()), stop)


@pytest.fixture
def cut_clip(ffmpeg: Make) -> Path:
    """16 frames with one cut, at frame 9."""
    first = ("-f", "lavfi", "-i", f"testsrc2=s=48x32:r=25,format=yuv420p,trim=end_frame={CUT}")
    second = ("-f", "lavfi", "-i", f"mandelbrot=s=48x32:r=25,format=yuv420p,trim=end_frame={FRAMES - CUT}")
    return ffmpeg("in.mkv", *first, *second, "-filter_complex", "[0][1]concat", "-c:v", "ffv1")


@pytest.fixture
def run(cut_clip: Path, upscaled: Upscaled, tmp_path: Path) -> Callable[..., bytes]:
    """run(starts): the bytes of the output with these cuts; None: detected."""

    def make(starts: tuple[int, ...] | None, **options: object) -> bytes:
        scenes = None if starts is None else SceneList("list", starts)
        output = tmp_path / "out.mkv"
        upscaled(cut_clip, output, encoder="ffv1", speed=None, overwrite=True, scenes=scenes, **options)
        return output.read_bytes()

    return make


def test_the_cuts_that_are_detected_give_the_same_bytes_from_a_list(run: Callable[..., bytes]) -> None:
    detected = run(None)
    assert run((0, CUT)) == detected
    assert run((CUT,)) == detected
    assert run((0,)) != detected
    assert run((0, CUT, CUT + 3)) != detected


def test_a_list_without_cuts_is_propagation_across_cuts(run: Callable[..., bytes]) -> None:
    across = Settings(segment=4, context=2, device="cpu", threads=1, scene_detect=False)
    assert run((0,), settings=replace(across, scene_detect=True)) == run(None, settings=across)


def test_a_list_needs_propagation_that_stops_at_cuts(run: Callable[..., bytes]) -> None:
    with pytest.raises(ValueError, match="scenes: expected with propagation that stops at cuts"):
        run((0,), settings=Settings(scene_detect=False))


def test_a_run_is_resumed_with_its_own_list_only(cut_clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = Settings(segment=4, context=2, device="cpu", threads=1)
    job = JobOptions(
        cut_clip, tmp_path / "out.mkv", str(tiny_model), settings, part_frames=8, scenes=SceneList("a", (0, CUT))
    )
    interrupt(job)
    other = replace(job, scenes=SceneList("a", (0, CUT + 1)))
    for resumed in (other, replace(job, scenes=None)):
        with pytest.raises(
            JournalError, match=r"settings scenes: the parts have 2 scene starts \([0-9a-f]{8}\), this run"
        ):
            run_silently(resumed)
    assert run_silently(job).frames == FRAMES


def test_each_scene_has_its_own_strength_whatever_the_parts(cut_clip: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    """The cut is inside a part and inside a cell; on either side there are the frames of a run with that strength."""

    def frames(strength: float, strengths: tuple[tuple[int, float], ...] = (), **options: object) -> list[bytes]:
        settings = Settings(segment=4, context=2, device="cpu", threads=1, strength=strength)
        scenes = SceneList("list", (0, CUT), strengths=strengths)
        output = tmp_path / "out.mkv"
        upscaled(
            cut_clip, output, encoder="ffv1", speed=None, overwrite=True, settings=settings, scenes=scenes, **options
        )
        with av.open(str(output)) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    whole, weak = frames(1.0), frames(0.3)
    assert all(one != other for one, other in zip(whole, weak, strict=True))
    assert frames(1.0, ((CUT, 0.3),)) == whole[:CUT] + weak[CUT:]
    assert frames(0.3, ((CUT, 1.0),), part_frames=4) == weak[:CUT] + whole[CUT:]
    assert frames(1.0, ((0, 0.3),), start_s=0.2) == weak[5:CUT] + whole[CUT:]


def test_a_run_is_resumed_with_its_own_strengths_only_and_then_gives_the_same_file(
    cut_clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    settings = Settings(segment=4, context=2, device="cpu", threads=1)
    listed = SceneList("a", (0, CUT), strengths=((CUT, 0.3),))
    job = JobOptions(cut_clip, tmp_path / "out.mkv", str(tiny_model), settings, part_frames=8, scenes=listed)
    interrupt(job, after=12)
    for strengths in ((), ((0, 0.3),), ((CUT, 0.4),)):
        with pytest.raises(JournalError, match=r"settings strengths: the parts have 1 changes \([0-9a-f]{8}\), this "):
            run_silently(replace(job, scenes=replace(listed, strengths=strengths)))
    assert 0 < run_silently(job).upscaled < FRAMES
    run_silently(replace(job, output=tmp_path / "whole.mkv"))
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


def test_a_list_of_another_video_ends_the_job_before_the_work(run: Callable[..., bytes], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scenes: expected frames below 16, got a scene that starts at 16"):
        run((0, 16))
    assert not (tmp_path / "out.mkv.iconvsr").exists()


def test_the_command_takes_what_iconvsr_scenes_prints(
    cut_clip: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["scenes", str(cut_clip)]) == 0
    (tmp_path / "cuts.txt").write_text(capsys.readouterr().out)
    common = ["--model", str(tiny_model), "--scenes", str(tmp_path / "cuts.txt"), "--progress", "plain"]
    assert cli.main(["upscale", str(cut_clip), str(tmp_path / "out.mkv"), *common, "--dry-run"]) == 0
    assert re.search(
        r"scenes: 2 scene starts \([0-9a-f]{8}\) from cuts\.txt; cuts are not detected", capsys.readouterr().err
    )
    assert cli.main(["upscale", str(cut_clip), "--output-dir", str(tmp_path), *common]) == 1
    assert "scenes: expected with one INPUT and OUTPUT" in capsys.readouterr().err
