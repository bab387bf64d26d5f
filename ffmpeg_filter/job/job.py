"""One video from file to file: checked, planned, upscaled in parts, joined, muxed, checked again."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av

from ffmpeg_filter.job import journal, paths
from ffmpeg_filter.job.journal import Journal, Manifest
from ffmpeg_filter.job.lines import MOST_LINES, Line, Lines
from ffmpeg_filter.job.pipeline import FrameReader, Interrupted, Part, PartWriter, StageTimes
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.media import decode, images, mux, presets
from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.container import check_file
from ffmpeg_filter.media.decode import Damage, DecodedFrame
from ffmpeg_filter.media.encode import Encoding, FrameEncoder, hdr_options, try_out
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError
from ffmpeg_filter.media.timestamps import DiscontinuityError
from vs_iconvsr import weights
from vs_iconvsr.atomic import sync
from vs_iconvsr.colorspace import Format, colorimetry_of, output_colorimetry
from vs_iconvsr.plan import Plan, Settings, plan_for
from vs_iconvsr.stream import HrFrame, Stream

logger = logging.getLogger(__name__)

LEAST_PART_FRAMES = 250
WORK_SUFFIX = ".iconvsr"
PART_SUFFIX = ".part"

# What of a plan is the machine's, not the user's: it may differ between parts with --allow-mixed.
_MACHINE = ("devices", "threads", "torch", "cpu")

# Fixed, because the encoder's bytes depend on it, and the same on every machine that works on a job.
_ENCODER_THREADS, _ENCODER_THREADS_LARGE, _LARGE_PX = 8, 16, 1440


class JobError(Exception):
    """A job that cannot be done as asked; the message says what to change."""


@dataclass(frozen=True)
class JobOptions:
    """What the user asks for. None leaves a choice to us; see `iconvsr upscale --help` for the meaning of each."""

    input: Path
    output: Path
    model: str = weights.DEFAULT_MODEL
    settings: Settings = field(default_factory=Settings)
    encoder: str = presets.DEFAULT_ENCODER
    crf: float | None = None
    speed: str | None = None
    bits: int | None = None
    extra: tuple[str, ...] = ()
    ffmpeg: str | None = None
    part_frames: int = LEAST_PART_FRAMES
    start_s: float | None = None
    duration_s: float | None = None
    deinterlace: bool = False
    ignore_interlaced: bool = False
    strict: bool = False
    overwrite: bool = False
    restart: bool = False
    allow_mixed: bool = False
    dry_run: bool = False
    rate: Fraction | None = None
    peak: float | None = None
    container_name: str | None = None
    encoders: int | None = None

    def __post_init__(self) -> None:
        if self.encoders is not None and not 1 <= self.encoders <= MOST_LINES:
            raise ValueError(f"encoders: expected 1 to {MOST_LINES} at a time, got {self.encoders}")
        if self.part_frames < 1:
            raise ValueError(f"part-frames: expected at least 1, got {self.part_frames}")

    @property
    def work(self) -> Path:
        return self.output.with_name(self.output.name + WORK_SUFFIX)

    @property
    def partial(self) -> Path:
        return self.output.with_name(self.output.name + PART_SUFFIX)

    @property
    def container(self) -> str:
        """Raises ValueError for a name that ends in no container we write, unless the user names one."""
        if self.container_name is not None:
            return self.container_name
        suffix = self.output.suffix.lower()
        container = mux.CONTAINERS.get(suffix)
        if suffix in images.WRITTEN:
            container = mux.IMAGES
        if container is None:
            raise ValueError(
                f"output: expected a name ending in {', '.join(mux.CONTAINERS)}, or pictures as in out_%05d.png, "
                f"got {self.output.name}; --container mkv goes with any name"
            )
        return container


@dataclass(frozen=True)
class JobSummary:
    """What came out. kept and left name what went along and what did not; warnings what to look at."""

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


@dataclass(frozen=True)
class PreparedJob:
    """A job with everything settled before the first frame."""

    job: JobOptions
    executable: Executable
    source: MediaSource
    scale: int
    plan: Plan
    encoding: Encoding
    keep: mux.StreamMapping
    manifest: Manifest
    window: range
    notes: tuple[str, ...]

    @property
    def hr_size(self) -> tuple[int, int]:
        return self.source.video.width * self.scale, self.source.video.height * self.scale

    @property
    def whole(self) -> bool:
        return len(self.window) == self.source.num_frames


@dataclass(frozen=True)
class ExecutionResult:
    """What making parts came to. frames: how many were upscaled. warnings: for the user."""

    frames: int
    stages: StageTimes
    warnings: tuple[str, ...] = ()


class Executor(Protocol):
    """Who settles a job and makes its parts: this machine, or those of a cluster."""

    def settle(self, job: JobOptions, source: MediaSource) -> PreparedJob:
        """See `settle`."""

    def make(
        self, prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
    ) -> ExecutionResult:
        """See `make_parts`."""


class LocalExecutor:
    """The crew of a job that is done where it was started."""

    def settle(self, job: JobOptions, source: MediaSource) -> PreparedJob:
        return settle(job, source)

    def make(
        self, prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
    ) -> ExecutionResult:
        return make_parts(prepared, work, todo, progress, stop)


def run(job: JobOptions, progress: Progress, stop: threading.Event, *, crew: Executor | None = None) -> JobSummary:
    """Does the job, or goes on with it where an earlier run ended. `stop` asks it to end soon.

    crew: who makes the parts, None for this machine.
    Raises JobError, SourceError, FfmpegError, MuxError, JournalError, WeightsError, ValueError, OSError, Interrupted.
    """
    started = time.monotonic()
    check_paths(job)
    with Journal(job.work, "").hold() as opened:
        if job.restart:
            opened.restart()
        done = _finished_before(job, opened)
        if done is not None:
            return done
        crew = crew or LocalExecutor()
        prepared = crew.settle(job, _probed(job, opened))
        for text in prepared.notes:
            progress.note(text)
        if job.dry_run:
            return _foretold(prepared, progress)
        return _carried_out(prepared, crew, Journal(job.work, prepared.encoding.suffix), progress, stop, started)


def check_paths(job: JobOptions) -> None:
    """Raises ValueError or SourceError for paths that cannot work, before anything is written."""
    if not job.output.is_dir():
        _ = job.container
    if not images.is_series(job.input):
        check_file(job.input)
        if job.rate is not None or job.peak is not None:
            raise ValueError("rate, peak: expected for numbered pictures alone, got a video file; leave them out")
    paths.check_output(job.output, job.input, work=job.work, overwrite=job.overwrite)


def _finished_before(job: JobOptions, opened: Journal) -> JobSummary | None:
    """The summary of a run that was ended after its last step but before it had cleaned up."""
    noted = opened.noted("finished")
    if not noted or not job.output.exists() or job.output.stat().st_size != noted[0]["size_bytes"]:
        return None
    opened.remove()
    said = noted[0]
    kept, left, warnings = (tuple(said[name]) for name in ("kept", "left", "warnings"))
    return JobSummary(job.output, said["frames"], 0, 0.0, said["size_bytes"], kept, left, warnings)


def settle(job: JobOptions, source: MediaSource) -> PreparedJob:
    """Settles everything as this machine would do it. Raises as `run` does; writes nothing."""
    executable = children.find_executable(job.ffmpeg)
    if source.video.interlaced and not (job.deinterlace or job.ignore_interlaced):
        raise SourceError(
            f"input: expected progressive video, got interlaced: {job.input}; "
            "pass --deinterlace, or --ignore-interlaced if the flag is wrong"
        )
    window = window_of(source, job.start_s, job.duration_s)
    if job.container == mux.IMAGES:
        name, preset, target, lost = _picture_target(job, executable)
    else:
        name, preset = presets.preset_for(job.encoder, source.video.layout.format, job.container, executable)
        target, lost = presets.target_for(source.video.layout.format, name, preset, job.bits)
    keep = mux.stream_mapping(source, job.container)
    network = weights.load(job.model)
    settings = job.settings
    plan = plan_for(settings, network, source.video.width, source.video.height)
    width, height = source.video.width * network.scale, source.video.height * network.scale
    if width < preset.least_width_px:
        raise ValueError(
            f"encoder: expected one for frames {width} px wide, got {name}, which needs {preset.least_width_px}"
        )
    color, _ = colorimetry_of(
        source.video.properties,
        source.video.layout.format,
        source.video.width,
        source.video.height,
        matrix=settings.matrix,
    )
    before, inside, hdr_kept = hdr_options(
        executable, preset.codec, source.video.mastering_display, source.video.content_light
    )
    if not hdr_kept:
        lost.append(f"HDR10 mastering metadata ({name} needs ffmpeg 9 for it, or use --encoder x265)")
    threads = _ENCODER_THREADS if height < _LARGE_PX else _ENCODER_THREADS_LARGE
    arguments = presets.encoder_arguments(
        name, preset, target, crf=job.crf, speed=job.speed, threads=threads, hdr=inside
    )
    encoding = Encoding(
        width=width,
        height=height,
        format=target,
        color=output_colorimetry(color, source.video.layout.format, target, width, height, matrix=settings.matrix),
        sample_aspect_ratio=source.video.sample_aspect_ratio,
        time_base=source.timeline.time_base,
        arguments=(*arguments, *presets.checked_extra(job.extra)),
        input_options=tuple(before),
        suffix=preset.part,
        full_range_coded=preset.full_range == "coded",
    )
    if preset.full_range == "never" and encoding.color.full_range:
        raise ValueError(
            f"encoder: expected one that holds full range, as the source has, got {name}; use dnxhr-hqx or ffv1"
        )
    if job.container == mux.IMAGES:
        images.check_written(job.output, target.bits, encoding.color.transfer)
        begun = journal.Journal(job.work, preset.part).noted("pictures")
        images.refuse_taken(job.output, window, source, overwrite=job.overwrite or bool(begun))
    mux.check_rotation(source, job.container, executable)
    try_out(executable, encoding)
    manifest = _manifest(job, source, plan, encoding, executable, window)
    left = [f"video: {text}" for text in lost]
    keep = mux.StreamMapping(**{**vars(keep), "left": (*keep.left, *left), "tag": preset.tag})
    return PreparedJob(job, executable, source, network.scale, plan, encoding, keep, manifest, window, source.notes)


def _picture_target(job: JobOptions, executable: Executable) -> tuple[str, presets.Preset, Format, list[str]]:
    """PartSink of pictures are kept losslessly; the pictures are RGB."""
    if job.encoder not in ("auto", "ffv1"):
        raise ValueError(f"encoder: expected none for pictures, got {job.encoder}; leave it out")
    bits = job.bits or 16
    name, preset = presets.preset_for("ffv1", Format("RGB", "integer", bits), "mkv", executable)
    return name, preset, Format("RGB", "integer", bits), []


def window_of(source: MediaSource, start_s: float | None, duration_s: float | None) -> range:
    """The frames shown from start_s on for duration_s, counted from the first frame. Raises ValueError if none is."""
    origin = source.timeline.time_of(0)
    begin = start_s or 0.0
    end = float("inf") if duration_s is None else begin + duration_s
    if not 0 <= begin < end:
        raise ValueError(
            f"start, duration: expected at least 0 and more than 0 seconds, got {start_s} and {duration_s}"
        )
    shown = [n for n in range(source.num_frames) if begin <= round(source.timeline.time_of(n) - origin, 6) < end]
    if not shown:
        raise ValueError(
            f"start: expected less than the {source.timeline.seconds:.3f} s that the video has, got {begin:.3f}"
        )
    return range(shown[0], shown[-1] + 1)


def part_boundaries(window: range, segment: int, part_frames: int) -> tuple[int, ...]:
    """The first frame of each part, then the end: whole cells of the grid, a function of lengths and settings alone."""
    cell = max(segment, 1)
    length = -(-max(part_frames, 1) // cell) * cell
    return (window.start, *(n for n in range(0, window.stop, length) if n > window.start), window.stop)


def _probed(job: JobOptions, opened: Journal) -> MediaSource:
    """The source; one whose timestamps jump is rewrapped first, into the work directory."""
    if images.is_series(job.input):
        return images.probe_images(job.input, job.rate, job.peak)
    try:
        return probe(job.input)
    except DiscontinuityError as error:
        rewrapped = opened.folder / f"{journal.REWRAPPED}{_short_identity(job.input)}.mkv"
        if not rewrapped.exists():
            logger.warning("%s: rewrapping it so that time runs forward", error)
            temporary = rewrapped.with_name(rewrapped.name + journal.TEMPORARY)
            children.run(
                [
                    *children.start(children.find_executable(job.ffmpeg)),
                    *("-protocol_whitelist", children.INPUT_PROTOCOLS, "-i", children.safe_url(job.input)),
                    *("-map", "0", "-map", "-0:d?", "-c", "copy", "-f", "matroska", children.safe_url(temporary)),
                ]
            )
            temporary.replace(rewrapped)
        source = probe(rewrapped)
        note = f"{error}: it was rewrapped, so that time runs forward through the joins"
        return _replaced(source, notes=(*source.notes, note))


def _replaced(source: MediaSource, **changes: Any) -> MediaSource:
    return MediaSource(**{**{name: getattr(source, name) for name in source.__dataclass_fields__}, **changes})


def _short_identity(path: Path) -> str:
    import hashlib

    return hashlib.sha256(repr(sorted(journal.source_identity(path).items())).encode()).hexdigest()[:16]


def _manifest(
    job: JobOptions, source: MediaSource, plan: Plan, encoding: Encoding, executable: Executable, window: range
) -> Manifest:
    shaping = plan.fingerprint()
    settings: dict[str, Any] = {key: value for key, value in shaping.items() if key not in _MACHINE}
    settings |= {
        "model": weights.fingerprint(job.model),
        "matrix": job.settings.matrix,
        "encoder": " ".join(encoding.arguments),
        "format": str(encoding.format),
        "color": repr(encoding.color),
        "sample aspect ratio": str(encoding.sample_aspect_ratio),
        "frames": [window.start, window.stop],
        "part frames": job.part_frames,
        "deinterlace": job.deinterlace,
        "peak": source.images.peak if source.images else None,
    }
    machine = {key: shaping[key] for key in _MACHINE if key in shaping}
    machine |= {"ffmpeg": executable.version, "av": av.__version__}
    return Manifest(
        source=identity_of(job, source),
        settings=settings,
        machine=machine,
        time_base=str(source.timeline.time_base),
        pts=source.timeline.pts,
        last_duration=source.timeline.last_duration,
        boundaries=part_boundaries(window, plan.segment, job.part_frames),
    )


def identity_of(job: JobOptions, source: MediaSource) -> dict[str, Any]:
    """What tells this source from a changed one."""
    return journal.series_identity(source.images.files) if source.images else journal.source_identity(job.input)


def _foretold(prepared: PreparedJob, progress: Progress) -> JobSummary:
    """A dry run: the plan and the commands, nothing done."""
    job, source = prepared.job, prepared.source
    width, height = prepared.hr_size
    progress.note(
        f"{source.video.width}x{source.video.height} {source.video.layout.format}, {len(prepared.window)} frames → "
        f"{width}x{height} {prepared.encoding.format}, {prepared.manifest.num_parts} part(s)"
    )
    progress.note(prepared.plan.describe())
    part = Journal(job.work, prepared.encoding.suffix).temporary_part(0)
    video = job.work / f"video.{prepared.encoding.suffix}"
    progress.note(children.describe(prepared.encoding.command(prepared.executable, part)))
    if job.container != mux.IMAGES:
        progress.note(children.describe(_mux_command(prepared, video, [])))
    return JobSummary(job.output, 0, 0, 0.0, 0, kept_of(prepared), prepared.keep.left, ())


def _carried_out(
    prepared: PreparedJob, crew: Executor, work: Journal, progress: Progress, stop: threading.Event, started: float
) -> JobSummary:
    job, manifest = prepared.job, prepared.manifest
    warnings = work.begin(manifest, allow_mixed=job.allow_mixed)
    todo = [n for n in range(manifest.num_parts) if not work.is_done(n, len(manifest.frames_of(n)))]
    done = len(prepared.window) - sum(len(manifest.frames_of(n)) for n in todo)
    if done:
        progress.note(f"resuming: {done} of {len(prepared.window)} frames are there from an earlier run")
    progress.note(prepared.plan.describe())
    progress.begin(len(prepared.window), done)
    made = ExecutionResult(0, StageTimes())
    try:
        if todo:
            made = crew.make(prepared, work, todo, progress, stop)
        warnings += [*made.warnings, *_damage_report(prepared, work)]
        if stop.is_set():
            raise Interrupted
        if job.container == mux.IMAGES:
            size = _write_pictures(prepared, work, progress, stop)
        else:
            size = _assemble(prepared, work, progress, warnings)
    finally:
        progress.end()
    summary = JobSummary(
        output=job.output,
        frames=len(prepared.window),
        upscaled=made.frames,
        seconds=time.monotonic() - started,
        size_bytes=size,
        kept=kept_of(prepared),
        left=prepared.keep.left,
        warnings=tuple(warnings),
        stages=made.stages,
    )
    if job.container == mux.IMAGES:
        work.remove()
        return summary
    said = {name: getattr(summary, name) for name in ("frames", "size_bytes", "kept", "left", "warnings")}
    work.note("finished", said)
    job.partial.replace(job.output)
    sync(job.output.absolute().parent)
    work.remove()
    return summary


def make_parts(
    prepared: PreparedJob, work: Journal, todo: Sequence[int], progress: Progress, stop: threading.Event
) -> ExecutionResult:
    """Upscales and encodes the parts `todo` and commits each to `work`."""
    source, manifest, job = prepared.source, prepared.manifest, prepared.job
    parts = [Part(n, manifest.frames_of(n)) for n in todo]

    def opened(sharers: int) -> Line:
        damage = Damage()

        def decoded(first: int) -> Iterator[DecodedFrame]:
            return decode.pictures(
                source, first, damage, deinterlace=job.deinterlace, ignore_interlaced=job.ignore_interlaced
            )

        stream = Stream(
            weights.load(job.model),
            job.settings,
            source=source.video.layout.format,
            width=source.video.width,
            height=source.video.height,
            num_frames=source.num_frames,
            target=prepared.encoding.format,
            sharers=sharers,
            warn=progress.note,
        )
        return Line(stream, FrameReader(decoded), PartWriter(_JournalSink(prepared, work, damage), source.timeline.pts))

    def delivered(hr: HrFrame) -> None:
        progress.measured(lines.stages().rates())
        progress.advance(hr.segment)

    # two lines inside one scene would both need all of its frames
    encoders = job.encoders if prepared.plan.segment else 1
    lines = Lines(parts, opened, encoders=encoders, stop=stop, delivered=delivered)
    lines.run()
    return ExecutionResult(sum(len(part.frames) for part in parts), lines.stages())


class _JournalSink:
    """The work directory as the writer sees it."""

    def __init__(self, prepared: PreparedJob, work: Journal, damage: Damage) -> None:
        self._prepared, self._work, self._damage = prepared, work, damage

    def open(self, part: Part) -> FrameEncoder:
        path = self._work.temporary_part(part.number)
        return FrameEncoder(self._prepared.executable, self._prepared.encoding, path)

    def commit(self, part: Part, encoder: FrameEncoder) -> None:
        number, frames = part.number, part.frames
        try:
            got = len(mux.packed(encoder.path).pts)
        except mux.MuxError as error:
            raise FfmpegError(f"ffmpeg said it was done, but part {number} is not whole: {error}") from error
        if got != len(frames):
            raise FfmpegError(f"ffmpeg said it was done, but part {number} holds {got} frames instead of {len(frames)}")
        hurt = {
            "damaged": sorted(n for n in set(self._damage.damaged) if n in frames),
            "missing": sorted(n for n in set(self._damage.missing) if n in frames),
        }
        if self._prepared.job.strict and any(hurt.values()):
            raise SourceError(_damage_text(self._prepared.source, hurt) + "; --strict does not accept that")
        self._work.note(damage_name(number), hurt)
        self._work.commit(number, len(frames))


def damage_name(part: int) -> str:
    """Under which the damage that was found while decoding a part is noted."""
    return f"damage_{part:06d}"


def _damage_report(prepared: PreparedJob, work: Journal) -> list[str]:
    total: dict[str, list[int]] = {"damaged": [], "missing": []}
    for hurt in work.noted("damage_*"):
        for kind, numbers in hurt.items():
            total[kind] += numbers
    return [_damage_text(prepared.source, total)] if any(total.values()) else []


def _damage_text(source: MediaSource, hurt: dict[str, list[int]]) -> str:
    texts = []
    for kind, numbers in hurt.items():
        if numbers:
            times = ", ".join(f"{source.timeline.time_of(n):.2f}" for n in numbers[:5]) + (
                " …" if len(numbers) > 5 else ""
            )
            how = "repeat their neighbour" if kind == "missing" else "were mended by the decoder"
            texts.append(f"{len(numbers)} {kind} frame(s) {how}, at {times} s")
    return "input: " + "; ".join(texts)


def _assemble(prepared: PreparedJob, work: Journal, progress: Progress, warnings: list[str]) -> int:
    """PartSink to the partial output, checked and on the disk; returns its size in bytes."""
    job, source, manifest = prepared.job, prepared.source, prepared.manifest
    progress.stage("joining")
    window = slice(prepared.window.start, prepared.window.stop)
    video = work.folder / f"video.{prepared.encoding.suffix}"
    parts = [work.part(n) for n in range(manifest.num_parts)]
    last_duration = source.timeline.end_of(window.stop - 1) - source.timeline.pts[window.stop - 1]
    mux.join(
        parts,
        source.timeline.pts[window],
        last_duration,
        source.timeline.time_base,
        video,
        rotation=source.video.rotation,
        full_range=prepared.encoding.full_range_tagged,
    )
    progress.stage("muxing")
    pictures = mux.extract_covers(source, prepared.keep.covers, work.folder) if job.container == "mkv" else []
    try:
        children.run(_mux_command(prepared, video, pictures))
    except FfmpegError:
        job.partial.unlink(missing_ok=True)
        raise
    progress.stage("checking")
    width, height = prepared.hr_size
    warnings += mux.check(job.partial, source, prepared.keep, job.container, prepared.window, width, height)
    sync(job.partial)
    return job.partial.stat().st_size


def _write_pictures(prepared: PreparedJob, work: Journal, progress: Progress, stop: threading.Event) -> int:
    """The frames of all parts as pictures, each whole under its name; numbered as the source's, or from 0.

    Returns their bytes.
    """
    progress.stage("writing pictures")
    work.note("pictures", True)  # those that are there already are ours from now on
    output, encoding, source = prepared.job.output, prepared.encoding, prepared.source
    size = 0
    for part in range(prepared.manifest.num_parts):
        with av.open(children.safe_name(work.part(part))) as container:
            for n, frame in zip(prepared.manifest.frames_of(part), container.decode(video=0), strict=True):
                if stop.is_set():
                    raise Interrupted
                content = images.encoded(
                    frame,
                    output.suffix,
                    encoding.format.bits,
                    aspect=source.video.sample_aspect_ratio,
                    transfer=encoding.color.transfer,
                    peak=(source.images.peak if source.images else None) or 1.0,
                )
                journal.write_atomically(images.name_of(output, source.image_number(n)), content)
                size += len(content)
    return size


def _mux_command(prepared: PreparedJob, video: Path, pictures: Sequence[Path]) -> list[str | bytes]:
    job = prepared.job
    return mux.mux_command(
        prepared.executable,
        video,
        prepared.source,
        prepared.keep,
        pictures,
        job.container,
        job.partial,
        window=None if prepared.whole else prepared.window,
    )


def kept_of(prepared: PreparedJob) -> tuple[str, ...]:
    """What of the source is in the output besides the pictures, in words."""
    source, keep = prepared.source, prepared.keep
    kept = [f"{len(prepared.window)} frames with their timestamps"]
    for kind, number in (
        ("audio track", len(keep.audio)),
        ("subtitle track", len(keep.subtitles)),
        ("attachment", len(keep.attachments)),
        ("cover picture", len(keep.covers)),
        ("chapter", source.chapters if prepared.whole else 0),
    ):
        if number:
            kept.append(f"{number} {kind}{'s' if number > 1 else ''}")
    kept += [f"changed: {text}" for text in keep.changed]
    if source.video.sample_aspect_ratio not in (0, 1):
        kept.append(f"pixel aspect ratio {source.video.sample_aspect_ratio}")
    if source.video.rotation:
        kept.append(f"rotation by {source.video.rotation}°")
    if mux.starts_anew(source) or not prepared.whole:
        start = (
            source.timeline.start
            if prepared.whole
            else Fraction(source.timeline.pts[prepared.window.start]) * source.timeline.time_base
        )
        kept.append(f"timestamps, moved to begin at 0 (they began at {float(start):.3f} s)")
    return tuple(kept)
