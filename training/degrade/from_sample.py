"""What your own bad footage has suffered, estimated, and a recipe that learns to undo it.

Clips drawn by us are degraded with known strengths and measured as the footage is; what the footage has is read off by
regression from figures to strengths. How far that is wrong on clips that it has not seen is reported with it.
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

from training.data.frames import open_frames
from training.data.prepare import COMBED, combing, frames_of
from training.data.synthesise import Generator, clips
from training.degrade.codecs import TREE_CRF, stream_quantiser
from training.degrade.degradation import Degradation, degrade
from training.degrade.measures import WINDOW_PX, detail, measure
from training.degrade.regression import PARTS, Estimate, Learned
from training.metrics import luma

logger = logging.getLogger(__name__)

FRAMES = 4  # looked at together
PIECES = 12  # of the footage, evenly spread
WINDOWS = 6  # of a piece
GROUP = 6  # windows measured together, from different places
LONGEST = 3000  # frames of a video that are decoded
LEAST_DETAIL = 3.0  # code values; a window with less says nothing
CUT = 30.0  # mean change of a frame, in code values, that is no motion
NOISE_FREE = 0.5  # code values
TOLD_WITHIN = 2.0  # of a quantiser from the stream: it varies from frame to frame
FAMILIES: dict[str, tuple[str, ...]] = {"none": (), "x264": ("libx264",), "mpeg": ("mpeg2video", "mpeg4")}
CODECS = {
    **dict.fromkeys(("h264", "hevc", "vp8", "vp9", "av1"), "x264"),
    **dict.fromkeys(("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "h263", "mjpeg", "dvvideo", "wmv2"), "mpeg"),
    **dict.fromkeys(("ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png"), "none"),
}

Random = np.random.Generator


@dataclass(frozen=True)
class Suffered:
    """sigma: px of the ground truth. noise: code values, before compression. family: of FAMILIES.

    quality: CRF of x264 or quantiser of the MPEG family, None without compression. codec: of a video file, "" for
    pictures. quantiser: mean, as the stream itself says, None where it does not. combed: share of combed frames.
    windows: looked at.
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
    """How much is simulated to learn from. samples: for each family that comes into question."""

    generator: Generator = field(
        default_factory=lambda: Generator(seed=77, clips=32, frames=FRAMES, canvases=12, canvas_px=640)
    )
    samples: int = 150


def estimate(footage: Path, *, scale: int, simulation: Simulation | None = None) -> Suffered:
    """Look at a video file or a folder of frames; ValueError where there is too little to see."""
    simulation = simulation or Simulation()
    codec, quantiser = _stream(footage)
    windows, combed = _windows(footage)
    if not windows:
        raise ValueError(f"{footage}: expected {FRAMES} frames in a row with something to see in them, found none")
    figures = np.stack([measure(group) for group in _groups(windows)])
    known = CODECS.get(codec)
    families = (known,) if known else tuple(FAMILIES)
    quality = _told_quality(known, quantiser)
    learned = _simulate(simulation, families, scale, combed=combed, quality=quality)
    family = known or learned.likeliest_family(figures)
    learned = learned.of(family)
    if quality is None and family != "none":
        quality = learned.estimate("quality", figures)
    return Suffered(
        scale,
        sigma=learned.estimate("sigma", figures),
        noise=learned.estimate("noise", figures),
        family=family,
        quality=quality,
        codec=codec,
        quantiser=quantiser,
        combed=combed,
        windows=len(windows),
    )


def degradation_of(suffered: Suffered) -> Degradation:
    """What to train for: everything within the error of the estimates."""

    def around(estimate: Estimate, least: float) -> tuple[float, float]:
        low, high = estimate.value - estimate.error, estimate.value + estimate.error
        return round(max(least, low), 2), round(max(least, high), 2)

    found = Degradation(
        kind="real",
        sigma=around(suffered.sigma, 0.05),
        noise=around(suffered.noise, 0.0) if suffered.noise.value > NOISE_FREE else (0.0, 0.0),
        encoders=FAMILIES[suffered.family],
        interlace=1.0 if suffered.combed > 0.1 else 0.0,
    )
    if suffered.quality is None:
        return found
    quality = around(suffered.quality, 1.0)
    return replace(found, crf=quality) if suffered.family == "x264" else replace(found, quantiser=quality)


