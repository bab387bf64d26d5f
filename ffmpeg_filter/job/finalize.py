"""From finished parts to the finished output: joined and muxed, or written as images; checked, published, summed up."""

import errno
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import av

from ffmpeg_filter.job.journal import FINISHED, Journal, are, note_path
from ffmpeg_filter.job.options import JobError, JobOptions
from ffmpeg_filter.job.pipeline import Interrupted, StageTimes
from ffmpeg_filter.job.prepare import IMAGES_BEGUN, PreparedJob
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.media import dynamic_hdr, ffmpeg, images, mux
from ffmpeg_filter.media.join import JoinedVideo, input_options, join_parts, mux_joined
from ffmpeg_filter.media.orientation import writes
from vs_iconvsr import atomic, system

_NOTED = ("frames", "size_bytes", "kept", "left", "warnings")


@dataclass(frozen=True)
class JobSummary:
    """What came out. kept and left name what of the source is in the output and what is not; warnings what to check."""

    output: Path
    frames: int
    upscaled: int
    seconds: float
    size_bytes: int
    kept: tuple[str, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]
    stages: StageTimes = field(default_factory=StageTimes)

    @property
    def fps(self) -> float:
        return self.upscaled / self.seconds if self.seconds > 0 else 0.0


type Published = Callable[[JobSummary], None]


@dataclass(frozen=True)
class AssembledOutput:
    """An output that is on the disk, though a video not yet under its final name. warnings: for the user."""

    size_bytes: int
    warnings: tuple[str, ...] = ()


# ---- a video ----


def assemble(prepared: PreparedJob, work: Journal, progress: Progress) -> AssembledOutput:
    """Joins the parts, muxes them with the source's other streams into the partial output, and checks that.

    Raises MuxError or FfmpegError.
    """
    options, source = prepared.options, prepared.source
    _delete_unpublished(prepared, work)
    progress.stage("muxing")
    video = _joined(prepared, work)
    check_space(prepared, work)
    try:
        covers = mux.extract_covers(source, prepared.mapping.covers, work.folder) if options.container == "mkv" else []
        mux_joined(mux_command(prepared, covers, video.input_options()), video)
    except (ffmpeg.FfmpegError, OSError) as error:
        options.partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise _disk_full(prepared, work) from error
        raise
    progress.stage("checking")
    warnings = mux.check_output(
        options.partial, prepared.shown, prepared.mapping, options.container, prepared.window, *prepared.output_size
    )
    mux.check_hdr10_plus(options.partial, [video.hdr10_plus[n] for n in sorted(video.hdr10_plus)])
    return AssembledOutput(options.partial.stat().st_size, tuple(warnings))


def check_space(prepared: PreparedJob, work: Journal) -> None:
    """Raises JobError where the disk has no room for the output beside the parts, which stay until it is checked."""
    if _needed_bytes(prepared, work) > shutil.disk_usage(work.folder).free:
        raise _disk_full(prepared, work)


def _needed_bytes(prepared: PreparedJob, work: Journal) -> int:
    source = prepared.source
    video = sum(work.part(n).stat().st_size for n in range(prepared.manifest.num_parts))
    return video + source.other_bytes * len(prepared.window) // source.num_frames


def _disk_full(prepared: PreparedJob, work: Journal) -> JobError:
    needed, free = (n / 2**20 for n in (_needed_bytes(prepared, work), shutil.disk_usage(work.folder).free))
    return JobError(
        f"disk full: expected {needed:.1f} MiB for the output beside its parts, got {free:.1f} MiB in "
        f"{prepared.options.output.absolute().parent}; make room and run the same command again: all parts are done "
        "and kept"
    )


def _delete_unpublished(prepared: PreparedJob, work: Journal) -> None:
    """Deletes what an earlier run assembled but did not publish; first the note that it was about to.

    An ffmpeg that outlived a killed run may still read and write these files: ours must be new ones.
    """
    note_path(work.folder, FINISHED).unlink(missing_ok=True)
    system.sync(work.folder)
    prepared.options.partial.unlink(missing_ok=True)


