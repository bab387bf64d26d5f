"""Checkpoints: whole or not there; the previous one is kept."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)


def save(state: dict[str, Any], folder: Path) -> None:
    """Write last.pt; the one before becomes previous.pt. A kill at any moment leaves one of them whole."""
    folder.mkdir(parents=True, exist_ok=True)
    part, last = folder / "last.pt.part", folder / "last.pt"
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if last.exists():
        last.replace(folder / "previous.pt")
    part.replace(last)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, None if there is none."""
    for name in ("last.pt", "previous.pt"):
        path = folder / name
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s: passed over, not readable: %s", path, error)
        else:
            return state
    return None
