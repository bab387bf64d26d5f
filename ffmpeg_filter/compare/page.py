"""Hard moments of a video, enlarged by several models, on one page that needs nothing else."""

import base64
import html
import itertools
import string
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path

import torch

from ffmpeg_filter.job.pipeline import FrameReader
from ffmpeg_filter.job.report import Progress, clock
from ffmpeg_filter.media.decode import Damage, DecodedFrame, pictures
from ffmpeg_filter.media.frames import frame_of, planes_of
from ffmpeg_filter.media.images import encoded
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import weights
from vs_iconvsr.colorspace import Format, Planes, colorimetry_of, from_rgb, output_colorimetry, to_rgb
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, Session, iterate

BICUBIC = "bicubic"
SHOWN = Format("RGB", "integer", 8)
_ENLARGED = Format("RGB", "integer", 16)  # more than is shown: FFmpeg's enlarging rounds once, not twice

# Places looked at when hard moments are picked: more take longer, and neighbours look alike anyway.
PLACES = 60

# Moments are at least one part in so many of the video from each other: neighbours look alike.
_APART = 12

_BLACK, _DARK = 20, 70  # mean luma of 255: below the first nothing can be seen, above the second it is not dark


@dataclass(frozen=True)
class Moment:
    """A frame worth a look, and why."""

    frame: int
    why: str


@dataclass(frozen=True)
class Measured:
    """What a frame is like, on 8-bit luma: mean change to the next frame, mean difference of neighbours, mean."""

    frame: int
    motion: float
    detail: float
    brightness: float


@dataclass(frozen=True)
class Rendered:
    """One way to enlarge all moments: a PNG each, and how fast it went; None for a player's own enlarging."""

    name: str
    images: tuple[bytes, ...]
    fps: float | None


def compare(
    source: MediaSource,
    models: Sequence[str],
    settings: Settings,
    progress: Progress,
    *,
    moments: Sequence[int] | None = None,
) -> str:
    """The page as text. models: names or files, and BICUBIC. moments: the frames to show, else hard ones are picked.

    Raises WeightsError and ValueError for models and settings that cannot be.
    """
    for name in models:
        if name != BICUBIC:
            weights.fingerprint(name)  # an unknown name ends the command before minutes of work, not after
    chosen = [Moment(n, "chosen") for n in moments] if moments is not None else pick(measure(source))
    progress.begin(len(chosen) * len(models), 0)
    rendered = []
    told: set[str] = set()

    def warn(text: str) -> None:
        if text not in told:  # each model finds out the same about the same source
            told.add(text)
            progress.note(text)

    for name in models:
        images, fps = (
            _enlarged(source, chosen, settings, progress)
            if name == BICUBIC
            else _upscaled(source, chosen, name, settings, progress, warn)
        )
        rendered.append(Rendered(Path(name).stem, tuple(images), fps))
    progress.end()
    return page(source, chosen, rendered)


