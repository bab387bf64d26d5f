"""Checkpoints: complete or absent, and the previous one is kept."""

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from vs_iconvsr import atomic, system

from .run_options import TrainingError

logger = logging.getLogger(__name__)

LAST, PREVIOUS = "last.pt", "previous.pt"


def save(state: dict[str, Any], folder: Path) -> None:
    """Write last.pt; the one before becomes previous.pt. A kill at any moment leaves at least one of them complete.

    Raises TrainingError if there is no room on the disk; both files then stay as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    temporary = atomic.temporary_for(last)
    try:
        torch.save(state, temporary)
        system.sync(temporary)  # complete before the old one loses its name
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{last}: expected room for the checkpoint on the disk, got: {str(error).splitlines()[0]}; "
            "free some space and run the same command again: it resumes from the checkpoint before"
        ) from error
    if last.exists():
        last.replace(folder / PREVIOUS)
    atomic.replace(temporary, last)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none at all.

    Raises TrainingError if there are checkpoints of which none can be read: beginning again would write over the rest
    of the run.
    """
    present = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in present:
        try:
            return _read(path)
        except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            logger.warning("%s: skipped, cannot be read: %s", path, error)
    if present:
        raise TrainingError(
            f"{folder}: expected a checkpoint that can be read, got damaged ones: "
            f"{', '.join(path.name for path in present)}; restore them from a backup, or begin again with another --out"
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError("expected the state of a run, got something else")
    return state