def _joined(prepared: PreparedJob, work: Journal) -> JoinedVideo:
    timeline, window = prepared.source.timeline, prepared.window
    last = window.stop - 1
    shift = _shift(prepared)
    return join_parts(
        [work.part(n) for n in range(prepared.manifest.num_parts)],
        [pts - shift for pts in timeline.pts[window.start : window.stop]],
        timeline.end_of(last) - timeline.pts[last],
        timeline.time_base,
        rotation=0 if writes(prepared.executable) else prepared.source.video.rotation,
        hdr10_plus=_hdr10_plus(prepared) if prepared.source.carries_hdr10_plus else None,
    )


def _hdr10_plus(prepared: PreparedJob) -> dict[int, bytes]:
    """The messages of the source, by the number of their frame in the output."""
    window = prepared.window
    return {n - window.start: m for n, m in dynamic_hdr.hdr10_plus_messages(prepared.source) if n in window}


def _shift(prepared: PreparedJob) -> int:
    """What is taken from all timestamps, in units of the time base."""
    source = prepared.source
    origin = mux.origin(source, None if prepared.whole else prepared.window)
    return round(origin / source.timeline.time_base)


def planned_mux_command(prepared: PreparedJob, covers: Sequence[Path]) -> list[str | bytes]:
    """As `mux_command`, before there are parts that say by how much decoding goes ahead."""
    timeline = prepared.source.timeline
    first_s = (timeline.pts[prepared.window.start] - _shift(prepared)) * timeline.time_base
    return mux_command(prepared, covers, input_options(prepared.encoding.suffix, first_s))


def mux_command(prepared: PreparedJob, covers: Sequence[Path], video: Sequence[str]) -> list[str | bytes]:
    """The ffmpeg command that puts the joined video, its standard input, and the source's other streams into one file.

    video: the input options of the joined video.
    """
    return mux.mux_command(
        prepared.executable,
        video,
        prepared.shown,
        prepared.mapping,
        covers,
        prepared.options.container,
        prepared.options.partial,
        window=None if prepared.whole else prepared.window,
        full_range=prepared.encoding.full_range_tagged,
    )


# ---- images ----


def write_images(prepared: PreparedJob, work: Journal, progress: Progress, stop: threading.Event) -> AssembledOutput:
    """The frames of all parts as images, each whole under its name, numbered as the source's images or from 0.

    Raises OSError, and Interrupted soon after `stop` is set.
    """
    progress.stage("writing images")
    work.write_note(IMAGES_BEGUN, True)  # a resumed run may replace those that exist: they are ours
    output, encoding, source = prepared.options.output, prepared.encoding, prepared.source
    size_bytes = 0
    for part in range(prepared.manifest.num_parts):
        with av.open(ffmpeg.safe_name(work.part(part))) as container:
            for n, frame in zip(prepared.manifest.frames_of(part), container.decode(video=0), strict=True):
                if stop.is_set():
                    raise Interrupted
                content = images.encode_image(
                    frame,
                    output.suffix,
                    encoding.format.bits,
                    aspect=encoding.sample_aspect_ratio,
                    transfer=encoding.color.transfer,
                    peak=(source.images.peak if source.images else None) or 1.0,
                )
                atomic.write_atomically(images.name_of(output, source.image_number(n)), content)
                size_bytes += len(content)
    return AssembledOutput(size_bytes)


# ---- the end of a job ----


def ignore(summary: JobSummary) -> None:
    """For a job that nobody keeps a record of."""


def publish(prepared: PreparedJob, work: Journal, summary: JobSummary, published: Published = ignore) -> None:
    """Gives a video its final name (images have theirs), calls `published`, and deletes the work directory.

    Before that it notes the summary, for `finish_earlier_run`.
    """
    options, source, window = prepared.options, prepared.source, prepared.window
    note: dict[str, object] = {name: getattr(summary, name) for name in _NOTED}
    if options.makes_images:
        note["images"] = [source.image_number(window.start), source.image_number(window.stop)]
    work.write_note(FINISHED, note)
    if not options.makes_images:
        atomic.replace(options.partial, options.output)
    published(summary)
    work.remove()


