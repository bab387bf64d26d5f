"""The work directory of a job: manifest, finished parts, lock; nothing under its final name is half."""

import contextlib
import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from vs_iconvsr.atomic import sync

logger = logging.getLogger(__name__)

FORMAT = "iconvsr job/1"
MANIFEST = "manifest.json"
LOCK = "lock"
TEMPORARY = ".tmp"
REWRAPPED = "rewrapped_"

# Up to here a source is hashed whole; beyond it 64 samples stand for it, together with its time of change.
_HASHED_WHOLE_BYTES = 64 << 20
_SAMPLES, _SAMPLE_BYTES = 64, 64 << 10


class JournalError(Exception):
    """A work directory that cannot be used or does not belong to this job; the message says which value differs."""


@dataclass(frozen=True)
class Manifest:
    """All that a job depends on, as plain values of JSON.

    source, settings: must be equal to resume. machine: may differ only where the user allows mixed parts.
    time_base, pts, last_duration: the timestamps of every frame. boundaries: first frame of each part, then the end.
    """

    source: dict[str, Any]
    settings: dict[str, Any]
    machine: dict[str, Any]
    time_base: str
    pts: tuple[int, ...]
    last_duration: int
    boundaries: tuple[int, ...]

    @property
    def num_parts(self) -> int:
        return len(self.boundaries) - 1

    def frames_of(self, part: int) -> range:
        return range(self.boundaries[part], self.boundaries[part + 1])

    def base(self) -> Fraction:
        return Fraction(self.time_base)


