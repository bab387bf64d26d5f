"""Jobs on a healthy Ray cluster, on this machine: the same file, resumed anywhere; and where there is no cluster."""

import io
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job import cluster
from ffmpeg_filter.job.cluster import Cluster, fetch_part
from ffmpeg_filter.job.cluster_node import PartResult
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from tests.ffmpeg_filter.job.cluster.local_cluster import FRAMES, PART_FRAMES, Recorder, Run, command_line, sha

pytestmark = pytest.mark.needs_ffmpeg


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        JobError, match=r'cluster: expected the package ray, found none; pip install "vapoursynth-iconvsr\[cluster\]"'
    ):
        Cluster("auto", Recorder(), threading.Event())


def test_ray_is_not_imported_unless_a_cluster_is_used() -> None:
    code = "import sys, ffmpeg_filter.commands.upscale, ffmpeg_filter.job.cluster; print('ray' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout == "False\n"


def test_a_cluster_that_is_not_there_is_an_error_with_the_remedy(
    ray: Any, job: JobOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cli, "stop_on_interrupt", threading.Event)
    assert cli.main(command_line(job, tmp_path, "127.0.0.1:9")) == 1
    printed = capsys.readouterr().err
    assert "cluster: expected a running Ray cluster at 127.0.0.1:9" in printed
    assert "ray start --head" in printed
    assert not list(tmp_path.iterdir())


def test_a_cluster_makes_the_bytes_of_one_machine(expected: str, run_on_cluster: Run, tmp_path: Path) -> None:
    progress = Recorder()
    summary = run_on_cluster(progress)
    assert (summary.upscaled, summary.warnings) == (FRAMES, ())
    assert sha(tmp_path / "out.mkv") == expected
    assert len(progress.makers()) == 2
    assert progress.frames == summary.stages.upscale.frames == FRAMES
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_a_part_that_was_changed_on_the_way_is_made_again(
    ray: Any, expected: str, run_on_cluster: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch_changed(result: PartResult, path: Path) -> None:
        monkeypatch.setattr(cluster, "fetch_part", fetch_part)
        fetch_part(replace(result, pieces=(*result.pieces, ray.put(b"more"))), path)

    monkeypatch.setattr(cluster, "fetch_part", fetch_changed)
    progress = Recorder()
    assert run_on_cluster(progress).warnings == ()
    assert len(progress.with_words("the bytes that arrived are not those that were sent")) == 1
    assert sha(tmp_path / "out.mkv") == expected


def test_what_one_machine_began_a_cluster_ends(
    expected: str, run_on_cluster: Run, run_here: Run, tmp_path: Path
) -> None:
    stop = threading.Event()

    class StopInPart4(PlainProgress):
        def advance(self, segment: int | None = None) -> None:
            super().advance(segment)
            if self._counter.done == 3 * PART_FRAMES + 2:
                stop.set()

    with pytest.raises(Interrupted):
        run_here(StopInPart4(io.StringIO()), stop)
    assert 0 < run_on_cluster(Recorder()).upscaled <= FRAMES - 2 * PART_FRAMES
    assert sha(tmp_path / "out.mkv") == expected
