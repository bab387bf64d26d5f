"""A Ray cluster on loopback, a short video, and the job that the cluster is to do with it."""

import logging
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffmpeg_filter.job.cluster import Cluster
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.ffmpeg import Executable
from tests.ffmpeg_filter.job.cluster.local_cluster import (
    FRAMES,
    NODE_FOLDER,
    PART_FRAMES,
    PartFfmpeg,
    Recorder,
    Run,
    add_node,
    encoders,
    sha,
    wait_for,
)
from vs_iconvsr.plan import Settings

SETTINGS = Settings(segment=4, context=1, device="cpu", threads=1)


@pytest.fixture(scope="session")
def source(executable: Executable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    make = "-v error -y -f lavfi -i testsrc2=s=48x32:r=25 -frames:v"
    subprocess.run([executable.path, *shlex.split(make), str(FRAMES), "-c:v", "libx264", str(path)], check=True)
    return path


@pytest.fixture(scope="session")
def job(source: Path, tiny_model: Path) -> JobOptions:
    """A job of PARTS parts; its output is to be replaced."""
    options = JobOptions(source, Path("unset.mkv"), model=str(tiny_model), settings=SETTINGS)
    return replace(options, speed="ultrafast", part_frames=PART_FRAMES)


@pytest.fixture(scope="session")
def expected(job: JobOptions, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of what this machine makes alone."""
    output = tmp_path_factory.mktemp("alone") / "out.mkv"
    run_job(replace(job, output=output), Recorder(), threading.Event())
    return sha(output)


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """Ray reads some of these when it is imported."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # what it does on Linux: loopback only
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_health_check_failure_threshold", "2")
        environment.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves them on a busy machine
        yield pytest.importorskip("ray", reason="ray is not installed: pip install 'vapoursynth-iconvsr[cluster]'")


@pytest.fixture(scope="session")
def nodes(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that makes no parts, and two nodes of one CPU each. A test leaves as many as it found."""
    from ray.cluster_utils import Cluster as LocalCluster

    local = LocalCluster()
    local.temporary = tmp_path_factory.mktemp("nodes")
    try:
        add_node(local, num_cpus=0)
        for _ in range(2):
            add_node(local)
        ray.init(address=local.address, log_to_driver=False, logging_level=logging.ERROR)
        yield local
    finally:
        ray.shutdown()
        local.shutdown()


@pytest.fixture
def run_on_cluster(nodes: Any, job: JobOptions, tmp_path: Path) -> Run:
    """run_on_cluster(progress, …): does the job on the cluster; keywords are those of JobOptions."""

    def run(
        progress: PlainProgress, stop: threading.Event | None = None, *, patience_s: float = 60, **changes: Any
    ) -> JobSummary:
        options = replace(job, **{"output": tmp_path / "out.mkv", **changes})
        ended = stop or threading.Event()
        with Cluster(nodes.address, progress, ended, patience_s=patience_s) as executor:
            return run_job(options, progress, ended, executor=executor)

    return run


@pytest.fixture
def run_here(job: JobOptions, tmp_path: Path) -> Run:
    """run_here(progress, …): does the same job on this machine alone."""

    def run(progress: PlainProgress, stop: threading.Event | None = None, **changes: Any) -> JobSummary:
        options = replace(job, **{"output": tmp_path / "out.mkv", **changes})
        return run_job(options, progress, stop or threading.Event())

    return run


@pytest.fixture(scope="session")
def part_ffmpeg(executable: Executable, tmp_path_factory: pytest.TempPathFactory) -> PartFfmpeg:
    """part_ffmpeg("*", script): an ffmpeg that runs the script where a node encodes such a part, else the real one.

    In the script, exec "$real" "$@" is the real one.
    """

    def make(numbers: str, script: str) -> str:
        path = tmp_path_factory.mktemp("ffmpeg") / "ffmpeg"
        where = f"*/{NODE_FOLDER}/*/part_00000{numbers}.*"
        path.write_text(
            f'#!/bin/sh\nreal="{executable.path}"\ncase "$*" in {where}) {script} ;; *) exec "$real" "$@" ;; esac\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def no_encoders_left(nodes: Any) -> Callable[[], None]:
    """Waits until no node encodes a part."""
    return lambda: wait_for(lambda: not encoders(nodes), 30)
