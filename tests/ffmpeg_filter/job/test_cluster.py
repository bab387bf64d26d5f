"""PartSink made by the machines of a real Ray cluster, all on this one: killed, unlike and blind ones among them."""

import hashlib
import io
import logging
import os
import shlex
import shutil
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

from ffmpeg_filter.job import cluster
from ffmpeg_filter.job.cluster import Cluster, JobSpec, UnsuitableNode
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.job.source import identity_of
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.probe import probe
from vs_iconvsr import __version__
from vs_iconvsr.plan import Settings

pytestmark = pytest.mark.needs_ffmpeg

FRAMES, PART_FRAMES = 64, 8
SETTINGS = Settings(segment=4, context=1, device="cpu", threads=1)


class Watched(PlainProgress):
    """Keeps what it is told, and does something at the first line that holds some words."""

    def __init__(self, words: str = "", action: Callable[[], object] = lambda: None) -> None:
        super().__init__(io.StringIO())
        self.told: list[str] = []
        self._words, self._action = words, action

    def note(self, text: str) -> None:
        self.told.append(text)
        if self._words and self._words in text:
            self._words = ""
            self._action()

    def makers(self) -> set[str]:
        """The machines that have made parts."""
        return {text.split(" by ")[1].split(",")[0] for text in self.told if " frames by " in text}


