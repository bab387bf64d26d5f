"""Training data: sets of sequences, and the batch of a step, a function of the recipe's seed and the step alone."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .. import PROGRAM
from ..degrade.degradation import Degradation, degrade
from .frames import LAYOUTS as FRAME_LAYOUTS
from .frames import open_frames
from .walk import is_hidden

logger = logging.getLogger(__name__)

Random = np.random.Generator
GENERATED = "generated"
PREPARED = "prepared"
LAYOUTS = (GENERATED, PREPARED, *FRAME_LAYOUTS)
_SAMPLE = 0x5A  # keeps these random streams apart from those of the generator
MARGIN_PX = 8  # lr px degraded around a patch, then cropped: kernels and encoders see the surroundings


class Sequences(Protocol):
    """A set of sequences, each with frames of one size."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Sequence i as a user finds it: its file or folder."""

    def shape(self, i: int) -> tuple[int, int, int]:
        """Frames, height, width of sequence i."""

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> Tensor:
        """(frames, 3, rows, columns) uint8."""


def open_sequences(folder: Path, layout: str) -> Sequences:
    """The sequences in a data set's folder; layout is one of LAYOUTS."""
    if layout == GENERATED:
        return GeneratedSet(folder)
    return PreparedSet(folder) if layout == PREPARED else open_frames(folder, layout=layout)


class GeneratedSet:
    """A folder written by `synthesise`."""

    def __init__(self, folder: Path) -> None:
        for name in ("index.json", "gt.npy", "flow.npy"):
            if not (folder / name).exists():
                raise ValueError(
                    f"{folder}: expected a set of clips, found no {name}; generate one: {PROGRAM} synthesise"
                )
        self.folder = folder
        self.gt = np.load(folder / "gt.npy", mmap_mode="r")
        self.flow = np.load(folder / "flow.npy", mmap_mode="r")

    def __reduce__(self) -> tuple[type["GeneratedSet"], tuple[Path]]:
        return GeneratedSet, (self.folder,)  # each worker process maps the files itself instead of copying the clips

    def __len__(self) -> int:
        return len(self.gt)

    def name(self, i: int) -> str:
        return f"clip {i} of {self.folder}"

    def shape(self, i: int) -> tuple[int, int, int]:
        del i
        frames, _, h, w = self.gt.shape[1:]
        return frames, h, w

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> Tensor:
        return torch.from_numpy(np.array(self.gt[i, frames.start : frames.stop, :, rows, columns]))

    def read_flow(self, i: int, frame: int) -> Tensor:
        """(2, h, w): flow of a frame to the next one in lr px of scale 4."""
        return torch.from_numpy(self.flow[i, frame].astype(np.float32))


