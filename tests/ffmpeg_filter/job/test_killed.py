"""Nothing is lost: a job that was killed, interrupted or out of disk resumes to the file of an undisturbed run."""

import hashlib
import io
import json
import multiprocessing
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job import finalize
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.journal import Journal, JournalError
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted, StageTimes
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError
from tests.ffmpeg_filter.processes import children_of
from vs_iconvsr import atomic
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]

FRAMES = 40
PART_FRAMES = 8


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class StopAfter(PlainProgress):
    """Sets an event after a number of frames, as a user with a stopwatch would press Ctrl+C."""

    def __init__(self, frames: int, stop: threading.Event) -> None:
        super().__init__(io.StringIO())
        self._left, self._stop = frames, stop

    def advance(self, segment: int | None = None) -> None:
        super().advance(segment)
        self._left -= 1
        if self._left == 0:
            self._stop.set()


@pytest.fixture
def source(ffmpeg: Make) -> Path:
    """A clip of variable rate with sound."""
    video = "testsrc2=s=48x32:r=30,format=yuv420p,settb=1/90000,setpts=N*3003+mod(N\\,3)*1201"
    inputs = ("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", "sine=d=1.5")
    rate = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000", "-video_track_timescale", "90000")
    return ffmpeg("source.mp4", *inputs, *rate, "-frames:v", str(FRAMES), "-c:v", "libx264", "-c:a", "aac")


@pytest.fixture
def undisturbed(source: Path, upscaled: Upscaled, tmp_path: Path) -> str:
    """The sha256 of what an undisturbed run makes."""
    upscaled(source, tmp_path / "undisturbed.mp4")
    return sha(tmp_path / "undisturbed.mp4")


