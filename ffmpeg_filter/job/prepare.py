"""Everything about a job that is settled before the first frame: plan, encoding, stream mapping, parts, manifest."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av

from ffmpeg_filter.job.journal import Journal, Manifest
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.source import identity_of
from ffmpeg_filter.media import dynamic_hdr, images, mux, presets, telecine, trial
from ffmpeg_filter.media.encode import Encoding, hdr_options, try_out
from ffmpeg_filter.media.ffmpeg import Executable, FfmpegError, find_executable
from ffmpeg_filter.media.fields import AS_FLAGGED, PULLDOWN_TEXT, examine_fields, flagged_order
from ffmpeg_filter.media.join import MuxError, join_parts
from ffmpeg_filter.media.mapping import IMAGES, StreamMapping, stream_mapping
from ffmpeg_filter.media.orientation import check_orientation, writes
from ffmpeg_filter.media.source import MediaSource, SourceError
from ffmpeg_filter.media.target_size import Resize, resize_for
from ffmpeg_filter.media.trial import Trial
from ffmpeg_filter.media.zimg import Resizing, format_between, zimg_version
from vs_iconvsr import weights
from vs_iconvsr.colorspace import Format, colorimetry_of, output_colorimetry
from vs_iconvsr.plan import Plan, plan_for

IMAGES_BEGUN = "images"  # the note that images of this job may be among those that exist already

# Of a plan's fingerprint, what belongs to the machine: it may differ between parts with --allow-mixed.
_MACHINE_KEYS = ("devices", "threads", "torch", "cpu")

# Fixed, because the encoder's bytes depend on it, and the same on every machine that works on a job.
_ENCODER_THREADS, _ENCODER_THREADS_LARGE, _LARGE_PX = 8, 16, 1440

_IMAGE_BITS = 16


@dataclass(frozen=True)
class PreparedJob:
    """A job with everything settled before the first frame. window: the frames to upscale. notes: for the user."""

    options: JobOptions
    executable: Executable
    source: MediaSource
    scale: int
    plan: Plan
    encoding: Encoding
    mapping: StreamMapping
    manifest: Manifest
    window: range
    notes: tuple[str, ...]
    resizing: Resizing | None = None
    parity: str | None = None

    @property
    def output_size(self) -> tuple[int, int]:
        return self.encoding.width, self.encoding.height

    @property
    def hr_format(self) -> Format:
        """What the network's frames are, before they are resized, if they are."""
        return self.encoding.format if self.resizing is None else format_between(self.encoding.format)

    @property
    def shown(self) -> MediaSource:
        """The source with the size and the shape of pixels that its video has in the output."""
        width, height = self.output_size
        aspect = self.encoding.sample_aspect_ratio
        video = replace(self.source.video, width=width, height=height, sample_aspect_ratio=aspect)
        return replace(self.source, video=video)

    @property
    def whole(self) -> bool:
        """Whether every frame of the source is upscaled, not only those between --start and --duration."""
        return len(self.window) == self.source.num_frames


def prepare_job(options: JobOptions, source: MediaSource) -> PreparedJob:
    """Settles everything as this machine would do it, and tries the encoder with one frame. Writes nothing.

    Raises ValueError, SourceError, FfmpegError, MuxError, WeightsError or OSError, with the remedy.
    """
    executable = find_executable(options.ffmpeg)
    source, parity, field_notes = _settle_fields(options, source)
    window = frame_window(source, options.start_s, options.duration_s)
    if options.scenes is not None:
        options.scenes.check(source.num_frames)
    target = _encoder_target(options, source, executable)
    if not source.images:
        source = trial.listed(executable, source)
    codec = None if options.makes_images else target.preset.codec
    source = dynamic_hdr.settle(source, codec, drop=options.drop_dynamic_hdr)
    network = weights.load(options.model)
    plan = plan_for(options.upscaling, network, source.video.width, source.video.height)
    resize = _resize(options, source, target, network.scale)
    encoding, not_coded = _encoding(options, source, executable, target, network.scale, resize)
    if options.makes_images:
        _check_images(options, source, encoding, window)
    if not options.makes_images:
        check_orientation(source.video.orientation, options.container, executable)
    tried = _tried(executable, encoding, target.preset, source, options.container)
    left = [*tried.left, *(f"video: {text}" for text in (*target.lost, *not_coded))]
    if source.chapters and len(window) < source.num_frames and not options.makes_images:
        left.append(f"chapters ({source.chapters}): only part of the video is upscaled")
    return PreparedJob(
        options=options,
        executable=executable,
        source=source,
        scale=network.scale,
        plan=plan,
        encoding=encoding,
        mapping=replace(tried, left=tuple(left), tag=target.preset.tag),
        manifest=_manifest(options, source, plan, encoding, executable, window, resize, parity),
        window=window,
        notes=(*source.notes, *_size_notes(source, network.scale, resize), *_scene_notes(options), *field_notes),
        resizing=_resizing(options, source, encoding, network.scale, resize),
        parity=parity,
    )


