"""What is lost when a process, a node or an encoder of a cluster fails: the parts under way, never a finished one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffmpeg_filter.job import cluster
from ffmpeg_filter.job.cluster import ATTEMPTS
from ffmpeg_filter.job.options import JobError, JobOptions
from tests.ffmpeg_filter.job.cluster.local_cluster import (
    FRAMES,
    PART_FRAMES,
    PARTS,
    PartFfmpeg,
    Recorder,
    Run,
    add_node,
    command_line,
    encoders,
    kill_a_worker,
    sha,
    wait_for,
)

pytestmark = pytest.mark.needs_ffmpeg


@pytest.mark.long
def test_an_encoder_that_fails_once_costs_no_node(
    expected: str, run_on_cluster: Run, part_ffmpeg: PartFfmpeg, tmp_path: Path
) -> None:
    once = f'mkdir "{tmp_path}/failed" 2> /dev/null && exit 1; exec "$real" "$@"'
    assert run_on_cluster(Recorder(), ffmpeg=part_ffmpeg("2", once)).warnings == ()
    assert (tmp_path / "failed").is_dir()
    assert sha(tmp_path / "out.mkv") == expected


def test_an_encoder_that_always_fails_ends_the_job_with_the_cause(
    expected: str, run_on_cluster: Run, run_here: Run, part_ffmpeg: PartFfmpeg, tmp_path: Path
) -> None:
    always = f'echo tried >> "{tmp_path}/tries"; echo "no bits left" >&2; exit 1'
    cause = (
        r"cluster: part 3 could not be made \(ffmpeg failed \(exit code 1\): no bits left\); finished parts are kept"
    )
    with pytest.raises(JobError, match=cause):
        run_on_cluster(Recorder(), ffmpeg=part_ffmpeg("2", always))
    assert 1 < len((tmp_path / "tries").read_text().splitlines()) <= ATTEMPTS * 2  # for each of two nodes
    assert PART_FRAMES <= run_here(Recorder()).upscaled < FRAMES
    assert sha(tmp_path / "out.mkv") == expected


def test_a_killed_worker_costs_its_part_alone(expected: str, nodes: Any, run_on_cluster: Run, tmp_path: Path) -> None:
    killer = kill_a_worker(nodes)
    assert run_on_cluster(Recorder()).upscaled == FRAMES
    assert not killer.is_alive()
    assert sha(tmp_path / "out.mkv") == expected


@pytest.mark.long
def test_a_part_that_kills_every_worker_ends_the_job_and_keeps_the_others(
    expected: str,
    run_on_cluster: Run,
    run_here: Run,
    part_ffmpeg: PartFfmpeg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "ATTEMPTS", 2)  # a killed worker may take a finished part with it, once
    with pytest.raises(JobError, match=r"cluster: part 6 could not be made .*run the same command to go on"):
        run_on_cluster(Recorder(), ffmpeg=part_ffmpeg("5", "kill -9 $PPID"))
    assert run_here(Recorder()).upscaled < FRAMES
    assert sha(tmp_path / "out.mkv") == expected


@pytest.mark.parametrize("under_way", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_node_that_goes_down_costs_its_parts_alone(
    expected: str,
    ray: Any,
    nodes: Any,
    run_on_cluster: Run,
    no_encoders_left: Callable[[], None],
    tmp_path: Path,
    under_way: bool,
) -> None:
    node = sorted(nodes.worker_nodes, key=id)[0]

    def go_down() -> None:
        if not under_way:  # all parts are made, though only one has been fetched
            wait_for(lambda: ray.available_resources().get("CPU", 0) == 2)
        nodes.remove_node(node, allow_graceful=False)

    progress = Recorder(f"1 of {PARTS} parts done", go_down)
    try:
        assert run_on_cluster(progress).upscaled == FRAMES
        assert sha(tmp_path / "out.mkv") == expected
        no_encoders_left()
    finally:
        add_node(nodes)


def test_a_killed_command_leaves_no_process_and_resumes(
    expected: str,
    nodes: Any,
    job: JobOptions,
    run_here: Run,
    no_encoders_left: Callable[[], None],
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "ffmpeg_filter.cli", *command_line(job, tmp_path, nodes.address)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: encoders(nodes) or process.poll() is not None, 200)
    finally:
        process.kill()
        process.wait()
    no_encoders_left()
    assert not (tmp_path / "out.mkv").exists()
    run_here(Recorder())
    assert sha(tmp_path / "out.mkv") == expected
