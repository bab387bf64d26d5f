"""Lists of scenes, with cuts that the user knows: of `iconvsr scenes`, PySceneDetect and Av1an; ours with strengths."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vs_iconvsr import options

_MOST_BYTES = 64 << 20
_FORMS = "the output of iconvsr scenes, a CSV of PySceneDetect or a JSON of Av1an"
_SETTING = re.compile("strength|model", re.IGNORECASE)


@dataclass(frozen=True)
class SceneList:
    """The first frame of each scene, ascending, counted from 0; without one at frame 0, that scene is implied.

    name: the file's. num_frames: of the video it was made for, where the list says so. strengths: of scenes that have
    their own, by their first frame, ascending.
    """

    name: str
    starts: tuple[int, ...]
    num_frames: int | None = None
    strengths: tuple[tuple[int, float], ...] = ()

    def __str__(self) -> str:
        digest = hashlib.sha256(",".join(map(str, self.starts)).encode()).hexdigest()[:8]
        return f"{len(self.starts)} scene starts ({digest})"

    def strength_changes(self, usual: float) -> tuple[tuple[int, float], ...]:
        """(first frame, strength) from wherever it changes. usual: of scenes without their own; frame 0 has it, too,
        where the list does not begin there."""
        own, changes, before = dict(self.strengths), [], usual
        for start in self.starts:
            strength = own.get(start, usual)
            if strength != before:
                changes.append((start, strength))
            before = strength
        return tuple(changes)

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
    found = _parse(text, path)
    starts = found.starts
    if not starts:
        raise ValueError(f"scenes: expected the start of at least one scene, got none: {path}")
    for before, after in pairwise((-1, *starts)):
        if after <= before:
            what = f"{after} after {before}" if before >= 0 else str(after)
            raise ValueError(f"scenes: expected ascending frame numbers from 0 on, got {what}: {path}")
    return found


def _parse(text: str, path: Path) -> SceneList:
    """Its starts are not checked yet."""
    if text.lstrip().startswith("{") and (whole := _as_json(text)) is not None and "scenes" in whole:
        return _of_av1an(whole, path)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    header = next((n for n, line in enumerate(lines[:2]) if "Start Frame" in line), None)
    if header is not None:
        return SceneList(path.name, tuple(_of_pyscenedetect(lines[header:], path)))
    scenes = [_scene_in(line, path) for line in lines if not line.startswith("#")]
    strengths = tuple((start, strength) for start, strength in scenes if strength is not None)
    return SceneList(path.name, tuple(start for start, _ in scenes), strengths=strengths)


def _as_json(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_av1an(found: dict[str, Any], path: Path) -> SceneList:
    try:
        starts = [scene["start_frame"] for scene in found["scenes"]]
        num_frames = found.get("frames")
    except (TypeError, KeyError) as error:
        raise ValueError(f"scenes: expected a start_frame in each of Av1an's scenes, got none: {path}") from error
    if not all(type(value) is int for value in (*starts, *([] if num_frames is None else [num_frames]))):
        raise ValueError(f"scenes: expected whole frame numbers in Av1an's scenes, got others: {path}")
    return SceneList(path.name, tuple(starts), num_frames)


def _of_pyscenedetect(lines: Sequence[str], path: Path) -> list[int]:
    """Its "Start Frame" counts from 1."""
    rows = csv.DictReader(io.StringIO("\n".join(lines)))
    try:
        return [_number(row.get("Start Frame") or "", path) - 1 for row in rows]
    except csv.Error as error:
        raise ValueError(f"scenes: expected {_FORMS}, got a damaged table ({error}): {path}") from error


def _scene_in(line: str, path: Path) -> tuple[int, float | None]:
    """The first frame and the strength in a line of `iconvsr scenes`, with or without --json; or of a number alone."""
    found = _as_json(line)
    if found is not None:
        return _number(str(found.get("frame", line)), path), _strength(found, line, path)
    start, *words = line.partition("#")[0].split()
    given = [word.partition("=") for word in words if "=" in word or _SETTING.match(word)]
    return _number(start, path), _strength({name: value for name, _, value in given}, line, path)


def _strength(given: Mapping[str, object], line: str, path: Path) -> float | None:
    """Raises ValueError for any other setting: what is misspelled must not be left out."""
    if unknown := [name for name in given if name not in ("frame", "time_s", "strength")]:
        raise ValueError(
            f"scenes: expected strength=SHARE as the only setting of a scene, got {unknown[0][:40]!r} in "
            f"{line[:80]!r}: {path}"
        )
    if "strength" not in given:
        return None
    try:
        return options.STRENGTH.parse(given["strength"])
    except ValueError as error:
        raise ValueError(f"scenes: {error}, in {line[:80]!r}: {path}") from error


def _number(text: str, path: Path) -> int:
    if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 19):
        raise ValueError(f"scenes: expected {_FORMS}, got {text.strip()[:40]!r} where a frame number should be: {path}")
    return int(text)