def told(suffered: Suffered) -> list[str]:
    """The estimates in words, one line each."""
    size = suffered.sigma.value / suffered.scale
    source = f"{suffered.codec} video" if suffered.codec else "pictures"
    lines = [f"{suffered.windows} windows of {WINDOW_PX} px from {source}"]
    words = "sharp" if size < 0.35 else "somewhat soft" if size < 0.6 else "soft"
    lines.append(
        f"blur: {words}: sigma {_plus_minus(suffered.sigma)} px of the enlarged picture, {size:.2f} px of yours; "
        "softness of lens and focus is in it"
    )
    amount = suffered.noise.value
    words = "none to speak of" if amount < NOISE_FREE else "a little" if amount < 3.0 else "much"
    if amount < 1.5 * suffered.noise.error and suffered.family != "none":
        words = "what compression leaves of it cannot be told from none"
    lines.append(f"noise: {words}: {_plus_minus(suffered.noise)} code values, before compression")
    if suffered.quality is None:
        lines.append("compression: none to speak of")
    else:
        like = "x264 at crf" if suffered.family == "x264" else "MPEG-2 or MPEG-4 at quantiser"
        lines.append(f"compression: as of {like} {_plus_minus(suffered.quality)}")
    if suffered.quantiser is not None:
        lines.append(f"the stream's own quantiser is {suffered.quantiser:.1f} in the mean")
    lines.append(
        f"combed frames: {suffered.combed:.0%}" + ("; deinterlace them first" if suffered.combed > 0.1 else "")
    )
    return lines


def recipe_text(base: str, suffered: Suffered, footage: str) -> str:
    """The text of a recipe with its degradations replaced by what the footage suffered, nine times in ten."""
    lines = base.splitlines()
    while lines and lines[0].startswith("#"):  # how to use the base
        lines.pop(0)
    start = next((i for i, line in enumerate(lines) if line.startswith("degradations:")), len(lines))
    stop = next((i for i in range(start + 1, len(lines)) if lines[i][:1] not in ("", " ", "-", "#")), len(lines))
    degradation = degradation_of(suffered)
    pairs = {
        name: list(value) if isinstance(value, tuple) else value
        for name in ("sigma", "noise", "crf", "quantiser", "encoders", "interlace")
        if (value := getattr(degradation, name)) != getattr(Degradation(), name) or name in ("sigma", "noise")
    }
    told_here = [f"  # {line}" for line in told(suffered)]
    made = [
        "degradations:",
        f"  # Estimated from {footage}:",
        *told_here,
        "  - {kind: bi, share: 0.1}",
        "  - kind: real",
        "    share: 0.9",
        *(f"    {name}: {_yaml(value)}" for name, value in pairs.items()),
    ]
    head = [f"# To undo what {footage} suffered:", "#   python -m training train THIS_FILE --data DATA --out RUN"]
    return "\n".join([*head, *lines[:start], *made, *lines[stop:]]) + "\n"


def sheet(footage: Path, suffered: Suffered, path: Path) -> None:
    """A picture to look at: windows of the footage on the left, generated clips that suffered as estimated beside."""
    from PIL import Image

    theirs, _ = _windows(footage)
    theirs = [theirs[i] for i in np.linspace(0, len(theirs) - 1, 12).round().astype(int)]
    generator = Generator(seed=78, clips=12, frames=FRAMES, size=WINDOW_PX * suffered.scale, canvases=6, canvas_px=640)
    random = np.random.default_rng(1)
    ours = [
        degrade(_bytes(clip), degradation_of(suffered), suffered.scale, random=random) for clip, _ in clips(generator)
    ]
    gap = torch.full((3, 4 * WINDOW_PX, 8), 255, dtype=torch.uint8)
    page = torch.cat([_tiled(theirs, columns=3), gap, _tiled(ours, columns=3)], dim=-1)
    picture = Image.fromarray(page.permute(1, 2, 0).numpy())
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(path)


def _told_quality(family: str | None, quantiser: float | None) -> Estimate | None:
    """What `encode_decode` must be asked for to quantise as the stream does."""
    if family is None or quantiser is None:
        return None
    return Estimate(quantiser - TREE_CRF if family == "x264" else quantiser, TOLD_WITHIN)


