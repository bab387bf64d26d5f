"""Lists of scenes, for cuts that the user knows: of `iconvsr scenes`, PySceneDetect and Av1an."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

_MOST_BYTES = 64 << 20
_FORMS = "the output of iconvsr scenes, a CSV of PySceneDetect or a JSON of Av1an"


@dataclass(frozen=True)
class SceneList:
    """The first frame of each scene, ascending, counted from 0; without one at frame 0, that scene is implied.

    name: the file's. num_frames: of the video it was made for, where the list says so.
    """

    name: str
    starts: tuple[int, ...]
    num_frames: int | None = None

    def __str__(self) -> str:
        digest = hashlib.sha256(",".join(map(str, self.starts)).encode()).hexdigest()[:8]
        return f"{len(self.starts)} scene starts ({digest})"

    def check(self, num_frames: int) -> None:
        """Raises ValueError unless it can be a list of a video with that many frames."""
        if self.num_frames is not None and self.num_frames != num_frames:
            raise ValueError(
                f"scenes: expected a list for {num_frames} frames, got one for {self.num_frames}: {self.name}; "
                "make one from this very video"
            )
        if self.starts[-1] >= num_frames:
            raise ValueError(
                f"scenes: expected frames below {num_frames}, got a scene that starts at {self.starts[-1]}: {self.name}"
            )


def read_scene_list(path: Path) -> SceneList:
    """Raises ValueError, with the line where there is one, for a file that is no such list."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"scenes: expected {_FORMS}, got a file of {path.stat().st_size >> 20} MiB: {path}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"scenes: expected a readable file, got {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"scenes: expected {_FORMS}, got a file that is no text: {path}") from error
    starts, num_frames = _parse(text, path)
    if not starts:
        raise ValueError(f"scenes: expected the start of at least one scene, got none: {path}")
    for before, after in pairwise((-1, *starts)):
        if after <= before:
            what = f"{after} after {before}" if before >= 0 else str(after)
            raise ValueError(f"scenes: expected ascending frame numbers from 0 on, got {what}: {path}")
    return SceneList(path.name, tuple(starts), num_frames)


def _parse(text: str, path: Path) -> tuple[list[int], int | None]:
    if text.lstrip().startswith("{") and (whole := _as_json(text)) is not None and "scenes" in whole:
        return _of_av1an(whole, path)
    lines = [line for line in text.splitlines() if line.strip()]
    header = next((n for n, line in enumerate(lines[:2]) if "Start Frame" in line), None)
    if header is not None:
        return _of_pyscenedetect(lines[header:], path), None
    return [_start_in(line, path) for line in lines if not line.startswith("#")], None


def _as_json(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_av1an(found: dict[str, Any], path: Path) -> tuple[list[int], int | None]:
    try:
        starts = [scene["start_frame"] for scene in found["scenes"]]
        num_frames = found.get("frames")
    except (TypeError, KeyError) as error:
        raise ValueError(f"scenes: expected a start_frame in each of Av1an's scenes, got none: {path}") from error
    if not all(type(value) is int for value in (*starts, *([] if num_frames is None else [num_frames]))):
        raise ValueError(f"scenes: expected whole frame numbers in Av1an's scenes, got others: {path}")
    return starts, num_frames


def _of_pyscenedetect(lines: Sequence[str], path: Path) -> list[int]:
    """Its "Start Frame" counts from 1."""
    rows = csv.DictReader(io.StringIO("\n".join(lines)))
    try:
        return [_number(row.get("Start Frame") or "", path) - 1 for row in rows]
    except csv.Error as error:
        raise ValueError(f"scenes: expected {_FORMS}, got a damaged table ({error}): {path}") from error


def _start_in(line: str, path: Path) -> int:
    """A line of `iconvsr scenes`, with or without --json; also a frame number alone."""
    found = _as_json(line)
    return _number(str(found.get("frame", line)) if found is not None else line.split()[0], path)


def _number(text: str, path: Path) -> int:
    if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 19):
        raise ValueError(f"scenes: expected {_FORMS}, got {text.strip()[:40]!r} where a frame number should be: {path}")
    return int(text)
