"""Executors make the parts of a job. The one here uses this machine: decode, upscale, encode, check, commit."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import FrameReader, Part, PartWriter, StageTimes
from ffmpeg_filter.job.pool import Pipeline, PipelinePool
from ffmpeg_filter.job.prepare import PreparedJob, prepare_job
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.media import decode
from ffmpeg_filter.media.decode import Damage, DecodedFrame
from ffmpeg_filter.media.encode import FrameEncoder
from ffmpeg_filter.media.ffmpeg import FfmpegError
from ffmpeg_filter.media.join import MuxError, read_packets
from ffmpeg_filter.media.scene_list import SceneList
from ffmpeg_filter.media.source import MediaSource, SourceError
from ffmpeg_filter.media.zimg import Resizer
from vs_iconvsr import scenes, weights
from vs_iconvsr.streaming import HrFrame, Session

_TIMES_LISTED = 5


@dataclass(frozen=True)
class ExecutionResult:
    """The outcome of making parts. frames: how many were upscaled. warnings: for the user."""

    frames: int
    stages: StageTimes
    warnings: tuple[str, ...] = ()


class Executor(Protocol):
    """Prepares a job and makes its parts, on this machine or on those of a cluster."""

    def prepare(self, options: JobOptions, source: MediaSource) -> PreparedJob:
        """See `prepare_job`."""

    def make_parts(
        self, prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
    ) -> ExecutionResult:
        """See the function of that name."""


class LocalExecutor:
    """Executes a job on the machine where it was started."""

    def prepare(self, options: JobOptions, source: MediaSource) -> PreparedJob:
        return prepare_job(options, source)

    def make_parts(
        self, prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
    ) -> ExecutionResult:
        return make_parts(prepared, work, todo, progress, stop)


def make_parts(
    prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
) -> ExecutionResult:
    """Upscales and encodes the parts numbered in `todo` and commits each to `work`.

    Raises FfmpegError, SourceError, OSError, and Interrupted soon after `stop` is set.
    """
    parts = [Part(n, prepared.manifest.frames_of(n)) for n in todo]

    def open_pipeline(sharers: int) -> Pipeline:
        return _open_pipeline(prepared, work, progress, sharers)

    def report(hr: HrFrame) -> None:
        progress.update_rates(pool.stages().rates())
        progress.advance(hr.segment)

    # Two pipelines inside one scene would both need all of its frames.
    encoders = prepared.options.encoders if prepared.plan.segment else 1
    pool = PipelinePool(parts, open_pipeline, encoders=encoders, stop=stop, on_frame=report)
    pool.run()
    return ExecutionResult(sum(len(part.frames) for part in parts), pool.stages())


def _open_pipeline(prepared: PreparedJob, work: Journal, progress: Progress, sharers: int) -> Pipeline:
    """A pipeline with its own decoder, session and encoder. sharers: how many pipelines share the memory."""
    source, video, options = prepared.source, prepared.source.video, prepared.options
    damage = Damage()

    def decode_from(first: int) -> Iterator[DecodedFrame]:
        frames = decode.decode_frames(
            source, first, damage, parity=prepared.parity, ignore_interlaced=options.ignore_interlaced
        )
        return frames if options.scenes is None else _mark_cuts(frames, options.scenes)

    session = Session(
        weights.load(options.model),
        options.upscaling,
        source=video.layout.format,
        width=video.width,
        height=video.height,
        num_frames=source.num_frames,
        target=prepared.hr_format,
        sharers=sharers,
        warn=progress.note,
    )
    return Pipeline(
        session, FrameReader(decode_from), PartWriter(_JournalSink(prepared, work, damage), source.timeline.pts)
    )


def _mark_cuts(frames: Iterator[DecodedFrame], listed: SceneList) -> Iterator[DecodedFrame]:
    """The frames with the properties of VapourSynth's scene filters, which replace detection."""
    starts = frozenset(listed.starts)
    for frame in frames:
        marks = {scenes.PREV: int(frame.index in starts), scenes.NEXT: int(frame.index + 1 in starts)}
        yield replace(frame, properties=frame.properties | marks)


class _JournalSink:
    """The work directory as the writer of a pipeline sees it. damage: what the pipeline's decoder has found so far."""

    def __init__(self, prepared: PreparedJob, work: Journal, damage: Damage) -> None:
        self._prepared, self._work, self._damage = prepared, work, damage
        self._resize = Resizer(prepared.resizing) if prepared.resizing else None

    def open(self, part: Part) -> FrameEncoder:
        path = self._work.temporary_part(part.number)
        return FrameEncoder(self._prepared.executable, self._prepared.encoding, path, convert=self._resize)

    def commit(self, part: Part, encoder: FrameEncoder) -> None:
        """Raises FfmpegError for a part that is not complete, and SourceError for damaged frames with --strict."""
        number, frames = part.number, part.frames
        try:
            count = len(read_packets(encoder.path).pts)
        except MuxError as error:
            raise FfmpegError(f"ffmpeg reported success, but part {number} is not complete: {error}") from error
        if count != len(frames):
            raise FfmpegError(
                f"ffmpeg reported success, but part {number} holds {count} frames instead of {len(frames)}"
            )
        damage = {
            "damaged": sorted(n for n in set(self._damage.damaged) if n in frames),
            "missing": sorted(n for n in set(self._damage.missing) if n in frames),
        }
        if self._prepared.options.strict and any(damage.values()):
            raise SourceError(_describe_damage(self._prepared.source, damage) + "; leave out --strict to accept that")
        self._work.write_note(damage_name(number), damage)
        self._work.commit(number, len(frames))


# ---- damage in the source ----


def damage_name(part: int) -> str:
    """The name of the note about the damage found while a part was decoded."""
    return f"damage_{part:06d}"


def damage_warnings(prepared: PreparedJob, work: Journal) -> tuple[str, ...]:
    """One line about the damaged frames of all parts, including those of earlier runs; empty if there are none."""
    total: dict[str, list[int]] = {"damaged": [], "missing": []}
    for damage in work.read_notes("damage_*", lambda note: _damage_from(note, prepared.source.num_frames)):
        for kind, numbers in damage.items():
            total[kind] += numbers
    return (_describe_damage(prepared.source, total),) if any(total.values()) else ()


def _damage_from(note: Mapping[str, Sequence[int]], num_frames: int) -> Mapping[str, Sequence[int]]:
    """The note, if `commit` can have written it. Raises ValueError or TypeError."""
    numbers = [number for kind in note for number in note[kind]]
    if {*note} != {"damaged", "missing"} or not all(number in range(num_frames) for number in numbers):
        raise ValueError("damage: expected numbers of damaged and of missing frames, got others")
    return note


def _describe_damage(source: MediaSource, damage: Mapping[str, Sequence[int]]) -> str:
    texts = []
    for kind, numbers in damage.items():
        if numbers:
            times = ", ".join(f"{source.timeline.time_of(n):.2f}" for n in numbers[:_TIMES_LISTED])
            more = " …" if len(numbers) > _TIMES_LISTED else ""
            remedy = "repeat their neighbor" if kind == "missing" else "were concealed by the decoder"
            texts.append(f"{len(numbers)} {kind} frame(s) {remedy}, at {times}{more} s")
    return "input: " + "; ".join(texts)
