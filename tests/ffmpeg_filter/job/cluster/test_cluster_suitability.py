"""Which nodes of a cluster make parts: unlike and blind ones, those that join late, and when there are none."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffmpeg_filter.job import cluster
from ffmpeg_filter.job.cluster import Cluster, portable
from ffmpeg_filter.job.cluster_node import JobSpec
from ffmpeg_filter.job.options import JobError, JobOptions
from tests.ffmpeg_filter.job.cluster.local_cluster import FRAMES, Recorder, Run, add_node, sha
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg


def settings_with(threads: int) -> Settings:
    return Settings(segment=4, context=1, device="cpu", threads=threads)


@pytest.mark.long
def test_where_no_node_sees_the_source_each_is_named_with_the_remedy(
    run_on_cluster: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = JobSpec
    monkeypatch.setattr(
        cluster, "JobSpec", lambda options, *rest: real(replace(options, input=Path("/gone.mkv")), *rest)
    )
    progress = Recorder()
    remedy = r"it does not see /gone\.mkv; mount its folder there, or: rsync -a /gone\.mkv THERE:/gone\.mkv"
    with pytest.raises(JobError, match=rf"cluster: no node can make parts; \S+ is left out: {remedy}"):
        run_on_cluster(progress)
    assert len(progress.with_words("is left out: it does not see /gone.mkv")) == 2


def test_a_node_that_does_not_see_the_source_is_left_out_with_the_remedy(
    expected: str, nodes: Any, source: Path, run_on_cluster: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "in.mkv").hardlink_to(source)
    monkeypatch.chdir(tmp_path / "seen")
    path = Path("/proc/self/cwd/in.mkv")  # only for processes that were started here
    seeing = add_node(nodes)
    try:
        progress = Recorder()
        summary = run_on_cluster(progress, input=path)
        assert progress.makers() == {seeing.node_id[:6]}
        remedy = f"is left out: it does not see {path}; mount its folder there, or: rsync -a {path} THERE:{path}"
        assert [remedy in text for text in summary.warnings] == [True, True]
        assert sha(tmp_path / "out.mkv") == expected
    finally:
        nodes.remove_node(seeing)


def test_an_unlike_node_is_left_out_unless_allowed(nodes: Any, run_on_cluster: Run) -> None:
    unlike = add_node(nodes, ATEN_CPU_CAPABILITY="default")
    try:
        # On a busy machine the other nodes may be done before this one has started a worker and was judged: once more.
        left_out: list[str] = []
        for _ in range(5):
            progress = Recorder()
            summary = run_on_cluster(progress, overwrite=True)
            assert progress.makers()
            assert unlike.node_id[:6] not in progress.makers()
            left_out = [text for text in summary.warnings if "is left out: cpu: the job has" in text]
            if left_out:
                break
        assert left_out
        assert "--allow-mixed" in left_out[0]
        makers: set[str] = set()
        for _ in range(5):
            progress = Recorder()
            summary = run_on_cluster(progress, allow_mixed=True, overwrite=True)
            makers |= progress.makers()
            if unlike.node_id[:6] in makers:
                assert [text for text in summary.warnings if "cpu: the job has" in text] == list(summary.warnings) != []
                break
        assert unlike.node_id[:6] in makers
    finally:
        nodes.remove_node(unlike)


def test_a_node_that_joins_later_makes_parts(
    expected: str, nodes: Any, ray: Any, run_on_cluster: Run, tmp_path: Path
) -> None:
    held: list[Any] = []  # the CPUs of the nodes that were there when the job was prepared; then the node that joins

    def hold_and_join() -> None:
        held.append(ray.util.placement_group([{"CPU": 1}] * 2))
        assert held[0].wait(60)
        held.append(add_node(nodes))

    try:
        progress = Recorder("plan: ", hold_and_join)
        assert run_on_cluster(progress).upscaled == FRAMES
        assert progress.makers() == {held[1].node_id[:6]}
        assert sha(tmp_path / "out.mkv") == expected
    finally:
        ray.util.remove_placement_group(held[0])
        nodes.remove_node(held[1])


def test_where_no_node_has_the_resources_the_remedy_is_named(run_on_cluster: Run) -> None:
    progress = Recorder()
    with pytest.raises(
        JobError, match=r"expected a node with 99 CPU for each part, got none within 0 s; .*pass --threads N"
    ):
        run_on_cluster(progress, patience_s=0, settings=settings_with(99))
    assert progress.notes == ["cluster: waiting for a node with 99 CPU"]


@pytest.mark.long
def test_a_node_that_joins_while_none_has_the_resources_is_used(nodes: Any, run_on_cluster: Run) -> None:
    joined: list[Any] = []
    progress = Recorder("waiting for a node with 2 CPU", lambda: joined.append(add_node(nodes, num_cpus=2)))
    try:
        assert run_on_cluster(progress, settings=settings_with(2)).upscaled == FRAMES
        assert progress.makers() == {joined[0].node_id[:6]}
    finally:
        nodes.remove_node(joined[0])


def test_a_wait_for_the_resources_can_be_interrupted(run_on_cluster: Run) -> None:
    stop = threading.Event()
    with pytest.raises(cluster.Interrupted):
        run_on_cluster(Recorder("waiting for a node", stop.set), stop, settings=settings_with(99))


def test_patience_starts_anew_when_a_node_has_been_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    progress = Recorder()
    executor = Cluster("auto", progress, threading.Event(), patience_s=0)
    for there in ([], ["a node"], []):
        monkeypatch.setattr(executor, "usable_nodes", lambda there=there: there)
        assert executor.require_nodes() == there
    assert len(progress.with_words("waiting for a node")) == 2
    with pytest.raises(JobError, match="got none within 0 s"):
        executor.require_nodes()


def test_each_job_of_an_executor_begins_with_all_nodes_and_all_patience(
    nodes: Any, job: Any, source: Path, tmp_path: Path
) -> None:
    from ffmpeg_filter.media.probe import probe

    progress = Recorder()
    options = replace(job, output=tmp_path / "out.mkv")
    with Cluster(nodes.address, progress, threading.Event(), patience_s=0) as executor:
        for _ in range(2):
            with pytest.raises(JobError, match="expected a node with 99 CPU"):
                executor.prepare(replace(options, settings=settings_with(99)), probe(source))
        assert len(progress.with_words("waiting for a node")) == 2
        executor.prepare(options, probe(source))
        for node in executor.usable_nodes():
            executor.leave_out(node, ValueError("does not suit this job"))
        executor.prepare(options, probe(source))
        assert executor.left_out == ()


@pytest.mark.parametrize(
    ("device", "gpus", "expected", "demand"),
    [
        ("auto", False, "cpu", {"CPU": 3}),
        ("auto", True, "cuda:0", {"GPU": 1, "CPU": 1}),
        ("cpu", True, "cpu", {"CPU": 3}),
        ("cuda:1,cuda:3", True, "cuda:0,cuda:1", {"GPU": 2, "CPU": 1}),
    ],
)
def test_a_part_takes_as_many_devices_as_the_job_names(
    device: str, gpus: bool, expected: str, demand: dict[str, float]
) -> None:
    options = JobOptions(Path("in.mkv"), Path("out.mkv"), settings=Settings(device=device, threads=3))
    everywhere, found = portable(options, gpus=gpus)
    assert (everywhere.settings.device, found) == (expected, demand)
    assert everywhere.input == Path.cwd() / "in.mkv"
