"""How a queue reports its progress: that of the file it is at, and that of all files together."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

from ffmpeg_filter.job.queue.events import BeginJob, QueueCounts
from ffmpeg_filter.job.report import (
    JSON_EVERY_S,
    FrameCounter,
    JsonProgress,
    PlainProgress,
    Progress,
    clock,
    memory_gib,
    progress_line,
)

PLAIN_EVERY_S = 60.0
LEAST_SHARE = 0.01  # of the work, before the time left is estimated from it


@dataclass(frozen=True)
class Overall:
    """How far all files are. share: of the bytes of the sources that are to be upscaled, from 0 to 1."""

    counts: QueueCounts
    share: float
    remaining_s: float | None

    def __str__(self) -> str:
        counts = self.counts
        ended = counts.done + counts.skipped + counts.failed
        failed = f", {counts.failed} failed" if counts.failed else ""
        left = f", {clock(self.remaining_s)} left" if self.remaining_s is not None else ""
        return f"all files: {ended} of {counts.files} done{failed}, {100 * self.share:.1f} %{left}"


class QueueEstimate:
    """Time left, by the bytes of the sources: their numbers of frames are not known before their turn."""

    def __init__(self, now_s: float) -> None:
        self._started_s = now_s
        self._free_bytes = 0.0  # of work that earlier runs had done

    def begin(self, counts: QueueCounts, share: float) -> None:
        """A file begins of which that share is there already."""
        self._free_bytes += share * counts.bytes_running

    def overall(self, counts: QueueCounts, share: float, now_s: float) -> Overall:
        """share: of the file under way."""
        reached = counts.bytes_ended + share * counts.bytes_running
        made, elapsed_s = reached - self._free_bytes, now_s - self._started_s
        known = made >= LEAST_SHARE * counts.bytes_total and made > 0 and elapsed_s > 0
        remaining_s = (counts.bytes_total - reached) * elapsed_s / made if known else None
        return Overall(counts, reached / counts.bytes_total if counts.bytes_total else 1.0, remaining_s)


class QueueView(Protocol):
    """Where a queue is shown."""

    every_s: float
    """How often `overall` is wanted at most, in s."""

    def note(self, text: str) -> None:
        """A line for the user."""

    def file(self, status: str, source: str, output: str, **more: object) -> None:
        """A file is "begun", "done", "skipped", "failed" or "interrupted"."""

    def progress(self, begin: BeginJob) -> Progress:
        """Where the job of this file reports to."""

    def overall(self, overall: Overall) -> None:
        """How far all files are."""

    def end(self) -> None:
        """Nothing more will be shown."""


class PlainQueue:
    """Lines, for logs and pipes."""

    every_s = PLAIN_EVERY_S

    def __init__(self, stream: TextIO) -> None:
        self._progress = PlainProgress(stream)
        self.note = self._progress.note
        self._stream = stream

    def file(self, status: str, source: str, output: str, **more: object) -> None:
        self.note(file_line(status, source, output, more))

    def progress(self, begin: BeginJob) -> Progress:
        del begin
        return PlainProgress(self._stream)

    def overall(self, overall: Overall) -> None:
        self.note(str(overall))

    def end(self) -> None:
        return


def file_line(status: str, source: str, output: str, more: Mapping[str, object]) -> str:
    """'[3/12] a.mkv → out/a.mkv', 'FAILED: a.mkv: why', 'done already: a.mkv → out/a.mkv'."""
    if status == "begun":
        why = f" ({more['why']})" if more.get("why") else ""
        return f"[{more['number']}/{more['of']}] {source} → {output}{why}"
    if status == "failed":
        return f"FAILED: {source}: {more['error']}"
    return f"{'done already' if status == 'skipped' else status}: {source} → {output}"


class JsonQueue:
    """One JSON object a line: the events of each job, and between them "file" and "queue"."""

    every_s = JSON_EVERY_S

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._jobs = JsonProgress(stream)
        self.note = self._jobs.note

    def file(self, status: str, source: str, output: str, **more: object) -> None:
        self.write("file", status=status, source=source, output=output, **more)

    def progress(self, begin: BeginJob) -> Progress:
        del begin
        return JsonProgress(self._stream)

    def overall(self, overall: Overall) -> None:
        counts = overall.counts
        self.write(
            "queue",
            files=counts.files,
            done=counts.done,
            skipped=counts.skipped,
            failed=counts.failed,
            waiting=counts.waiting,
            share=overall.share,
            remaining_s=overall.remaining_s,
        )

    def end(self) -> None:
        return

    def write(self, event: str, **values: object) -> None:
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()


class BarQueue:
    """Two bars on a terminal: one for all files, one for the file it is at."""

    every_s = 0.5

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[text]}")
        self._bars = RichProgress(*columns, console=Console(file=stream))
        self._all = self._bars.add_task("all files", total=1.0, text="")
        self._file = self._bars.add_task("", total=1.0, text="", visible=False)
        self._bars.start()

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)

    def file(self, status: str, source: str, output: str, **more: object) -> None:
        self.note(file_line(status, source, output, more))

    def progress(self, begin: BeginJob) -> Progress:
        description = f"{begin.number}/{begin.of}"
        self._bars.reset(self._file, total=None, description=description, text="opening", visible=True)
        return _FileBar(self)

    def show_file(self, counter: FrameCounter, text: str) -> None:
        self._bars.update(self._file, total=counter.total, completed=counter.done, text=text)

    def overall(self, overall: Overall) -> None:
        text = str(overall).partition(": ")[2]
        self._bars.update(self._all, completed=overall.share, text=text)

    def end(self) -> None:
        self._bars.update(self._file, visible=False)
        self._bars.stop()


class _FileBar:
    """The second bar."""

    def __init__(self, bars: BarQueue) -> None:
        self._bars = bars
        self._counter = FrameCounter()
        self.note = bars.note

    def begin(self, total: int, done: int) -> None:
        self._counter.begin(total, done)
        self._show()

    def advance(self, segment: int | None = None) -> None:
        del segment
        self._counter.advance()
        self._show()

    def update_rates(self, rates: Mapping[str, float]) -> None:
        del rates

    def stage(self, name: str) -> None:
        self._bars.show_file(self._counter, name)

    def end(self) -> None:
        return

    def _show(self) -> None:
        counter = self._counter
        line = progress_line(counter.done, counter.total, counter.fps, counter.remaining_s)
        self._bars.show_file(counter, f"{line}, {memory_gib():.1f} GiB")


class FileProgress:
    """The progress of one job, which moves that of all files along."""

    def __init__(self, shown: Progress, queue: "QueueProgress") -> None:
        self._shown, self._queue = shown, queue
        self._counter = FrameCounter()
        self.note, self.stage, self.end, self.update_rates = shown.note, shown.stage, shown.end, shown.update_rates

    def begin(self, total: int, done: int) -> None:
        self._counter.begin(total, done)
        self._shown.begin(total, done)
        self._queue.begin_frames(done / total)

    def advance(self, segment: int | None = None) -> None:
        self._counter.advance()
        self._shown.advance(segment)
        self._queue.report(self._counter.done / self._counter.total)


class QueueProgress:
    """Keeps time and counts for a view."""

    def __init__(self, view: QueueView) -> None:
        self.view = view
        self._counts = QueueCounts()
        self._estimate = QueueEstimate(time.monotonic())
        self._reported_s = float("-inf")

    def update(self, counts: QueueCounts) -> None:
        """The queue has moved on by a file."""
        self._counts, self._reported_s = counts, float("-inf")

    def job(self, begin: BeginJob) -> Progress:
        """For the job of this file."""
        return FileProgress(self.view.progress(begin), self)

    def begin_frames(self, share: float) -> None:
        self._estimate.begin(self._counts, share)
        self.report(share)

    def report(self, share: float = 0.0) -> None:
        """Shows how far all files are, if it is time again. share: of the file under way."""
        now_s = time.monotonic()
        if now_s - self._reported_s >= self.view.every_s:
            self._reported_s = now_s
            self.view.overall(self._estimate.overall(self._counts, share, now_s))


def view_for(kind: str, stream: TextIO) -> QueueView:
    """kind: as for `progress_for`."""
    if kind == "json":
        return JsonQueue(stream)
    if kind == "bar" or (kind == "auto" and stream.isatty()):
        return BarQueue(stream)
    return PlainQueue(stream)
