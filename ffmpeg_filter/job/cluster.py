"""An executor whose parts are made by the nodes of a Ray cluster; the driver, our own process, does all the rest.

Ray places tasks by resources, retries those that failed or were lost with a process or a node (max_retries,
retry_exceptions), and transports weights and parts in its object store. What Ray cannot know is which nodes make the
same bytes, so a task on each node checks that first, and tasks carry a label selector that excludes unsuitable nodes.
Each part begins with the same check, so a node that joins later takes parts at once. Label selectors need Ray 2.49.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import vs_iconvsr
from ffmpeg_filter.job import cluster_node
from ffmpeg_filter.job.cluster_node import JobSpec, PartError, PartResult, UnsuitableNode, compare
from ffmpeg_filter.job.execute import ExecutionResult, damage_name
from ffmpeg_filter.job.journal import Journal, JournalError, Manifest
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.job.pipeline import Interrupted, StageTimes
from ffmpeg_filter.job.prepare import PreparedJob
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.job.source import identity_of
from ffmpeg_filter.media import ffmpeg
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import weights
from vs_iconvsr.plan import usual_threads

ATTEMPTS = 3
POLL_S = 0.3
CHECK_S = 60.0  # a node that is busy with other work for longer is checked with its first part
PATIENCE_S = 300.0  # for a node to join, or to come back, when there is none
END_S = 10.0
CONNECT_S = 10.0


class Cluster:
    """An executor (see execute.Executor): the nodes of the cluster at `address`, "auto" or as in ray://host:10001.

    Connects when a job is prepared; leaving the block disconnects. Raises JobError where Ray is not installed.
    patience_s: how long to wait for a node when none can make parts.
    """

    def __init__(
        self, address: str, progress: Progress, stop: threading.Event, *, patience_s: float = PATIENCE_S
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise JobError('cluster: expected the package ray, found none; pip install "vapoursynth-iconvsr[cluster]"')
        self._address, self._progress, self._stop = address, progress, stop
        self._patience_s = patience_s
        self._none_since: float | None = None  # when the last usable node went away
        self._connected = False
        self._left_out: dict[str, str] = {}  # a node's id: its name and why
        self._demand: dict[str, float] = {}  # what one part takes of a node's resources
        self._spec: JobSpec | None = None
        self._weights: Any = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connected:
            _ray().shutdown()  # Ray ends what still runs for us

    def prepare(self, job: JobOptions, source: MediaSource) -> PreparedJob:
        """The job as the nodes do it: as those whose parts are there already, else as most of them.

        Raises JobError if no node can do it, naming the reasons, and Interrupted.
        """
        self._connect()
        self._left_out, self._none_since = {}, None  # a node may suit one job and not another
        options, self._demand = portable(job, gpus=_ray().cluster_resources().get("GPU", 0) > 0)
        model = weights.locate(options.model)
        self._weights = _ray().put(model.read_bytes())
        identity = identity_of(options, source)
        self._spec = JobSpec(options, source, identity, vs_iconvsr.__version__, model.name)
        answers = self._check_nodes(self._spec)
        chosen = _choose(list(answers.values()), Journal(options.work, "").manifest())
        for node, prepared in answers.items():
            try:
                compare(chosen.manifest, prepared.manifest, allow_mixed=options.allow_mixed)
            except UnsuitableNode as error:
                self.leave_out(node, error)
        return replace(chosen, options=options, source=source, executable=ffmpeg.find_executable(options.ffmpeg))

    def make_parts(
        self, prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
    ) -> ExecutionResult:
        """Has the parts made. Raises Interrupted, JobError, or what a node raised that is not its fault."""
        assert self._spec is not None, "a job is prepared before its parts are made"
        spec = replace(self._spec, manifest=prepared.manifest)
        dispatcher = _Dispatcher(self, spec, todo=todo, work=work, progress=progress)
        try:
            return dispatcher.run(stop)
        finally:
            dispatcher.end()

    # ---- what the dispatcher calls ----

    def require_nodes(self) -> list[str]:
        """The usable nodes. Raises JobError when there have been none for `patience_s`."""
        nodes = self.usable_nodes()
        if nodes:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = time.monotonic()
            self._progress.note(f"cluster: waiting for a node with {self._part_needs()}")
        elif time.monotonic() - self._none_since > self._patience_s:
            reasons = "".join(f"; {text}" for text in self._left_out.values())
            raise JobError(
                f"cluster: expected a node with {self._part_needs()} for each part, got none within "
                f"{self._patience_s:g} s{reasons}; start one, or pass --threads N for parts that take N CPUs, or "
                "--device cpu; finished parts are kept"
            )
        return nodes

    def usable_nodes(self) -> list[str]:
        """The ids of those that are there, have what a part needs and were not left out."""
        return [
            node["NodeID"]
            for node in _ray().nodes()
            if node["Alive"]
            and node["NodeID"] not in self._left_out
            and all(node["Resources"].get(kind, 0) >= need for kind, need in self._demand.items())
        ]

    def leave_out(self, node: str, why: BaseException) -> None:
        if node not in self._left_out:
            self._left_out[node] = f"{name_of(node)} is left out: {_first_line(why)}"
            self._progress.note(f"cluster: {self._left_out[node]}")

    @property
    def left_out(self) -> tuple[str, ...]:
        """For the user: which nodes, and why."""
        return tuple(f"cluster: {text}" for text in self._left_out.values())

    def submit(self, task: Callable[..., Any], *arguments: Any, node: str | None = None) -> Any:
        """A reference to what the task will return, run with the weights on that node, or any that is not left out."""
        excluded = ",".join(("none", *self._left_out))  # a list in a selector must not be empty
        options = {
            "num_cpus": self._demand.get("CPU", 0),
            "num_gpus": self._demand.get("GPU", 0),
            "max_retries": 0 if node else ATTEMPTS - 1,
            "retry_exceptions": [PartError],
            "scheduling_strategy": "SPREAD",
            "label_selector": {"ray.io/node-id": node or f"!in({excluded})"},
        }
        return _ray().remote(task).options(**options).remote(*arguments, self._weights)

    # ---- how a job is prepared ----

    def _connect(self) -> None:
        ray = _ray()
        if ray.is_initialized():
            return
        on_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _require_listener(self._address)
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise JobError(
                f"cluster: expected a running Ray cluster at {self._address}, got: {reason}; start one: "
                "ray start --head on the first machine, then on the others the line that it prints"
            ) from error
        finally:
            if on_main:
                signal.signal(signal.SIGTERM, handler)  # Ray puts its own there, which aborts after 3 s
        self._connected = True

    def _part_needs(self) -> str:
        return " and ".join(f"{need:g} {kind}" for kind, need in self._demand.items())

    def _check_nodes(self, spec: JobSpec) -> dict[str, PreparedJob]:
        """What each node makes of the job. One that is busy with other work is not waited for."""
        ray = _ray()
        while not (nodes := self.require_nodes()):
            if self._stop.wait(POLL_S):
                raise Interrupted
        shared = ray.put(spec)
        checks = {self.submit(cluster_node.check_node, shared, node=node): node for node in nodes}
        answers: dict[str, PreparedJob] = {}
        failure: BaseException | None = None
        started = time.monotonic()
        while checks and (not answers or time.monotonic() - started < CHECK_S):
            if self._stop.is_set():
                raise Interrupted
            for reference in ray.wait(list(checks), timeout=POLL_S)[0]:
                node = checks.pop(reference)
                try:
                    answers[node] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    failure = _cause(error)
                    self.leave_out(node, failure)
        for reference in checks:
            ray.cancel(reference)
        if not answers:
            raise JobError("; ".join(("cluster: no node can make parts", *self._left_out.values()))) from failure
        return answers


class _Dispatcher:
    """Submits the parts of a job, keeps the results, and counts frames."""

    def __init__(
        self, cluster: Cluster, spec: JobSpec, *, todo: Sequence[int], work: Journal, progress: Progress
    ) -> None:
        assert spec.manifest is not None
        self._cluster, self._manifest, self._todo = cluster, spec.manifest, todo
        self._work, self._progress = work, progress
        self._spec = _ray().put(spec)
        self._pending: dict[Any, int] = {}  # Ray's reference: the part
        self._failures: Counter[int] = Counter()
        self._shown: Counter[int] = Counter()  # frames of each part that progress knows
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._stages = StageTimes()
        self._reporter = _ray().remote(cluster_node.ProgressActor).options(num_cpus=0, max_restarts=-1).remote()
        self._report = self._reporter.read.remote()

    def run(self, stop: threading.Event) -> ExecutionResult:
        for part in self._todo:
            self._submit(part)
        while pending := list(self._pending):
            stopping = stop.is_set()  # then what is finished is still kept
            for reference in _ray().wait(pending, num_returns=len(pending), timeout=0 if stopping else POLL_S)[0]:
                self._keep_or_requeue(self._pending.pop(reference), reference)
            if stopping:
                raise Interrupted
            self._cluster.require_nodes()
            self._show_report()
        frames = sum(len(self._manifest.frames_of(part)) for part in self._todo)
        return ExecutionResult(frames, self._stages, (*self._warnings, *self._cluster.left_out))

    def end(self) -> None:
        """Ends what is under way."""
        ray = _ray()
        with contextlib.suppress(ray.exceptions.RayError, ConnectionError):  # a cluster that is gone ends by itself
            for reference in self._pending:
                ray.cancel(reference, force=True)
            if self._pending:
                ray.wait(list(self._pending), num_returns=len(self._pending), timeout=END_S)
            ray.kill(self._reporter)

    def _submit(self, part: int) -> None:
        self._pending[self._cluster.submit(cluster_node.make_part, self._spec, part, self._reporter)] = part

    def _keep_or_requeue(self, part: int, reference: Any) -> None:
        try:
            self._keep(part, _ray().get(reference))
        except (_ray().exceptions.RayError, JournalError) as error:
            self._requeue(part, _cause(error))

    def _requeue(self, part: int, error: BaseException) -> None:
        """Where Ray has given up, or a result was lost. Raises what is no fault of a node, and JobError."""
        if isinstance(error, UnsuitableNode):
            self._cluster.leave_out(error.node, error)
        elif not isinstance(error, JournalError | _ray().exceptions.RayError):
            raise error
        self._failures[part] += type(error) is not UnsuitableNode  # such a node has not even begun
        if self._failures[part] >= ATTEMPTS or not self._cluster.usable_nodes():
            raise JobError(
                f"cluster: part {part + 1} could not be made ({_first_line(error)}); finished parts are kept: "
                "run the same command to go on"
            ) from error
        self._progress.note(f"part {part + 1}: trying again ({_first_line(error)})")
        self._submit(part)

    def _keep(self, part: int, result: PartResult) -> None:
        """Commits the part to the work directory. Raises JournalError or RayError if it did not arrive whole."""
        work, frames = self._work, len(self._manifest.frames_of(part))
        work.write_note(damage_name(part), result.damage)
        if result.mixed:
            work.record_mixed(result.mixed)
            self._warnings += [text for text in result.mixed if text not in self._warnings]
        fetch_part(result, work.temporary_part(part))
        work.commit(part, frames)
        self._stages += result.stages
        self._show(part, frames)
        fps = frames / result.seconds
        for text in (*result.notes, f"part {part + 1}: {frames} frames by {name_of(result.node)}, {fps:.2f} fps"):
            if text not in self._notes:
                self._notes.append(text)
                self._progress.note(text)
        self._progress.note(f"{len(self._todo) - len(self._pending)} of {len(self._todo)} parts done")

    def _show_report(self) -> None:
        """Passes on what nodes have reported; without a report, whole parts count."""
        ray = _ray()
        if ray.wait([self._report], timeout=0)[0]:
            with contextlib.suppress(ray.exceptions.RayError):
                for part, frames in ray.get(self._report).items():
                    self._show(part, frames)
            self._report = self._reporter.read.remote()

    def _show(self, part: int, frames: int) -> None:
        """A part that is made again counts only from where it was lost."""
        for _ in range(frames - self._shown[part]):
            self._progress.advance()
        self._shown[part] = max(frames, self._shown[part])


def fetch_part(result: PartResult, path: Path) -> None:
    """Writes the part's bytes. Raises JournalError if they are not those that the node made."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in result.pieces:
            content = _ray().get(piece)
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != result.sha256:
        raise JournalError(f"{path.name}: the bytes that arrived are not those that were sent")


