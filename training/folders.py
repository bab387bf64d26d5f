"""Folders that one command at a time may write to, and that nobody may change while a run reads them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vs_iconvsr import locks

from .loop.run_options import TrainingError

LOCK = "lock"


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Creates the folder and keeps other commands out of it for this block. TrainingError if one is at work there."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(folder / LOCK))
        except BlockingIOError as error:
            raise TrainingError(
                f"{folder}: expected a folder that no other command uses, got one in which another is at work; "
                "wait for it, stop it, or choose another folder"
            ) from error
        yield


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keeps `writing` out of the folder for this block. TrainingError if it is being written."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.share(folder / LOCK))
        except BlockingIOError as error:
            raise TrainingError(
                f"{folder}: expected data that is complete, got a folder that is being written; wait for it"
            ) from error
        yield
