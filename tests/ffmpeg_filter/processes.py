"""What other processes there are, by /proc."""

from pathlib import Path


def children_of(process_id: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process_id:
            found.append(int(status.parent.name))
    return found
