"""Hard moments of a video, upscaled by several models, on one page that needs nothing else."""

import base64
import html
import string
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path

from ffmpeg_filter.compare.moments import Moment, measure, pick
from ffmpeg_filter.job.pipeline import FrameReader
from ffmpeg_filter.job.report import Progress, clock
from ffmpeg_filter.media.decode import Damage, DecodedFrame, decode_frames
from ffmpeg_filter.media.frames import frame_of, planes_of
from ffmpeg_filter.media.images import encode_image
from ffmpeg_filter.media.orientation import upright
from ffmpeg_filter.media.source import MediaSource
from vs_iconvsr import weights
from vs_iconvsr.colorspace import Format, Planes, colorimetry_of, from_rgb, output_colorimetry, to_rgb
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, Session, iterate

BICUBIC = "bicubic"
SHOWN = Format("RGB", "integer", 8)
_SCALED = Format("RGB", "integer", 16)  # more than is shown: FFmpeg's enlarging rounds once, not twice


@dataclass(frozen=True)
class Rendering:
    """All moments by one model: a PNG each, their scale, and how fast it went; fps is None for a player's bicubic."""

    name: str
    images: tuple[bytes, ...]
    scale: int
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

    Every model upscales by its own scale, bicubic by the largest of these; the page shows all of them at one size.
    Raises WeightsError and ValueError for models and settings that cannot be.
    """
    # Read first: an unknown name ends the command before minutes of work, not after.
    scales = {name: weights.scale_of(name) for name in models if name != BICUBIC}
    largest = max(scales.values()) if scales else weights.scale_of(weights.DEFAULT_MODEL)
    chosen = [Moment(n, "chosen") for n in moments] if moments is not None else pick(measure(source))
    progress.begin(len(chosen) * len(models), 0)
    renderings = []
    reported: set[str] = set()

    def warn(text: str) -> None:
        if text not in reported:  # each model finds out the same about the same source
            reported.add(text)
            progress.note(text)

    for name in models:
        images, fps = (
            _render_bicubic(source, chosen, largest, settings, progress)
            if name == BICUBIC
            else _render_model(source, chosen, name, settings, progress, warn)
        )
        renderings.append(Rendering(Path(name).stem, tuple(images), scales.get(name, largest), fps))
    progress.end()
    return page(source, chosen, renderings)


def _render_bicubic(
    source: MediaSource, moments: Sequence[Moment], scale: int, settings: Settings, progress: Progress
) -> tuple[list[bytes], None]:
    """What a player does: bicubic, by FFmpeg; from the RGB that the models are given, so that only detail differs."""
    images = []
    for moment in moments:
        picture = next(decode_frames(source, moment.frame, Damage(), ignore_interlaced=True))
        layout, width, height = source.video.layout.format, source.video.width, source.video.height
        color, _ = colorimetry_of(picture.properties, layout, width, height, matrix=settings.matrix)
        rgb = to_rgb(picture.planes, layout, color)
        target = output_colorimetry(color, layout, _SCALED, width, height)
        small = frame_of(from_rgb(rgb, _SCALED, target, dither="none"), _SCALED, width, height)
        large = small.reformat(width * scale, height * scale, format="rgb24", interpolation="BICUBIC", threads=1)
        images.append(_png(planes_of(large), source))
        progress.advance()
    return images, None


def _render_model(
    source: MediaSource,
    moments: Sequence[Moment],
    model: str,
    settings: Settings,
    progress: Progress,
    warn: Callable[[str], None],
) -> tuple[list[bytes], float]:
    """hr frames as the whole job would give them, and hr frames a second over whole segments."""

    def decode(first: int) -> Iterator[DecodedFrame]:
        return decode_frames(source, first, Damage(), ignore_interlaced=True)

    def fetch(n: int) -> Fetched:
        frame = feed.get(n)
        return Fetched(frame.planes, frame.properties)

    feed = FrameReader(decode)
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
    """An 8-bit RGB frame as a player shows it, turned and mirrored as the source says."""
    shown = upright(planes, source.video.orientation)
    return encode_image(frame_of(shown, SHOWN, shown[0].shape[1], shown[0].shape[0]), ".png", 8)


def page(source: MediaSource, moments: Sequence[Moment], renderings: Sequence[Rendering]) -> str:
    """One HTML page with everything inside it."""
    template = resources.files("ffmpeg_filter.compare").joinpath("compare.html").read_text(encoding="utf-8")
    sections = "\n".join(_section(source, moment, i, renderings) for i, moment in enumerate(moments))
    return string.Template(template).substitute(
        title=html.escape(f"{source.path.name}: {', '.join(r.name for r in renderings)}"),
        facts=html.escape(_facts(source, renderings)),
        speeds="\n".join(_speed(source, r) for r in renderings),
        sections=sections,
    )


def _facts(source: MediaSource, renderings: Sequence[Rendering]) -> str:
    video, scales = source.video, sorted({r.scale for r in renderings})
    facts = f"{video.width}×{video.height} → {', '.join(f'×{scale}' for scale in scales)}"
    facts += f" (all shown as large as ×{scales[-1]})" if len(scales) > 1 else ""
    facts += f", {source.num_frames} frames, {clock(source.timeline.seconds)}"
    return facts + (f", {video.orientation} as players do" if video.orientation else "")


def _speed(source: MediaSource, rendering: Rendering) -> str:
    """A row of the table."""
    if rendering.fps is None:
        fps, whole = "", "as a player does it"
    else:
        fps, whole = f"{rendering.fps:.2f}", f"about {_duration(source.num_frames / rendering.fps)}"
    name = html.escape(rendering.name)
    return f'<tr><td>{name}</td><td class="number">{fps}</td><td>{whole}</td><td>×{rendering.scale}</td></tr>'


def _duration(seconds: float) -> str:
    """'40 s', '12 min', '7.5 hours': no finer than an estimate is worth."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} hours"


def _section(source: MediaSource, moment: Moment, number: int, renderings: Sequence[Rendering]) -> str:
    images = "\n".join(
        f'<img alt="{html.escape(r.name)}" data-name="{html.escape(r.name)}" '
        f'src="data:image/png;base64,{base64.b64encode(r.images[number]).decode()}">'
        for r in renderings
    )
    seconds = source.timeline.time_of(moment.frame) - source.timeline.time_of(0)
    when = f"{clock(int(seconds))}.{int(seconds * 10) % 10}"
    heading = html.escape(f"{when} (frame {moment.frame}): {moment.why}")
    aspect = (source.video.sample_aspect_ratio or 1) * Fraction(source.video.width, source.video.height)
    if source.video.rotation % 180:
        aspect = 1 / aspect
    shape = f"{aspect.numerator} / {aspect.denominator}"
    return f'<section><h2>{heading}</h2><div class="stage" style="--shape: {shape}">{images}</div></section>'
