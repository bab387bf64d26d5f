"""Sequences stored as folders of images: REDS, Vimeo-90K, Vid4 and UDM10 as their archives unpack, or any folders."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
REDS4 = ("000", "011", "015", "020")


@dataclass(frozen=True)
class FrameSequence:
    """name: path relative to the data set's folder. frames: image files in order."""

    name: str
    frames: tuple[Path, ...]


class FrameFolders:
    """Sequences read from images on demand; see `sequences.Sequences`."""

    def __init__(self, sequences: list[FrameSequence]) -> None:
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def name(self, i: int) -> str:
        return str(self.sequences[i].frames[0].parent)

    def shape(self, i: int) -> tuple[int, int, int]:
        sequence = self.sequences[i]
        with Image.open(sequence.frames[0]) as first:
            w, h = first.size
        return len(sequence.frames), h, w

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> Tensor:
        images = [read_image(self.sequences[i].frames[k])[:, rows, columns] for k in frames]
        return torch.stack(images)


def open_frames(folder: Path, *, layout: str = "any") -> FrameFolders:
    """The sequences in a data set's folder; layout is one of LAYOUTS. ValueError if there are none."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of frames, found none")
    sequences = LAYOUTS[layout](folder)
    if not sequences:
        raise ValueError(f"{folder}: expected folders of images ({', '.join(SUFFIXES)}) as in {layout}, found none")
    return FrameFolders(sequences)


def read_image(path: Path) -> Tensor:
    """(3, h, w) uint8."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _any(folder: Path) -> list[FrameSequence]:
    """Every folder that contains images, including the given one; frames in natural order (2 before 10)."""
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), key=_natural)
    return [found for path in [folder, *below] if (found := _sequence(path, folder)) is not None]


def _reds_train(folder: Path) -> list[FrameSequence]:
    """train_sharp/000 … 239 and val_sharp/000 … 029 (or 000 … 269 in one folder), without the four clips of REDS4."""
    return [sequence for sequence in _any(_below(folder, "train_sharp")) if Path(sequence.name).name not in REDS4]


def _reds4(folder: Path) -> list[FrameSequence]:
    return [sequence for sequence in _any(_below(folder, "train_sharp")) if Path(sequence.name).name in REDS4]


def _vimeo_train(folder: Path) -> list[FrameSequence]:
    return _vimeo(folder, "sep_trainlist.txt")


def _vimeo_test(folder: Path) -> list[FrameSequence]:
    return _vimeo(folder, "sep_testlist.txt")


def _vimeo(folder: Path, names: str) -> list[FrameSequence]:
    """sequences/00001/0001/im1.png … im7.png, those named in the given list."""
    listed = folder / names
    if not listed.exists():
        raise ValueError(f"{listed}: expected the list of sequences that comes with Vimeo-90K, found none")
    found = []
    for line in listed.read_text().split():
        sequence = _sequence(folder / "sequences" / line, folder / "sequences")
        if sequence is None:
            raise ValueError(f"{folder / 'sequences' / line}: expected the frames that {names} names, found none")
        found.append(sequence)
    return found


def _ground_truth(folder: Path) -> list[FrameSequence]:
    """Vid4 and UDM10: GT/<clip>/*.png; the lr folders next to it are not read."""
    return _any(_below(folder, "GT"))


LAYOUTS: dict[str, Callable[[Path], list[FrameSequence]]] = {
    "any": _any,
    "reds": _reds_train,
    "reds4": _reds4,
    "vimeo90k": _vimeo_train,
    "vimeo90k-test": _vimeo_test,
    "vid4": _ground_truth,
    "udm10": _ground_truth,
}


def _sequence(path: Path, root: Path) -> FrameSequence | None:
    if not path.is_dir():
        return None
    frames = sorted((file for file in path.iterdir() if file.suffix.lower() in SUFFIXES), key=_natural)
    if not frames:
        return None
    return FrameSequence(path.name if path == root else str(path.relative_to(root)), tuple(frames))


def _below(folder: Path, name: str) -> Path:
    """The subfolder of that name if it exists: archives are unpacked with or without it."""
    return folder / name if (folder / name).is_dir() else folder


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that compares digits as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