def _tried(
    executable: Executable, encoding: Encoding, preset: presets.Preset, source: MediaSource, container: str
) -> StreamMapping:
    """Encodes one frame, and muxes it with the first packets of the source's other streams as the job will.

    Raises FfmpegError and ValueError for what will not work, before the first frame has taken minutes to be made.
    """
    with tempfile.TemporaryDirectory(prefix="iconvsr-") as name:
        folder = Path(name)
        part = try_out(executable, encoding, folder)
        if container == IMAGES:
            return stream_mapping(source, container)
        timeline = source.timeline
        first = timeline.pts[0] - round(mux.origin(source, None) / timeline.time_base)
        try:
            video = join_parts(
                [part],
                [first],
                timeline.durations[0],
                timeline.time_base,
                rotation=0 if writes(executable) else source.video.rotation,
            )
        except MuxError as error:
            problem = f"ffmpeg reported success, but the trial is not complete: {error}"
            raise FfmpegError(f"encoder: cannot be used with these options: {problem}") from error
        return Trial(executable, source, video, folder, preset.containers).settle(container)


def _scene_notes(options: JobOptions) -> list[str]:
    listed = options.scenes
    if listed is None:
        return []
    own = f", {len(listed.strengths)} with their own strength" if listed.strengths else ""
    return [f"scenes: {listed} from {listed.name}{own}; cuts are not detected"]


def _settle_fields(options: JobOptions, source: MediaSource) -> tuple[MediaSource, str | None, list[str]]:
    """The source whose frames are upscaled, the field order to deinterlace by, if any, and notes for the user.

    Raises SourceError for interlaced video that is to be left as it is, and for what is no telecined film.
    """
    if (options.deinterlace or options.ivtc) and source.images:
        raise ValueError("deinterlace, ivtc: expected a video, got images; leave it out, or make a video of them first")
    if options.deinterlace:
        found = examine_fields(source)
        return source, found.order, found.notes(flagged_order(source))
    if options.ivtc:
        found = examine_fields(source)
        seen = found.pulldown or found.order != AS_FLAGGED
        telecine.check_telecined(source, interlaced=source.video.interlaced or seen)
        return telecine.film_of(source, found.order), None, [telecine.note(source, recognized=found.pulldown)]
    if source.video.interlaced and not options.ignore_interlaced:
        pulldown = f" ({PULLDOWN_TEXT})" if examine_fields(source).pulldown else ""
        raise SourceError(
            f"input: expected progressive video, got interlaced: {options.input}; "
            f"pass --deinterlace, or --ignore-interlaced if the flag is wrong{pulldown}"
        )
    return source, None, []


def _check_images(options: JobOptions, source: MediaSource, encoding: Encoding, window: range) -> None:
    """Raises ValueError for images that cannot hold the frames, or would replace some that are not of this job."""
    images.check_format(options.output, encoding.format.bits, encoding.color.transfer)
    begun = Journal(options.work, encoding.suffix).read_notes(IMAGES_BEGUN, bool)
    images.check_not_taken(options.output, window, source, overwrite=options.overwrite or bool(begun))


# ---- which frames, in which parts ----


def frame_window(source: MediaSource, start_s: float | None, duration_s: float | None) -> range:
    """The frames shown from start_s on for duration_s, counted from the first frame. Raises ValueError if none is."""
    origin = source.timeline.time_of(0)
    begin = start_s or 0.0
    end = float("inf") if duration_s is None else round(begin + duration_s, 6)  # 0.8 + 0.4 is more than 1.2
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


# ---- how parts are encoded ----


@dataclass(frozen=True)
class _EncoderTarget:
    """The encoder, the format that it is given, and what of the source's format that loses, in words."""

    name: str
    preset: presets.Preset
    format: Format
    lost: tuple[str, ...] = ()


def _encoder_target(options: JobOptions, source: MediaSource, executable: Executable) -> _EncoderTarget:
    if options.makes_images:
        return _image_target(options, executable)
    name, preset = presets.preset_for(options.encoder, source.video.layout.format, options.container, executable)
    target, lost = presets.target_for(source.video.layout.format, name, preset, options.bits)
    return _EncoderTarget(name, preset, target, tuple(lost))


def _image_target(options: JobOptions, executable: Executable) -> _EncoderTarget:
    """Images are written at the end; until then their frames are kept in lossless parts, as RGB."""
    if options.encoder not in ("auto", "ffv1"):
        raise ValueError(f"encoder: expected none for images, got {options.encoder}; leave it out")
    rgb = Format("RGB", "integer", options.bits or _IMAGE_BITS)
    name, preset = presets.preset_for("ffv1", rgb, "mkv", executable)
    return _EncoderTarget(name, preset, rgb)


