"""How a job reports its progress: a bar on a terminal, plain lines in a log, JSON lines for other programs."""

import contextlib
import io
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, TextIO

from vs_iconvsr import system

logger = logging.getLogger(__name__)

PLAIN_EVERY_S = 10.0
JSON_EVERY_S = 0.5
_RATE_FRAMES = 60


class Progress(Protocol):
    """Where a job reports to. Frames are counted from the start of the job, those of earlier runs included."""

    def note(self, text: str) -> None:
        """A line for the user."""

    def begin(self, total: int, done: int) -> None:
        """Upscaling begins; `done` of `total` frames are there from earlier runs."""

    def advance(self, segment: int | None = None) -> None:
        """One more frame is done. segment: the first frame of the segment it belongs to, where that is known."""

    def update_rates(self, rates: Mapping[str, float]) -> None:
        """The fps that each stage has reached so far, not counting the time it waited for the others."""

    def stage(self, name: str) -> None:
        """A step after the last frame begins: muxing, checking, writing images."""

    def end(self) -> None:
        """Nothing more will be reported. Whether the job succeeded is reported elsewhere."""


class FrameCounter:
    """Counts frames. Their rate is over the last ones only: the first of a segment takes longer than the others."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.started = time.monotonic()
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)

    def begin(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self.started = time.monotonic()
        self._times.append(self.started)

    def advance(self) -> None:
        self.done += 1
        self._times.append(time.monotonic())

    @property
    def fps(self) -> float:
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return 0.0
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    @property
    def remaining_s(self) -> float | None:
        return (self.total - self.done) / self.fps if self.fps > 0 else None


class PlainProgress:
    """Lines, one every few seconds; for logs and pipes."""

    def __init__(self, stream: TextIO, every_s: float = PLAIN_EVERY_S) -> None:
        self._stream, self._every_s = stream, every_s
        self._counter = FrameCounter()
        self._reported = float("-inf")

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def begin(self, total: int, done: int) -> None:
        self._counter.begin(total, done)

    def advance(self, segment: int | None = None) -> None:
        counter = self._counter
        counter.advance()
        now = time.monotonic()
        if now - self._reported >= self._every_s or counter.done == counter.total:
            self._reported = now
            line = progress_line(counter.done, counter.total, counter.fps, counter.remaining_s)
            where = f", segment from frame {segment}" if segment is not None else ""
            self.note(f"{line}{where}, {memory_gib():.1f} GiB of memory")

    def update_rates(self, rates: Mapping[str, float]) -> None:
        del rates

    def stage(self, name: str) -> None:
        self.note(name)

    def end(self) -> None:
        return


def memory_gib() -> float:
    """The main memory that this process occupies; 0 where the system does not report it."""
    return system.occupied_memory_bytes() / 2**30


def progress_line(done: int, total: int, fps: float, remaining_s: float | None) -> str:
    """'120/3000 frames (4.0 %), 2.51 fps, 19:07 left'."""
    left = f", {clock(remaining_s)} left" if remaining_s is not None else ""
    return f"{done}/{total} frames ({100 * done / total:.1f} %), {fps:.2f} fps{left}"


def clock(seconds: float) -> str:
    """'1:02:03', '19:07', '0:05'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class JsonProgress:
    """One JSON object a line, each with "event": note, begin, progress, stage or end."""

    def __init__(self, stream: TextIO, every_s: float = JSON_EVERY_S) -> None:
        self._stream, self._every_s = stream, every_s
        self._counter = FrameCounter()
        self._rates: Mapping[str, float] = {}
        self._reported = float("-inf")

    def note(self, text: str) -> None:
        self._write(event="note", text=text)

    def begin(self, total: int, done: int) -> None:
        self._counter.begin(total, done)
        self._write(event="begin", frames=done, total=total)

    def advance(self, segment: int | None = None) -> None:
        counter = self._counter
        counter.advance()
        now = time.monotonic()
        if now - self._reported < self._every_s and counter.done != counter.total:
            return
        self._reported = now
        self._write(
            event="progress",
            frames=counter.done,
            total=counter.total,
            fps=counter.fps,
            remaining_s=counter.remaining_s,
            segment=segment,
            memory_gib=memory_gib(),
            stages=dict(self._rates),
        )

    def update_rates(self, rates: Mapping[str, float]) -> None:
        self._rates = rates

    def stage(self, name: str) -> None:
        self._write(event="stage", name=name)

    def end(self) -> None:
        self._write(event="end", frames=self._counter.done, total=self._counter.total)

    def _write(self, **values: object) -> None:
        self._stream.write(json.dumps(values) + "\n")
        self._stream.flush()


class BarProgress:
    """A bar with frames, fps and time left, on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._counter = FrameCounter()
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:.2f} fps, {task.fields[memory]:.1f} GiB{task.fields[where]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=stream),
        )
        self._task: object = None

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def begin(self, total: int, done: int) -> None:
        self._counter.begin(total, done)
        self._task = self._bar.add_task(
            "upscaling", total=total, completed=done, fps=0.0, memory=memory_gib(), where=""
        )
        self._bar.start()

    def advance(self, segment: int | None = None) -> None:
        self._counter.advance()
        where = f", segment from {segment}" if segment is not None else ""
        fields = {"fps": self._counter.fps, "memory": memory_gib(), "where": where}
        self._bar.update(self._task, completed=self._counter.done, **fields)  # type: ignore[arg-type]

    def update_rates(self, rates: Mapping[str, float]) -> None:
        del rates

    def stage(self, name: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=name)  # type: ignore[arg-type]

    def end(self) -> None:
        self._bar.stop()


class LoggedProgress:
    """Reports to another progress, and its notes and stages to the log as well."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self.begin, self.advance, self.end = shown.begin, shown.advance, shown.end
        self.update_rates = shown.update_rates

    def note(self, text: str) -> None:
        logger.info("%s", text)
        self._shown.note(text)

    def stage(self, name: str) -> None:
        logger.info("%s", name)
        self._shown.stage(name)


@contextlib.contextmanager
def log_file(path: Path | None) -> Iterator[None]:
    """Within the block, everything logged is also appended to this file; the terminal shows no more than before.

    Raises ValueError for a file that cannot be written.
    """
    if path is None:
        yield
        return
    root = logging.getLogger()
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"log-file: expected a file that can be written, got {path}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    before = [(other, other.level) for other in root.handlers]
    level = root.level
    for other, own in before:
        other.setLevel(max(own, level))
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    logger.info("%s", system.command_line(sys.argv))
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
        for other, own in before:
            other.setLevel(own)


def progress_for(kind: str, stream: TextIO | None) -> Progress:
    """kind: "auto" (a bar if the stream is a terminal), "bar", "plain" or "json". stream: None if it was closed."""
    if stream is None:
        return PlainProgress(io.StringIO())
    if kind == "json":
        return JsonProgress(stream)
    if kind == "bar" or (kind == "auto" and stream.isatty()):
        return BarProgress(stream)
    return PlainProgress(stream)
