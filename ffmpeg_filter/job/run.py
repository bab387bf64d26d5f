"""A job from start to end: checked, prepared, upscaled in parts, assembled, published; or resumed in the middle."""

import threading
import time
from collections.abc import Sequence

from ffmpeg_filter.job.execute import ExecutionResult, Executor, LocalExecutor, damage_warnings
from ffmpeg_filter.job.finalize import (
    AssembledOutput,
    JobSummary,
    Published,
    assemble,
    finish_earlier_run,
    ignore,
    kept_items,
    planned_mux_command,
    publish,
    write_images,
)
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.options import JobOptions, check_paths
from ffmpeg_filter.job.pipeline import Interrupted, StageTimes
from ffmpeg_filter.job.prepare import PreparedJob
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.job.source import open_source
from ffmpeg_filter.media import ffmpeg, mux


def run_job(
    options: JobOptions,
    progress: Progress,
    stop: threading.Event,
    *,
    executor: Executor | None = None,
    published: Published = ignore,
) -> JobSummary:
    """Does the job, or resumes it where an earlier run ended. `stop` asks it to end soon.

    executor: who makes the parts, None for this machine. published: called with the summary when the output has its
    name and the work directory is still there, so that what it writes down survives a crash or is asked for again.
    Raises JobError, SourceError, FfmpegError, MuxError, JournalError, WeightsError, ValueError, OSError, Interrupted.
    """
    started = time.monotonic()
    executor = executor or LocalExecutor()
    check_paths(options)
    with Journal(options.work, "").hold() as work:
        if options.restart and not options.dry_run:
            work.restart()
        if not options.dry_run and (summary := finish_earlier_run(options, work, published)) is not None:
            return summary
        prepared = executor.prepare(options, open_source(options, work))
        for note in prepared.notes:
            progress.note(note)
        if options.dry_run:
            return _describe(prepared, progress)
        return _make_output(prepared, executor, progress, stop, started, published)


def _describe(prepared: PreparedJob, progress: Progress) -> JobSummary:
    """A dry run: the plan and the commands, nothing done."""
    options, source = prepared.options, prepared.source
    width, height = prepared.output_size
    progress.note(
        f"{source.video.width}x{source.video.height} {source.video.layout.format}, {len(prepared.window)} frames → "
        f"{width}x{height} {prepared.encoding.format}, {prepared.manifest.num_parts} part(s)"
    )
    progress.note(prepared.plan.describe())
    first_part = Journal(options.work, prepared.encoding.suffix).temporary_part(0)
    progress.note(ffmpeg.describe(prepared.encoding.command(prepared.executable, first_part)))
    if not options.makes_images:
        covers = [mux.cover_path(track, options.work) for track in prepared.mapping.covers]
        progress.note(ffmpeg.describe(planned_mux_command(prepared, covers)))
    return JobSummary(options.output, 0, 0, 0.0, 0, kept_items(prepared), prepared.mapping.left, ())


def _make_output(
    prepared: PreparedJob,
    executor: Executor,
    progress: Progress,
    stop: threading.Event,
    started: float,
    published: Published,
) -> JobSummary:
    """The parts that are not there yet, then the output from all of them; at the end only the output remains."""
    options = prepared.options
    work = Journal(options.work, prepared.encoding.suffix)
    warnings = work.begin(prepared.manifest, allow_mixed=options.allow_mixed)
    todo = _unfinished_parts(prepared, work)
    _announce(prepared, todo, progress)
    made = ExecutionResult(0, StageTimes())
    try:
        if todo:
            made = executor.make_parts(prepared, work, todo, progress, stop)
        if stop.is_set():
            raise Interrupted
        assembled = _assemble(prepared, work, progress, stop)
    finally:
        progress.end()
    summary = JobSummary(
        output=options.output,
        frames=len(prepared.window),
        upscaled=made.frames,
        seconds=time.monotonic() - started,
        size_bytes=assembled.size_bytes,
        kept=kept_items(prepared),
        left=prepared.mapping.left,
        warnings=(*warnings, *made.warnings, *damage_warnings(prepared, work), *assembled.warnings),
        stages=made.stages,
    )
    publish(prepared, work, summary, published)
    return summary


def _unfinished_parts(prepared: PreparedJob, work: Journal) -> list[int]:
    manifest = prepared.manifest
    return [n for n in range(manifest.num_parts) if not work.is_done(n, len(manifest.frames_of(n)))]


def _announce(prepared: PreparedJob, todo: Sequence[int], progress: Progress) -> None:
    total = len(prepared.window)
    done = total - sum(len(prepared.manifest.frames_of(n)) for n in todo)
    if done:
        progress.note(f"resuming: {done} of {total} frames are done from an earlier run")
    progress.note(prepared.plan.describe())
    progress.begin(total, done)


def _assemble(prepared: PreparedJob, work: Journal, progress: Progress, stop: threading.Event) -> AssembledOutput:
    if prepared.options.makes_images:
        return write_images(prepared, work, progress, stop)
    return assemble(prepared, work, progress)
