"""Your own videos into sequences to train on: split into scenes, judged, cropped to where there is something to learn.

Each video is decoded twice: once to look at it, once to take what is kept. Memory is bounded by one sequence.
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

from training.degrade.resize import imresize, to_bytes
from training.metrics import luma
from vs_iconvsr import scenes
from vs_iconvsr.colorspace import Format, usual_matrix

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m2ts", ".ts", ".mpg", ".mpeg", ".m4v", ".vob", ".wmv")
RGB24 = Format(family="RGB", sample="integer", bits=8)
SWSCALE_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # H.273 → what swscale calls it
DUPLICATE = 0.25  # mean difference in code values below which a frame is the one before over again
BLACK = 20.0  # luma (16..235) that nearly all of a black frame stays below
SOFT = 0.004  # share of the contrast that half the size loses: less is blurred, or was enlarged before
PLAIN = 0.6  # share of a page of writing that is its ground
WRITTEN = 0.6  # share of a scene's frames that are pages of writing: credits
COMBED = 1.2  # rows differ so much more from the next than from the next but one: two fields in one frame


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is taken. frames: of a sequence, scenes are cut into pieces of so many. window_px: of a sequence's frames.

    windows: per piece, the most detailed ones. downscale: makes footage that is soft at its size sharp again.
    held_out: share of scenes kept for validation. most_per_scene: pieces, evenly spread.
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
class Look:
    """One frame, looked at. difference: from the frame before, in code values; the others: see `look_at`."""

    signature: Tensor
    difference: float
    brightest: float
    detail: float
    combing: float
    written: bool
    flagged_interlaced: bool


@dataclass(frozen=True)
class Scene:
    """start, stop: frames of the video. verdict: "kept", or why not. thumbnail: JPEG of its middle frame."""

    video: str
    start: int
    stop: int
    verdict: str
    held_out: bool = False
    sequences: int = 0
    thumbnail: bytes = b""


def prepare(videos: Sequence[Path], folder: Path, preparation: Preparation) -> list[Scene]:
    """Sequences in folder/train and folder/held_out, for the layout "prepared"; a report in folder/report.html.

    Raises ValueError where nothing could be kept.
    """
    found = [scene for video in videos for scene in _examined(video, preparation)]
    kept = [scene for scene in found if scene.verdict == "kept"]
    if not kept:
        raise ValueError(f"{len(videos)} videos: expected at least one scene to keep, got {_reasons(found)}")
    held_out = _held_out(kept, preparation.held_out)
    done = []
    for scene in found:
        if scene.verdict == "kept":
            part = folder / ("held_out" if scene in held_out else "train")
            path = next(video for video in videos if video.name == scene.video)
            written = _take(path, scene, part, preparation)
            scene = replace(scene, held_out=scene in held_out, sequences=written)
        done.append(scene)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preparation.json").write_text(json.dumps(asdict(preparation), indent=2) + "\n")
    (folder / "report.html").write_text(report(done))
    return done


def find_videos(places: Sequence[Path]) -> list[Path]:
    """Video files given or anywhere below folders given, in order of their paths; names must differ."""
    files = [
        file
        for place in places
        for file in (sorted(place.rglob("*")) if place.is_dir() else [place])
        if file.suffix.lower() in VIDEO_SUFFIXES or not place.is_dir()
    ]
    if not files:
        raise ValueError(f"{', '.join(map(str, places))}: expected videos ({', '.join(VIDEO_SUFFIXES)}), found none")
    names = [file.name for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: expected names that differ, got one twice; rename one")
    return files


def frames_of(video: Path, *, downscale: int = 1) -> Iterator[tuple[Tensor, bool]]:
    """RGB (3, h, w) uint8 and whether the decoder says interlaced, one after the other."""
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise ValueError(f"{video}: expected a video stream, found none")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                matrix = SWSCALE_MATRICES.get(frame.colorspace) or SWSCALE_MATRICES[_guess(frame)]
                rgb = frame.reformat(format="rgb24", src_colorspace=matrix, interpolation="BICUBIC").to_ndarray()
                picture = torch.from_numpy(rgb).permute(2, 0, 1).contiguous()
                yield _downscaled(picture, downscale), bool(frame.interlaced_frame)
    except av.FFmpegError as error:
        raise ValueError(f"{video}: expected a video that can be decoded, got: {error}") from error


def look_at(picture: Tensor, before: Tensor | None, *, interlaced: bool = False) -> Look:
    """Figures of a frame (3, h, w) uint8.

    detail: share of the contrast lost by halving and enlarging again. combing: difference of rows next to each other
    over that of rows two apart, where it is largest among the eighths of the picture; 1 and less in whole frames.
    written: `is_page`.
    """
    y = luma(picture)[0]
    h, w = y.shape
    even = y[: h - h % 2, : w - w % 2]
    loss = (imresize(imresize(even, 0.5), 2.0) - even).square().mean()
    return Look(
        signature=scenes.signature(tuple(picture), RGB24),
        difference=float("inf") if before is None else float((picture.float() - before.float()).abs().mean()),
        brightest=float(y.float().flatten()[:: max(1, y.numel() // 100_000)].quantile(0.99)),
        detail=float(loss / (even.var() + 1e-3)),
        combing=combing(y),
        written=is_page(y),
        flagged_interlaced=interlaced,
    )


def verdict(looks: Sequence[Look], preparation: Preparation) -> str:
    """ "kept", or why a scene with these frames is not."""
    if sum(look.flagged_interlaced or look.combing > COMBED for look in looks) > 0.3 * len(looks):
        return "interlaced: deinterlace it first"
    if np.median([look.brightest for look in looks]) < BLACK:
        return "black"
    if sum(look.written for look in looks) > WRITTEN * len(looks):
        return "credits: writing on a plain ground"
    moving = [look for look in looks if look.difference > DUPLICATE]
    if len(moving) < preparation.frames:
        return f"too short: {len(moving)} frames that differ, {preparation.frames} expected"
    if np.median([look.detail for look in looks]) < SOFT:
        return f"soft: nothing finer than half its size; try --downscale {2 * preparation.downscale}"
    return "kept"


def report(found: Sequence[Scene]) -> str:
    """One HTML page with a picture of every scene and what became of it."""
    rows = []
    for scene in found:
        picture = base64.b64encode(scene.thumbnail).decode()
        where = "held out" if scene.held_out else "train"
        told = f"{where}, {scene.sequences} sequences" if scene.verdict == "kept" else scene.verdict
        rows.append(
            f'<tr class="{"kept" if scene.verdict == "kept" else "dropped"}">'
            f'<td><img src="data:image/jpeg;base64,{picture}" alt=""></td><td>{html.escape(scene.video)}</td>'
            f"<td>{scene.start} – {scene.stop - 1}</td><td>{html.escape(told)}</td></tr>"
        )
    kept = sum(scene.verdict == "kept" for scene in found)
    return (
        '<!doctype html><meta charset="utf-8"><title>Prepared</title><style>body{font:14px sans-serif;margin:2em}'
        "td{padding:.3em 1em .3em 0}.dropped{color:#a00}img{max-width:200px}</style>"
        f"<h1>{kept} of {len(found)} scenes kept</h1><table>"
        "<tr><th></th><th>video</th><th>frames</th><th></th></tr>" + "".join(rows) + "</table>\n"
    )


def _examined(video: Path, preparation: Preparation) -> list[Scene]:
    """The scenes of a video with their verdicts; a video that cannot be decoded is one scene that says so."""
    looks: list[Look] = []
    thumbnails: dict[int, bytes] = {}
    before = None
    try:
        for picture, interlaced in frames_of(video, downscale=preparation.downscale):
            if len(looks) % 8 == 0:
                thumbnails[len(looks)] = _thumbnail(picture)
            looks.append(look_at(picture, before, interlaced=interlaced))
            before = picture
    except ValueError as error:
        logger.warning("%s", error)
        return [Scene(video.name, 0, len(looks), f"not decoded: {error}")]
    if not looks:
        return [Scene(video.name, 0, 0, "no frames")]
    signatures = [look.signature for look in looks]
    starts = [0, *(n for n in range(1, len(looks)) if _starts_scene(signatures, n))]
    spans = zip(starts, [*starts[1:], len(looks)], strict=True)
    return [
        Scene(
            video.name,
            start,
            stop,
            verdict(looks[start:stop], preparation),
            thumbnail=thumbnails[min(thumbnails, key=lambda n, middle=(start + stop) // 2: abs(n - middle))],  # type: ignore[misc]
        )
        for start, stop in spans
    ]


def _starts_scene(signatures: list[Tensor], n: int) -> bool:
    first = max(0, n - scenes.BEFORE)
    return scenes.is_cut(signatures[first : n + scenes.AFTER + 1], n - first)


def _held_out(kept: list[Scene], share: float) -> list[Scene]:
    """Chosen by a hash of video and frame: the same whatever else is prepared with it. At least one of two scenes."""

    def order(scene: Scene) -> str:
        return hashlib.sha256(f"{scene.video}:{scene.start}".encode()).hexdigest()

    count = round(share * len(kept)) if len(kept) > 1 else 0
    return sorted(kept, key=order)[: max(count, 1 if share > 0.0 and len(kept) > 1 else 0)]


def _take(video: Path, scene: Scene, folder: Path, preparation: Preparation) -> int:
    """Write a scene's sequences; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _pieces(scene, preparation)
    written = 0
    piece: list[Tensor] = []
    for n, (picture, _) in enumerate(frames_of(video, downscale=preparation.downscale)):
        if n >= scene.stop or not wanted:
            break
        if n < wanted[0]:
            continue
        if not piece or float((picture.float() - piece[-1].float()).abs().mean()) > DUPLICATE:
            piece.append(picture)
        if len(piece) == preparation.frames:
            written += _write(torch.stack(piece), f"{video.stem}_{wanted[0]:06d}", folder, preparation)
            piece = []
            wanted = [start for start in wanted if start > n]
    return written


