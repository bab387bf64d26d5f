"""The work directory of a job: lock, manifest, parts, notes. A file under its final name is whole.

What is in it at each moment, and what a crash leaves: docs/job-states.md.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from vs_iconvsr import atomic, locks, system

logger = logging.getLogger(__name__)

FORMAT = "iconvsr job/2"
MANIFEST = "manifest.json"
LOCK = "lock"
TEMPORARY = atomic.TEMPORARY
REWRAPPED = "rewrapped_"
FINISHED = "finished"  # the note that the output is whole under its final name, or about to be


class JournalError(Exception):
    """A work directory that cannot be used, or is that of another job; the message names the value that differs."""


@dataclass(frozen=True)
class Manifest:
    """Everything that a job depends on, as plain JSON values.

    source, settings: must be equal to resume. machine: may differ only where the user allows mixed parts.
    time_base, pts, last_duration: the timestamps of every frame. boundaries: first frame of each part, then the end.
    Raises ValueError for values of another type: a manifest is also read from a file, which anyone may have changed.
    """

    source: dict[str, Any]
    settings: dict[str, Any]
    machine: dict[str, Any]
    time_base: str
    pts: tuple[int, ...]
    last_duration: int
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        groups = all(isinstance(group, dict) for group in (self.source, self.settings, self.machine))
        mixed = self.machine.get("mixed", []) if groups else None
        numbers = (*self.pts, *self.boundaries, self.last_duration)
        if not (
            groups
            and are(mixed, str)
            and isinstance(self.time_base, str)
            and all(isinstance(number, int) for number in numbers)
        ):
            raise ValueError("manifest: expected values as a job writes them, got others")

    @property
    def num_parts(self) -> int:
        return len(self.boundaries) - 1

    def frames_of(self, part: int) -> range:
        return range(self.boundaries[part], self.boundaries[part + 1])


class Journal:
    """The work directory. suffix: the container of its parts, where parts are concerned. Writing needs `hold`."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self._suffix = suffix

    @contextlib.contextmanager
    def hold(self) -> Iterator[Self]:
        """Creates the folder and locks it for this block. Raises JournalError if another process works in it."""
        self.folder.mkdir(exist_ok=True)
        refusal = JournalError(
            f"{self.folder}: another run works on this output; wait for it, or choose another output"
        )
        with contextlib.ExitStack() as afterwards:
            if not system.DELETES_OPEN_FILES:  # then nobody can delete the lock of a run that came in between, either
                afterwards.callback(self._remove_if_empty)
            with locks.hold(self.folder / LOCK, refusal):
                try:
                    yield self
                finally:
                    if system.DELETES_OPEN_FILES:
                        self._remove_if_empty()

    def restart(self) -> None:
        """Deletes what earlier runs left, except the lock and the rewrapped source."""
        for path in self.folder.iterdir():
            if path.name != LOCK and not path.name.startswith(REWRAPPED):
                _delete(path)

    def begin(self, manifest: Manifest, *, allow_mixed: bool) -> list[str]:
        """Writes the manifest, or compares it with that of the run to resume; deletes what is half written.

        Returns warnings. Raises JournalError naming the first value that differs.
        """
        self.sweep()
        earlier = self.manifest()
        if earlier is None:
            self.restart()  # parts without a manifest belong to no job
            _write_manifest(self.folder, manifest)
            return []
        _check_same_job(self.folder, earlier, manifest)
        warnings = []
        for where, before, now in differences(earlier.machine, manifest.machine):
            text = f"{where}: the parts have {before}, this run has {now}"
            if not allow_mixed:
                raise JournalError(
                    f"{self.folder}: {text}; parts may differ in their last bits: pass --allow-mixed to resume all the "
                    "same, or --restart to start over"
                )
            warnings.append(f"mixed parts: {text}")
        if warnings:
            mixed = {**manifest.machine, "mixed": [*earlier.machine.get("mixed", []), *warnings]}
            _write_manifest(self.folder, replace(manifest, machine=mixed))
        return warnings

    def manifest(self) -> Manifest | None:
        """That of the run to resume, None if there is none. Raises JournalError for one that cannot be read."""
        path = self.folder / MANIFEST
        try:
            values = _read(path)
        except FileNotFoundError:
            return None
        if isinstance(values, dict) and values.pop("format", None) != FORMAT:
            raise JournalError(
                f"{path}: written by another version of vapoursynth-iconvsr; pass --restart to start over"
            )
        try:
            values["pts"], values["boundaries"] = tuple(values["pts"]), tuple(values["boundaries"])
            return Manifest(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path) from error

    def record_mixed(self, mixed: Sequence[str]) -> None:
        """Records in the manifest how parts differ that the user allows to be mixed."""
        manifest = self.manifest()
        assert manifest is not None, "parts follow the manifest"
        known = manifest.machine.get("mixed", [])
        if new := [text for text in mixed if text not in known]:
            _write_manifest(self.folder, replace(manifest, machine={**manifest.machine, "mixed": [*known, *new]}))

    def sweep(self) -> None:
        """Deletes what is half made."""
        for path in self.folder.glob(f"*{TEMPORARY}"):
            _delete(path)

    def part(self, number: int) -> Path:
        return self.folder / f"part_{number:06d}.{self._suffix}"

    def temporary_part(self, number: int) -> Path:
        return atomic.temporary_for(self.part(number))

    def is_done(self, number: int, frames: int) -> bool:
        """Whether the part is whole: there, with a sidecar that has its number of frames, its size and its hash."""
        path = self.part(number)
        try:
            sidecar = _read(_sidecar(path))
            size = path.stat().st_size
        except (OSError, JournalError):
            return False
        if not isinstance(sidecar, dict) or sidecar.get("frames") != frames or sidecar.get("size") != size:
            return False
        if sidecar.get("sha256") == sha256(path):
            return True
        logger.warning("%s is damaged and will be made again", path.name)
        return False

    def commit(self, number: int, frames: int) -> None:
        """Gives a verified temporary part its final name. It counts only once its sidecar is on the disk."""
        temporary = self.temporary_part(number)
        sidecar = {"frames": frames, "size": temporary.stat().st_size, "sha256": sha256(temporary)}
        atomic.replace(temporary, self.part(number))
        atomic.write_atomically(_sidecar(self.part(number)), json.dumps(sidecar).encode())

    def remove(self) -> None:
        """Deletes the work directory of a finished job; last of all the note that it is finished."""
        for path in self.folder.iterdir():
            if path not in (self.folder / LOCK, note_path(self.folder, FINISHED)):
                _delete(path)
        if system.DELETES_OPEN_FILES:
            shutil.rmtree(self.folder)
        else:  # the lock is open: `hold` deletes what is left
            note_path(self.folder, FINISHED).unlink(missing_ok=True)

    def write_note(self, name: str, value: object) -> None:
        """Keeps a small value for later runs, such as the damage found while a part was decoded."""
        atomic.write_atomically(note_path(self.folder, name), json.dumps(value).encode())

    def read_notes[T](self, pattern: str, parse: Callable[[Any], T]) -> list[T]:
        """The notes whose names match, in the order of their names.

        parse: raises ValueError, TypeError or KeyError for what no run writes. Raises JournalError for such a note.
        """
        notes = []
        for path in sorted(self.folder.glob(note_path(self.folder, pattern).name)):
            try:
                notes.append(parse(_read(path)))
            except (ValueError, TypeError, KeyError) as error:
                raise _damaged(path) from error
        return notes

    def _remove_if_empty(self) -> None:
        """Where nothing was begun, or all is finished, nothing is left behind."""
        if self.folder.is_dir() and [p.name for p in self.folder.iterdir()] == [LOCK]:
            shutil.rmtree(self.folder, ignore_errors=not system.DELETES_OPEN_FILES)