def _encoding(
    options: JobOptions,
    source: MediaSource,
    executable: Executable,
    target: _EncoderTarget,
    scale: int,
    resize: Resize | None,
) -> tuple[Encoding, tuple[str, ...]]:
    """The encoding, and what it cannot carry along, in words. Raises ValueError for what the encoder cannot hold."""
    video, preset = source.video, target.preset
    hr_width, hr_height = video.width * scale, video.height * scale
    width, height = (resize.width, resize.height) if resize else (hr_width, hr_height)
    if width < preset.least_width_px:
        raise ValueError(
            f"encoder: expected one for frames {width} px wide, got {target.name}, which needs {preset.least_width_px}"
        )
    matrix, lr_format = options.settings.matrix, video.layout.format
    color, _ = colorimetry_of(video.properties, lr_format, video.width, video.height, matrix=matrix)
    before, inside, hdr_kept = hdr_options(executable, preset.codec, video.mastering_display, video.content_light)
    not_coded = f"HDR10 mastering metadata ({target.name} needs ffmpeg 9 for it, or use --encoder x265)"
    threads = _ENCODER_THREADS if height < _LARGE_PX else _ENCODER_THREADS_LARGE
    arguments = presets.encoder_arguments(
        target.name, preset, target.format, crf=options.crf, speed=options.speed, threads=threads, hdr=inside
    )
    encoding = Encoding(
        width=width,
        height=height,
        format=target.format,
        color=output_colorimetry(color, lr_format, target.format, hr_width, hr_height, matrix=matrix),
        sample_aspect_ratio=resize.aspect if resize else video.sample_aspect_ratio,
        time_base=source.timeline.time_base,
        arguments=(*arguments, *presets.extra_arguments(options.extra)),
        input_options=tuple(before),
        suffix=preset.part,
        full_range_coded=preset.full_range == "coded",
    )
    if preset.full_range == "never" and encoding.color.full_range:
        raise ValueError(
            f"encoder: expected one that holds full range, as the source has, got {target.name}; use dnxhr-hqx or ffv1"
        )
    return encoding, () if hdr_kept else (not_coded,)


def _resize(options: JobOptions, source: MediaSource, target: _EncoderTarget, scale: int) -> Resize | None:
    video = source.video
    if options.target_size is None:
        return None
    size = video.width, video.height
    return resize_for(options.target_size, size, scale, video.sample_aspect_ratio, target.format)


def _resizing(
    options: JobOptions, source: MediaSource, encoding: Encoding, scale: int, resize: Resize | None
) -> Resizing | None:
    if resize is None:
        return None
    hr_size = source.video.width * scale, source.video.height * scale
    return Resizing(resize, hr_size, encoding.format, encoding.color, options.settings.dither)


def _size_notes(source: MediaSource, scale: int, resize: Resize | None) -> tuple[str, ...]:
    if resize is None:
        return ()
    pixels = f", pixel aspect ratio {resize.aspect}" if resize.aspect not in (0, 1) else ""
    return (f"resized from {source.video.width * scale}x{source.video.height * scale} to {resize}{pixels}",)


# ---- what a resumed run must have in common ----


def _manifest(
    options: JobOptions,
    source: MediaSource,
    plan: Plan,
    encoding: Encoding,
    executable: Executable,
    window: range,
    resize: Resize | None,
    parity: str | None,
) -> Manifest:
    fingerprint = plan.fingerprint()
    settings: dict[str, Any] = {key: value for key, value in fingerprint.items() if key not in _MACHINE_KEYS}
    settings |= {
        "model": weights.fingerprint(options.model),
        "encoder": " ".join(encoding.arguments),
        "format": str(encoding.format),
        "color": repr(encoding.color),
        "sample aspect ratio": str(encoding.sample_aspect_ratio),
        "frames": [window.start, window.stop],
        "part frames": options.part_frames,
        "deinterlace": parity,
        "ivtc": source.telecined.order if source.telecined else None,
        "peak": source.images.peak if source.images else None,
        "size": str(resize) if resize else None,
        "scenes": str(options.scenes) if options.scenes else None,
    }
    machine = {key: fingerprint[key] for key in _MACHINE_KEYS if key in fingerprint}
    machine |= {"ffmpeg": executable.version, "av": av.__version__}
    machine |= {"zimg": zimg_version()} if resize else {}
    return Manifest(
        source=identity_of(options, source),
        settings=settings,
        machine=machine,
        time_base=str(source.timeline.time_base),
        pts=source.timeline.pts,
        last_duration=source.timeline.last_duration,
        boundaries=part_boundaries(window, plan.segment, options.part_frames),
    )
