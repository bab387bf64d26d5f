"""The parts of a job made by the machines of a Ray cluster. This machine keeps the journal and does all the rest.

What a machine needs: this package in the same version, and the source under the same path. Weights are sent along. A
part is made in a directory of its own, inside the work directory where the machine sees that, else in its temporary
directory, from where its bytes are sent; so nobody but this machine ever touches a finished part or the manifest.
"""

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import vs_iconvsr
from ffmpeg_filter.job import journal
from ffmpeg_filter.job.execute import ExecutionResult, damage_name, make_parts
from ffmpeg_filter.job.journal import Journal, JournalError, Manifest, differences
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.job.pipeline import Interrupted, StageTimes
from ffmpeg_filter.job.prepare import PreparedJob, prepare_job
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.job.source import identity_of
from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.ffmpeg import FfmpegError
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import weights
from vs_iconvsr.atomic import write_atomically
from vs_iconvsr.plan import usual_threads

logger = logging.getLogger(__name__)

TOKEN = "cluster.token"
ATTEMPTS = 3
POLL_S = 0.3
TELL_EVERY_S = 1.0
LOOK_EVERY_S = 5.0
SURVEY_S = 60.0  # a machine that is busy with other work for longer joins later
REST_S = 30.0  # a machine that lost a part; Ray may take this long to notice that it is gone
PATIENCE_S = 300.0  # for a machine to come back when none is left
END_S = 10.0
REACH_S = 10.0
PIECE_BYTES = 32 << 20


class UnsuitableNode(Exception):  # noqa: N818 - a finding about a machine, not a failure of the job
    """A machine that cannot make parts of this job; the message says why, and what to do."""


@dataclass(frozen=True)
class NodeInfo:
    """A node of the cluster. slots: how many parts it can make at a time."""

    id: str
    name: str
    slots: int


@dataclass(frozen=True)
class JobSpec:
    """What a machine must know. identity: the source's, as seen here. token, manifest: once the job is settled."""

    job: JobOptions
    source: MediaSource
    identity: Mapping[str, Any]
    version: str
    weights_name: str
    token: str = ""
    manifest: Manifest | None = None


@dataclass(frozen=True)
class PartResult:
    """A finished part. bench: where it was committed, or None where `pieces`, Ray's references, hold its bytes."""

    hurt: Mapping[str, Any]
    stages: StageTimes
    mixed: tuple[str, ...]
    notes: tuple[str, ...]
    sha256: str
    bench: Journal | None
    pieces: tuple[Any, ...]