def finish_earlier_run(options: JobOptions, work: Journal, published: Published = ignore) -> JobSummary | None:
    """The summary of a run that was killed between publishing its output and deleting its work directory.

    Calls `published` and deletes that directory. None if there was no such run.
    """
    notes = work.read_notes(FINISHED, _FinishedNote.parse)
    if not notes or not notes[0].is_about(options):
        return None
    note = notes[0]
    summary = JobSummary(options.output, note.frames, 0, 0.0, note.size_bytes, note.kept, note.left, note.warnings)
    published(summary)
    work.remove()
    return summary


@dataclass(frozen=True)
class _FinishedNote:
    """What is noted of a finished job. images: the first number in their names, and one more than the last."""

    frames: int
    size_bytes: int
    kept: tuple[str, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]
    images: tuple[int, int] | None = None

    @classmethod
    def parse(cls, note: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError for what `publish` does not write."""
        numbers = [note["frames"], note["size_bytes"], *note.get("images", ())]
        texts = [note[name] for name in ("kept", "left", "warnings")]
        if not are(numbers, int) or min(numbers) < 0 or not all(are(text, str) for text in texts):
            raise ValueError("finished: expected numbers and texts as a job writes them, got others")
        kept, left, warnings = map(tuple, texts)
        if "images" not in note:
            return cls(note["frames"], note["size_bytes"], kept, left, warnings)
        first, stop = note["images"]
        if stop - first != note["frames"]:
            raise ValueError(f"finished: expected {note['frames']} images, got {stop - first}")
        return cls(note["frames"], note["size_bytes"], kept, left, warnings, (first, stop))

    def is_about(self, options: JobOptions) -> bool:
        """Whether the output has its final name. The note alone says that it was about to get it."""
        output = options.output
        if self.images is not None:
            return options.makes_images and all(images.name_of(output, n).exists() for n in range(*self.images))
        return not options.partial.exists() and output.exists() and output.stat().st_size == self.size_bytes


# ---- in words ----


def kept_items(prepared: PreparedJob) -> tuple[str, ...]:
    """What of the source is in the output, in words."""
    source, mapping, window = prepared.source, prepared.mapping, prepared.window
    aspect = prepared.encoding.sample_aspect_ratio
    shape = [f"pixel aspect ratio {aspect}"] if aspect not in (0, 1) else []
    if prepared.options.makes_images:
        return (_quantity(len(window), "frame"), *shape)
    of_film = " of film, evenly over the time of those with 3:2 pulldown" if source.telecined else ""
    kept = [f"{_quantity(len(window), 'frame')}{of_film or ' with their timestamps'}"]
    kept += [
        _quantity(number, kind)
        for kind, number in (
            ("audio track", len(mapping.audio)),
            ("subtitle track", len(mapping.subtitles)),
            ("attachment", len(mapping.attachments)),
            ("cover picture", len(mapping.covers)),
            ("data track", len(mapping.data)),
            ("chapter", source.chapters if prepared.whole else 0),
        )
        if number
    ]
    kept += [*(f"changed: {text}" for text in mapping.changed), *shape]
    kept += [dynamic_hdr.HDR10_PLUS] if source.carries_hdr10_plus else []
    kept += mapping.side_data
    if source.video.orientation:
        kept.append(f"orientation: {source.video.orientation} by players")
    if mux.moves_to_zero(source) or not prepared.whole:
        start_s = float(source.timeline.start) if prepared.whole else source.timeline.time_of(window.start)
        kept.append(f"timestamps, moved to begin at 0 (they began at {start_s:.3f} s)")
    return tuple(kept)


def _quantity(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"
