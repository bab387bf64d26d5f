"""Checkpoints: complete or absent, and the previous one is kept."""

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from vs_iconvsr import atomic

logger = logging.getLogger(__name__)

LAST, PREVIOUS = "last.pt", "previous.pt"


def save(state: dict[str, Any], folder: Path) -> None:
    """Write last.pt; the one before becomes previous.pt. A kill at any moment leaves at least one of them complete."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    temporary = atomic.temporary_for(last)
    torch.save(state, temporary)
    atomic.sync(temporary)  # complete before the old one loses its name
    if last.exists():
        last.replace(folder / PREVIOUS)
    atomic.replace(temporary, last)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None."""
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s: skipped, cannot be read: %s", path, error)
        else:
            return state
    return None
