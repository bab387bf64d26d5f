"""Parts made by the nodes of a real Ray cluster, all on this machine: killed, unlike and blind ones among them."""

import hashlib
import io
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job import cluster, cluster_node
from ffmpeg_filter.job.cluster import Cluster
from ffmpeg_filter.job.cluster_node import JobSpec
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg


PARTS, PART_FRAMES = 6, 8
FRAMES = PARTS * PART_FRAMES


class Recorder(PlainProgress):
    """Keeps the notes, counts frames, and does something at the first note that holds some words."""

    def __init__(self, words: str = "", action: Callable[[], object] = lambda: None) -> None:
        super().__init__(io.StringIO())
        self.notes: list[str] = []
        self.frames = 0
        self._words, self._action = words, action

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self._words and self._words in text:
            self._words = ""
            self._action()

    def advance(self, segment: int | None = None) -> None:
        super().advance(segment)
        self.frames += 1

    def makers(self) -> set[str]:
        """The nodes that have made parts."""
        return {text.split(" by ")[1].split(",")[0] for text in self.notes if " frames by " in text}


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def expected(job: JobOptions, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of what this machine makes alone."""
    output = tmp_path_factory.mktemp("alone") / "out.mkv"
    run_job(replace(job, output=output), Recorder(), threading.Event())
    return sha(output)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray reads some of these when it is imported."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # what it does on Linux: loopback only
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_health_check_failure_threshold", "2")
        environment.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves them on a busy machine
        yield pytest.importorskip("ray", reason="ray is not installed: pip install 'vapoursynth-iconvsr[cluster]'")


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        JobError, match=r"cluster: expected the package ray, found none; pip install 'vapoursynth-iconvsr\[cluster\]'"
    ):
        Cluster("auto", Recorder(), threading.Event())


def test_ray_is_not_imported_unless_a_cluster_is_asked_for() -> None:
    code = "import sys, ffmpeg_filter.commands.upscale, ffmpeg_filter.job.cluster; print('ray' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout == "False\n"


def test_a_cluster_that_is_not_there_is_an_error_with_the_remedy(
    ray: Any, job: JobOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert run_command(job, tmp_path, "127.0.0.1:9") == 1
    printed = capsys.readouterr().err
    assert "cluster: expected a running Ray cluster at 127.0.0.1:9" in printed
    assert "ray start --head" in printed
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def nodes(ray: Any) -> Iterator[Any]:
    """A cluster on loopback: a head that makes no parts, and two nodes of one CPU each. A test may kill one of them."""
    from ray.cluster_utils import Cluster as LocalCluster

    local = LocalCluster()
    try:
        add(local, num_cpus=0, include_log_monitor=False)
        for _ in range(2):
            add(local)
        ray.init(address=local.address, log_to_driver=False, logging_level=logging.ERROR)
        yield local
    finally:
        ray.shutdown()
        local.shutdown()


def add(nodes: Any, *, num_cpus: int = 1, **options: Any) -> Any:
    for attempt in range(3):  # Ray gives a node's helpers 15 s to start, too few for a busy machine
        try:
            return nodes.add_node(
                num_cpus=num_cpus,
                node_ip_address="127.0.0.1",
                object_store_memory=80 << 20,
                include_dashboard=False,
                **options,
            )
        except Exception:
            if attempt == 2:
                raise
    return None


Run = Callable[..., JobSummary]


@pytest.fixture
def run_on_cluster(nodes: Any, job: JobOptions, tmp_path: Path) -> Run:
    """run_on_cluster(progress, …): does the job on the cluster; keywords are those of JobOptions."""

    def run(progress: PlainProgress, stop: threading.Event | None = None, **changes: Any) -> JobSummary:
        options = replace(job, output=tmp_path / "out.mkv", **changes)
        ended = stop or threading.Event()
        with Cluster(nodes.address, progress, ended) as executor:
            return run_job(options, progress, ended, executor=executor)

    return run


@pytest.fixture
def run_here(job: JobOptions, tmp_path: Path) -> Run:
    """run_here(progress): does the same job on this machine alone."""

    def run(progress: PlainProgress, stop: threading.Event | None = None) -> JobSummary:
        return run_job(replace(job, output=tmp_path / "out.mkv"), progress, stop or threading.Event())

    return run


def command_line(job: JobOptions, folder: Path, address: str) -> list[str]:
    fixed = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --progress plain")
    words = ["upscale", str(job.input), str(folder / "out.mkv"), "--model", job.model, *fixed]
    return [*words, "--part-frames", str(PART_FRAMES), "--cluster", address]


def run_command(job: JobOptions, folder: Path, address: str) -> int:
    """The command in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return cli.main(command_line(job, folder, address))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def encoders_in(folder: Path) -> list[int]:
    """Processes that encode parts of the output in this folder."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes()
        except OSError:
            continue
        if b"pipe:0" in words and bytes(folder) in words:
            found.append(int(command.parent.name))
    return found


def parent_of(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: Callable[[], object], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.03)


def in_background(condition: Callable[[], object], action: Callable[[], object]) -> threading.Thread:
    """Waits for the condition, then acts; returns at once."""

    def act() -> None:
        wait_for(condition, 200)
        action()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def kill_a_maker(folder: Path) -> threading.Thread:
    """SIGKILL to the first process that is seen to make a part of the output in this folder; returns at once."""

    def killed() -> bool:
        for encoder in encoders_in(folder):
            try:
                os.kill(parent_of(encoder), signal.SIGKILL)
            except (OSError, ValueError):
                continue
            return True
        return False

    return in_background(killed, lambda: None)


def test_a_cluster_makes_the_bytes_of_one_machine(expected: str, run_on_cluster: Run, tmp_path: Path) -> None:
    progress = Recorder()
    summary = run_on_cluster(progress)
    assert (summary.upscaled, summary.warnings) == (FRAMES, ())
    assert sha(tmp_path / "out.mkv") == expected
    assert len(progress.makers()) == 2
    assert progress.frames == summary.stages.upscale.frames == FRAMES
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_a_node_that_does_not_see_the_work_directory_sends_its_parts(
    expected: str, run_on_cluster: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_node, "TOKEN", "where.nobody.looks")
    monkeypatch.setattr(Journal, "adopt", lambda *_: pytest.fail("the work directory was seen"))
    assert run_on_cluster(Recorder()).upscaled == FRAMES
    assert sha(tmp_path / "out.mkv") == expected


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
    assert len([text for text in progress.notes if "is left out: it does not see /gone.mkv" in text]) == 2


def test_where_no_node_has_the_resources_the_remedy_is_named(run_on_cluster: Run) -> None:
    with pytest.raises(
        JobError, match=r"expected a node with 99 CPU for each part, got none among 3; pass --threads N"
    ):
        run_on_cluster(Recorder(), settings=Settings(segment=4, context=1, device="cpu", threads=99))


def test_an_unlike_node_is_left_out_unless_allowed(nodes: Any, run_on_cluster: Run) -> None:
    unlike = add(nodes, env_vars={"ATEN_CPU_CAPABILITY": "default"})
    try:
        progress = Recorder()
        summary = run_on_cluster(progress)
        assert len(progress.makers()) == 2
        assert any("is left out: cpu: the job has" in text and "--allow-mixed" in text for text in summary.warnings)
        progress = Recorder()
        summary = run_on_cluster(progress, allow_mixed=True, overwrite=True)
        assert len(progress.makers()) == 3
        assert [text for text in summary.warnings if "cpu: the job has" in text] == list(summary.warnings) != []
    finally:
        nodes.remove_node(unlike)


def test_what_a_cluster_began_one_machine_ends(
    expected: str, run_on_cluster: Run, run_here: Run, tmp_path: Path
) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        run_on_cluster(Recorder(f"3 of {PARTS} parts done", stop.set), stop)
    wait_for(lambda: not encoders_in(tmp_path), 30)
    assert not list((tmp_path / "out.mkv.iconvsr").glob("*.part"))
    assert 0 < run_here(Recorder()).upscaled <= FRAMES - 3 * PART_FRAMES
    assert sha(tmp_path / "out.mkv") == expected


def test_what_one_machine_began_a_cluster_ends(
    expected: str, run_on_cluster: Run, run_here: Run, tmp_path: Path
) -> None:
    stop = threading.Event()

    class Impatient(PlainProgress):
        def advance(self, segment: int | None = None) -> None:
            super().advance(segment)
            if self._counter.done == 3 * PART_FRAMES + 2:
                stop.set()

    with pytest.raises(Interrupted):
        run_here(Impatient(io.StringIO()), stop)
    assert 0 < run_on_cluster(Recorder()).upscaled <= FRAMES - 2 * PART_FRAMES
    assert sha(tmp_path / "out.mkv") == expected


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_command_prints_how_to_go_on_and_leaves_nobody_at_work(
    nodes: Any, job: JobOptions, tmp_path: Path, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    in_background(lambda: encoders_in(tmp_path), interrupt)
    assert run_command(job, tmp_path, nodes.address) == 130
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    if times == 1:
        assert "Run the same command to go on" in printed
    wait_for(lambda: not encoders_in(tmp_path), 30)


def test_a_killed_maker_costs_its_part_alone(expected: str, run_on_cluster: Run, tmp_path: Path) -> None:
    killer = kill_a_maker(tmp_path)
    assert run_on_cluster(Recorder()).upscaled == FRAMES
    assert not killer.is_alive()
    assert sha(tmp_path / "out.mkv") == expected


def test_a_part_that_kills_every_maker_ends_the_job_and_keeps_the_others(
    expected: str, run_on_cluster: Run, run_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ATTEMPTS", 1)
    with pytest.raises(JobError, match=r"cluster: part \d could not be made .*run the same command to go on"):
        run_on_cluster(Recorder(f"1 of {PARTS} parts done", lambda: kill_a_maker(tmp_path)))
    assert run_here(Recorder()).upscaled < FRAMES
    assert sha(tmp_path / "out.mkv") == expected


def test_a_node_that_goes_down_costs_its_part_alone(
    expected: str, nodes: Any, run_on_cluster: Run, tmp_path: Path
) -> None:
    node = sorted(nodes.worker_nodes, key=id)[0]
    progress = Recorder(f"1 of {PARTS} parts done", lambda: nodes.remove_node(node, allow_graceful=False))
    assert run_on_cluster(progress).upscaled == FRAMES
    assert sha(tmp_path / "out.mkv") == expected
    wait_for(lambda: not encoders_in(tmp_path), 30)


@pytest.fixture
def started(nodes: Any, job: JobOptions, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, when nodes are at work on its parts."""
    command = [sys.executable, "-m", "ffmpeg_filter.cli", *command_line(job, tmp_path, nodes.address)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: encoders_in(tmp_path) or process.poll() is not None, 200)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_command_leaves_nobody_at_work_and_resumes(
    expected: str, started: subprocess.Popen[str], run_here: Run, tmp_path: Path
) -> None:
    started.kill()
    started.wait()
    wait_for(lambda: not encoders_in(tmp_path), 30)
    assert not (tmp_path / "out.mkv").exists()
    run_here(Recorder())
    assert sha(tmp_path / "out.mkv") == expected


def test_a_terminated_command_prints_how_to_go_on_and_leaves_nobody_at_work(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    started.terminate()
    _, printed = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in printed
    assert "Run the same command to go on" in printed
    wait_for(lambda: not encoders_in(tmp_path), 30)