@pytest.fixture
def interrupted(source: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """The output of a job that was stopped in its fourth part: the work directory is there, the output is not."""
    output = tmp_path / "out.mp4"
    stop = threading.Event()
    settings = Settings(segment=4, context=1, device="cpu", threads=1)
    job = JobOptions(
        source, output, model=str(tiny_model), settings=settings, speed="ultrafast", part_frames=PART_FRAMES
    )
    with pytest.raises(Interrupted):
        run_job(job, StopAfter(3 * PART_FRAMES + 2, stop), stop)
    assert not output.exists()
    return output


def parts_of(output: Path) -> list[Path]:
    return sorted(output.with_name(output.name + ".iconvsr").glob("part_??????.mov"))


# ---- resuming ----


def test_an_interrupted_job_resumes_where_it_was(
    undisturbed: str, interrupted: Path, source: Path, upscaled: Upscaled
) -> None:
    assert len(parts_of(interrupted)) == 3
    assert upscaled(source, interrupted).upscaled == FRAMES - 3 * PART_FRAMES
    assert sha(interrupted) == undisturbed
    assert not interrupted.with_name("out.mp4.iconvsr").exists()


def test_a_flipped_byte_redoes_one_part(undisturbed: str, interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    content = bytearray(parts_of(interrupted)[1].read_bytes())
    content[len(content) // 2] ^= 1
    parts_of(interrupted)[1].write_bytes(content)
    assert upscaled(source, interrupted).upscaled == FRAMES - 2 * PART_FRAMES
    assert sha(interrupted) == undisturbed


def test_a_lost_part_in_the_middle_is_made_again(
    undisturbed: str, interrupted: Path, source: Path, upscaled: Upscaled
) -> None:
    parts_of(interrupted)[0].unlink()
    assert upscaled(source, interrupted).upscaled == FRAMES - 2 * PART_FRAMES
    assert sha(interrupted) == undisturbed


def test_other_settings_do_not_resume(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    with pytest.raises(
        JournalError, match=r"settings encoder: the parts have .*-crf 16.*this run .*-crf 20.*--restart"
    ):
        upscaled(source, interrupted, crf=20)
    assert upscaled(source, interrupted, crf=20, restart=True).upscaled == FRAMES


def test_a_changed_source_does_not_resume(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    with source.open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(JournalError, match=r"source s.*; the source has changed since"):
        upscaled(source, interrupted)


def test_other_versions_resume_only_when_allowed(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    path = interrupted.with_name("out.mp4.iconvsr") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["machine"]["torch"] = "1.0"
    path.write_text(json.dumps(manifest))
    with pytest.raises(JournalError, match=r"torch: the parts have 1\.0, this run has .*--allow-mixed"):
        upscaled(source, interrupted)
    summary = upscaled(source, interrupted, allow_mixed=True)
    assert any("mixed parts: torch" in text for text in summary.warnings)


def test_a_second_run_on_the_same_output_is_refused(source: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    with Journal(tmp_path / "out.mp4.iconvsr", "mov").hold(), pytest.raises(JournalError, match="another run"):
        upscaled(source, tmp_path / "out.mp4")


def test_a_run_killed_before_it_cleaned_up_is_finished(source: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    summary = upscaled(source, output)
    work = note_finished(summary)
    again = upscaled(source, output)
    assert again == replace(summary, upscaled=0, seconds=0.0, stages=StageTimes())
    assert not work.exists()


def test_a_run_killed_before_it_published_its_output_does_not_take_the_old_one_for_it(
    source: Path, upscaled: Upscaled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    upscaled(source, output)
    old = output.stat().st_ino
    replace_file = atomic.replace
    for function, double in (
        ((atomic, "replace"), lambda new, path: die() if path == output else replace_file(new, path)),
        ((finalize, "join_parts"), die),  # once more, before there is a partial output again
    ):
        with monkeypatch.context() as patch:
            patch.setattr(*function, double)
            with pytest.raises(KeyboardInterrupt):
                upscaled(source, output, overwrite=True)
    upscaled(source, output, overwrite=True)
    assert output.stat().st_ino != old


def die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def note_finished(summary: JobSummary) -> Path:
    """The work directory of a run that was killed just before or just after its output got its name."""
    work = summary.output.with_name(summary.output.name + ".iconvsr")
    work.mkdir()
    values = {name: getattr(summary, name) for name in ("frames", "size_bytes", "kept", "left", "warnings")}
    (work / "finished.json").write_text(json.dumps(values))
    return work


def test_images_of_a_run_killed_before_it_cleaned_up_are_not_written_again(
    source: Path, upscaled: Upscaled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, first = tmp_path / "out_%d.png", tmp_path / "out_0.png"

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            upscaled(source, output, speed=None, duration_s=0.1)
    written = first.stat().st_mtime_ns
    assert upscaled(source, output, speed=None, duration_s=0.1).upscaled == 0
    assert first.stat().st_mtime_ns == written
    assert not (tmp_path / "out_%d.png.iconvsr").exists()


def test_an_ffmpeg_that_outlived_a_killed_run_does_not_write_to_our_output(
    undisturbed: str, interrupted: Path, source: Path, upscaled: Upscaled
) -> None:
    with interrupted.with_name("out.mp4.part").open("wb") as late:
        upscaled(source, interrupted)
        late.write(b"late")
    assert sha(interrupted) == undisturbed


def test_a_dry_run_deletes_nothing(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    assert upscaled(source, interrupted, dry_run=True, restart=True).upscaled == 0
    assert len(parts_of(interrupted)) == 3


def test_a_full_disk_keeps_what_is_finished(
    undisturbed: str,
    source: Path,
    upscaled: Upscaled,
    fake_ffmpeg: Callable[[str], str],
    executable: Executable,
    tmp_path: Path,
) -> None:
    # From the third part on everything is written to /dev/full, which is what a full disk looks like to ffmpeg.
    full = 'case "$*" in *part_00000[01]*) exec "$real" "$@";; esac; n=$(($#-1)); i=0; for a do shift; i=$((i+1)); '
    full += '[ $i -le $n ] && set -- "$@" "$a"; done; exec "$real" "$@" /dev/full'
    output = tmp_path / "out.mp4"
    with pytest.raises(FfmpegError, match=r"disk full: make room and run the same command again"):
        upscaled(source, output, ffmpeg=fake_ffmpeg(full))
    assert len(parts_of(output)) == 2
    upscaled(source, output, ffmpeg=executable.path)
    assert sha(output) == undisturbed


# ---- signals and kills ----


def arguments(source: Path, output: Path, model: Path) -> list[str]:
    fixed = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --progress plain")
    return ["upscale", str(source), str(output), "--model", str(model), "--part-frames", str(PART_FRAMES), *fixed]


def wait_for(condition: Callable[[], object], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.fixture(params=["1", "2"], ids=["one encoder", "two encoders"])
def started(
    request: pytest.FixtureRequest, ffmpeg: Make, tiny_model: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """A job of thousands of frames in a process of its own, that has finished a part."""
    source = ffmpeg("long.mkv", "-f", "lavfi", "-i", "testsrc2=s=48x32:r=25", "-frames:v", "5000", "-c:v", "mpeg4")
    output = tmp_path / "out.mkv"
    command = [sys.executable, "-m", "ffmpeg_filter.cli", *arguments(source, output, tiny_model)]
    command += ["--encoders", request.param]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: parts_of(output) or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.wait()


def test_one_interrupt_stops_keeps_the_parts_and_prints_how_to_resume(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    started.send_signal(signal.SIGINT)
    _, printed = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "stopping after this step" in printed
    assert "Run the same command to go on" in printed
    assert "Traceback" not in printed
    assert parts_of(tmp_path / "out.mkv")


def test_a_second_interrupt_ends_at_once_and_leaves_no_child(started: subprocess.Popen[str]) -> None:
    encoders = children_of(started.pid)
    started.send_signal(signal.SIGINT)
    started.send_signal(signal.SIGTERM)  # two of a kind may become one
    _, printed = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in printed
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in encoders), 10)


def kill_at_random(process_id: int, dice: random.Random) -> str:
    """SIGKILL to the job, to its ffmpeg, or to both."""
    whom = dice.choice(("job", "ffmpeg", "both"))
    victims = children_of(process_id) if whom != "job" else []
    victims += [process_id] if whom != "ffmpeg" else []
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return whom


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3000)])])
def test_a_job_killed_at_any_moment_gives_the_same_file(
    undisturbed: str, source: Path, tiny_model: Path, tmp_path: Path, kills: int
) -> None:
    dice = random.Random(kills)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ffmpeg_filter.job.run"])  # torch takes seconds to import; once is enough
    output = tmp_path / "out.mp4"
    hits = 0
    while hits < kills:  # a job may end before its turn to be killed: another one is begun
        output.unlink(missing_ok=True)
        while not output.exists():
            command = [*arguments(source, output, tiny_model), "--encoders", dice.choice("12")]
            process = context.Process(target=cli.main, args=(command,))
            process.start()
            assert process.pid is not None
            if hits < kills:
                process.join(dice.uniform(0.05, 1.5))
                if process.is_alive():
                    kill_at_random(process.pid, dice)
                    hits += 1
            process.join(60)
            assert process.exitcode is not None, "it hangs"
        assert sha(output) == undisturbed
