"""What runs on the nodes of a cluster: the check whether a node can make parts of a job, and the making of one part.

A node needs this package in the same version, and the source under the same path. It makes a part in its temporary
directory, from where the bytes travel through Ray's object store. Only the driver touches the work directory.
"""

import contextlib
import io
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import vs_iconvsr
from ffmpeg_filter.job import journal
from ffmpeg_filter.job.execute import damage_name, make_parts
from ffmpeg_filter.job.journal import Journal, JournalError, Manifest, differences
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import StageTimes
from ffmpeg_filter.job.prepare import PreparedJob, prepare_job
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.source import identity_of
from ffmpeg_filter.media.ffmpeg import FfmpegError
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import locks, system

REPORT_EVERY_S = 1.0
PIECE_BYTES = 32 << 20  # so that neither side holds a whole part in memory


class UnsuitableNode(Exception):  # noqa: N818 - a finding about a node, not a failure of the job
    """A node that cannot make parts of this job; the message says why, and what to do. node: its id, where known."""

    node = ""


class PartError(UnsuitableNode):
    """An error that may be the node's alone, such as a full disk; Ray tries again before the node is left out."""


@dataclass(frozen=True)
class JobSpec:
    """What a node must know. identity: the source's, as the driver sees it. manifest: None until it is prepared."""

    options: JobOptions
    source: MediaSource
    identity: Mapping[str, Any]
    version: str
    weights_name: str
    manifest: Manifest | None = None


@dataclass(frozen=True)
class PartResult:
    """A finished part. pieces: Ray's references to its bytes, in order."""

    node: str
    seconds: float
    damage: Mapping[str, Any]
    stages: StageTimes
    mixed: tuple[str, ...]
    notes: tuple[str, ...]
    sha256: str
    pieces: tuple[Any, ...]


class ProgressActor:
    """Holds how many frames of each part are made: nodes report it, the driver reads it."""

    def __init__(self) -> None:
        self._frames: dict[int, int] = {}

    def report(self, part: int, frames: int) -> None:
        self._frames[part] = frames

    def read(self) -> dict[int, int]:
        return self._frames


def check_node(spec: JobSpec, weight_file: bytes) -> PreparedJob:
    """The job as this node would do it. Raises UnsuitableNode, or what `prepare_job` raises."""
    with _prepare(spec, weight_file) as (prepared, _):
        return prepared


def make_part(spec: JobSpec, part: int, reporter: Any, weight_file: bytes) -> PartResult:
    """Raises UnsuitableNode, PartError, or what else `make_parts` raises."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    try:
        with _prepare(spec, weight_file) as (prepared, folder):
            return _make_prepared_part(spec, prepared, folder, part, node, reporter)
    except UnsuitableNode as error:
        error.node = node
        raise
    except (OSError, FfmpegError, JournalError) as error:
        failure = PartError(str(error) or type(error).__name__)
        failure.node = node
        raise failure from error


def _make_prepared_part(
    spec: JobSpec, prepared: PreparedJob, folder: Path, part: int, node: str, reporter: Any
) -> PartResult:
    assert spec.manifest is not None
    mixed = compare(spec.manifest, prepared.manifest, allow_mixed=spec.options.allow_mixed)
    progress, work = _NodeProgress(reporter, part), Journal(folder, prepared.encoding.suffix)
    started = time.monotonic()
    made = make_parts(prepared, work, [part], progress, threading.Event())
    return PartResult(
        node=node,
        seconds=time.monotonic() - started,
        damage=work.read_notes(damage_name(part), dict)[0],
        stages=made.stages,
        mixed=tuple(mixed),
        notes=tuple(progress.notes),
        sha256=journal.sha256(work.part(part)),
        pieces=tuple(_pieces(work.part(part))),
    )


def compare(expected: Manifest, found: Manifest, *, allow_mixed: bool) -> list[str]:
    """How the machine of a node differs, in words. Raises UnsuitableNode where its parts would not fit the others."""
    for what, here, there in differences(expected.settings, found.settings):
        raise UnsuitableNode(f"{what}: the job has {here}, this node {there}")
    if (expected.pts, expected.boundaries) != (found.pts, found.boundaries):
        raise UnsuitableNode("its parts would begin at other frames")
    mixed = [
        f"{what}: the job has {here}, this node {there}"
        for what, here, there in differences(expected.machine, found.machine)
    ]
    if mixed and not allow_mixed:
        raise UnsuitableNode(f"{mixed[0]}; pass --allow-mixed to use it all the same")
    return mixed


class _NodeProgress(PlainProgress):
    """Reports the number of frames now and then; keeps the notes for the result."""

    def __init__(self, reporter: Any, part: int) -> None:
        super().__init__(io.StringIO())
        self.notes: list[str] = []
        self._reporter, self._part = reporter, part
        self._frames, self._reported = 0, float("-inf")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, segment: int | None = None) -> None:
        del segment
        self._frames += 1
        if time.monotonic() - self._reported >= REPORT_EVERY_S:
            self._reported = time.monotonic()
            self._reporter.report.remote(self._part, self._frames)


@contextlib.contextmanager
def _prepare(spec: JobSpec, weight_file: bytes) -> Iterator[tuple[PreparedJob, Path]]:
    """The job as this node would do it, and a folder that is deleted afterwards. Raises as `check_node` does."""
    if vs_iconvsr.__version__ != spec.version:
        raise UnsuitableNode(
            f"it has vapoursynth-iconvsr {vs_iconvsr.__version__}, the job {spec.version}; install the same on both"
        )
    options, source = spec.options, spec.source
    remedy = f"mount its folder there, or: rsync -a {options.input} THERE:{options.input}"
    for path in (options.input, source.path, *(source.images.files if source.images else ())):
        if not path.exists():
            raise UnsuitableNode(f"it does not see {path}; {remedy}")
    for what, here, there in differences(spec.identity, identity_of(options, source)):
        raise UnsuitableNode(f"its {options.input} is another file ({what}: expected {here}, got {there}); {remedy}")
    with node_folder() as folder:
        model = folder / spec.weights_name
        model.write_bytes(weight_file)
        yield prepare_job(replace(options, model=str(model)), source), folder


@contextlib.contextmanager
def node_folder() -> Iterator[Path]:
    """What a killed process cannot delete is deleted by the next task on the node: nobody holds its lock."""
    root = system.private_folder("iconvsr")
    root.mkdir(mode=0o700, exist_ok=True)
    alone = root / "lock"  # or a folder looks abandoned before its owner has locked it, and while it is deleted
    with contextlib.ExitStack() as held:
        with locks.hold(alone, wait=True):
            for folder in filter(Path.is_dir, root.iterdir()):
                with contextlib.suppress(JournalError, OSError), Journal(folder, "").hold() as abandoned:
                    abandoned.remove()
            own = held.enter_context(Journal(root / uuid.uuid4().hex, "").hold())
        try:
            yield own.folder
        finally:
            with locks.hold(alone, wait=True):
                own.remove()


def _pieces(path: Path) -> Iterator[Any]:
    import ray

    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield ray.put(piece)