def _pieces(scene: Scene, preparation: Preparation) -> list[int]:
    """First frames of the pieces, spread over the scene."""
    possible = max(1, (scene.stop - scene.start) // preparation.frames)
    count = min(possible, preparation.most_per_scene)
    return [scene.start + (k * possible // count) * preparation.frames for k in range(count)]


def _write(piece: Tensor, name: str, folder: Path, preparation: Preparation) -> int:
    """The most detailed windows of a piece (t, 3, h, w), each as one file."""
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
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.save(file, piece[:, :, y : y + side_y, x : x + side_x].numpy())
        part.replace(path)
    return len(chosen)


def is_page(y: Tensor) -> bool:
    """Whether a frame's luma (h, w) is a page of writing: thin strokes, many in a row, in lines, on a plain ground.

    Writing over a moving picture is not taken for one: there is something to learn around it.
    """
    h = len(y)
    ground = 4.0 * float(torch.histc(y.float(), bins=64, min=0.0, max=256.0).argmax()) + 2.0
    far = (y - ground).abs()
    ink = far > 40.0
    plain, share = float((far < 10.0).double().mean()), float(ink.double().mean())
    between = 1.0 - plain - share  # soft edges of letters; a picture has more of it
    if plain < PLAIN or not 0.004 < share < 1.0 - PLAIN or between > max(0.02, share):
        return False
    thickest = 2 * max(2, h // 50) + 1
    inside = -F.max_pool2d(-ink.float()[None, None], thickest, stride=1)
    rows = ink.any(dim=1).nonzero().flatten()
    strokes = float((ink[:, 1:] & ~ink[:, :-1]).sum()) / len(rows)  # in a row of a line of writing
    empty = 1.0 - len(rows) / float(rows[-1] - rows[0] + 1)  # between lines
    one_line = len(rows) < 0.2 * h
    return float(inside.sum()) < 0.05 * float(ink.sum()) and strokes > 4.0 and (one_line or empty > 0.1)


def combing(y: Tensor) -> float:
    h = y.shape[0] - y.shape[0] % 8
    if h < 16:
        return 0.0
    bands = y[:h].reshape(8, h // 8, -1)
    next_row = (bands[:, 1:-1] - bands[:, 2:]).abs().mean(dim=(1, 2))
    next_but_one = (bands[:, :-2] - bands[:, 2:]).abs().mean(dim=(1, 2))
    return float((next_row / (next_but_one + 0.5)).max())


def _downscaled(picture: Tensor, by: int) -> Tensor:
    if by == 1:
        return picture
    h, w = picture.shape[-2:]
    return to_bytes(imresize(picture[:, : h - h % by, : w - w % by], 1.0 / by))


def _guess(frame: av.VideoFrame) -> int:
    """The matrix (H.273) that a frame without a tag of it usually has."""
    return usual_matrix(frame.width, frame.height)


def _thumbnail(picture: Tensor) -> bytes:
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    image.thumbnail((200, 200))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def _reasons(found: Sequence[Scene]) -> str:
    return "; ".join(sorted({scene.verdict for scene in found})) or "no scenes"
