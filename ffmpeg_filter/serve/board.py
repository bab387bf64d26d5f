"""What the page shows, put together from the events of `--progress json` (docs/queue.md)."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

type Phase = Literal["idle", "listing", "upscaling", "comparing", "stopping"]
type Event = Mapping[str, Any]

_MOST_NOTES = 200


@dataclass
class ShownFile:
    """A source on the page. status: waiting, upscaling, done, failed or stopped. text: why, or a step's name."""

    source: str
    output: str
    status: str = "waiting"
    text: str = ""
    frames: int = 0
    total: int = 0
    fps: float = 0.0
    remaining_s: float | None = None
    memory_gib: float = 0.0


@dataclass
class ShownTotals:
    """All files together. share: from 0 to 1, by the size of the sources."""

    files: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    waiting: int = 0
    share: float = 0.0
    remaining_s: float | None = None


_OF_DRY_RUN = {"begun": "waiting", "skipped": "done", "failed": "failed"}
_OF_RUN = {"begun": "upscaling", "skipped": "done", "done": "done", "failed": "failed", "interrupted": "stopped"}


class Board:
    """The state of a queue. Its methods may be called from any thread."""

    def __init__(self, output_dir: str) -> None:
        self._lock = threading.Lock()
        self._output_dir = output_dir
        self._phase: Phase = "idle"
        self._files: dict[str, ShownFile] = {}
        self._current: ShownFile | None = None
        self._overall = ShownTotals()
        self._notes: deque[str] = deque(maxlen=_MOST_NOTES)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as values for JSON; the files in the order in which they came up, which never changes."""
        with self._lock:
            return {
                "output_dir": self._output_dir,
                "phase": self._phase,
                "overall": asdict(self._overall),
                "files": [asdict(file) for file in self._files.values()],
                "notes": list(self._notes),
            }

    @property
    def phase(self) -> Phase:
        with self._lock:
            return self._phase

    def last_note(self) -> str:
        """The last line that a process printed; "" without one."""
        with self._lock:
            return self._notes[-1] if self._notes else ""

    def output_of(self, source: str) -> Path:
        with self._lock:
            return Path(self._files[source].output)

    def source(self, number: int) -> str | None:
        """The path of a file by its number in the snapshot; None if there is none."""
        with self._lock:
            files = list(self._files)
            return files[number] if 0 <= number < len(files) else None

    def enter(self, phase: Phase) -> None:
        with self._lock:
            self._phase = phase
            if phase == "upscaling":
                self._overall = ShownTotals()
            if phase == "idle" and self._current is not None and self._current.status == "upscaling":
                self._current.status = "stopped"  # its process has ended without a word about it
            if phase == "idle":
                self._current = None

    def note(self, text: str) -> None:
        with self._lock:
            self._notes.append(text)

    def apply(self, event: Event) -> None:
        """An event of the queue's process; unknown ones change nothing."""
        with self._lock:
            match event.get("event"):
                case "note":
                    self._notes.append(str(event["text"]))
                case "file":
                    self._apply_to_file(event)
                case "queue":
                    self._overall = ShownTotals(**{name: event[name] for name in asdict(self._overall)})
                case "queue_summary":
                    counts = {name: event[name] for name in ("files", "done", "skipped", "failed", "waiting")}
                    ended = event["files"] > 0 and not event["waiting"]
                    self._overall = ShownTotals(**counts, share=1.0 if ended else self._overall.share)
                case "begin" | "progress" | "stage" | "summary" if self._current is not None:
                    self._apply_to_job(self._current, event)

    def _apply_to_file(self, event: Event) -> None:
        source, listing = event["source"], self._phase == "listing"
        file = self._files.setdefault(source, ShownFile(source, event["output"]))
        file.output = event["output"]
        file.status = (_OF_DRY_RUN if listing else _OF_RUN)[event["status"]]
        file.text = event.get("error") or event.get("why") or ""
        file.fps, file.remaining_s = 0.0, None
        self._current = file if file.status == "upscaling" else None

    @staticmethod
    def _apply_to_job(file: ShownFile, event: Event) -> None:
        match event["event"]:
            case "begin" | "progress":
                for name in ("frames", "total", "fps", "remaining_s", "memory_gib"):
                    setattr(file, name, event.get(name, getattr(file, name)))
                file.text = ""
            case "stage":
                file.text, file.remaining_s = event["name"], None
            case "summary":
                file.frames = file.total = event["frames"]
