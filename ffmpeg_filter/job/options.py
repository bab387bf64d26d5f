"""The options of a job, and the checks that need nothing but the options and the paths in them."""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ffmpeg_filter.job import paths
from ffmpeg_filter.job.pool import MAX_PIPELINES
from ffmpeg_filter.media import images, mapping, presets
from ffmpeg_filter.media.container import check_file
from ffmpeg_filter.media.scene_list import SceneList
from ffmpeg_filter.media.target_size import TargetSize
from vs_iconvsr import weights
from vs_iconvsr.atomic import temporary_for
from vs_iconvsr.plan import Settings

LEAST_PART_FRAMES = 250
WORK_SUFFIX = ".iconvsr"


class JobError(Exception):
    """A job that cannot be done as requested; the message says what to change."""


@dataclass(frozen=True)
class JobOptions:
    """The options of one job. None leaves the choice to the program; `iconvsr upscale --help` explains each."""

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
    ivtc: bool = False
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
    target_size: TargetSize | None = None
    scenes: SceneList | None = None
    drop_dynamic_hdr: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("crf", self.crf, 0),
            ("bits", self.bits, 1),
            ("encoders", self.encoders, 1),
            ("part-frames", self.part_frames, 1),
            ("rate", self.rate, 0),
            ("peak", self.peak, 0),
        ):
            _check_number(name, value, least)
        if self.encoders is not None and self.encoders > MAX_PIPELINES:
            raise ValueError(f"encoders: expected 1 to {MAX_PIPELINES} at a time, got {self.encoders}")
        for name, text in (("encoder", self.encoder), ("preset", self.speed), ("ffmpeg", self.ffmpeg)):
            if text is not None and not (isinstance(text, str) and text):
                raise ValueError(f"{name}: expected a name, got {text!r:.40}")
        if self.scenes is not None and not self.settings.scene_detect:
            raise ValueError("scenes: expected with propagation that stops at cuts, got it with scene-detect 0")
        if self.ivtc:
            self._check_ivtc()

    def _check_ivtc(self) -> None:
        if self.deinterlace or self.ignore_interlaced:
            other = "deinterlace" if self.deinterlace else "ignore-interlaced"
            raise ValueError(
                f"ivtc: expected alone, got it with --{other}; pass --ivtc for film with 3:2 pulldown, --deinterlace "
                "for video, --ignore-interlaced for progressive frames with a wrong flag"
            )
        if self.scenes is not None:
            raise ValueError(
                "ivtc: expected without a list of cuts, whose frames are those before, got it with --scenes"
            )

    @property
    def upscaling(self) -> Settings:
        """The settings, with the strengths of the scenes."""
        changes = self.scenes.strength_changes(self.settings.strength) if self.scenes else ()
        return replace(self.settings, strengths=changes)

    @property
    def work(self) -> Path:
        """The work directory, beside the output."""
        return self.output.with_name(self.output.name + WORK_SUFFIX)

    @property
    def partial(self) -> Path:
        """The name under which the output is written until it is complete."""
        return temporary_for(self.output)

    @property
    def container(self) -> str:
        """The one the user named, else by the output's suffix. Raises ValueError for an unsupported suffix."""
        if self.container_name is not None:
            return self.container_name
        suffix = self.output.suffix.lower()
        container = mapping.IMAGES if suffix in images.WRITTEN else mapping.CONTAINERS.get(suffix)
        if container is None:
            raise ValueError(
                f"output: expected a name ending in {', '.join(mapping.CONTAINERS)}, or images as in out_%05d.png, "
                f"got {self.output.name}; --container mkv allows any name"
            )
        return container

    @property
    def makes_images(self) -> bool:
        """Whether the output is numbered images instead of a video."""
        return self.container == mapping.IMAGES


def _check_number(name: str, value: object, least: int) -> None:
    """Raises ValueError, naming the option, for what is neither None nor a finite number of at least `least`."""
    if value is not None and not (isinstance(value, int | float | Fraction) and least <= value < math.inf):
        raise ValueError(f"{name}: expected at least {least}, got {value!s:.40}")


def check_paths(options: JobOptions) -> None:
    """Raises ValueError or SourceError for paths that cannot work, before anything is written."""
    if not options.output.is_dir():
        _ = options.container
    if not images.is_image_sequence(options.input):
        check_file(options.input)
        if options.rate is not None or options.peak is not None:
            raise ValueError("rate, peak: expected for numbered images only, got a video file; leave them out")
    paths.check_output(options.output, options.input, work=options.work, overwrite=options.overwrite)
