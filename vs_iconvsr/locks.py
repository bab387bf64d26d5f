"""Locks between processes, held on an open file: they vanish with the process, however it dies."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold(path: Path, refusal: Exception | None = None, *, wait: bool = False) -> Iterator[None]:
    """Creates the file and locks it for this block. Raises `refusal` if another process holds it, or shares it.

    refusal: BlockingIOError without one. wait: until nobody else holds it, instead.

    The file stays: deleting it would let a third process lock a new one while the second still waits for the old.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            if refusal is None:
                raise
            raise refusal from error
        yield


@contextlib.contextmanager
def share(path: Path) -> Iterator[None]:
    """Keeps others from holding the file during this block; any number may share it. Does nothing where there is none.

    Raises BlockingIOError if another process holds it. The file is only read: its folder may be read-only.
    """
    if not path.exists():
        yield
        return
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
