"""What a queue does next: events in, actions out. It knows no file, clock, thread or tensor.

The events come from `run.py`, which does what the actions say. What each state means: docs/queue.md.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from ffmpeg_filter.job.queue.events import (
    Action,
    BeginJob,
    Begun,
    End,
    Entry,
    Event,
    Found,
    JobEnded,
    JobFailed,
    JobInterrupted,
    Published,
    QueueCounts,
    QueueRules,
    Recovered,
    Refuse,
    Save,
    Scanned,
    Skip,
    StopRequested,
    WaitAndScan,
)

POLL_S = 2.0


class QueueMachine:
    """Decides. `entries` is what must be kept; a queue made of what was last saved goes on where this one was."""

    def __init__(self, entries: Sequence[Entry], rules: QueueRules) -> None:
        self._entries = {e.source: replace(e, status="waiting") if e.status == "running" else e for e in entries}
        self._rules = rules
        self._found: dict[str, Found] = {}
        self._unchanged_since: dict[str, tuple[dict[str, int], float]] = {}
        self._ready: dict[str, str] = {}  # source: why
        self._ended: dict[str, tuple[dict[str, int], str]] = {}  # source: (identity, how) in this run
        self._running: str | None = None
        self._stopping = False

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    def handle(self, event: Event) -> list[Action]:
        match event:
            case Recovered(source, frames, size_bytes):
                self._change(source, status="done", frames=frames, size_bytes=size_bytes)
                return [Save()]
            case Scanned():
                return [*self._scanned(event), *self._next()]
            case Begun(source, identity):
                settings = self._rules.settings_for(self._found[source])
                self._change(source, status="running", identity=identity, settings=settings, error="")
                return [Save()]
            case Published(source, frames, size_bytes, seconds):
                self._end(source, "done")
                self._change(source, status="done", frames=frames, size_bytes=size_bytes, seconds=seconds)
                return [Save()]
            case JobFailed(source, error):
                self._end(source, "failed")
                self._change(source, status="failed", error=error)
                return [Save()]
            case JobInterrupted(source):
                self._running, self._stopping = None, True
                self._ready[source] = ""
                self._change(source, status="waiting")
                return [Save()]
            case StopRequested():
                self._stopping = True
                return []
            case JobEnded():
                return self._next() if self._rules.settle_s is None or self._stopping else [WaitAndScan(0)]

    def counts(self) -> QueueCounts:
        """How far it is: what ended in this run, what runs, what waits."""
        how = [kind for _, kind in self._ended.values()]
        size = {source: found.size_bytes for source, found in self._found.items()}
        ended = sum(size.get(source, 0) for source, (_, kind) in self._ended.items() if kind == "done")
        running = size.get(self._running, 0) if self._running is not None else 0
        return QueueCounts(
            done=how.count("done"),
            skipped=how.count("skipped"),
            failed=how.count("failed"),
            waiting=len(self._ready),
            running=int(self._running is not None),
            bytes_ended=ended,
            bytes_running=running,
            bytes_total=ended + running + sum(size[source] for source in self._ready),
        )

    def _scanned(self, scan: Scanned) -> list[Action]:
        self._found = {**self._found, **{found.source: found for found in scan.found}}
        present = {found.source for found in scan.found}
        self._ready = {source: why for source, why in self._ready.items() if source in present}
        self._unchanged_since = {s: since for s, since in self._unchanged_since.items() if s in present}
        before, actions = self.entries, list[Action]()
        for found in sorted(scan.found, key=self._rank):
            if self._is_settled(found, scan.now_s) and self._is_new(found):
                actions += self._admit(found, exists=self._output_of(found) in scan.existing)
        return [*actions, *([Save()] if self.entries != before else [])]

    def _is_settled(self, found: Found, now_s: float) -> bool:
        identity, since_s = self._unchanged_since.get(found.source, ({}, now_s))
        if identity != found.identity:
            since_s = now_s
        self._unchanged_since[found.source] = (found.identity, since_s)
        settle_s = self._rules.settle_s
        return settle_s is None or (found.size_bytes > 0 and now_s - since_s >= settle_s)

    def _is_new(self, found: Found) -> bool:
        ended, _ = self._ended.get(found.source, (None, ""))
        return found.source not in self._ready and ended != found.identity

    def _admit(self, found: Found, *, exists: bool) -> list[Action]:
        """Decides whether there is work to do for a source. exists: whether its output does."""
        entry = self._entries.get(found.source)
        if entry is None:
            entry = self._entries[found.source] = Entry(found.source, self._free_name(found))
        differences = self._differences(entry, found)
        if entry.status == "done" and exists:
            if not differences:
                self._ended[found.source] = (found.identity, "skipped")
                return [Skip(entry)]
            if not self._rules.overwrite:
                self._ended[found.source] = (found.identity, "failed")
                return [Refuse(entry, f"{differences}; pass --overwrite to make it again")]
            self._ready[found.source] = f"{differences}; making it again"
        elif entry.status == "done":
            self._ready[found.source] = "its output is gone; making it again"
        else:
            self._ready[found.source] = ""
        return []  # what is done stays so until its job begins: a run killed before that has changed nothing

    def _differences(self, entry: Entry, found: Found) -> str:
        """How the source or the settings differ from those that the output was made with, in words."""
        if dict(entry.identity) != found.identity:
            return "the source has changed since the output was made"
        before, now = entry.settings, self._rules.settings_for(found)
        differing = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
        texts = [f"{n} {before.get(n, 'default')}, now {now.get(n, 'default')}" for n in differing]
        return f"made with other settings: {'; '.join(texts)}" if texts else ""

    def _free_name(self, found: Found) -> str:
        """Never that of another entry, on file systems that ignore case, too."""
        taken = {entry.output.casefold() for entry in self.entries}
        folder = f"{found.folder}/" if found.folder else ""
        names = [found.stem, found.name, *(f"{found.name}.{n}" for n in range(2, len(taken) + 3))]
        outputs = (f"{folder}{name}{self._rules.suffix}" for name in names)
        return next(output for output in outputs if output.casefold() not in taken)

    def _output_of(self, found: Found) -> str:
        entry = self._entries.get(found.source)
        return entry.output if entry is not None else ""

    def _next(self) -> list[Action]:
        if self._stopping or (not self._ready and self._rules.settle_s is None):
            return [End()]
        if not self._ready:
            return [WaitAndScan(POLL_S)]
        source = min(self._ready, key=lambda ready: self._rank(self._found[ready]))
        why = self._ready.pop(source)
        self._running = source
        counts = self.counts()
        return [BeginJob(self._entries[source], len(self._ended) + 1, counts.files, why)]

    def _rank(self, found: Found) -> tuple[object, ...]:
        name = (_natural(found.folder), _natural(found.name), found.source)
        first = {"name": 0, "size": found.size_bytes, "newest": -found.modified_ns}[self._rules.order]
        return (first, *name)

    def _end(self, source: str, how: str) -> None:
        self._running = None
        self._ended[source] = (dict(self._entries[source].identity), how)

    def _change(self, source: str, **changes: object) -> None:
        self._entries[source] = replace(self._entries[source], **changes)  # type: ignore[arg-type]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which episode 2 comes before episode 10."""
    words = re.split(r"(\d+)", name.casefold())
    return [(1, int(word), "") if word.isdecimal() else (0, 0, word) for word in words]