class PreparedSet:
    """A folder of sequences written by `prepare`: one .npy file each, memory-mapped, so that reading decodes nothing.

    Ordered by a hash of the file names, so that the first few, which validation reads, come from many scenes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [file for file in folder.glob("*.npy") if not is_hidden(file.name)]
        self.files = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).hexdigest())
        if not self.files:
            raise ValueError(f"{folder}: expected prepared sequences, found none; create some: {PROGRAM} prepare")

    def __len__(self) -> int:
        return len(self.files)

    def name(self, i: int) -> str:
        return str(self.files[i])

    def shape(self, i: int) -> tuple[int, int, int]:
        frames, _, h, w = self._load(i).shape
        return frames, h, w

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> Tensor:
        sequence = self._load(i)
        return torch.from_numpy(np.array(sequence[frames.start : frames.stop, :, rows, columns]))

    def _load(self, i: int) -> np.ndarray:
        """Memory-mapped (frames, 3, h, w) uint8. ValueError names a file that holds anything else."""
        try:
            sequence: np.ndarray = np.load(self.files[i], mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{self.files[i]}: expected a prepared sequence, got: {error}; delete it") from error
        if sequence.ndim != 4 or sequence.shape[1] != 3 or sequence.dtype != np.uint8:
            raise ValueError(
                f"{self.files[i]}: expected (frames, 3, height, width) of uint8, "
                f"got {sequence.shape} of {sequence.dtype}; delete it"
            )
        return sequence


@dataclass(frozen=True, kw_only=True)
class Patches:
    """What the samples of a batch look like: consecutive frames of patch_px lr px square.

    mirrored: append the frames in reverse, as the authors do with the 7 frames of Vimeo-90K. permute_colours,
    reverse_time: share of samples; each flip and the transposition apply to half of the samples.
    """

    batch: int = 4
    frames: int = 7
    patch_px: int = 32
    permute_colours: float = 0.3
    reverse_time: float = 0.5
    mirrored: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "frames", "patch_px"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Batch:
    """lr (n, t, 3, h, w) and gt (n, t, 3, scale*h, scale*w), uint8: a quarter of the data to pass between processes."""

    lr: Tensor
    gt: Tensor

    def as_floats(self, device: str) -> tuple[Tensor, Tensor]:
        """lr and gt on the device as float32 in [0, 1]."""
        lr, gt = (frames.to(device).float() / 255.0 for frames in (self.lr, self.gt))
        return lr, gt


class BatchSource(torch.utils.data.Dataset[Batch]):
    """The batch of any step: stateless, so that the number of workers changes nothing and resuming is free.

    Sequences that are too short or too small for the patches are left out with a warning; ValueError if all are.
    rank, world: which part of the batch belongs to this process.
    """

    def __init__(
        self,
        sequences: Sequences,
        patches: Patches,
        *,
        degradations: tuple[Degradation, ...],
        scale: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not degradations:
            raise ValueError("degradations: expected at least one, got none")
        if patches.batch % world:
            raise ValueError(f"batch: expected a multiple of the {world} processes, got {patches.batch}")
        self.sequences, self.patches, self.degradations = sequences, patches, degradations
        self.scale, self.seed, self.rank, self.world = scale, seed, rank, world
        self.usable = self._usable()

    def __getitem__(self, step: int) -> Batch:
        share = self.patches.batch // self.world
        samples = [self._sample(step, i) for i in range(self.rank * share, (self.rank + 1) * share)]
        lr, gt = (torch.stack(parts) for parts in zip(*samples, strict=True))
        return Batch(lr, gt)

    def _sample(self, step: int, i: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng(np.random.SeedSequence([self.seed, _SAMPLE, step, i]))
        gt, patch = self._window(random)
        gt = self._augment(gt, random)
        lr = degrade(gt, choose_degradation(self.degradations, random), self.scale, random=random)
        if self.patches.mirrored:
            lr, gt = (torch.cat([frames, frames.flip(0)]) for frames in (lr, gt))
        top, left = (int(random.integers(side - patch + 1)) for side in lr.shape[-2:])
        lr = lr[..., top : top + patch, left : left + patch]
        top, left, patch = (self.scale * value for value in (top, left, patch))
        return lr, gt[..., top : top + patch, left : left + patch]

    def _window(self, random: Random) -> tuple[Tensor, int]:
        """A window of a sequence including its margin, and the size of the patch to crop from its lr frames."""
        sequence = self.usable[int(random.integers(len(self.usable)))]
        frames, h, w = self.sequences.shape(sequence)
        t, patch = self.patches.frames, self.patches.patch_px
        side = self.scale * min(patch + 2 * MARGIN_PX, h // self.scale, w // self.scale)
        start = int(random.integers(frames - t + 1))
        top, left = (int(random.integers(length - side + 1)) for length in (h, w))
        span = range(start, start + t)
        return self.sequences.read(sequence, span, slice(top, top + side), slice(left, left + side)), patch

    def _usable(self) -> list[int]:
        """The sequences that hold a patch, checked before the first step: drawing one may take hours to happen."""
        t, side = self.patches.frames, self.patches.patch_px * self.scale
        shapes = {i: self.sequences.shape(i) for i in range(len(self.sequences))}
        unusable = [i for i, (frames, h, w) in shapes.items() if frames < t or min(h, w) < side]
        if not unusable:
            return list(shapes)
        names = ", ".join(
            f"{self.sequences.name(i)} ({shapes[i][0]} frames of {shapes[i][2]}x{shapes[i][1]})" for i in unusable[:3]
        )
        more = f" and {len(unusable) - 3} more" if len(unusable) > 3 else ""
        expected = f"expected at least {t} frames of {side} px, got {names}{more}"
        if len(unusable) == len(shapes):
            raise ValueError(f"training data: {expected}; use fewer frames or smaller patches")
        if self.rank == 0:
            logger.warning("%d of %d sequences are left out: %s", len(unusable), len(shapes), expected)
        return sorted(shapes.keys() - unusable)

    def _augment(self, gt: Tensor, random: Random) -> Tensor:
        if random.random() < self.patches.reverse_time:
            gt = gt.flip(0)
        for dim in (-1, -2):
            if random.random() < 0.5:
                gt = gt.flip(dim)
        if random.random() < 0.5:
            gt = gt.transpose(-1, -2)
        if random.random() < self.patches.permute_colours:
            gt = gt[:, random.permutation(3).tolist()]
        return gt


def choose_degradation(degradations: tuple[Degradation, ...], random: Random) -> Degradation:
    """Draw one of the degradations, with probabilities proportional to their shares."""
    shares = np.array([degradation.share for degradation in degradations])
    return degradations[int(random.choice(len(degradations), p=shares / shares.sum()))]