def note_path(folder: Path, name: str) -> Path:
    """The file of a note in a work directory."""
    return folder / f"{name}.json"


def _damaged(path: Path) -> JournalError:
    """For a file whose content is not what a run has written."""
    return JournalError(f"{path}: damaged; pass --restart to start over")


def _read(path: Path) -> Any:
    """The JSON in a file. Raises OSError, and JournalError for what is none."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error


def are(values: object, kind: type) -> bool:
    """Whether it is a list of that kind of values alone."""
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    atomic.write_atomically(folder / MANIFEST, json.dumps({"format": FORMAT, **asdict(manifest)}).encode())


def _check_same_job(folder: Path, earlier: Manifest, now: Manifest) -> None:
    for group, remedy in (
        ("source", "the source has changed since; pass --restart to start over"),
        ("settings", "pass the settings of the first run to resume, or --restart to start over"),
    ):
        for where, before, after in differences(getattr(earlier, group), getattr(now, group)):
            raise JournalError(f"{folder}: {group} {where}: the parts have {before}, this run has {after}; {remedy}")
    if (earlier.pts, earlier.time_base, earlier.boundaries) != (now.pts, now.time_base, now.boundaries):
        raise JournalError(f"{folder}: the timestamps or the part boundaries differ; pass --restart to start over")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, value before, value now) of each entry that differs; "mixed" only records earlier differences."""
    before, now = (json.loads(json.dumps(dict(values))) for values in (before, now))
    for name in sorted({*before, *now} - {"mixed"}):
        if before.get(name) != now.get(name):
            yield name, before.get(name), now.get(name)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
