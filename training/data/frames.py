"""Sequences stored as folders of images: REDS, Vimeo-90K, Vid4 and UDM10 as their archives unpack, or any folders."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vs_iconvsr.weights.files import LFS_POINTER

from .walk import folders_below

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
GROUND_TRUTH = {"GT", "gt", "truth", "original"}
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
        _, h, w = self.shape(i)
        return torch.stack([self._read(self.sequences[i].frames[k], h, w)[:, rows, columns] for k in frames])

    def _read(self, path: Path, h: int, w: int) -> Tensor:
        image = read_image(path)
        if image.shape[1:] != (h, w):
            raise ValueError(
                f"{path}: expected {w}x{h} as its first frame has, got {image.shape[2]}x{image.shape[1]}; "
                "put frames of another size into another folder"
            )
        return image


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
    """(3, h, w) uint8; 16-bit gray is rounded. ValueError names a file that is damaged or holds floating point."""
    try:
        with Image.open(path) as image:
            image.load()
            return torch.from_numpy(np.array(_eight_bits(image, path).convert("RGB"))).permute(2, 0, 1).contiguous()
    except (OSError, SyntaxError) as error:  # Pillow raises both for damaged files
        if path.is_file() and path.open("rb").read(len(LFS_POINTER)) == LFS_POINTER:
            raise ValueError(f"{path}: expected an image, got a git-lfs pointer to one; run: git lfs pull") from error
        raise ValueError(f"{path}: expected an image, got: {error}") from error


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Pillow converts 16-bit gray by clipping it to 255: all white."""
    if image.mode == "F":
        raise ValueError(f"{path}: expected 8 or 16 bits, got floating point; convert it first")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{path}: expected 8 or 16 bits, got values from {values.min()} to {values.max()}")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _any(folder: Path) -> list[FrameSequence]:
    """Every folder that contains images, including the given one; frames in natural order (2 before 10)."""
    return [
        FrameSequence(folder.name if at == folder else at.relative_to(folder).as_posix(), tuple(images))
        for at, files in folders_below(folder)
        if (images := _images(files))
    ]


def _reds_train(folder: Path) -> list[FrameSequence]:
    """Every clip of train_sharp and of val_sharp but the four of REDS4; or 000 … 269 in one folder, as merged by many.

    The archives unpack to train/train_sharp and val/val_sharp beside lr folders such as train/train_sharp_bicubic/X4,
    which are not read.
    """
    train = [clip for clip in _reds_clips(folder, "train") if Path(clip.name).name not in REDS4]
    return train + _reds_clips(folder, "val")


def _reds4(folder: Path) -> list[FrameSequence]:
    return [clip for clip in _reds_clips(folder, "train") if Path(clip.name).name in REDS4]


def _reds_clips(folder: Path, part: str) -> list[FrameSequence]:
    """The clips of train_sharp or val_sharp, wherever between here and there the archive was unpacked."""
    name = f"{part}_sharp"
    places = (folder / name / part / name, folder / part / name, folder / name, folder)
    found = next((place for place in places if place.name == name and place.is_dir()), None)
    if part == "train":
        return [clip for clip in _any(found or folder) if clip.name.isdecimal()]
    return [FrameSequence(f"{name}/{clip.name}", clip.frames) for clip in _any(found)] if found else []


def _vimeo_train(folder: Path) -> list[FrameSequence]:
    return _vimeo(folder, "sep_trainlist.txt")


def _vimeo_test(folder: Path) -> list[FrameSequence]:
    return _vimeo(folder, "sep_testlist.txt")


def _vimeo(folder: Path, names: str) -> list[FrameSequence]:
    """sequences/00001/0001/im1.png … im7.png, those named in the given list."""
    folder = _below(folder, "vimeo_septuplet")
    listed = folder / names
    if not listed.exists():
        raise ValueError(f"{listed}: expected the list of sequences that comes with Vimeo-90K, found none")
    found = []
    for line in listed.read_text(encoding="utf-8").split():
        sequence = _sequence(folder / "sequences" / line, folder / "sequences")
        if sequence is None:
            raise ValueError(f"{folder / 'sequences' / line}: expected the frames that {names} names, found none")
        found.append(sequence)
    return found


def _ground_truth(folder: Path) -> list[FrameSequence]:
    """Vid4 and UDM10: GT/<clip>/*.png, or <clip>/truth/*.png; the lr folders next to them are not read."""
    found = _any(folder)
    gt = [clip for clip in found if GROUND_TRUTH & set(Path(clip.name).parts)]
    return [FrameSequence(_without_gt(clip.name), clip.frames) for clip in gt] or found


def _without_gt(name: str) -> str:
    parts = Path(name).parts
    after = parts[parts.index("GT") + 1 :] if "GT" in parts else [part for part in parts if part not in GROUND_TRUTH]
    return "/".join(after) or name


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
    frames = _images(next(folders_below(path))[1]) if path.is_dir() else []
    return FrameSequence(path.relative_to(root).as_posix(), tuple(frames)) if frames else None


def _images(files: list[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in SUFFIXES]


def _below(folder: Path, name: str) -> Path:
    """The subfolder of that name if it exists: archives are unpacked with or without it."""
    return folder / name if (folder / name).is_dir() else folder