class Journal:
    """The work directory, held under a lock from `hold` to the end of its block."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self._suffix = suffix

    @contextlib.contextmanager
    def hold(self) -> Iterator[Self]:
        """Makes the folder and locks it. Raises JournalError if another process works in it."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise JournalError(
                    f"{self.folder}: another run works on this output; wait for it, or choose another output"
                ) from error
            try:
                yield self
            finally:
                if self.folder.is_dir() and [p.name for p in self.folder.iterdir()] == [LOCK]:
                    shutil.rmtree(self.folder)  # nothing was begun: leave nothing behind

    def restart(self) -> None:
        """Throws away what earlier runs left, all but the lock and the rewrapped source."""
        for path in self.folder.iterdir():
            if path.name != LOCK and not path.name.startswith(REWRAPPED):
                _drop(path)

    def begin(self, manifest: Manifest, *, allow_mixed: bool) -> list[str]:
        """Writes the manifest, or compares it with the one of the run to be resumed; drops what is half written.

        Returns warnings. Raises JournalError naming the first value that differs.
        """
        self.sweep()
        earlier = self.manifest()
        if earlier is None:
            self.restart()  # parts without a manifest belong to nobody
            self._write_manifest(manifest)
            return []
        for group, remedy in (
            ("source", "the source was changed since; pass --restart to begin anew"),
            ("settings", "pass the settings of the first run to go on, or --restart to begin anew"),
        ):
            for where, before, now in differences(getattr(earlier, group), getattr(manifest, group)):
                raise JournalError(f"{self.folder}: {group} {where}: the parts have {before}, this run {now}; {remedy}")
        if (earlier.pts, earlier.time_base, earlier.boundaries) != (
            manifest.pts,
            manifest.time_base,
            manifest.boundaries,
        ):
            raise JournalError(f"{self.folder}: the table of timestamps differs; pass --restart to begin anew")
        warnings = []
        for where, before, now in differences(earlier.machine, manifest.machine):
            text = f"{where}: the parts have {before}, this run {now}"
            if not allow_mixed:
                raise JournalError(
                    f"{self.folder}: {text}; parts may differ in their last bits: pass --allow-mixed to go on all the "
                    "same, or --restart to begin anew"
                )
            warnings.append(f"mixed parts: {text}")
        if warnings:
            mixed = {**manifest.machine, "mixed": [*earlier.machine.get("mixed", []), *warnings]}
            self._write_manifest(replace(manifest, machine=mixed))
        return warnings

    def manifest(self) -> Manifest | None:
        """That of the run to be resumed. Raises JournalError for one that cannot be read."""
        path = self.folder / MANIFEST
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise JournalError(f"{path}: damaged; pass --restart to begin anew") from error
        if values.pop("format", None) != FORMAT:
            raise JournalError(f"{path}: written by another version; pass --restart to begin anew")
        values["pts"], values["boundaries"] = tuple(values["pts"]), tuple(values["boundaries"])
        return Manifest(**values)

    def admit(self, mixed: Sequence[str]) -> None:
        """Records in the manifest how parts differ that the user lets in."""
        manifest = self.manifest()
        assert manifest is not None, "parts follow the manifest"
        known = manifest.machine.get("mixed", [])
        if new := [text for text in mixed if text not in known]:
            self._write_manifest(replace(manifest, machine={**manifest.machine, "mixed": [*known, *new]}))

    def sweep(self) -> None:
        """Takes away what is half made: it counts for nothing."""
        for path in self.folder.glob(f"*{TEMPORARY}"):
            _drop(path)

    def part(self, number: int) -> Path:
        return self.folder / f"part_{number:06d}.{self._suffix}"

    def temporary_part(self, number: int) -> Path:
        return self.folder / f"part_{number:06d}.{self._suffix}{TEMPORARY}"

    def is_done(self, number: int, frames: int, *, thorough: bool = True) -> bool:
        """Whether the part is whole: its sidecar, frame count and size fit, and its hash too (thorough)."""
        path, sidecar = self.part(number), self._sidecar(number)
        try:
            said = json.loads(sidecar.read_bytes())
            size = path.stat().st_size
        except (OSError, ValueError):
            return False
        if said.get("frames") != frames or said.get("size") != size:
            return False
        if not thorough or said.get("sha256") == sha256(path):
            return True
        logger.warning("%s is damaged and will be made again", path.name)
        return False

    def commit(self, number: int, frames: int) -> None:
        """Gives a verified temporary part its final name; only after its sidecar is on the disk does it count."""
        temporary = self.temporary_part(number)
        sync(temporary)
        said = {"frames": frames, "size": temporary.stat().st_size, "sha256": sha256(temporary)}
        temporary.replace(self.part(number))
        write_atomically(self._sidecar(number), json.dumps(said).encode())

    def adopt(self, number: int, frames: int, maker: "Journal") -> None:
        """Takes over a part that somebody else has committed to a journal of theirs on the same file system.

        Raises JournalError if it is not whole.
        """
        if not maker.is_done(number, frames):
            raise JournalError(f"{maker.folder}: expected a whole part {number}, got none")
        maker.part(number).replace(self.part(number))
        maker._sidecar(number).replace(self._sidecar(number))
        sync(self.folder)
        maker.remove()

    def discard(self, number: int) -> None:
        self.temporary_part(number).unlink(missing_ok=True)

    def remove(self) -> None:
        """The job is finished: its work directory goes."""
        shutil.rmtree(self.folder)

    def note(self, name: str, value: object) -> None:
        """Keeps a small value for later runs, such as damage found while decoding a part."""
        write_atomically(self.folder / f"{name}.json", json.dumps(value).encode())

    def noted(self, pattern: str) -> list[Any]:
        """The values that runs have kept under names that match, in the order of their names."""
        return [json.loads(path.read_bytes()) for path in sorted(self.folder.glob(f"{pattern}.json"))]

    def _sidecar(self, number: int) -> Path:
        return self.folder / f"part_{number:06d}.{self._suffix}.json"

    def _write_manifest(self, manifest: Manifest) -> None:
        write_atomically(self.folder / MANIFEST, json.dumps({"format": FORMAT, **asdict(manifest)}).encode())


def _drop(path: Path) -> None:
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


def write_atomically(path: Path, content: bytes) -> None:
    """The file is there whole or not at all, also after a power cut."""
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_bytes(content)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_identity(path: Path) -> dict[str, Any]:
    """What tells a source from a changed one: its size and content, or samples of it and the time of change."""
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if status.st_size <= _HASHED_WHOLE_BYTES:
            return {"size": status.st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        for sample in range(_SAMPLES):
            file.seek((status.st_size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return {"size": status.st_size, "sampled sha256": digest.hexdigest(), "changed": status.st_mtime_ns}


def series_identity(files: Sequence[Path]) -> dict[str, Any]:
    """The same for numbered pictures: their names, sizes and times of change."""
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return {"pictures": len(files), "names, sizes, times": hashlib.sha256(repr(facts).encode()).hexdigest()}
