"""Estimate how a sample of footage is degraded, and write a recipe that learns to undo it.

Generated clips are degraded with known strengths and measured in the same way as the footage; a regression from these
figures to the strengths gives the estimate. Its error on clips that the regression has not seen is reported with it.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from .. import PROGRAM
from ..data.examine import COMBING_LIMIT, combing
from ..data.frames import open_frames
from ..data.synthesise import Generator, clips
from ..data.videos import frames_of
from ..metrics import luma
from .codecs import TREE_CRF, stream_quantiser
from .degradation import WORST_CRF, WORST_QUANTISER, Degradation, degrade
from .measures import WINDOW_PX, detail, measure
from .regression import PARTS, Estimate, StrengthRegression

logger = logging.getLogger(__name__)

HEADING = "# To undo the degradations of"  # of every recipe that is written here
FRAMES = 4  # measured together
PIECES = 12  # taken from the footage, evenly spread
WINDOWS = 6  # taken from a piece
GROUP = 6  # windows measured together, from different places
MAX_FRAMES = 3000  # decoded from a video
MIN_DETAIL = 3.0  # code values; a window with less reveals nothing
CUT_CHANGE = 30.0  # mean change between frames, in code values, that is not motion
NOISE_FREE = 0.5  # code values
STREAM_QUALITY_ERROR = 2.0  # of a quantizer read from the stream: it varies from frame to frame
FAMILIES: dict[str, tuple[str, ...]] = {"none": (), "x264": ("libx264",), "mpeg": ("mpeg2video", "mpeg4")}
CODECS = {
    **dict.fromkeys(("h264", "hevc", "vp8", "vp9", "av1"), "x264"),
    **dict.fromkeys(("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "h263", "mjpeg", "dvvideo", "wmv2"), "mpeg"),
    **dict.fromkeys(("ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png"), "none"),
}

Random = np.random.Generator


@dataclass(frozen=True)
class EstimatedDegradation:
    """sigma: px of the ground truth. noise: code values, before compression. family: one of FAMILIES.

    quality: CRF of x264 or quantizer of the MPEG family, None without compression. codec: of a video file, "" for
    images. quantiser: mean of what the stream records, None if it does not. combed: share of combed frames. windows:
    number measured.
    """

    scale: int
    sigma: Estimate
    noise: Estimate
    family: str
    quality: Estimate | None
    codec: str
    quantiser: float | None
    combed: float
    windows: int


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """How much is simulated for the regression. samples: per family under consideration."""

    generator: Generator = field(
        default_factory=lambda: Generator(seed=77, clips=32, frames=FRAMES, canvases=12, canvas_px=640)
    )
    samples: int = 150


def check_destination(recipe: Path) -> None:
    """Raise ValueError, before anything is measured, if the recipe or its image would replace another file."""
    image = recipe.with_suffix(".png")
    if recipe.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--out: expected a name that ends in .yaml, got {recipe}")
    ours = recipe.is_file() and recipe.read_text(encoding="utf-8", errors="replace").startswith(HEADING)
    for path in (recipe, image):
        if path.exists() and not ours:
            raise ValueError(f"{path}: expected no file or an earlier estimate, got another file; choose another --out")


def estimate(footage: Path, *, scale: int, simulation: Simulation | None = None) -> EstimatedDegradation:
    """Measure a video file or a folder of frames; ValueError if it shows too little."""
    simulation = simulation or Simulation()
    codec, quantiser = _stream_info(footage)
    windows, combed = _windows(footage)
    if not windows:
        raise ValueError(f"{footage}: expected {FRAMES} consecutive frames with enough detail to measure, found none")
    figures = np.stack([measure(group) for group in _groups(windows)])
    known = CODECS.get(codec)
    families = (known,) if known else tuple(FAMILIES)
    quality = _quality_of_stream(known, quantiser)
    regression = _simulate(simulation, families, scale, combed=combed, quality=quality)
    family = known or regression.likeliest_family(figures)
    regression = regression.for_family(family)
    if quality is None and family != "none":
        quality = regression.estimate("quality", figures)
    return EstimatedDegradation(
        scale,
        sigma=regression.estimate("sigma", figures),
        noise=regression.estimate("noise", figures),
        family=family,
        quality=quality,
        codec=codec,
        quantiser=quantiser,
        combed=combed,
        windows=len(windows),
    )


def training_degradation(estimated: EstimatedDegradation) -> Degradation:
    """The degradation to train for: everything within the error of the estimates."""

    def interval(estimate: Estimate, minimum: float) -> tuple[float, float]:
        low, high = estimate.value - estimate.error, estimate.value + estimate.error
        return round(max(minimum, low), 2), round(max(minimum, high), 2)

    found = Degradation(
        kind="real",
        sigma=interval(estimated.sigma, 0.05),
        noise=interval(estimated.noise, 0.0) if estimated.noise.value > NOISE_FREE else (0.0, 0.0),
        encoders=FAMILIES[estimated.family],
        interlace=1.0 if estimated.combed > 0.1 else 0.0,
    )
    if estimated.quality is None:
        return found
    low, high = interval(estimated.quality, 1.0)
    if estimated.family == "x264":
        return replace(found, crf=(min(low, WORST_CRF), min(high, WORST_CRF)))
    return replace(found, quantiser=(min(low, WORST_QUANTISER), min(high, WORST_QUANTISER)))


def report_lines(estimated: EstimatedDegradation) -> list[str]:
    """The estimates as text, one per line."""
    size = estimated.sigma.value / estimated.scale
    source = f"{estimated.codec} video" if estimated.codec else "images"
    lines = [f"{estimated.windows} windows of {WINDOW_PX} px from {source}"]
    words = "sharp" if size < 0.35 else "somewhat soft" if size < 0.6 else "soft"
    lines.append(
        f"blur: {words}: sigma {_plus_minus(estimated.sigma)} px of the upscaled image, {size:.2f} px of yours; "
        "includes softness of lens and focus"
    )
    amount = estimated.noise.value
    words = "negligible" if amount < NOISE_FREE else "slight" if amount < 3.0 else "strong"
    if amount < 1.5 * estimated.noise.error and estimated.family != "none":
        words = "cannot be distinguished from none after compression"
    lines.append(f"noise: {words}: {_plus_minus(estimated.noise)} code values, before compression")
    if estimated.quality is None:
        lines.append("compression: negligible")
    else:
        codec = "x264 at CRF" if estimated.family == "x264" else "MPEG-2 or MPEG-4 at quantizer"
        lines.append(f"compression: equivalent to {codec} {_plus_minus(estimated.quality)}")
    if estimated.quantiser is not None:
        lines.append(f"quantizer recorded in the stream: {estimated.quantiser:.1f} on average")
    lines.append(
        f"combed frames: {estimated.combed:.0%}" + ("; deinterlace them first" if estimated.combed > 0.1 else "")
    )
    return lines


def recipe_text(base: str, estimated: EstimatedDegradation, footage: str) -> str:
    """The text of a recipe with its degradations replaced: in nine cases of ten by those of the footage."""
    lines = base.splitlines()
    while lines and lines[0].startswith("#"):  # its own instructions
        lines.pop(0)
    start = next((i for i, line in enumerate(lines) if line.startswith("degradations:")), len(lines))
    stop = next((i for i in range(start + 1, len(lines)) if lines[i][:1] not in ("", " ", "-", "#")), len(lines))
    degradation = training_degradation(estimated)
    pairs = {
        name: list(value) if isinstance(value, tuple) else value
        for name in ("sigma", "noise", "crf", "quantiser", "encoders", "interlace")
        if (value := getattr(degradation, name)) != getattr(Degradation(), name) or name in ("sigma", "noise")
    }
    replacement = [
        "degradations:",
        f"  # Estimated from {footage}:",
        *(f"  # {line}" for line in report_lines(estimated)),
        "  - {kind: bi, share: 0.1}",
        "  - kind: real",
        "    share: 0.9",
        *(f"    {name}: {_yaml(value)}" for name, value in pairs.items()),
    ]
    head = [f"{HEADING} {footage}:", f"#   {PROGRAM} train THIS_FILE --data DATA --out RUN"]
    return "\n".join([*head, *lines[:start], *replacement, *lines[stop:]]) + "\n"


def write_comparison_image(footage: Path, estimated: EstimatedDegradation, path: Path) -> None:
    """Write an image to compare: windows of the footage on the left, generated clips degraded alike on the right."""
    from PIL import Image

    theirs, _ = _windows(footage)
    theirs = [theirs[i] for i in np.linspace(0, len(theirs) - 1, 12).round().astype(int)]
    generator = Generator(seed=78, clips=12, frames=FRAMES, size=WINDOW_PX * estimated.scale, canvases=6, canvas_px=640)
    random = np.random.default_rng(1)
    ours = [
        degrade(_to_uint8(clip), training_degradation(estimated), estimated.scale, random=random)
        for clip, _ in clips(generator)
    ]
    gap = torch.full((3, 4 * WINDOW_PX, 8), 255, dtype=torch.uint8)
    page = torch.cat([_tile(theirs, columns=3), gap, _tile(ours, columns=3)], dim=-1)
    image = Image.fromarray(page.permute(1, 2, 0).numpy())
    image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST).save(path)


def _quality_of_stream(family: str | None, quantiser: float | None) -> Estimate | None:
    """The quality at which `encode_decode` quantizes as the stream does."""
    if family is None or quantiser is None:
        return None
    return Estimate(quantiser - TREE_CRF if family == "x264" else quantiser, STREAM_QUALITY_ERROR)


def _simulate(
    simulation: Simulation, families: Sequence[str], scale: int, *, combed: float, quality: Estimate | None
) -> StrengthRegression:
    side = WINDOW_PX * scale
    generator = replace(simulation.generator, size=side, canvas_px=max(640, math.ceil(2.5 * side)))
    gts = [_to_uint8(clip) for clip, _ in clips(generator)]
    random = np.random.default_rng(generator.seed)
    figures, chosen_families, parts = [], [], []
    strengths: dict[str, list[float]] = {"sigma": [], "noise": [], "quality": []}
    for i in range(simulation.samples * len(families)):
        family, part = families[i % len(families)], (i // len(families)) % PARTS
        drawn = _draw_strengths(random, scale, quality)
        settings = Degradation(
            kind="real",
            sigma=(drawn["sigma"],) * 2,
            noise=(drawn["noise"],) * 2,
            crf=(drawn["crf"],) * 2,
            quantiser=(drawn["quantiser"],) * 2,
            encoders=FAMILIES[family],
            interlace=1.0 if combed > 0.1 else 0.0,
        )
        chosen_clips = random.permutation(np.arange(part, len(gts), PARTS))[:GROUP]
        figures.append(measure([degrade(gts[k], settings, scale, random=random) for k in chosen_clips]))
        for name in ("sigma", "noise"):
            strengths[name].append(drawn[name])
        strengths["quality"].append(drawn["crf" if family == "x264" else "quantiser"])
        chosen_families.append(family)
        parts.append(part)
    return StrengthRegression(
        np.stack(figures),
        {name: np.array(values) for name, values in strengths.items()},
        chosen_families,
        np.array(parts),
    )


def _draw_strengths(random: Random, scale: int, quality: Estimate | None) -> dict[str, float]:
    crf, quantiser = (12.0, 38.0), (1.0, 20.0)
    if quality is not None:
        low, high = max(1.0, quality.value - quality.error), quality.value + quality.error
        crf, quantiser = ((min(low, worst), min(high, worst)) for worst in (WORST_CRF, WORST_QUANTISER))
    return {
        "sigma": random.uniform(0.05, max(float(scale), 2.5)),
        "noise": 15.0 * random.random() ** 2 if random.random() < 0.7 else 0.0,
        "crf": random.uniform(*crf),
        "quantiser": random.uniform(*quantiser),
    }


def _windows(footage: Path) -> tuple[list[Tensor], float]:
    """Windows (FRAMES, 3, WINDOW_PX, WINDOW_PX) from pieces of the footage, and the share of combed frames."""
    pieces: list[list[Tensor]] = []
    combs = []
    for piece in _pieces(footage):
        combs.append(combing(luma(piece[0])[0]) > COMBING_LIMIT)
        pieces.append(_choose_windows(piece))
        if len(pieces) > 2 * PIECES:  # a video of unknown length: keep every other piece
            pieces = pieces[::2]
    return [window for piece in pieces for window in piece], float(np.mean(combs)) if combs else 0.0


def _groups(windows: list[Tensor]) -> list[list[Tensor]]:
    """Groups of GROUP windows from places far apart; one smaller group if there are fewer windows."""
    count = max(1, len(windows) // GROUP)
    return [windows[k::count][:GROUP] for k in range(count)]


def _pieces(footage: Path) -> Iterator[Tensor]:
    """Runs of consecutive frames (FRAMES, 3, h, w), evenly spread over the footage, none with a cut in it."""
    for piece in _pieces_of_folder(footage) if footage.is_dir() else _pieces_of_video(footage):
        change = (piece[1:].float() - piece[:-1].float()).abs().mean(dim=(1, 2, 3))
        if float(change.max()) < CUT_CHANGE:
            yield piece


def _pieces_of_folder(folder: Path) -> Iterator[Tensor]:
    sequences = open_frames(folder)
    for i in range(len(sequences)):
        frames, h, w = sequences.shape(i)
        count = max(1, PIECES // len(sequences))
        starts = {round(start) for start in np.linspace(0, frames - FRAMES, count)} if frames >= FRAMES else set()
        for start in sorted(starts):
            yield sequences.read(i, range(start, start + FRAMES), slice(0, h), slice(0, w))


def _pieces_of_video(video: Path) -> Iterator[Tensor]:
    piece: list[Tensor] = []
    step = _piece_interval(video)
    for n, (picture, _) in enumerate(islice(frames_of(video), MAX_FRAMES)):
        if piece and picture.shape != piece[0].shape:
            piece = []  # a broadcast whose size changes
        if n % step < FRAMES:
            piece.append(picture)
        if len(piece) == FRAMES:
            yield torch.stack(piece)
            piece = []


def _choose_windows(piece: Tensor) -> list[Tensor]:
    """WINDOWS windows with enough detail, evenly spaced in rank from the most to the least detailed."""
    h, w = piece.shape[-2:]
    found = [
        piece[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
        for y in range(0, h - WINDOW_PX + 1, WINDOW_PX)
        for x in range(0, w - WINDOW_PX + 1, WINDOW_PX)
    ]
    found = sorted((window for window in found if detail(window) > MIN_DETAIL), key=detail)
    chosen = sorted({round(i) for i in np.linspace(0, len(found) - 1, WINDOWS)}) if found else []
    return [found[i] for i in chosen]


def _stream_info(footage: Path) -> tuple[str, float | None]:
    """Codec of a video file and the mean quantizer of its stream."""
    if footage.is_dir():
        return "", None
    try:
        with av.open(str(footage)) as container:
            if not container.streams.video:
                raise ValueError(f"{footage}: expected a video stream, found none")
            codec = container.streams.video[0].codec_context.name
    except av.FFmpegError as error:
        raise ValueError(f"{footage}: expected a video that can be decoded, got: {error}") from error
    return codec, stream_quantiser(footage)


def _piece_interval(video: Path) -> int:
    """Number of frames from the start of one piece to the start of the next."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        frames = stream.frames
        if not frames and container.duration and stream.average_rate:  # Matroska records only the duration
            frames = round(container.duration / av.time_base * stream.average_rate)
    return max(FRAMES, min(frames or MAX_FRAMES, MAX_FRAMES) // PIECES)


def _tile(windows: Sequence[Tensor], *, columns: int) -> Tensor:
    """The middle frames arranged in columns, (3, h, w)."""
    middles = [window[FRAMES // 2] for window in windows]
    rows = [torch.cat(middles[i : i + columns], dim=-1) for i in range(0, len(middles), columns)]
    return torch.cat(rows, dim=-2)


def _to_uint8(clip: Tensor) -> Tensor:
    return (clip * 255.0).round().to(torch.uint8)


def _plus_minus(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ± {estimate.error:.1f}"


def _yaml(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
