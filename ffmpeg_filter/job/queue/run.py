"""A queue from start to end: finds sources, has one after the other upscaled, and keeps the state file true."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ffmpeg_filter.job.finalize import JobSummary, Published, finish_earlier_run
from ffmpeg_filter.job.journal import FINISHED, Journal, note_path
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import Interrupted
from ffmpeg_filter.job.queue import events, sources
from ffmpeg_filter.job.queue.events import Action, BeginJob, End, Entry, Event, Order, QueueCounts, QueueRules
from ffmpeg_filter.job.queue.machine import QueueMachine
from ffmpeg_filter.job.queue.report import QueueProgress, QueueView, file_line
from ffmpeg_filter.job.queue.state import StateFile, image_settings_of, settings_of
from ffmpeg_filter.job.report import Progress
from ffmpeg_filter.media import images, presets
from ffmpeg_filter.media.ffmpeg import find_executable
from vs_iconvsr.colorspace import Format

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueRequest:
    """What the user asks of a queue. settle_s: None without --watch. job: for each file, with its paths replaced."""

    places: tuple[Path, ...]
    output_dir: Path
    job: JobOptions
    recursive: bool = False
    order: Order = "name"
    settle_s: float | None = None

    @property
    def suffix(self) -> str:
        return f".{self.job.container_name or 'mkv'}"


@dataclass(frozen=True)
class QueueSummary:
    """What came out of a run. entries: all that the state file now holds. interrupted: whether files are left."""

    counts: QueueCounts
    entries: tuple[Entry, ...]
    failures: tuple[tuple[str, str], ...]
    frames: int
    seconds: float
    interrupted: bool


class MakeOutput(Protocol):
    """Does one job and reports what came of it; raises what `run_job` raises."""

    def __call__(self, job: JobOptions, progress: Progress, published: Published) -> None: ...


def run_queue(request: QueueRequest, make: MakeOutput, view: QueueView, stop: threading.Event) -> QueueSummary:
    """Has everything upscaled that the request names and that is not done yet.

    Raises QueueError, ValueError, FfmpegError or WeightsError for what would make every job fail; a single job's
    failure is reported, and the queue goes on.
    """
    rules = _rules(request)
    _check_encoder(request)
    state = StateFile(request.output_dir)
    with state.hold():
        return _QueueRun(request, rules, state, make, view, stop).run()


def list_queue(request: QueueRequest, view: QueueView) -> None:
    """A dry run: what would be made of what, and why not. Writes nothing."""
    state = StateFile(request.output_dir)
    machine = QueueMachine(state.read(), replace(_rules(request), settle_s=None))
    found = sources.scan(request.places, request.output_dir, recursive=request.recursive)
    for note in found.notes:
        view.note(note)
    pending = deque(machine.handle(events.Scanned(0, found.found, _existing(request.output_dir, machine))))
    while pending:
        match pending.popleft():
            case events.Skip(entry):
                view.file("skipped", entry.source, str(request.output_dir / entry.output))
            case events.Refuse(entry, reason):
                view.file("failed", entry.source, str(request.output_dir / entry.output), error=reason)
            case BeginJob(entry, number, of, why):
                output = str(request.output_dir / entry.output)
                view.file("begun", entry.source, output, number=number, of=of, why=why)
                machine.handle(events.Published(entry.source, 0, 0, 0))
                pending += machine.handle(events.JobEnded())


def _rules(request: QueueRequest) -> QueueRules:
    return QueueRules(
        settings=settings_of(request.job),
        image_settings=image_settings_of(request.job),
        suffix=request.suffix,
        order=request.order,
        settle_s=request.settle_s,
        overwrite=request.job.overwrite,
    )


def _check_encoder(request: QueueRequest) -> None:
    executable = find_executable(request.job.ffmpeg)
    presets.preset_for(request.job.encoder, Format("YUV", "integer", 8, 1, 1), request.suffix[1:], executable)


def _existing(output_dir: Path, machine: QueueMachine) -> frozenset[str]:
    return frozenset(entry.output for entry in machine.entries if (output_dir / entry.output).exists())


class _QueueRun:
    """Does what the machine says, and tells it what happened."""

    def __init__(
        self,
        request: QueueRequest,
        rules: QueueRules,
        state: StateFile,
        make: MakeOutput,
        view: QueueView,
        stop: threading.Event,
    ) -> None:
        self._request, self._state, self._make, self._view, self._stop = request, state, make, view, stop
        self._machine = QueueMachine(state.read(), rules)
        self._progress = QueueProgress(view)
        self._pending: deque[BeginJob | events.WaitAndScan | End] = deque()
        self._noted: set[str] = set()
        self._failures: list[tuple[str, str]] = []
        self._frames = 0

    def run(self) -> QueueSummary:
        started = time.monotonic()
        for entry in self._machine.entries:
            self._recover(entry)
        self._scan()
        while True:
            match self._pending.popleft():
                case BeginJob() as begin:
                    self._work(begin)
                case events.WaitAndScan(seconds):
                    self._wait(seconds)
                case End():
                    break
        counts = self._machine.counts()
        return QueueSummary(
            counts=counts,
            entries=self._machine.entries,
            failures=tuple(self._failures),
            frames=self._frames,
            seconds=time.monotonic() - started,
            interrupted=counts.waiting > 0,
        )

    def _send(self, event: Event) -> None:
        """Tells the machine; does at once what can be done at once."""
        for action in self._machine.handle(event):
            self._perform(action)
        self._progress.update(self._machine.counts())

    def _perform(self, action: Action) -> None:
        match action:
            case events.Save():
                self._state.write(self._machine.entries)
            case events.Skip(entry):
                self._show("skipped", entry)
            case events.Refuse(entry, reason):
                self._report_failure(entry, reason)
            case _:
                self._pending.append(action)

    def _recover(self, entry: Entry) -> None:
        """Cleans up after a run that was killed when only that was left to do."""
        job = self._job(entry)
        if note_path(job.work, FINISHED).exists():
            with Journal(job.work, "").hold() as work:
                finish_earlier_run(job, work, lambda summary: self._send(_recovered(entry, summary)))

    def _scan(self) -> None:
        request = self._request
        found = sources.scan(request.places, request.output_dir, recursive=request.recursive)
        for note in found.notes:
            if note not in self._noted:
                self._view.note(note)
        self._noted.update(found.notes)
        if not found.found and request.settle_s is None:
            raise ValueError(f"input: expected videos or numbered images, got none: {_listed(request.places)}")
        existing = _existing(request.output_dir, self._machine)
        self._send(events.Scanned(time.monotonic(), found.found, existing))

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            self._send(events.StopRequested())
            self._send(events.JobEnded())
        else:
            self._scan()

    def _work(self, begin: BeginJob) -> None:
        entry, output = begin.entry, self._output_of(begin.entry)
        self._show("begun", entry, number=begin.number, of=begin.of, why=begin.why)
        published: list[JobSummary] = []

        def publish(summary: JobSummary) -> None:
            published.append(summary)
            self._frames += summary.frames
            self._send(events.Published(entry.source, summary.frames, summary.size_bytes, summary.seconds))

        try:
            self._send(events.Begun(entry.source, sources.identity_of(Path(entry.source))))
            output.parent.mkdir(parents=True, exist_ok=True)
            self._make(self._job(entry), self._progress.job(begin), publish)
            self._show("done", entry)
        except Interrupted:
            self._send(events.JobInterrupted(entry.source))
            self._show("interrupted", entry)
        except BrokenPipeError:
            raise  # nobody reads our progress any more: that is no fault of this file
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            if published:
                self._view.note(f"WARNING: {output} is whole, but then: {text}")
            else:
                self._send(events.JobFailed(entry.source, text))
                self._report_failure(entry, text)
        if self._stop.is_set():
            self._send(events.StopRequested())
        self._send(events.JobEnded())

    def _job(self, entry: Entry) -> JobOptions:
        source = Path(entry.source)
        job = replace(self._request.job, input=source, output=self._output_of(entry))
        return job if images.is_image_sequence(source) else replace(job, rate=None, peak=None)

    def _output_of(self, entry: Entry) -> Path:
        return self._request.output_dir / entry.output

    def _report_failure(self, entry: Entry, error: str) -> None:
        self._failures.append((entry.source, error))
        self._show("failed", entry, error=error)

    def _show(self, status: str, entry: Entry, **more: object) -> None:
        output = str(self._output_of(entry))
        logger.info("%s", file_line(status, entry.source, output, more))
        self._view.file(status, entry.source, output, **more)


def _recovered(entry: Entry, summary: JobSummary) -> events.Recovered:
    return events.Recovered(entry.source, summary.frames, summary.size_bytes)


def _listed(places: tuple[Path, ...]) -> str:
    return ", ".join(map(str, places))
