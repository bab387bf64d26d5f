"""Files that are there whole or not at all, also after a power cut."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vs_iconvsr import system

TEMPORARY = ".part"
"""What is added to the name of a file that is not whole yet. A killed process leaves it behind."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces the file, if there is one. On an error the old one stays as it was."""
    with open_atomically(path) as file:
        file.write(content)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A new file that gets its name when the block ends; if it ends with an exception, the old one stays as it was.

    Mode bits are those of any new file. Not for two writers of one path at once.
    """
    temporary = temporary_for(path)
    try:
        with temporary.open("wb") as file:
            yield file
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_for(path: Path) -> Path:
    """The name under which the file is written until it is whole, in the same folder, so that renaming is atomic."""
    return path.with_name(path.name + TEMPORARY)


def replace(temporary: Path, path: Path) -> None:
    """Gives a finished file its name: its content is on the disk before, the new name when this returns."""
    system.sync(temporary)
    temporary.replace(path)
    system.sync(path.parent)
