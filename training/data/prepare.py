"""Turn your own videos into training sequences: split into scenes, filter them, crop to the most detailed windows.

Each video is decoded twice: once to examine it, once to write what is kept. Memory is bounded by one sequence.
"""

import base64
import hashlib
import html
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vs_iconvsr import scenes
from vs_iconvsr.atomic import open_atomically
from vs_iconvsr.colorspace import Format, usual_matrix

from ..degrade.resize import imresize, to_bytes
from ..metrics import luma

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m2ts", ".ts", ".mpg", ".mpeg", ".m4v", ".vob", ".wmv")
RGB24 = Format(family="RGB", sample="integer", bits=8)
SWSCALE_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # H.273 code → swscale's
DUPLICATE_DIFFERENCE = 0.25  # mean difference in code values below which a frame repeats the one before
BLACK_LUMA = 20.0  # luma (16..235) that nearly all pixels of a black frame stay below
SOFT_DETAIL = 0.004  # share of the contrast lost at half the size; anything less is blurred or was upscaled
PLAIN_SHARE = 0.6  # share of the background in a page of text
CREDITS_SHARE = 0.6  # share of frames that are pages of text: credits
COMBING_LIMIT = 1.2  # ratio of row differences at distance one and two, above which a frame holds two fields


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What to extract. frames: length of a sequence. window_px: size of its frames.

    windows: number taken from each piece of a scene, the most detailed ones. downscale: shrinks soft footage until it
    is sharp. held_out: share of scenes reserved for validation. most_per_scene: pieces per scene, evenly
    spread.
    """

    frames: int = 15
    window_px: int = 256
    windows: int = 2
    downscale: int = 1
    held_out: float = 0.1
    most_per_scene: int = 4

    def __post_init__(self) -> None:
        for name in ("frames", "window_px", "windows", "downscale", "most_per_scene"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(f"held_out: expected a share from 0 to below 1, got {self.held_out}")


@dataclass(frozen=True)
class FrameStatistics:
    """Figures of one frame. difference: to the previous frame, in code values; the others: see `frame_statistics`."""

    signature: Tensor
    difference: float
    brightest: float
    detail: float
    combing: float
    is_page: bool
    flagged_interlaced: bool


@dataclass(frozen=True)
class Scene:
    """start, stop: range of frames. verdict: "kept", or the reason why not. thumbnail: JPEG near the middle."""

    video: str
    start: int
    stop: int
    verdict: str
    held_out: bool = False
    sequences: int = 0
    thumbnail: bytes = b""


def prepare(videos: Sequence[Path], folder: Path, preparation: Preparation) -> list[Scene]:
    """Write sequences to folder/train and folder/held_out (layout "prepared") and a report to folder/report.html.

    Raises ValueError if no scene could be kept.
    """
    found = [scene for video in videos for scene in _examine_video(video, preparation)]
    kept = [scene for scene in found if scene.verdict == "kept"]
    if not kept:
        raise ValueError(f"{len(videos)} videos: expected at least one usable scene, got {_reasons(found)}")
    held_out = _choose_held_out(kept, preparation.held_out)
    done = []
    for scene in found:
        if scene.verdict == "kept":
            part = folder / ("held_out" if scene in held_out else "train")
            path = next(video for video in videos if video.name == scene.video)
            written = _write_scene(path, scene, part, preparation)
            scene = replace(scene, held_out=scene in held_out, sequences=written)
        done.append(scene)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preparation.json").write_text(json.dumps(asdict(preparation), indent=2) + "\n")
    (folder / "report.html").write_text(report(done))
    return done


def find_videos(places: Sequence[Path]) -> list[Path]:
    """The given video files and those anywhere below the given folders, sorted by path; names must be unique."""
    files = [
        file
        for place in places
        for file in (sorted(place.rglob("*")) if place.is_dir() else [place])
        if file.suffix.lower() in VIDEO_SUFFIXES or not place.is_dir()
    ]
    if not files:
        raise ValueError(f"{', '.join(map(str, places))}: expected videos ({', '.join(VIDEO_SUFFIXES)}), found none")
    names = [file.name for file in files]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"{', '.join(sorted(duplicates))}: expected unique file names, got the same one twice; rename one"
        )
    return files


def frames_of(video: Path, *, downscale: int = 1) -> Iterator[tuple[Tensor, bool]]:
    """The decoded frames in order: RGB (3, h, w) uint8, and whether the decoder flags it as interlaced."""
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise ValueError(f"{video}: expected a video stream, found none")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                matrix = SWSCALE_MATRICES.get(frame.colorspace) or SWSCALE_MATRICES[_guess_matrix(frame)]
                rgb = frame.reformat(format="rgb24", src_colorspace=matrix, interpolation="BICUBIC").to_ndarray()
                pixels = torch.from_numpy(rgb).permute(2, 0, 1).contiguous()
                yield _downscale(pixels, downscale), bool(frame.interlaced_frame)
    except av.FFmpegError as error:
        raise ValueError(f"{video}: expected a video that can be decoded, got: {error}") from error


def frame_statistics(frame: Tensor, previous: Tensor | None, *, interlaced: bool = False) -> FrameStatistics:
    """Figures of a frame (3, h, w) uint8.

    detail: share of the contrast lost by halving the size and enlarging again. combing: see `combing`.
    is_page: see `is_page`.
    """
    y = luma(frame)[0]
    h, w = y.shape
    even = y[: h - h % 2, : w - w % 2]
    loss = (imresize(imresize(even, 0.5), 2.0) - even).square().mean()
    return FrameStatistics(
        signature=scenes.signature(tuple(frame), RGB24),
        difference=float("inf") if previous is None else float((frame.float() - previous.float()).abs().mean()),
        brightest=float(y.float().flatten()[:: max(1, y.numel() // 100_000)].quantile(0.99)),
        detail=float(loss / (even.var() + 1e-3)),
        combing=combing(y),
        is_page=is_page(y),
        flagged_interlaced=interlaced,
    )


def verdict(statistics: Sequence[FrameStatistics], preparation: Preparation) -> str:
    """ "kept", or the reason for rejecting a scene with these frames."""
    if sum(frame.flagged_interlaced or frame.combing > COMBING_LIMIT for frame in statistics) > 0.3 * len(statistics):
        return "interlaced: deinterlace it first"
    if np.median([frame.brightest for frame in statistics]) < BLACK_LUMA:
        return "black"
    if sum(frame.is_page for frame in statistics) > CREDITS_SHARE * len(statistics):
        return "credits: text on a plain background"
    moving = [frame for frame in statistics if frame.difference > DUPLICATE_DIFFERENCE]
    if len(moving) < preparation.frames:
        return f"too short: expected at least {preparation.frames} distinct frames, got {len(moving)}"
    if np.median([frame.detail for frame in statistics]) < SOFT_DETAIL:
        return f"soft: no detail finer than half its size; try --downscale {2 * preparation.downscale}"
    return "kept"


def report(found: Sequence[Scene]) -> str:
    """One HTML page with a thumbnail and the verdict of every scene."""
    rows = []
    for scene in found:
        image = base64.b64encode(scene.thumbnail).decode()
        part = "held out" if scene.held_out else "train"
        outcome = f"{part}, {scene.sequences} sequences" if scene.verdict == "kept" else scene.verdict
        rows.append(
            f'<tr class="{"kept" if scene.verdict == "kept" else "dropped"}">'
            f'<td><img src="data:image/jpeg;base64,{image}" alt=""></td><td>{html.escape(scene.video)}</td>'
            f"<td>{scene.start} – {scene.stop - 1}</td><td>{html.escape(outcome)}</td></tr>"
        )
    kept = sum(scene.verdict == "kept" for scene in found)
    return (
        '<!doctype html><meta charset="utf-8"><title>Prepared</title><style>body{font:14px sans-serif;margin:2em}'
        "td{padding:.3em 1em .3em 0}.dropped{color:#a00}img{max-width:200px}</style>"
        f"<h1>{kept} of {len(found)} scenes kept</h1><table>"
        "<tr><th></th><th>video</th><th>frames</th><th></th></tr>" + "".join(rows) + "</table>\n"
    )


def _examine_video(video: Path, preparation: Preparation) -> list[Scene]:
    """The scenes of a video with their verdicts; for a video that cannot be decoded, one scene with the error."""
    statistics: list[FrameStatistics] = []
    thumbnails: dict[int, bytes] = {}
    previous = None
    try:
        for frame, interlaced in frames_of(video, downscale=preparation.downscale):
            if len(statistics) % 8 == 0:
                thumbnails[len(statistics)] = _thumbnail(frame)
            statistics.append(frame_statistics(frame, previous, interlaced=interlaced))
            previous = frame
    except ValueError as error:
        logger.warning("%s", error)
        return [Scene(video.name, 0, len(statistics), f"not decoded: {error}")]
    if not statistics:
        return [Scene(video.name, 0, 0, "no frames")]
    signatures = [frame.signature for frame in statistics]
    starts = [0, *(n for n in range(1, len(statistics)) if _is_scene_start(signatures, n))]
    spans = zip(starts, [*starts[1:], len(statistics)], strict=True)
    return [
        Scene(
            video.name,
            start,
            stop,
            verdict(statistics[start:stop], preparation),
            thumbnail=thumbnails[min(thumbnails, key=lambda n, middle=(start + stop) // 2: abs(n - middle))],  # type: ignore[misc]
        )
        for start, stop in spans
    ]


def _is_scene_start(signatures: list[Tensor], n: int) -> bool:
    first = max(0, n - scenes.BEFORE)
    return scenes.is_cut(signatures[first : n + scenes.AFTER + 1], n - first)


def _choose_held_out(kept: list[Scene], share: float) -> list[Scene]:
    """The scenes to hold out, at least one of two. Chosen by a hash, hence independent of what else is prepared."""

    def order(scene: Scene) -> str:
        return hashlib.sha256(f"{scene.video}:{scene.start}".encode()).hexdigest()

    count = round(share * len(kept)) if len(kept) > 1 else 0
    return sorted(kept, key=order)[: max(count, 1 if share > 0.0 and len(kept) > 1 else 0)]


def _write_scene(video: Path, scene: Scene, folder: Path, preparation: Preparation) -> int:
    """Write a scene's sequences and return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = _piece_starts(scene, preparation)
    written = 0
    piece: list[Tensor] = []
    for n, (frame, _) in enumerate(frames_of(video, downscale=preparation.downscale)):
        if n >= scene.stop or not starts:
            break
        if n < starts[0]:
            continue
        if not piece or float((frame.float() - piece[-1].float()).abs().mean()) > DUPLICATE_DIFFERENCE:
            piece.append(frame)
        if len(piece) == preparation.frames:
            written += _write_windows(torch.stack(piece), f"{video.stem}_{starts[0]:06d}", folder, preparation)
            piece = []
            starts = [start for start in starts if start > n]
    return written


