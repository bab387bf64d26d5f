"""A job on a cluster is interrupted like a local one: the same exit code, nothing finished lost, no process left."""

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from tests.ffmpeg_filter.job.cluster.local_cluster import (
    FRAMES,
    PART_FRAMES,
    PARTS,
    PartFfmpeg,
    Recorder,
    Run,
    command_line,
    encoders,
    in_background,
    sha,
    wait_for,
)

pytestmark = pytest.mark.needs_ffmpeg

HANG = "while kill -0 $PPID; do sleep 0.1; done"  # as long as the process that makes the part
FINISHED = "part_*.json"
INTERRUPTED = 130

type StuckJob = Callable[[Path], JobOptions]


@dataclass(frozen=True)
class Ended:
    """An interrupted command. folder: where its output would be."""

    code: int
    printed: str
    folder: Path


@pytest.fixture(scope="module")
def stuck_job(job: JobOptions, part_ffmpeg: PartFfmpeg) -> StuckJob:
    """stuck_job(folder): once a part lies in the folder, whichever it is, no part begun later is ever made.

    Ray begins parts in any order, two at a time.
    """

    def make(folder: Path) -> JobOptions:
        begun = f"ls {shlex.quote(str(folder))}/*/{FINISHED}"
        return replace(job, ffmpeg=part_ffmpeg("[0-5]", f'if {begun}; then {HANG}; else exec "$real" "$@"; fi'))

    return make


def run_interrupted(nodes: Any, stuck: StuckJob, folder: Path, *signals: signal.Signals) -> Ended:
    """The command in this process, sent the signals once a part is done and others are under way."""

    def interrupt() -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    under_way = in_background(lambda: list(folder.glob(f"*/{FINISHED}")) and encoders(nodes), interrupt)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            code = cli.main(command_line(stuck(folder), folder, nodes.address))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    under_way.join()
    return Ended(code, printed.getvalue(), folder)


@pytest.fixture(scope="module")
def interrupted(nodes: Any, stuck_job: StuckJob, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return run_interrupted(nodes, stuck_job, tmp_path_factory.mktemp("interrupted"), signal.SIGINT)


def test_one_signal_ends_the_job_like_a_local_one(interrupted: Ended) -> None:
    assert interrupted.code == INTERRUPTED, interrupted.printed
    assert "Run the same command to go on" in interrupted.printed
    assert "Traceback" not in interrupted.printed


def test_one_signal_leaves_no_process(interrupted: Ended, no_encoders_left: Callable[[], None]) -> None:
    assert interrupted.code == INTERRUPTED, interrupted.printed
    no_encoders_left()


def test_what_a_cluster_began_one_machine_ends(
    interrupted: Ended, expected: str, run_here: Run, tmp_path: Path
) -> None:
    shutil.copytree(interrupted.folder / "out.mkv.iconvsr", tmp_path / "out.mkv.iconvsr")
    made = len(list(interrupted.folder.glob(f"*/{FINISHED}")))
    assert 1 <= made < PARTS
    assert run_here(Recorder()).upscaled == FRAMES - made * PART_FRAMES
    assert sha(tmp_path / "out.mkv") == expected


@pytest.mark.long
def test_parts_that_are_finished_when_a_signal_comes_are_kept(
    ray: Any, expected: str, run_on_cluster: Run, run_here: Run, tmp_path: Path
) -> None:
    stop = threading.Event()

    def stop_when_all_are_made() -> None:
        wait_for(lambda: ray.available_resources().get("CPU", 0) == 2)
        stop.set()

    with pytest.raises(Interrupted):
        run_on_cluster(Recorder("1 of 6 parts done", stop_when_all_are_made), stop)
    assert run_here(Recorder()).upscaled == 0
    assert sha(tmp_path / "out.mkv") == expected


def test_two_signals_end_the_job_at_once(
    nodes: Any, stuck_job: StuckJob, no_encoders_left: Callable[[], None], tmp_path: Path
) -> None:
    ended = run_interrupted(nodes, stuck_job, tmp_path, signal.SIGINT, signal.SIGTERM)  # two of a kind may become one
    assert ended.code == INTERRUPTED, ended.printed
    assert "Run the same command" not in ended.printed  # which is where a single signal ends
    assert "Traceback" not in ended.printed
    no_encoders_left()


def test_a_terminated_command_ends_like_a_local_one(
    nodes: Any, stuck_job: StuckJob, no_encoders_left: Callable[[], None], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ffmpeg_filter.cli", *command_line(stuck_job(tmp_path), tmp_path, nodes.address)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: encoders(nodes) or process.poll() is not None, 200)
        process.terminate()
        _, printed = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == INTERRUPTED
    assert "Run the same command to go on" in printed
    assert "Traceback" not in printed
    no_encoders_left()