def _simulate(
    simulation: Simulation, families: Sequence[str], scale: int, *, combed: float, quality: Estimate | None
) -> Learned:
    side = WINDOW_PX * scale
    generator = replace(simulation.generator, size=side, canvas_px=max(640, math.ceil(2.5 * side)))
    gts = [_bytes(clip) for clip, _ in clips(generator)]
    random = np.random.default_rng(generator.seed)
    figures, chosen, parts = [], [], []
    strengths: dict[str, list[float]] = {"sigma": [], "noise": [], "quality": []}
    for i in range(simulation.samples * len(families)):
        family, part = families[i % len(families)], (i // len(families)) % PARTS
        drawn = _drawn(random, scale, quality)
        settings = Degradation(
            kind="real",
            sigma=(drawn["sigma"],) * 2,
            noise=(drawn["noise"],) * 2,
            crf=(drawn["crf"],) * 2,
            quantiser=(drawn["quantiser"],) * 2,
            encoders=FAMILIES[family],
            interlace=1.0 if combed > 0.1 else 0.0,
        )
        shown = random.permutation(np.arange(part, len(gts), PARTS))[:GROUP]
        figures.append(measure([degrade(gts[k], settings, scale, random=random) for k in shown]))
        for name in ("sigma", "noise"):
            strengths[name].append(drawn[name])
        strengths["quality"].append(drawn["crf" if family == "x264" else "quantiser"])
        chosen.append(family)
        parts.append(part)
    return Learned(
        np.stack(figures), {name: np.array(values) for name, values in strengths.items()}, chosen, np.array(parts)
    )


def _drawn(random: Random, scale: int, quality: Estimate | None) -> dict[str, float]:
    crf, quantiser = (12.0, 38.0), (1.0, 20.0)
    if quality is not None:
        crf = quantiser = (max(1.0, quality.value - quality.error), quality.value + quality.error)
    return {
        "sigma": random.uniform(0.05, max(float(scale), 2.5)),
        "noise": 15.0 * random.random() ** 2 if random.random() < 0.7 else 0.0,
        "crf": random.uniform(*crf),
        "quantiser": random.uniform(*quantiser),
    }


def _windows(footage: Path) -> tuple[list[Tensor], float]:
    """Windows (FRAMES, 3, WINDOW_PX, WINDOW_PX) of pieces of the footage, and the share of combed frames."""
    pieces: list[list[Tensor]] = []
    combs = []
    for piece in _pieces(footage):
        combs.append(combing(luma(piece[0])[0]) > COMBED)
        pieces.append(_cut(piece))
        if len(pieces) > 2 * PIECES:  # of a video whose length is not known: keep every other one
            pieces = pieces[::2]
    return [window for piece in pieces for window in piece], float(np.mean(combs)) if combs else 0.0


def _groups(windows: list[Tensor]) -> list[list[Tensor]]:
    """GROUP windows each, from places far apart; all there are where they are fewer."""
    count = max(1, len(windows) // GROUP)
    return [windows[k::count][:GROUP] for k in range(count)]


def _pieces(footage: Path) -> Iterator[Tensor]:
    """FRAMES frames in a row (FRAMES, 3, h, w), again and again, evenly spread, none with a cut in it."""
    for piece in _pieces_of_folder(footage) if footage.is_dir() else _pieces_of_video(footage):
        change = (piece[1:].float() - piece[:-1].float()).abs().mean(dim=(1, 2, 3))
        if float(change.max()) < CUT:
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
    step = _step(video)
    for n, (picture, _) in enumerate(islice(frames_of(video), LONGEST)):
        if n % step < FRAMES:
            piece.append(picture)
        if len(piece) == FRAMES:
            yield torch.stack(piece)
            piece = []


def _cut(piece: Tensor) -> list[Tensor]:
    """Windows with something to see, evenly from those with the most to those with the least."""
    h, w = piece.shape[-2:]
    found = [
        piece[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
        for y in range(0, h - WINDOW_PX + 1, WINDOW_PX)
        for x in range(0, w - WINDOW_PX + 1, WINDOW_PX)
    ]
    found = sorted((window for window in found if detail(window) > LEAST_DETAIL), key=detail)
    chosen = sorted({round(i) for i in np.linspace(0, len(found) - 1, WINDOWS)}) if found else []
    return [found[i] for i in chosen]


def _stream(footage: Path) -> tuple[str, float | None]:
    """Codec of a video file and the quantiser that its stream tells."""
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


def _step(video: Path) -> int:
    """Frames from the start of a piece to that of the next one."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        frames = stream.frames
        if not frames and container.duration and stream.average_rate:  # Matroska tells how long it lasts, not how many
            frames = round(container.duration / av.time_base * stream.average_rate)
    return max(FRAMES, min(frames or LONGEST, LONGEST) // PIECES)


def _tiled(windows: Sequence[Tensor], *, columns: int) -> Tensor:
    """Middle frames side by side, (3, h, w)."""
    middles = [window[FRAMES // 2] for window in windows]
    rows = [torch.cat(middles[i : i + columns], dim=-1) for i in range(0, len(middles), columns)]
    return torch.cat(rows, dim=-2)


def _bytes(clip: Tensor) -> Tensor:
    return (clip * 255.0).round().to(torch.uint8)


def _plus_minus(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ± {estimate.error:.1f}"


def _yaml(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
