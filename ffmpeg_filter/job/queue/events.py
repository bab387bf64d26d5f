"""What a queue is told, what it answers, and what it keeps between runs. Values only."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, get_args

type Status = Literal["waiting", "running", "done", "failed"]
type Order = Literal["name", "size", "newest"]

ORDERS: tuple[Order, ...] = ("name", "size", "newest")


@dataclass(frozen=True)
class Found:
    """A source that is there now.

    source: its absolute path. folder: where its output goes, below the output folder; "" for that folder itself.
    stem, name: what its output is called if that is free, and if it is not. identity: changes when the source does.
    """

    source: str
    folder: str
    stem: str
    name: str
    size_bytes: int
    modified_ns: int
    images: int = 0

    @property
    def identity(self) -> dict[str, int]:
        images = {"images": self.images} if self.images else {}
        return {"size": self.size_bytes, "modified": self.modified_ns, **images}


@dataclass(frozen=True)
class Entry:
    """What is kept of a source between runs. output: below the output folder.

    identity, settings: of the source and the user's settings when it was last begun. error: of its last failure.
    Raises ValueError for values that no queue writes: what was kept may have been changed by anyone.
    """

    source: str
    output: str
    status: Status = "waiting"
    identity: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    frames: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    error: str = ""

    def __post_init__(self) -> None:
        if not is_path(self.source):
            raise ValueError(f"source: expected a path, got {self.source!r:.60}")
        if not is_path(self.output) or PurePath(self.output).is_absolute() or ".." in PurePath(self.output).parts:
            raise ValueError(f"output: expected a path below the output folder, got {self.output!r:.60}")
        if self.status not in get_args(Status.__value__):
            raise ValueError(
                f"status: expected one of {', '.join(get_args(Status.__value__))}, got {self.status!r:.60}"
            )
        _check_mapping("identity", self.identity, int)
        _check_mapping("settings", self.settings, str)
        _check_mapping("error", {"": self.error}, str)
        for name, value in (("frames", self.frames), ("size_bytes", self.size_bytes), ("seconds", self.seconds)):
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ValueError(f"{name}: expected a number of at least 0, got {value!r:.60}")


@dataclass(frozen=True)
class QueueRules:
    """What holds for a run of a queue.

    settings: what the outputs depend on besides their sources; image_settings: those of image sequences further.
    suffix: of the outputs. settle_s: with --watch, for how long a source must not have changed; None: every source is
    taken at once, and there is only one scan. overwrite: whether an output of other settings, or of another version of
    its source, is made again.
    """

    settings: Mapping[str, str]
    image_settings: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ".mkv"
    order: Order = "name"
    settle_s: float | None = None
    overwrite: bool = False

    def settings_for(self, found: Found) -> dict[str, str]:
        return {**self.settings, **(self.image_settings if found.images else {})}


@dataclass(frozen=True)
class QueueCounts:
    """How far a run of a queue is. The sizes are those of sources; skipped and failed ones do not count."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    waiting: int = 0
    running: int = 0
    bytes_ended: int = 0
    bytes_running: int = 0
    bytes_total: int = 0

    @property
    def files(self) -> int:
        return self.done + self.skipped + self.failed + self.waiting + self.running


# ---- events ----


@dataclass(frozen=True)
class Recovered:
    """Before the first scan: an earlier run gave this output its name, and was killed when it cleaned up.

    So it is of the source and the settings of that run, whatever those of this one are.
    """

    source: str
    frames: int
    size_bytes: int


@dataclass(frozen=True)
class Scanned:
    """These sources are there; of the outputs of the entries, these exist."""

    now_s: float
    found: Sequence[Found]
    existing: frozenset[str]


@dataclass(frozen=True)
class Begun:
    """The job of this source begins, and this is what the source is now."""

    source: str
    identity: Mapping[str, int]


@dataclass(frozen=True)
class Published:
    """The output of this source has its name."""

    source: str
    frames: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class JobFailed:
    source: str
    error: str


@dataclass(frozen=True)
class JobInterrupted:
    """The job of this source was stopped; its parts are kept."""

    source: str


@dataclass(frozen=True)
class JobEnded:
    """No job runs any more, and the next one may begin."""


@dataclass(frozen=True)
class StopRequested:
    """The user wants no further job to begin."""


type Event = Recovered | Scanned | Begun | Published | JobFailed | JobInterrupted | JobEnded | StopRequested


# ---- actions ----


@dataclass(frozen=True)
class Save:
    """Bring the entries to the disk before anything else."""


@dataclass(frozen=True)
class Skip:
    """Report that this entry is done already."""

    entry: Entry


@dataclass(frozen=True)
class Refuse:
    """Report that this entry is left as it is, and why."""

    entry: Entry
    reason: str


@dataclass(frozen=True)
class BeginJob:
    """Start the job of this entry: number so and so, of so many known files. why: "" for one that is new."""

    entry: Entry
    number: int
    of: int
    why: str = ""


@dataclass(frozen=True)
class WaitAndScan:
    seconds: float


@dataclass(frozen=True)
class End:
    """Nothing is left to do, or the user wants no more of it."""


type Action = Save | Skip | Refuse | BeginJob | WaitAndScan | End


def is_path(value: object) -> bool:
    """Whether it is a text that may name a file."""
    if not isinstance(value, str) or "\0" in value or not PurePath(value).name:
        return False
    try:
        return bool(os.fsencode(value))
    except UnicodeEncodeError:
        return False


def _check_mapping(name: str, values: object, kind: type) -> None:
    if not isinstance(values, Mapping) or not all(isinstance(value, kind) for value in values.values()):
        raise ValueError(f"{name}: expected a {kind.__name__} for each name, got {values!r:.60}")