def measure(source: MediaSource, places: int = PLACES) -> list[Measured]:
    """Evenly spread places of the video, two frames each."""
    step = max(1, source.num_frames // places)
    found = []
    for n in range(0, source.num_frames, step):
        pair = list(itertools.islice(pictures(source, n, Damage(), ignore_interlaced=True), 2))
        luma = [_luma(source, picture) for picture in pair]
        motion = float((luma[-1] - luma[0]).abs().mean())
        detail = float((luma[0][:, 1:] - luma[0][:, :-1]).abs().mean())
        found.append(Measured(n, motion, detail, float(luma[0].mean())))
    return found


def pick(measured: Sequence[Measured], count: int = 2) -> list[Moment]:
    """Up to `count` moments of each kind: most motion, most detail, dark but not black; none close to another."""
    seen = [m for m in measured if m.brightness >= _BLACK] or list(measured)
    kinds = (
        ("motion", sorted(seen, key=lambda m: -m.motion)),
        ("detail", sorted(seen, key=lambda m: -m.detail)),
        ("darkness", sorted((m for m in seen if m.brightness <= _DARK), key=lambda m: -m.detail)),
    )
    frames = [m.frame for m in measured]
    apart = max(1, (max(frames) - min(frames)) // _APART)
    moments: list[Moment] = []
    for why, ranked in kinds:
        wanted = len(moments) + count
        for m in ranked:
            if len(moments) < wanted and all(abs(m.frame - other.frame) >= apart for other in moments):
                moments.append(Moment(m.frame, why))
    return sorted(moments, key=lambda moment: moment.frame)


def _luma(source: MediaSource, picture: DecodedFrame) -> torch.Tensor:
    """Luma, or green, as float of 0 to 255."""
    layout = source.video.layout.format
    plane = picture.planes[1 if layout.family == "RGB" else 0].to(torch.float32)
    return plane * (255.0 if layout.sample == "float" else 1 / (1 << (layout.bits - 8)))


def _enlarged(
    source: MediaSource, moments: Sequence[Moment], settings: Settings, progress: Progress
) -> tuple[list[bytes], None]:
    """What a player does: bicubic, by FFmpeg; from the RGB that the models are given, so that only detail differs."""
    images = []
    for moment in moments:
        picture = next(pictures(source, moment.frame, Damage(), ignore_interlaced=True))
        layout, width, height = source.video.layout.format, source.video.width, source.video.height
        color, _ = colorimetry_of(picture.properties, layout, width, height, matrix=settings.matrix)
        rgb = to_rgb(picture.planes, layout, color)
        target = output_colorimetry(color, layout, _ENLARGED, width, height)
        small = frame_of(from_rgb(rgb, _ENLARGED, target, dither="none"), _ENLARGED, width, height)
        size = {"width": width * 4, "height": height * 4}
        large = small.reformat(**size, format="rgb24", interpolation="BICUBIC", threads=1)
        images.append(_png(planes_of(large), source))
        progress.advance()
    return images, None


def _upscaled(
    source: MediaSource,
    moments: Sequence[Moment],
    model: str,
    settings: Settings,
    progress: Progress,
    warn: Callable[[str], None],
) -> tuple[list[bytes], float]:
    """hr frames as the whole job would give them, and hr frames a second over whole segments."""

    def decoded(first: int) -> Iterator[DecodedFrame]:
        return pictures(source, first, Damage(), ignore_interlaced=True)

    def fetch(n: int) -> Fetched:
        frame = feed.get(n)
        return Fetched(frame.planes, frame.properties)

    feed = FrameReader(decoded)
    network = weights.load(model)
    layout = source.video.layout.format
    images, started = [], time.monotonic()
    try:
        with Session(
            network,
            settings,
            source=layout,
            width=source.video.width,
            height=source.video.height,
            num_frames=source.num_frames,
            target=SHOWN,
            warn=warn,
        ) as session:
            for _, hr in iterate(session, fetch, [moment.frame for moment in moments]):
                images.append(_png(hr.planes, source))
                progress.advance()
            # Every step is one frame in one direction: an hr frame takes a step backward and one forward.
            fps = session.counts.steps / 2 / (time.monotonic() - started)
    finally:
        feed.close()
    return images, fps


def _png(planes: Planes, source: MediaSource) -> bytes:
    """An 8-bit RGB frame as a player shows it, turned by the source's rotation."""
    upright = tuple(torch.rot90(plane, source.video.rotation // 90) for plane in planes)  # both turn counterclockwise
    return encoded(frame_of(upright, SHOWN, upright[0].shape[1], upright[0].shape[0]), ".png", 8)


def page(source: MediaSource, moments: Sequence[Moment], rendered: Sequence[Rendered]) -> str:
    """One HTML page with everything inside it."""
    template = resources.files("ffmpeg_filter.compare").joinpath("compare.html").read_text(encoding="utf-8")
    sections = "\n".join(_section(source, moment, i, rendered) for i, moment in enumerate(moments))
    return string.Template(template).substitute(
        title=html.escape(f"{source.path.name}: {', '.join(r.name for r in rendered)}"),
        facts=html.escape(_facts(source)),
        speeds="\n".join(_speed(source, r) for r in rendered),
        sections=sections,
    )


def _facts(source: MediaSource) -> str:
    facts = (
        f"{source.video.width}×{source.video.height} → ×4, {source.num_frames} frames, {clock(source.timeline.seconds)}"
    )
    return facts + (f", turned by {source.video.rotation}° as players do" if source.video.rotation else "")


def _speed(source: MediaSource, rendered: Rendered) -> str:
    """A row of the table."""
    if rendered.fps is None:
        fps, whole = "", "as a player does it"
    else:
        fps, whole = f"{rendered.fps:.2f}", f"about {_duration(source.num_frames / rendered.fps)}"
    return f'<tr><td>{html.escape(rendered.name)}</td><td class="number">{fps}</td><td>{whole}</td></tr>'


def _duration(seconds: float) -> str:
    """'40 s', '12 min', '7.5 hours': no finer than an estimate is worth."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} hours"


def _section(source: MediaSource, moment: Moment, number: int, rendered: Sequence[Rendered]) -> str:
    images = "\n".join(
        f'<img alt="{html.escape(r.name)}" data-name="{html.escape(r.name)}" '
        f'src="data:image/png;base64,{base64.b64encode(r.images[number]).decode()}">'
        for r in rendered
    )
    seconds = source.timeline.time_of(moment.frame) - source.timeline.time_of(0)
    when = f"{clock(int(seconds))}.{int(seconds * 10) % 10}"
    heading = html.escape(f"{when} (frame {moment.frame}): {moment.why}")
    aspect = (source.video.sample_aspect_ratio or 1) * Fraction(source.video.width, source.video.height)
    if source.video.rotation % 180:
        aspect = 1 / aspect
    shape = f"{aspect.numerator} / {aspect.denominator}"
    return f'<section><h2>{heading}</h2><div class="stage" style="--shape: {shape}">{images}</div></section>'