def _piece_starts(scene: Scene, preparation: Preparation) -> list[int]:
    """First frames of the pieces, spread evenly over the scene."""
    possible = max(1, (scene.stop - scene.start) // preparation.frames)
    count = min(possible, preparation.most_per_scene)
    return [scene.start + (k * possible // count) * preparation.frames for k in range(count)]


def _write_windows(piece: Tensor, name: str, folder: Path, preparation: Preparation) -> int:
    """Write the most detailed windows of a piece (t, 3, h, w), one file each, and return their number."""
    h, w = piece.shape[-2:]
    side_y, side_x = (min(preparation.window_px, side) // 8 * 8 for side in (h, w))
    if side_y == 0 or side_x == 0:
        return 0
    corners = [(y, x) for y in range(0, h - side_y + 1, side_y) for x in range(0, w - side_x + 1, side_x)]
    middle = luma(piece[len(piece) // 2]).float()
    busy = F.avg_pool2d((middle[:, 1:, 1:] - middle[:, :-1, :-1]).abs().unsqueeze(0), 8)[0, 0]

    def detail(corner: tuple[int, int]) -> float:
        y, x = (side // 8 for side in corner)
        return float(busy[y : y + side_y // 8, x : x + side_x // 8].sum())

    chosen = sorted(corners, key=detail, reverse=True)[: preparation.windows]
    for y, x in chosen:
        path = folder / f"{name}_{y}_{x}.npy"
        with open_atomically(path) as file:
            np.save(file, piece[:, :, y : y + side_y, x : x + side_x].numpy())
    return len(chosen)


def is_page(y: Tensor) -> bool:
    """Whether a frame's luma (h, w) is a page of text: lines of many thin strokes on a plain background.

    Text over moving footage does not count: there is something to learn around it.
    """
    h = len(y)
    background = 4.0 * float(torch.histc(y.float(), bins=64, min=0.0, max=256.0).argmax()) + 2.0
    far = (y - background).abs()
    ink = far > 40.0
    plain, share = float((far < 10.0).double().mean()), float(ink.double().mean())
    between = 1.0 - plain - share  # soft edges of letters; other images have more of it
    if plain < PLAIN_SHARE or not 0.004 < share < 1.0 - PLAIN_SHARE or between > max(0.02, share):
        return False
    thickest = 2 * max(2, h // 50) + 1
    inside = -F.max_pool2d(-ink.float()[None, None], thickest, stride=1)
    rows = ink.any(dim=1).nonzero().flatten()
    strokes = float((ink[:, 1:] & ~ink[:, :-1]).sum()) / len(rows)  # per row within a line of text
    empty = 1.0 - len(rows) / float(rows[-1] - rows[0] + 1)  # the gaps between lines
    one_line = len(rows) < 0.2 * h
    return float(inside.sum()) < 0.05 * float(ink.sum()) and strokes > 4.0 and (one_line or empty > 0.1)


def combing(y: Tensor) -> float:
    """Difference of adjacent rows relative to rows two apart, the largest among eight bands; at most 1 if progressive.

    y: luma (h, w).
    """
    h = y.shape[0] - y.shape[0] % 8
    if h < 16:
        return 0.0
    bands = y[:h].reshape(8, h // 8, -1)
    next_row = (bands[:, 1:-1] - bands[:, 2:]).abs().mean(dim=(1, 2))
    next_but_one = (bands[:, :-2] - bands[:, 2:]).abs().mean(dim=(1, 2))
    return float((next_row / (next_but_one + 0.5)).max())


def _downscale(frame: Tensor, by: int) -> Tensor:
    if by == 1:
        return frame
    h, w = frame.shape[-2:]
    return to_bytes(imresize(frame[:, : h - h % by, : w - w % by], 1.0 / by))


def _guess_matrix(frame: av.VideoFrame) -> int:
    """The usual matrix (H.273) for a frame of this size that is not tagged with one."""
    return usual_matrix(frame.width, frame.height)


def _thumbnail(frame: Tensor) -> bytes:
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    image.thumbnail((200, 200))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def _reasons(found: Sequence[Scene]) -> str:
    return "; ".join(sorted({scene.verdict for scene in found})) or "no scenes"
