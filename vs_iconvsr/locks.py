"""Locks between processes, held on an open file: they vanish with the process, however it dies."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vs_iconvsr import system


@contextlib.contextmanager
def hold(path: Path, refusal: Exception | None = None, *, wait: bool = False) -> Iterator[None]:
    """Creates the file and locks it for this block. Raises `refusal` if another process holds it, or shares it.

    refusal: BlockingIOError without one. wait: until nobody else holds it, instead.

    The file stays: deleting it would let a third process lock a new one while the second still waits for the old.
    """
    with contextlib.ExitStack() as held:
        file = held.enter_context(path.open("ab"))
        try:
            held.enter_context(system.locked(file, wait=wait))
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
    with path.open("rb") as file, system.locked(file, shared=True):
        yield
