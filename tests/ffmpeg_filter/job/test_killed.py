"""Nothing is lost: jobs killed, interrupted, starved or lied to give, when resumed, the file of a quiet run."""

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
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job.job import JobOptions, JobSummary
from ffmpeg_filter.job.job import run as run_job
from ffmpeg_filter.job.journal import Journal, JournalError
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]

FRAMES = 40
PART_FRAMES = 8


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class StopAfter(PlainProgress):
    """Sets an event when so many frames are done, as a user with a watch would."""

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
def quiet(source: Path, upscaled: Upscaled, tmp_path: Path) -> str:
    """The sha256 of what an undisturbed run makes."""
    upscaled(source, tmp_path / "quiet.mp4")
    return sha(tmp_path / "quiet.mp4")


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


def test_an_interrupted_job_goes_on_where_it_was(
    quiet: str, interrupted: Path, source: Path, upscaled: Upscaled
) -> None:
    assert len(parts_of(interrupted)) == 3
    assert upscaled(source, interrupted).upscaled == FRAMES - 3 * PART_FRAMES
    assert sha(interrupted) == quiet
    assert not interrupted.with_name("out.mp4.iconvsr").exists()


def test_a_flipped_byte_redoes_one_part(quiet: str, interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    content = bytearray(parts_of(interrupted)[1].read_bytes())
    content[len(content) // 2] ^= 1
    parts_of(interrupted)[1].write_bytes(content)
    assert upscaled(source, interrupted).upscaled == FRAMES - 2 * PART_FRAMES
    assert sha(interrupted) == quiet


def test_a_lost_part_in_the_middle_is_made_again(
    quiet: str, interrupted: Path, source: Path, upscaled: Upscaled
) -> None:
    parts_of(interrupted)[0].unlink()
    assert upscaled(source, interrupted).upscaled == FRAMES - 2 * PART_FRAMES
    assert sha(interrupted) == quiet


def test_other_settings_do_not_resume(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    with pytest.raises(
        JournalError, match=r"settings encoder: the parts have .*-crf 16.*this run .*-crf 20.*--restart"
    ):
        upscaled(source, interrupted, crf=20)
    assert upscaled(source, interrupted, crf=20, restart=True).upscaled == FRAMES


def test_a_changed_source_does_not_resume(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    with source.open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(JournalError, match=r"source s.*; the source was changed since"):
        upscaled(source, interrupted)


def test_other_versions_resume_only_when_allowed(interrupted: Path, source: Path, upscaled: Upscaled) -> None:
    path = interrupted.with_name("out.mp4.iconvsr") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["machine"]["torch"] = "1.0"
    path.write_text(json.dumps(manifest))
    with pytest.raises(JournalError, match=r"torch: the parts have 1\.0, this run .*--allow-mixed"):
        upscaled(source, interrupted)
    summary = upscaled(source, interrupted, allow_mixed=True)
    assert any("mixed parts: torch" in text for text in summary.warnings)


def test_two_runs_at_once_are_refused(source: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    with Journal(tmp_path / "out.mp4.iconvsr", "mov").hold(), pytest.raises(JournalError, match="another run"):
        upscaled(source, tmp_path / "out.mp4")


def test_a_run_killed_before_it_cleaned_up_is_finished(source: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    summary = upscaled(source, output)
    work = Journal(tmp_path / "out.mp4.iconvsr", "mov")
    work.folder.mkdir()
    said = {name: getattr(summary, name) for name in ("frames", "size_bytes", "kept", "left", "warnings")}
    work.note("finished", said)
    assert upscaled(source, output).upscaled == 0
    assert not work.folder.exists()


# ---- encoders that fail or lie ----


@pytest.fixture
def fake(executable: Executable, tmp_path: Path) -> Callable[[str], str]:
    """An ffmpeg that runs the shell script when it is asked to encode, else ffmpeg itself, which is $real."""

    def make(script: str) -> str:
        path = tmp_path / "fake-ffmpeg"
        path.write_text(
            f'#!/bin/sh\nreal="{executable.path}"\ncase "$*" in *pipe:0*) {script} ;; *) exec "$real" "$@" ;; esac\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


FRAME_BYTES = 192 * 128 * 3  # 4:2:0, 10 bits


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"head -c {FRAME_BYTES * 3} >/dev/null; echo 'encoder: boom' >&2; exit 3", r"exit code 3\): encoder: boom"),
        ("echo 'no such encoder' >&2; exit 1", r"exit code 1\): no such encoder"),
        (f"head -c {FRAME_BYTES * 3} >/dev/null; exit 0", r"stopped before its input ended \(exit code 0\)|not whole"),
        ("cat >/dev/null; exit 0", r"said it was done, but part 0 is not whole"),
        (
            f'head -c {FRAME_BYTES * 4 + 900} | "$real" "$@"; cat >/dev/null; exit 0',
            r"part 0 holds \d frames instead of 8",
        ),
        ("head -c 5000 >/dev/null; kill -9 $$", r"ended by SIGKILL"),
    ],
)
def test_an_encoder_that_fails_is_quoted_and_its_part_does_not_count(
    source: Path, upscaled: Upscaled, fake: Callable[[str], str], tmp_path: Path, script: str, message: str
) -> None:
    with pytest.raises(FfmpegError, match=message):
        upscaled(source, tmp_path / "out.mp4", ffmpeg=fake(script))
    assert parts_of(tmp_path / "out.mp4") == []
    assert not (tmp_path / "out.mp4").exists()


def test_a_full_disk_keeps_what_is_finished(
    quiet: str, source: Path, upscaled: Upscaled, fake: Callable[[str], str], executable: Executable, tmp_path: Path
) -> None:
    # From the third part on everything is written to /dev/full, which is what a full disk looks like to ffmpeg.
    full = 'case "$*" in *part_00000[01]*) exec "$real" "$@";; esac; n=$(($#-1)); i=0; for a do shift; i=$((i+1)); '
    full += '[ $i -le $n ] && set -- "$@" "$a"; done; exec "$real" "$@" /dev/full'
    output = tmp_path / "out.mp4"
    with pytest.raises(FfmpegError, match=r"disk full: make room and run the same command again"):
        upscaled(source, output, ffmpeg=fake(full))
    assert len(parts_of(output)) == 2
    upscaled(source, output, ffmpeg=executable.path)
    assert sha(output) == quiet


# ---- damaged sources ----


@pytest.fixture
def damaged(clip: Make, tmp_path: Path) -> Path:
    """A video of 30 intra frames with noise written over some in the middle."""
    content = bytearray(clip("whole.mkv", "-c:v", "libx264", "-g", "5", "-bf", "0", frames=30).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = random.Random(3).randbytes(300)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    return path


def test_damage_is_counted_and_strict_fails(damaged: Path, upscaled: Upscaled, tmp_path: Path) -> None:
    summary = upscaled(damaged, tmp_path / "out.mkv")
    assert len(summary.warnings) == 1
    assert "frame(s)" in summary.warnings[0]
    assert " s" in summary.warnings[0]
    assert probe(tmp_path / "out.mkv").num_frames == probe(damaged).num_frames
    with pytest.raises(SourceError, match=r"frame\(s\).*--strict does not accept that"):
        upscaled(damaged, tmp_path / "strict.mkv", strict=True)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "webm"])
def test_a_cut_off_file_gives_the_frames_that_are_there(
    clip: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    whole = clip(f"whole.{suffix}", "-c:v", "libvpx" if suffix == "webm" else "libx264", frames=30, size="128x96")
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    summary = upscaled(cut, tmp_path / "out.mkv")
    assert 5 <= summary.frames < 30


# ---- signals and kills ----


def arguments(source: Path, output: Path, model: Path) -> list[str]:
    fixed = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --progress plain")
    return ["upscale", str(source), str(output), "--model", str(model), "--part-frames", str(PART_FRAMES), *fixed]


def children_of(process_id: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process_id:
            found.append(int(status.parent.name))
    return found


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


def test_one_interrupt_stops_keeps_the_parts_and_says_how_to_go_on(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "stopping after this step" in said
    assert "Run the same command to go on" in said
    assert "Traceback" not in said
    assert parts_of(tmp_path / "out.mkv")


def test_a_second_interrupt_ends_at_once_and_leaves_no_child(started: subprocess.Popen[str]) -> None:
    encoders = children_of(started.pid)
    started.send_signal(signal.SIGINT)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in said
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in encoders), 10)


def kill_somebody(process_id: int, dice: random.Random) -> str:
    """SIGKILL to us, to ffmpeg, or to both."""
    whom = dice.choice(("us", "ffmpeg", "both"))
    victims = children_of(process_id) if whom != "us" else []
    victims += [process_id] if whom != "ffmpeg" else []
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return whom


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3000)])])
def test_a_job_killed_at_any_moment_gives_the_same_file(
    quiet: str, source: Path, tiny_model: Path, tmp_path: Path, kills: int
) -> None:
    dice = random.Random(kills)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ffmpeg_filter.job.job"])  # torch takes seconds to import; once is enough
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
                    kill_somebody(process.pid, dice)
                    hits += 1
            process.join(60)
            assert process.exitcode is not None, "it hangs"
        assert sha(output) == quiet
