"""What is in a video: its scenes, each with a verdict on whether there is something to learn from it."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vs_iconvsr import scenes
from vs_iconvsr.colorspace import Format

from ..degrade.resize import imresize
from ..metrics import luma

RGB24 = Format(family="RGB", sample="integer", bits=8)
DUPLICATE_DIFFERENCE = 0.25  # mean difference in code values below which a frame repeats the one before
BLACK_LUMA = 20.0  # luma (16..235) that nearly all pixels of a black frame stay below
SOFT_DETAIL = 0.004  # share of the contrast lost at half the size; anything less is blurred or was upscaled
PLAIN_SHARE = 0.6  # share of the background in a page of text
CREDITS_SHARE = 0.6  # share of frames that are pages of text: credits
COMBING_LIMIT = 1.2  # ratio of row differences at distance one and two, above which a frame holds two fields
FLAGGED_COMBING_LIMIT = 1.0  # the same for frames that are flagged as interlaced; progressive ones stay below
KEPT = "kept"
_THUMBNAILS = 64  # candidates kept for a scene, whatever its length


@dataclass(frozen=True)
class FrameStatistics:
    """Figures of one frame. difference: to the previous frame, in code values; the others: see `frame_statistics`."""

    difference: float
    brightest: float
    detail: float
    combing: float
    is_page: bool
    flagged_interlaced: bool


@dataclass(frozen=True)
class Scene:
    """start, stop: range of frames. verdict: KEPT, or the reason why not. thumbnail: JPEG near the middle."""

    video: str
    start: int
    stop: int
    verdict: str
    held_out: bool = False
    sequences: int = 0
    thumbnail: bytes = b""


def examine(video: str, frames: Iterable[tuple[Tensor, bool]], *, length: int, downscale: int = 1) -> list[Scene]:
    """The scenes of a video with their verdicts, for sequences of `length` frames.

    frames: as `videos.frames_of` gives them, already shrunk `downscale` times. A change of size starts a scene. Memory
    is bounded by the figures of one scene and its thumbnails.
    """
    found: list[Scene] = []
    run = _Run(video, 0, length, downscale)
    for frame, flagged in frames:
        if run.size not in (None, frame.shape):
            found += run.finish()
            run = _Run(video, run.stop, length, downscale)
        found += run.add(frame, flagged)
    return found + run.finish() or [Scene(video, 0, 0, "no frames")]


class _Run:
    """Frames of one size from `start` on: finds the scenes among them while they pass."""

    def __init__(self, video: str, start: int, length: int, downscale: int) -> None:
        self.video, self.length, self.downscale = video, length, downscale
        self.start = self.undecided = self.stop = start  # of the scene; whether it starts one is open; of the run
        self.previous: Tensor | None = None
        self.signatures: dict[int, Tensor] = {}
        self.statistics: list[FrameStatistics] = []  # from the start of the scene on
        self.thumbnails: dict[int, bytes] = {}
        self.interval = 8

    @property
    def size(self) -> torch.Size | None:
        return None if self.previous is None else self.previous.shape

    def add(self, frame: Tensor, flagged: bool) -> list[Scene]:
        """Take the next frame; returns the scenes that are known to have ended."""
        if self.stop % self.interval == 0:
            self._keep_thumbnail(frame)
        self.signatures[self.stop] = scenes.signature(tuple(frame), RGB24)
        self.statistics.append(frame_statistics(frame, self.previous, interlaced=flagged))
        self.previous = frame
        self.stop += 1
        return self._decide(self.stop - scenes.AFTER)

    def finish(self) -> list[Scene]:
        """The scenes that remain when nothing follows."""
        found = self._decide(self.stop)
        return [*found, self._end_scene(self.stop)] if self.stop > self.start else found

    def _decide(self, until: int) -> list[Scene]:
        ended = []
        while self.undecided < until:
            n = self.undecided
            around = [k for k in range(n - scenes.BEFORE, n + scenes.AFTER + 1) if k in self.signatures]
            if n > self.start and scenes.is_cut([self.signatures[k] for k in around], around.index(n)):
                ended.append(self._end_scene(n))
            self.signatures.pop(n - scenes.BEFORE, None)
            self.undecided += 1
        return ended

    def _end_scene(self, stop: int) -> Scene:
        count = stop - self.start
        middle = self.start + count // 2
        nearest = min(self.thumbnails, key=lambda n: abs(n - middle))
        reason = verdict(self.statistics[:count], length=self.length, downscale=self.downscale)
        scene = Scene(self.video, self.start, stop, reason, thumbnail=self.thumbnails[nearest])
        self.statistics = self.statistics[count:]
        self.thumbnails = {n: image for n, image in self.thumbnails.items() if n >= stop} or {
            stop: self.thumbnails[max(self.thumbnails)]
        }
        self.start, self.interval = stop, 8
        return scene

    def _keep_thumbnail(self, frame: Tensor) -> None:
        self.thumbnails[self.stop] = _thumbnail(frame)
        if len(self.thumbnails) > _THUMBNAILS:
            self.thumbnails = dict(list(self.thumbnails.items())[::2])
            self.interval *= 2


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
        difference=float("inf") if previous is None else float((frame.float() - previous.float()).abs().mean()),
        brightest=float(y.float().flatten()[:: max(1, y.numel() // 100_000)].quantile(0.99)),
        detail=float(loss / (even.var() + 1e-3)),
        combing=combing(y),
        is_page=is_page(y),
        flagged_interlaced=interlaced,
    )


def verdict(statistics: Sequence[FrameStatistics], *, length: int, downscale: int = 1) -> str:
    """KEPT, or the reason for rejecting a scene with these frames. Content decides what is interlaced, not the flag:

    films on PAL DVDs are whole frames under an interlaced flag, and deinterlacing would harm them.
    """
    if sum(_is_combed(frame) for frame in statistics) > 0.3 * len(statistics):
        return "interlaced: deinterlace it first"
    if np.median([frame.brightest for frame in statistics]) < BLACK_LUMA:
        return "black"
    if sum(frame.is_page for frame in statistics) > CREDITS_SHARE * len(statistics):
        return "credits: text on a plain background"
    moving = [frame for frame in statistics if frame.difference > DUPLICATE_DIFFERENCE]
    if len(moving) < length:
        return f"too short: expected at least {length} distinct frames, got {len(moving)}"
    if np.median([frame.detail for frame in statistics]) < SOFT_DETAIL:
        return f"soft: no detail finer than half its size; try --downscale {2 * downscale}"
    return KEPT


def _is_combed(frame: FrameStatistics) -> bool:
    return frame.combing > (FLAGGED_COMBING_LIMIT if frame.flagged_interlaced else COMBING_LIMIT)


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


def _thumbnail(frame: Tensor) -> bytes:
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    image.thumbnail((200, 200))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
