"""One process at a time: a lock that the system releases when its holder ends, however it ends."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, refusal: Exception) -> Iterator[None]:
    """Holds the lock file for this block; creates it if it is not there. Raises `refusal` if another process does."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refusal from error
        yield
