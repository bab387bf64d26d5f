"""Sequences out of a video's scenes: pieces in time, the windows with the most detail in space."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vs_iconvsr.atomic import open_atomically

from ..metrics import luma
from .examine import DUPLICATE_DIFFERENCE, Scene

_CELL_PX = 8  # windows begin and end at multiples of this


@dataclass(frozen=True)
class Excerpt:
    """What to take from a scene: at most `pieces` sequences in time, spread over it, written to `folder`."""

    scene: Scene
    pieces: int
    folder: Path


@dataclass(frozen=True)
class Piece:
    """Frames (t, 3, h, w) of an excerpt, the first of them number `start` of the video."""

    excerpt: Excerpt
    start: int
    frames: Tensor


def write_excerpts(
    frames: Iterable[tuple[Tensor, bool]],
    excerpts: Sequence[Excerpt],
    *,
    name: str,
    length: int,
    window_px: int,
    windows: int,
) -> list[int]:
    """Write the excerpts of one video, all in one pass over its frames; returns how many sequences each gave.

    One .npy (length, 3, window, window) uint8 for each window: name_start_y_x.npy. Memory is bounded by one piece.
    """
    written = dict.fromkeys(excerpts, 0)
    for piece in _pieces(frames, excerpts, length=length):
        for y, x, side_y, side_x in best_windows(piece.frames, window_px=window_px, count=windows):
            path = piece.excerpt.folder / f"{name}_{piece.start:06d}_{y}_{x}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_atomically(path) as file:
                np.save(file, piece.frames[:, :, y : y + side_y, x : x + side_x].numpy())
            written[piece.excerpt] += 1
    return list(written.values())


def piece_starts(scene: Scene, pieces: int, *, length: int) -> list[int]:
    """First frames of the pieces, spread evenly over the scene."""
    possible = max(1, (scene.stop - scene.start) // length)
    count = min(possible, pieces)
    return [scene.start + (k * possible // count) * length for k in range(count)]


def best_windows(frames: Tensor, *, window_px: int, count: int) -> list[tuple[int, int, int, int]]:
    """(y, x, height, width) of the windows with the most detail in a piece (t, 3, h, w), anywhere in the frame.

    Two windows overlap by half at most. None if the frame is smaller than a cell.
    """
    h, w = frames.shape[-2:]
    cells_y, cells_x = (min(window_px, side) // _CELL_PX for side in (h, w))
    if cells_y == 0 or cells_x == 0:
        return []
    middle = luma(frames[len(frames) // 2]).float()
    changes = F.pad((middle[:, 1:, 1:] - middle[:, :-1, :-1]).abs(), (0, 1, 0, 1))
    busy = F.avg_pool2d(changes.unsqueeze(0), _CELL_PX)
    detail = F.avg_pool2d(busy, (cells_y, cells_x), stride=1)[0, 0]
    chosen = []
    for _ in range(count):
        y, x = divmod(int(detail.argmax()), detail.shape[1])
        if detail[y, x] < 0.0:
            break
        chosen.append((y * _CELL_PX, x * _CELL_PX, cells_y * _CELL_PX, cells_x * _CELL_PX))
        half_y, half_x = (cells_y + 1) // 2, (cells_x + 1) // 2
        detail[max(0, y - half_y + 1) : y + half_y, max(0, x - half_x + 1) : x + half_x] = -1.0
    return chosen


def _pieces(frames: Iterable[tuple[Tensor, bool]], excerpts: Sequence[Excerpt], *, length: int) -> Iterator[Piece]:
    """Frames that repeat the one before are left out; a piece that the scene cannot fill is dropped."""
    waiting = [
        (start, excerpt) for excerpt in excerpts for start in piece_starts(excerpt.scene, excerpt.pieces, length=length)
    ]
    piece: list[Tensor] = []
    for n, (frame, _) in enumerate(frames):
        if waiting and n >= waiting[0][1].scene.stop:
            over, piece = waiting[0][1], []
            waiting = [(start, excerpt) for start, excerpt in waiting if excerpt is not over]
        if not waiting:
            return
        start, excerpt = waiting[0]
        if n < start:
            continue
        if not piece or float((frame.float() - piece[-1].float()).abs().mean()) > DUPLICATE_DIFFERENCE:
            piece.append(frame)
        if len(piece) == length:
            yield Piece(excerpt, start, torch.stack(piece))
            piece = []
            waiting = [(other, owner) for other, owner in waiting if other > n]
