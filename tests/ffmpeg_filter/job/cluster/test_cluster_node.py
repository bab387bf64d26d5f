"""What runs on a node, without a cluster: which nodes are unsuitable, and what they clean up."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ffmpeg_filter.job import cluster_node
from ffmpeg_filter.job.cluster_node import JobSpec, UnsuitableNode
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.source import identity_of
from ffmpeg_filter.media.probe import probe
from vs_iconvsr import __version__

pytestmark = pytest.mark.needs_ffmpeg


@pytest.fixture
def spec(job: JobOptions, source: Path, tmp_path: Path) -> JobSpec:
    found = probe(source)
    here = replace(job, output=tmp_path / "out.mkv")
    return JobSpec(here, found, identity_of(here, found), __version__, Path(job.model).name)


def test_a_node_of_another_version_is_unsuitable(spec: JobSpec, tiny_model: Path) -> None:
    with pytest.raises(
        UnsuitableNode, match=rf"it has vapoursynth-iconvsr {__version__}, the job 0\.0; install the same"
    ):
        cluster_node.check_node(replace(spec, version="0.0"), tiny_model.read_bytes())


def test_a_node_with_another_source_under_that_name_is_unsuitable(spec: JobSpec, tiny_model: Path) -> None:
    with pytest.raises(UnsuitableNode, match=r"its .*in\.mkv is another file \(sha256: expected 00, got "):
        cluster_node.check_node(replace(spec, identity={**spec.identity, "sha256": "00"}), tiny_model.read_bytes())


def test_what_a_killed_process_left_is_deleted_by_the_next_task(
    spec: JobSpec, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        root = tmp_path / f"iconvsr-{os.getuid()}"
        (root / "killed").mkdir(parents=True)
        (root / "killed" / "part_000000.mkv.part").write_bytes(b"half")
        with Journal(root / "alive", "").hold():
            cluster_node.check_node(spec, tiny_model.read_bytes())
            assert sorted(path.name for path in root.iterdir()) == ["alive", "lock"]


def test_tasks_that_begin_and_end_together_do_not_delete_each_others_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))

    def work(task: int) -> None:
        for _ in range(50):
            with cluster_node.node_folder() as folder:
                (folder / "part").write_bytes(b"whole")
                assert (folder / "part").read_bytes() == b"whole", task

    with ThreadPoolExecutor(4) as tasks:
        list(tasks.map(work, range(4)))