def name_of(node: str) -> str:
    """The host, and the beginning of the id that Ray shows."""
    hosts = [found["NodeManagerHostname"] for found in _ray().nodes() if found["NodeID"] == node]
    return f"{hosts[0] if hosts else 'unknown'}/{node[:6]}"


def portable(options: JobOptions, *, gpus: bool) -> tuple[JobOptions, dict[str, float]]:
    """The options in terms that mean the same on every node, and what one part takes of a node's resources.

    gpus: whether any node has one.
    """
    settings = options.settings
    threads = settings.threads or usual_threads()
    device = settings.device if settings.device != "auto" else "cuda:0" if gpus else "cpu"
    demand: dict[str, float] = {"CPU": threads}
    if device.startswith("cuda"):
        count = len(device.split(","))  # Ray shows a task its own devices only, counted from 0
        device = ",".join(f"cuda:{i}" for i in range(count))
        demand = {"GPU": count, "CPU": 1}
    settings = replace(settings, device=device, threads=threads)
    return replace(options, input=options.input.absolute(), output=options.output.absolute(), settings=settings), demand


def _choose(answers: Sequence[PreparedJob], earlier: Manifest | None) -> PreparedJob:
    """The answer that fits the parts that are there, else the most frequent one."""
    if earlier is not None:
        for prepared in answers:
            with contextlib.suppress(UnsuitableNode):
                compare(earlier, prepared.manifest, allow_mixed=False)
                return prepared
    kinds = [json.dumps([answer.manifest.settings, answer.manifest.machine], sort_keys=True) for answer in answers]
    return answers[kinds.index(Counter(kinds).most_common(1)[0][0])]


def _cause(error: BaseException) -> BaseException:
    """What was raised on the node, where Ray only carries it."""
    return getattr(error, "cause", None) or error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _require_listener(address: str) -> None:
    """Raises OSError or ValueError where nobody listens: Ray itself would wait for minutes, then end this process."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def _ray() -> Any:
    """Imported on use: the package is optional."""
    import ray

    return ray