@pytest.fixture(scope="module")
def source(executable: Executable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    make = "-v error -y -f lavfi -i testsrc2=s=48x32:r=25 -frames:v"
    subprocess.run([executable.path, *shlex.split(make), str(FRAMES), "-c:v", "libx264", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def job(source: Path, tiny_model: Path) -> JobOptions:
    """A job of eight parts; its output is to be replaced."""
    wanted = JobOptions(source, Path("unset.mkv"), model=str(tiny_model), settings=SETTINGS)
    return replace(wanted, speed="ultrafast", part_frames=PART_FRAMES)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def quiet(job: JobOptions, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of what this machine alone makes."""
    output = tmp_path_factory.mktemp("quiet") / "out.mkv"
    run_job(replace(job, output=output), Watched(), threading.Event())
    return sha(output)


# ---- without Ray ----


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        JobError, match=r"cluster: expected the package ray, got none.*pip install 'vs-iconvsr\[cluster\]'"
    ):
        Cluster("auto", Watched(), threading.Event())


def test_ray_is_not_imported_unless_a_cluster_is_asked_for() -> None:
    code = "import sys, ffmpeg_filter.commands.upscale, ffmpeg_filter.job.cluster; print('ray' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout == "False\n"


@pytest.fixture
def order(job: JobOptions, source: Path, tmp_path: Path) -> JobSpec:
    found = probe(source)
    here = replace(job, output=tmp_path / "out.mkv")
    return JobSpec(here, found, identity_of(here, found), __version__, Path(job.model).name)


def test_a_machine_of_another_version_is_unfit(order: JobSpec, tiny_model: Path) -> None:
    with pytest.raises(UnsuitableNode, match=rf"it has vs-iconvsr {__version__}, the job 0\.0; install the same"):
        cluster.survey(replace(order, version="0.0"), tiny_model.read_bytes())


def test_a_machine_that_does_not_see_the_source_is_unfit(order: JobSpec, tiny_model: Path) -> None:
    gone = replace(order, job=replace(order.job, input=Path("/films/gone.mkv")))
    with pytest.raises(UnsuitableNode, match=r"it does not see /films/gone\.mkv; mount its folder there, or: rsync -a"):
        cluster.survey(gone, tiny_model.read_bytes())


def test_a_machine_with_another_source_under_that_name_is_unfit(order: JobSpec, tiny_model: Path) -> None:
    with pytest.raises(UnsuitableNode, match=r"its .*in\.mkv is another file \(sha256: expected 00, got "):
        cluster.survey(replace(order, identity={**order.identity, "sha256": "00"}), tiny_model.read_bytes())


def test_what_a_killed_maker_left_is_swept_by_the_next(order: JobSpec, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        root = tmp_path / f"iconvsr-{os.getuid()}"
        (root / "killed").mkdir(parents=True)
        (root / "killed" / "part_000000.mkv.part").write_bytes(b"half")
        with Journal(root / "alive", "").hold():
            cluster.survey(order, tiny_model.read_bytes())
            assert [path.name for path in root.iterdir()] == ["alive"]


# ---- with Ray ----


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster on loopback: a head that makes no parts, and two machines of one CPU each."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # what it does on Linux: loopback only
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_health_check_failure_threshold", "2")
        environment.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves them on a busy machine
        ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'vs-iconvsr[cluster]'")
        from ray.cluster_utils import Cluster as Machines

        found = Machines()
        try:
            add(found, num_cpus=0, include_log_monitor=False)
            for _ in range(2):
                add(found)
            ray.init(address=found.address, log_to_driver=False, logging_level=logging.ERROR)
            yield found
        finally:
            ray.shutdown()
            found.shutdown()


def add(machines: Any, *, num_cpus: int = 1, **options: Any) -> Any:
    for attempt in range(3):  # Ray gives a machine's helpers 15 s to start, too few for a busy machine
        try:
            return machines.add_node(
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


@pytest.fixture
def made(machines: Any, job: JobOptions, tmp_path: Path) -> Callable[..., JobSummary]:
    """made(progress, …): does the job on the cluster; keywords are those of JobOptions."""

    def run(progress: PlainProgress, stop: threading.Event | None = None, **options: Any) -> JobSummary:
        asked = replace(job, output=tmp_path / "out.mkv", **options)
        ended = stop or threading.Event()
        with Cluster(machines.address, progress, ended) as executor:
            return run_job(asked, progress, ended, executor=executor)

    return run


Run = Callable[..., JobSummary]


def encoders_of(output: Path) -> list[int]:
    """Processes that encode parts of this output."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes()
        except OSError:
            continue
        if b"pipe:0" in words and bytes(output.parent) in words:
            found.append(int(command.parent.name))
    return found


def parent_of(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: Callable[[], object], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def kill_a_maker(output: Path) -> None:
    """SIGKILL to the first process that is seen to make a part of this output; returns at once."""

    def killed() -> bool:
        for encoder in encoders_of(output):
            try:
                os.kill(parent_of(encoder), signal.SIGKILL)
            except (OSError, ValueError):
                continue
            return True
        return False

    threading.Thread(target=wait_for, args=(killed,), daemon=True).start()


def test_a_cluster_makes_the_bytes_of_one_machine(quiet: str, made: Run, tmp_path: Path) -> None:
    progress = Watched()
    summary = made(progress)
    assert (summary.upscaled, summary.warnings) == (FRAMES, ())
    assert sha(tmp_path / "out.mkv") == quiet
    assert len(progress.makers()) == 2
    assert summary.stages.upscale.frames == FRAMES
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_a_machine_that_does_not_see_the_work_directory_sends_its_parts(
    quiet: str, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "TOKEN", "where.nobody.looks")
    monkeypatch.setattr(Journal, "adopt", lambda *_: pytest.fail("the work directory was seen"))
    assert made(Watched()).upscaled == FRAMES
    assert sha(tmp_path / "out.mkv") == quiet


def test_a_killed_maker_costs_its_part_alone(
    quiet: str, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "REST_S", 0.0)
    progress = Watched("1 of 8 parts done", lambda: kill_a_maker(tmp_path / "out.mkv"))
    assert made(progress).upscaled == FRAMES
    assert any("lost on" in text and "it is made again" in text for text in progress.told)
    assert sha(tmp_path / "out.mkv") == quiet


def test_a_part_that_kills_every_maker_ends_the_job_and_keeps_the_others(
    quiet: str, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "REST_S", 0.0)
    monkeypatch.setattr(cluster, "ATTEMPTS", 1)
    with pytest.raises(
        JobError, match=r"cluster: part \d was lost 1 times, at last on .*run the same command to go on"
    ):
        made(Watched("1 of 8 parts done", lambda: kill_a_maker(tmp_path / "out.mkv")))
    assert made(Watched()).upscaled < FRAMES
    assert sha(tmp_path / "out.mkv") == quiet


def test_a_machine_that_goes_down_costs_its_part_alone(quiet: str, machines: Any, made: Run, tmp_path: Path) -> None:
    third = add(machines)
    output = tmp_path / "out.mkv"
    progress = Watched("1 of 8 parts done", lambda: machines.remove_node(third, allow_graceful=False))
    assert made(progress).upscaled == FRAMES
    assert sha(output) == quiet
    wait_for(lambda: not encoders_of(output), 30)


def test_an_unlike_machine_is_left_out_unless_allowed(machines: Any, made: Run) -> None:
    unlike = add(machines, env_vars={"ATEN_CPU_CAPABILITY": "default"})
    try:
        progress = Watched()
        summary = made(progress)
        assert len(progress.makers()) == 2
        assert any("is left out: cpu: the job has" in text and "--allow-mixed" in text for text in summary.warnings)
        progress = Watched()
        summary = made(progress, allow_mixed=True, overwrite=True)
        assert len(progress.makers()) == 3
        assert [text for text in summary.warnings if "cpu: the job has" in text] == list(summary.warnings) != []
    finally:
        machines.remove_node(unlike)


def stopped_after(parts: int, made: Run) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        made(Watched(f"{parts} of 8 parts done", stop.set), stop)


def test_what_a_cluster_began_one_machine_ends(quiet: str, made: Run, job: JobOptions, tmp_path: Path) -> None:
    stopped_after(3, made)
    output = tmp_path / "out.mkv"
    wait_for(lambda: not encoders_of(output), 30)
    assert not list((tmp_path / "out.mkv.iconvsr").glob("*.part"))
    rest = run_job(replace(job, output=output), Watched(), threading.Event())
    assert 0 < rest.upscaled <= FRAMES - 3 * PART_FRAMES
    assert sha(output) == quiet


def test_what_one_machine_began_a_cluster_ends(quiet: str, made: Run, job: JobOptions, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    stop = threading.Event()

    class Impatient(PlainProgress):
        def advance(self, segment: int | None = None) -> None:
            super().advance(segment)
            if self._counter.done == 3 * PART_FRAMES + 2:
                stop.set()

    with pytest.raises(Interrupted):
        run_job(replace(job, output=output), Impatient(io.StringIO()), stop)
    assert 0 < made(Watched()).upscaled <= FRAMES - 2 * PART_FRAMES
    assert sha(output) == quiet


@pytest.fixture
def started(machines: Any, job: JobOptions, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, when machines are at work on its parts."""
    output = tmp_path / "out.mkv"
    fixed = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --progress plain")
    words = ["upscale", str(job.input), str(output), "--model", job.model, "--part-frames", str(PART_FRAMES), *fixed]
    command = [sys.executable, "-m", "ffmpeg_filter.cli", *words, "--cluster", machines.address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: encoders_of(output) or process.poll() is not None, 200)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_command_leaves_nobody_at_work_and_resumes(
    quiet: str, started: subprocess.Popen[str], made: Run, tmp_path: Path
) -> None:
    started.kill()
    started.wait()
    output = tmp_path / "out.mkv"
    wait_for(lambda: not encoders_of(output), 30)
    assert not output.exists()
    made(Watched())
    assert sha(output) == quiet


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_an_interrupted_command_says_how_to_go_on_and_leaves_nobody_at_work(
    started: subprocess.Popen[str], tmp_path: Path, signals: list[signal.Signals]
) -> None:
    for number in signals:
        started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in said
    if len(signals) == 1:
        assert "Run the same command to go on" in said
    wait_for(lambda: not encoders_of(tmp_path / "out.mkv"), 30)
    shutil.rmtree(tmp_path)


def test_a_cluster_that_is_not_there_is_an_error_with_the_remedy(job: JobOptions, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'vs-iconvsr[cluster]'")
    words = ["upscale", str(job.input), str(tmp_path / "out.mkv"), "--cluster", "127.0.0.1:9"]
    command = [sys.executable, "-m", "ffmpeg_filter.cli", *words, "--model", job.model, "--device", "cpu"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 1
    assert "cluster: expected a running Ray cluster at 127.0.0.1:9" in answer.stderr
    assert "ray start --head" in answer.stderr
    assert not (tmp_path / "out.mkv.iconvsr").exists()
