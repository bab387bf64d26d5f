"""Sequences as folders of pictures: REDS, Vimeo-90K, Vid4, UDM10 as their archives unpack, any folder of folders."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
REDS4 = ("000", "011", "015", "020")


@dataclass(frozen=True)
class Sequence:
    """name: its path below the data set's folder. size: (width, height) of all its frames."""

    name: str
    frames: tuple[Path, ...]
    size: tuple[int, int] = field(default=(0, 0))


class FrameFolders:
    """Sequences read from pictures when asked for; see `sequences.Sequences`."""

    def __init__(self, sequences: list[Sequence]) -> None:
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def shape(self, i: int) -> tuple[int, int, int]:
        sequence = self.sequences[i]
        with Image.open(sequence.frames[0]) as first:
            w, h = first.size
        return len(sequence.frames), h, w

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> Tensor:
        pictures = [read_picture(self.sequences[i].frames[k])[:, rows, columns] for k in frames]
        return torch.stack(pictures)


def open_frames(folder: Path, *, layout: str = "any") -> FrameFolders:
    """The sequences of a data set's folder; layout is one of LAYOUTS. ValueError where nothing is found."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of frames, found none")
    sequences = LAYOUTS[layout](folder)
    if not sequences:
        raise ValueError(f"{folder}: expected folders with pictures ({', '.join(SUFFIXES)}) as in {layout}, found none")
    return FrameFolders(sequences)


def read_picture(path: Path) -> Tensor:
    """(3, h, w) uint8."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()


def _any(folder: Path) -> list[Sequence]:
    """Every folder that holds pictures, the given one included; frames in natural order (2 before 10)."""
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), key=_natural)
    return [made for path in [folder, *below] if (made := _sequence(path, folder)) is not None]


def _reds_train(folder: Path) -> list[Sequence]:
    """train_sharp/000 … 239 and val_sharp/000 … 029 (or 240 … 269 together), without the four of REDS4."""
    return [sequence for sequence in _any(_below(folder, "train_sharp")) if Path(sequence.name).name not in REDS4]


def _reds4(folder: Path) -> list[Sequence]:
    return [sequence for sequence in _any(_below(folder, "train_sharp")) if Path(sequence.name).name in REDS4]


def _vimeo_train(folder: Path) -> list[Sequence]:
    return _vimeo(folder, "sep_trainlist.txt")


def _vimeo_test(folder: Path) -> list[Sequence]:
    return _vimeo(folder, "sep_testlist.txt")


def _vimeo(folder: Path, names: str) -> list[Sequence]:
    """sequences/00001/0001/im1.png … im7.png; the list beside it says which."""
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


def _ground_truth(folder: Path) -> list[Sequence]:
    """Vid4 and UDM10: GT/<clip>/*.png, beside lr folders that are not read."""
    return _any(_below(folder, "GT"))


LAYOUTS: dict[str, Callable[[Path], list[Sequence]]] = {
    "any": _any,
    "reds": _reds_train,
    "reds4": _reds4,
    "vimeo90k": _vimeo_train,
    "vimeo90k-test": _vimeo_test,
    "vid4": _ground_truth,
    "udm10": _ground_truth,
}


def _sequence(path: Path, root: Path) -> Sequence | None:
    if not path.is_dir():
        return None
    frames = sorted((file for file in path.iterdir() if file.suffix.lower() in SUFFIXES), key=_natural)
    if not frames:
        return None
    return Sequence(path.name if path == root else str(path.relative_to(root)), tuple(frames))


def _below(folder: Path, name: str) -> Path:
    """The sub-folder of that name if there is one: archives are unpacked with and without it."""
    return folder / name if (folder / name).is_dir() else folder


def _natural(path: Path) -> list[tuple[int, str]]:
    """Digits count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