class Cluster:
    """A crew (see execute.Executor): the machines of the cluster at `address`, "auto" or as in ray://host:10001.

    Connects when a job is settled; `close` lets go. Raises JobError where Ray is not installed.
    """

    def __init__(self, address: str, progress: Progress, stop: threading.Event) -> None:
        if importlib.util.find_spec("ray") is None:
            raise JobError("cluster: expected the package ray, got none; install it: pip install 'vs-iconvsr[cluster]'")
        self._address, self._progress, self._stop = address, progress, stop
        self._connected = False
        self._left_out: dict[str, str] = {}  # a machine's id: its name and why
        self._demand: dict[str, float] = {}
        self._order: JobSpec | None = None
        self._weights: Any = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connected:
            import ray

            ray.shutdown()  # what still runs there for us is ended by Ray

    def prepare(self, job: JobOptions, source: MediaSource) -> PreparedJob:
        """The job as the machines do it: as those whose parts are there already, else as most of them.

        Raises JobError if no machine can do it, naming the reasons, and Interrupted.
        """
        self._connect()
        job = self._fitted(job)
        model = weights.locate(job.model)
        self._weights = _ray().put(model.read_bytes())
        self._order = JobSpec(job, source, identity_of(job, source), vs_iconvsr.__version__, model.name)
        answers = self._survey()
        chosen = _chosen(list(answers.values()), Journal(job.work, "").manifest())
        for machine, prepared in answers.items():
            if not job.allow_mixed and (unlike := _unlike(chosen.manifest, prepared.manifest)):
                self.leave_out(machine, f"{unlike[0]}; pass --allow-mixed to use it all the same")
        return replace(chosen, options=job, source=source, executable=children.find_executable(job.ffmpeg))

    def make_parts(
        self, prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
    ) -> ExecutionResult:
        """Has the parts made. Raises Interrupted, JobError, or what a part failed with on machine after machine."""
        assert self._order is not None, "a job is settled before its parts are made"
        token = uuid.uuid4().hex
        write_atomically(work.folder / TOKEN, token.encode())
        order = _ray().put(replace(self._order, token=token, manifest=prepared.manifest))
        dispatch = _Dispatch(self, order, prepared, work, todo, progress)
        try:
            return dispatch.run(stop)
        finally:
            dispatch.end()

    # ---- what the dispatch calls ----

    def machines(self) -> dict[str, NodeInfo]:
        """Those that are there, have what a part needs and were not left out, by id."""
        nodes = [node for node in _ray().nodes() if node["Alive"] and node["NodeID"] not in self._left_out]
        namesakes = Counter(node["NodeManagerHostname"] for node in nodes)
        found = {}
        for node in nodes:
            host, number = node["NodeManagerHostname"], node["NodeID"]
            slots = int(min(node["Resources"].get(kind, 0) // need for kind, need in self._demand.items()))
            if slots:
                found[number] = NodeInfo(number, host if namesakes[host] == 1 else f"{host}/{number[:6]}", slots)
        return found

    def leave_out(self, machine: NodeInfo, why: str) -> None:
        self._left_out[machine.id] = f"{machine.name} is left out: {why}"
        self._progress.note(f"cluster: {self._left_out[machine.id]}")

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(f"cluster: {text}" for text in self._left_out.values())

    def start(self, task: Callable[..., Any], machine: NodeInfo, *arguments: Any) -> Any:
        """A reference to what the task will return, run with the weights on that very machine when it has room."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = _ray().remote(task)
        return remote.options(
            num_cpus=self._demand.get("CPU", 0),
            num_gpus=self._demand.get("GPU", 0),
            max_retries=0,  # a part that is lost is given to whoever is free: see _Dispatch
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False),
        ).remote(*arguments, self._weights)

    # ---- how a job is settled ----

    def _connect(self) -> None:
        ray = _ray()
        if ray.is_initialized():
            return
        on_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _reach(self._address)
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise JobError(
                f"cluster: expected a running Ray cluster at {self._address}, got: {said}; start one: ray start --head "
                "on the first machine, then on the others what it tells"
            ) from error
        finally:
            if on_main:
                signal.signal(signal.SIGTERM, handler)  # Ray puts its own there, which aborts after 3 s
        self._connected = True

    def _fitted(self, job: JobOptions) -> JobOptions:
        """The job in terms that mean the same on every machine; settles what one part asks of a machine."""
        settings = job.settings
        gpus = _ray().cluster_resources().get("GPU", 0) > 0
        threads = settings.threads or usual_threads()
        device = settings.device
        if device == "auto":
            device = "cuda:0" if gpus else "cpu"
        if device.startswith("cuda"):
            count = len(device.split(","))  # Ray shows a task its own devices only, counted from 0
            device = ",".join(f"cuda:{i}" for i in range(count))
            self._demand = {"GPU": count, "CPU": 1}
        else:
            self._demand = {"CPU": threads}
        return replace(
            job,
            input=job.input.absolute(),
            output=job.output.absolute(),
            settings=replace(settings, device=device, threads=threads),
        )

    def _survey(self) -> dict[NodeInfo, PreparedJob]:
        """What the machines make of the job. One that is busy with other work is not waited for."""
        ray = _ray()
        order = ray.put(self._order)
        waiting = {self.start(survey, machine, order): machine for machine in self.machines().values()}
        if not waiting:
            wanted = " and ".join(f"{need:g} {kind}" for kind, need in self._demand.items())
            raise JobError(
                f"cluster: expected a machine with {wanted} for each part, got none among {len(ray.nodes())}; "
                "pass --threads N for parts that take N CPUs, or --device cpu"
            )
        answers: dict[NodeInfo, PreparedJob] = {}
        failure: BaseException | None = None
        began = time.monotonic()
        while waiting and (not answers or time.monotonic() - began < SURVEY_S):
            if self._stop.is_set():
                raise Interrupted
            for reference in ray.wait(list(waiting), timeout=POLL_S)[0]:
                machine = waiting.pop(reference)
                try:
                    answers[machine] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    failure = _cause(error)
                    self.leave_out(machine, _in_words(failure))
        for reference in waiting:
            ray.cancel(reference)
        if not answers:
            raise JobError("; ".join(("cluster: no machine can make parts", *self._left_out.values()))) from failure
        return answers


class _Dispatch:
    """PartSink on their way to machines and back."""

    def __init__(
        self,
        cluster: Cluster,
        order: Any,
        prepared: PreparedJob,
        work: Journal,
        todo: Sequence[int],
        progress: Progress,
    ) -> None:
        self._cluster, self._order = cluster, order
        self._manifest, self._work, self._progress = prepared.manifest, work, progress
        self._queue = deque(todo)
        self._total, self._done = len(todo), 0
        self._running: dict[Any, PartTask] = {}
        self._machines: dict[str, NodeInfo] = {}
        self._looked = self._asked = float("-inf")
        self._resting: dict[str, float] = {}  # a machine's id: until when
        self._failed: Counter[int] = Counter()
        self._shown: Counter[int] = Counter()  # frames of each part that progress has been told of
        self._deserted: float | None = None
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._stages = StageTimes()
        self._reporter = _ray().remote(ProgressActor).options(num_cpus=0).remote()

    def run(self, stop: threading.Event) -> ExecutionResult:
        ray = _ray()
        self._look_round()
        places = ", ".join(f"{m.name} ({m.slots})" for m in self._machines.values())
        self._progress.note(f"cluster: {self._total} part(s) for {places}; in brackets how many at a time")
        while self._queue or self._running:
            if stop.is_set():
                raise Interrupted
            self._look_round()
            self._hand_out()
            if not self._running:
                time.sleep(POLL_S)
                continue
            for reference in ray.wait(list(self._running), timeout=POLL_S)[0]:
                self._receive(reference, self._running.pop(reference))
            self._ask_how_far()
        frames = sum(len(self._manifest.frames_of(part)) for part in self._shown)
        return ExecutionResult(frames, self._stages, (*self._warnings, *self._cluster.left_out))

    def end(self) -> None:
        """Ends what is under way and takes away what it leaves behind."""
        ray = _ray()
        with contextlib.suppress(ray.exceptions.RayError, ConnectionError):  # a cluster that is gone ends by itself
            for reference in self._running:
                ray.cancel(reference, force=True)
            if self._running:
                ray.wait(list(self._running), num_returns=len(self._running), timeout=END_S)
            ray.kill(self._reporter)
        self._work.sweep()
        (self._work.folder / TOKEN).unlink(missing_ok=True)

    def _look_round(self) -> None:
        """Who is there, now and then. Raises JobError when nobody is left and nobody comes back."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        self._machines = self._cluster.machines()
        if self._machines or self._running:
            self._deserted = None
            return
        if self._deserted is None:
            self._deserted = now
            self._progress.note(f"cluster: no machine is left; waiting {PATIENCE_S / 60:.0f} minutes for one")
        elif now - self._deserted > PATIENCE_S:
            why = "; ".join(self._cluster.left_out) or "they are all gone"
            raise JobError(f"cluster: no machine is left that can make parts ({why}); finished parts are kept")

    def _hand_out(self) -> None:
        """PartSink to machines that have room, the emptiest first."""
        while self._queue and (machine := self._free_machine()):
            task = PartTask(self._queue.popleft(), machine, uuid.uuid4().hex)
            reference = self._cluster.start(make, machine, self._order, task.part, task.name, self._reporter)
            self._running[reference] = task

    def _free_machine(self) -> NodeInfo | None:
        now = time.monotonic()
        load = Counter(task.machine.id for task in self._running.values())
        rested = [m for m in self._machines.values() if self._resting.get(m.id, 0.0) <= now]
        free = [m for m in rested if load[m.id] < m.slots]
        return min(free, key=lambda m: load[m.id] / m.slots, default=None)

    def _receive(self, reference: Any, task: "PartTask") -> None:
        try:
            result: PartResult = _ray().get(reference)
            self._keep(task.part, result)
        except (_ray().exceptions.RayError, JournalError) as error:
            self._lost(task, _cause(error))
            return
        self._done += 1
        frames = self._manifest.frames_of(task.part)
        self._show(task.part, len(frames))
        self._stages += result.stages
        for text in result.notes:
            if text not in self._notes:
                self._notes.append(text)
                self._progress.note(text)
        seconds = time.monotonic() - task.since
        under_way = ", ".join(f"{e.part + 1} on {e.machine.name}" for e in self._running.values())
        self._progress.note(
            f"part {task.part + 1}: {len(frames)} frames by {task.machine.name}, {len(frames) / seconds:.2f} fps; "
            f"{self._done} of {self._total} parts done, {len(self._queue)} to do, under way: {under_way or 'none'}"
        )

    def _keep(self, part: int, result: PartResult) -> None:
        """The part under its final name in the work directory. Raises JournalError if it is not whole."""
        work, frames = self._work, len(self._manifest.frames_of(part))
        work.write_note(damage_name(part), result.hurt)
        if result.mixed:
            work.record_mixed(result.mixed)
            self._warnings += [text for text in result.mixed if text not in self._warnings]
        if result.bench is not None:
            work.adopt(part, frames, result.bench)
            return
        temporary = work.temporary_part(part)
        with temporary.open("wb") as file:
            for piece in result.pieces:
                file.write(_ray().get(piece))
        if journal.sha256(temporary) != result.sha256:
            raise JournalError(f"part {part}: its bytes were changed on the way")
        work.commit(part, frames)

    def _lost(self, task: "PartTask", cause: BaseException) -> None:
        """A part that did not come is for another machine, unless that would end the same way."""
        part, machine = task.part, task.machine
        self._queue.appendleft(part)
        if isinstance(cause, UnsuitableNode):
            self._cluster.leave_out(machine, str(cause))
            self._looked = float("-inf")
            return
        self._failed[part] += 1
        of_ray = isinstance(cause, _ray().exceptions.RayError)
        if not (of_ray or isinstance(cause, OSError | FfmpegError | JournalError)) or self._failed[part] >= ATTEMPTS:
            if not of_ray:
                raise cause
            raise JobError(
                f"cluster: part {part + 1} was lost {self._failed[part]} times, at last on {machine.name} "
                f"({_in_words(cause)}); finished parts are kept: run the same command to go on"
            ) from cause
        self._resting[machine.id] = time.monotonic() + REST_S
        self._looked = float("-inf")
        self._progress.note(f"part {part + 1}: lost on {machine.name} ({_in_words(cause)}); it is made again")

    def _ask_how_far(self) -> None:
        """Tells progress what the machines have told the reporter; without a reporter, whole parts count."""
        now = time.monotonic()
        if now - self._asked < TELL_EVERY_S:
            return
        self._asked = now
        ray = _ray()
        try:
            told: dict[str, int] = ray.get(self._reporter.read.remote(), timeout=END_S)
        except (ray.exceptions.RayError, TimeoutError):
            return
        for task in self._running.values():
            self._show(task.part, told.get(task.name, 0))

    def _show(self, part: int, frames: int) -> None:
        """A part that is made again counts only from where it was lost."""
        for _ in range(frames - self._shown[part]):
            self._progress.advance()
        self._shown[part] = max(frames, self._shown[part])


@dataclass(frozen=True)
class PartTask:
    """A part under way; name tells it from other attempts at the same part."""

    part: int
    machine: NodeInfo
    name: str
    since: float = field(default_factory=time.monotonic)


class ProgressActor:
    """An actor to which machines tell how many frames of a part they have."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def tell(self, name: str, frames: int) -> None:
        self._told[name] = frames

    def read(self) -> dict[str, int]:
        return self._told


# ---- what runs on the machines ----


def survey(order: JobSpec, weight_file: bytes) -> PreparedJob:
    """The job as this machine would do it. Raises UnsuitableNode, or what `prepare_job` raises."""
    with _bench(order, weight_file) as (prepared, _):
        return prepared


def make(order: JobSpec, part: int, name: str, reporter: Any, weight_file: bytes) -> PartResult:
    """Makes a part. Raises UnsuitableNode, or what `make_parts` raises."""
    assert order.manifest is not None
    with _bench(order, weight_file) as (prepared, folder):
        mixed = _unlike(order.manifest, prepared.manifest)
        if mixed and not order.job.allow_mixed:
            raise UnsuitableNode(f"{mixed[0]}; pass --allow-mixed to use it all the same")
        work = order.job.work
        shared = _sees(work, order.token)
        own = work / f"part_{part:06d}.{name}{journal.TEMPORARY}" if shared else folder / "part"
        told = _Told(reporter, name)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, own, ignore_errors=True)
            maker = Journal(own, prepared.encoding.suffix)
            with maker.hold():
                made = make_parts(prepared, maker, [part], told, threading.Event())
                path = maker.part(part)
                result = PartResult(
                    hurt=maker.read_notes(damage_name(part))[0],
                    stages=made.stages,
                    mixed=tuple(mixed),
                    notes=tuple(told.notes),
                    sha256=journal.sha256(path),
                    bench=maker if shared else None,
                    pieces=() if shared else tuple(_pieces(path)),
                )
            if shared:
                undo.pop_all()  # it is the other side's now
        return result


class _Told:
    """Progress for somebody far away."""

    def __init__(self, reporter: Any, name: str) -> None:
        self.notes: list[str] = []
        self._reporter, self._name = reporter, name
        self._frames, self._last = 0, float("-inf")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, segment: int | None = None) -> None:
        del segment
        self._frames += 1
        if time.monotonic() - self._last >= TELL_EVERY_S:
            self._last = time.monotonic()
            self._reporter.tell.remote(self._name, self._frames)

    def begin(self, total: int, done: int) -> None:
        del total, done

    def update_rates(self, rates: Mapping[str, float]) -> None:
        del rates

    def stage(self, name: str) -> None:
        del name

    def end(self) -> None:
        return


@contextlib.contextmanager
def _bench(order: JobSpec, weight_file: bytes) -> Iterator[tuple[PreparedJob, Path]]:
    """The job as this machine would do it, and a directory that is gone afterwards, at the latest when the next part is
    begun here. Raises UnsuitableNode, or what `prepare_job` raises."""
    if vs_iconvsr.__version__ != order.version:
        raise UnsuitableNode(
            f"it has vs-iconvsr {vs_iconvsr.__version__}, the job {order.version}; install the same on both"
        )
    root = Path(tempfile.gettempdir()) / f"iconvsr-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    for left in root.iterdir():
        with contextlib.suppress(JournalError, OSError), Journal(left, "").hold() as abandoned:
            abandoned.remove()
    with Journal(root / uuid.uuid4().hex, "").hold() as bench:
        try:
            model = bench.folder / order.weights_name
            model.write_bytes(weight_file)
            yield _settled(replace(order, job=replace(order.job, model=str(model)))), bench.folder
        finally:
            bench.remove()


def _settled(order: JobSpec) -> PreparedJob:
    job, source = order.job, order.source
    remedy = f"mount its folder there, or: rsync -a {job.input} THERE:{job.input}"
    for path in (job.input, source.path, *(source.images.files if source.images else ())):
        if not path.exists():
            raise UnsuitableNode(f"it does not see {path}; {remedy}")
    for what, wanted, got in differences(order.identity, identity_of(job, source)):
        raise UnsuitableNode(f"its {job.input} is another file ({what}: expected {wanted}, got {got}); {remedy}")
    return prepare_job(job, source)


def _sees(work: Path, token: str) -> bool:
    """Whether this is the work directory of the other side: by what lies in it, not by its name."""
    try:
        return (work / TOKEN).read_text() == token
    except OSError:
        return False


def _pieces(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield _ray().put(piece)


# ---- for both sides ----


def _chosen(answers: Sequence[PreparedJob], earlier: Manifest | None) -> PreparedJob:
    """The answer that fits the parts that are there, else the most frequent one."""
    if earlier is not None:
        for prepared in answers:
            with contextlib.suppress(UnsuitableNode):
                if not _unlike(earlier, prepared.manifest):
                    return prepared
    kinds = [
        json.dumps([prepared.manifest.settings, prepared.manifest.machine], sort_keys=True) for prepared in answers
    ]
    return answers[kinds.index(Counter(kinds).most_common(1)[0][0])]


def _unlike(wanted: Manifest, got: Manifest) -> list[str]:
    """How a machine differs from that of the job, in words. Raises UnsuitableNode where it would not do the same job at all."""
    for what, here, there in differences(wanted.settings, got.settings):
        raise UnsuitableNode(f"{what}: the job has {here}, this machine {there}")
    if (wanted.pts, wanted.boundaries) != (got.pts, got.boundaries):
        raise UnsuitableNode("its parts would begin at other frames")
    return [
        f"{what}: the job has {here}, this machine {there}"
        for what, here, there in differences(wanted.machine, got.machine)
    ]


def _cause(error: BaseException) -> BaseException:
    """What was raised on the machine, where Ray only carries it."""
    import ray

    return error.cause if isinstance(error, ray.exceptions.RayTaskError) and error.cause else error


def _in_words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _reach(address: str) -> None:
    """Raises OSError or ValueError where nobody listens: Ray itself would wait for minutes, then end this process."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=REACH_S).close()


def _ray() -> Any:
    import ray

    return ray
