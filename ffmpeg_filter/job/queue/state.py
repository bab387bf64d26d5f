"""What a queue keeps in its output folder: the state file and the lock."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.queue.events import Entry
from vs_iconvsr import atomic, locks, system, weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = "iconvsr queue/1"
STATE = "iconvsr-queue.json"
LOCK = ".iconvsr-queue.lock"

# What a finished output does not depend on, or only as a machine differs from another.
# fmt: off
_RUN_ONLY = (
    "input", "output", "model", "settings", "ffmpeg", "part_frames", "strict", "overwrite", "restart", "allow_mixed",
    "dry_run", "encoders",
)
# fmt: on
_IMAGES_ONLY = ("rate", "peak")
_USERS_WORDS = {
    "speed": "preset",
    "container_name": "container",
    "target_size": "size",
    "start_s": "start",
    "duration_s": "duration",
}
_MACHINE_ONLY = ("device", "threads", "memory_bytes")


class QueueError(Exception):
    """An output folder whose queue cannot be used; the message says why and what to do."""


class StateFile:
    """The state file of an output folder. Writing needs `hold`."""

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / STATE

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Creates the folder and locks it for this block. Raises QueueError if another queue works in it."""
        folder = self.path.parent
        if not folder.parent.is_dir():
            remedy = system.remedy_for_missing_folder(folder.parent)
            raise QueueError(f"output-dir: expected a folder in one that exists, got {folder}; {remedy}")
        if folder.exists() and not folder.is_dir():
            raise QueueError(f"output-dir: expected a folder, got a file: {folder}")
        folder.mkdir(exist_ok=True)
        refusal = QueueError(f"{folder}: another queue works in this folder; wait for it, or choose another folder")
        with locks.hold(folder / LOCK, refusal):
            yield

    def read(self) -> tuple[Entry, ...]:
        """What earlier runs left; nothing if there was none. Raises QueueError for a file that cannot be read."""
        try:
            values = json.loads(self.path.read_bytes())
            found = values["format"]
            entries = [Entry(**entry) for entry in values["entries"]] if found == FORMAT else []
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise QueueError(f"{self.path}: damaged; move it away to begin anew (outputs are kept)") from error
        if found != FORMAT:
            raise QueueError(
                f"{self.path}: expected {FORMAT}, got {found}, of another version of vapoursynth-iconvsr; "
                "choose another output folder, or move that file away (outputs are kept)"
            )
        return tuple(entries)

    def write(self, entries: Sequence[Entry]) -> None:
        content = {"format": FORMAT, "entries": [asdict(entry) for entry in entries]}
        atomic.write_atomically(self.path, json.dumps(content, indent=1).encode())


def settings_of(options: JobOptions) -> dict[str, str]:
    """What a finished output depends on besides its source: the model's hash, and all that is not its default.

    Without those of image sequences alone.
    """
    upscaling = _changed(options.settings, _MACHINE_ONLY)
    return {"model": weights.fingerprint(options.model), **_changed(options, (*_RUN_ONLY, *_IMAGES_ONLY)), **upscaling}


def image_settings_of(options: JobOptions) -> dict[str, str]:
    """The same for what image sequences alone depend on."""
    return {name: str(value) for name in _IMAGES_ONLY if (value := getattr(options, name)) is not None}


def _changed(values: "DataclassInstance", ignored: Sequence[str]) -> dict[str, str]:
    """Defaults are left out, so that an option that a later version adds does not make old outputs look different."""
    return {
        _USERS_WORDS.get(field.name, field.name): str(value)
        for field in fields(values)
        if field.name not in ignored and (value := getattr(values, field.name)) != field.default
    }
