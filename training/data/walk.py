"""Files and folders below a folder, as users have them: with links to other disks and what other systems leave."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

# Left by other systems: macOS's archives, NAS indexes, recycle bins, Windows' own folders. Their contents look real.
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)


def folders_below(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """The folder and all below it, each with its files, in natural order (2 before 10).

    Hidden files and folders are passed over. Links are followed, but no folder is visited twice: links may go round.
    """
    seen = set()
    for at, names, files in folder.walk(follow_symlinks=True, on_error=lambda error: logger.warning("%s", error)):
        if at.resolve() in seen:
            names.clear()
            continue
        seen.add(at.resolve())
        names[:] = sorted((name for name in names if not is_hidden(name)), key=natural)
        yield at, [at / name for name in sorted(files, key=natural) if not is_hidden(name)]


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that compares digits as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is passed over."""
    return name.startswith(".") or name in SYSTEM_FOLDERS
