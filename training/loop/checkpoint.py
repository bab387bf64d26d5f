"""Checkpoints: complete or absent, and the previous one is kept."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

LAST, PREVIOUS = "last.pt", "previous.pt"


def save(state: dict[str, Any], folder: Path) -> None:
    """Write last.pt; the one before becomes previous.pt. A kill at any moment leaves at least one of them complete."""
    folder.mkdir(parents=True, exist_ok=True)
    part, last = folder / f"{LAST}.part", folder / LAST
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if last.exists():
        last.replace(folder / PREVIOUS)
    part.replace(last)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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


def write_atomically(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
