"""`iconvsr upscale … --output-dir`: the arguments of a queue, and what it prints at the end."""

import argparse
import io
import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ffmpeg_filter.commands.arguments import help_with_default
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.queue.events import ORDERS
from ffmpeg_filter.job.queue.report import view_for
from ffmpeg_filter.job.report import clock

if TYPE_CHECKING:
    from ffmpeg_filter.job.queue.run import MakeOutput, QueueRequest, QueueSummary

SETTLE_S = 10.0

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def add_arguments(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("several files")
    group.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help=help_with_default("upscale every INPUT into DIR, one after the other", "one INPUT and one OUTPUT"),
    )
    group.add_argument(
        "--recursive", action="store_true", help=help_with_default("include the folders inside an INPUT folder", "no")
    )
    group.add_argument(
        "--order",
        choices=ORDERS,
        help=help_with_default("what comes first: by name, the smallest or the newest", "name"),
    )
    group.add_argument(
        "--watch",
        action="store_true",
        help=help_with_default("wait for further files in INPUT, until Ctrl-C", "end when all are done"),
    )
    group.add_argument(
        "--settle",
        type=float,
        metavar="S",
        help=help_with_default("take a watched file when it has not changed for S seconds", f"{SETTLE_S:g}"),
    )


def refuse_arguments(options: argparse.Namespace) -> None:
    """Raises ValueError for arguments that mean nothing without --output-dir."""
    for name in ("recursive", "order", "watch", "settle"):
        if getattr(options, name):
            raise ValueError(f"{name}: expected with --output-dir only, got it without; pass --output-dir DIR")


def run(options: argparse.Namespace, job: JobOptions, make: "MakeOutput", stop: threading.Event) -> int:
    """Exit code 0, 1 if a file failed, or 130 when interrupted."""
    from ffmpeg_filter.job.queue.run import list_queue, run_queue

    request = _request(options, job)
    view = view_for(options.progress, (sys.stdout if options.progress == "json" else sys.stderr) or io.StringIO())
    try:
        if job.dry_run:
            list_queue(request, view)
            return 0
        summary = run_queue(request, make, view, stop)
    finally:
        view.end()
    if options.progress == "json":
        options.print_line(json.dumps(summary_event(summary)))
    else:
        for line in summary_lines(summary, request.output_dir):
            view.note(line)
    return EXIT_INTERRUPTED if summary.interrupted else EXIT_FAILED if summary.counts.failed else 0


def _request(options: argparse.Namespace, job: JobOptions) -> "QueueRequest":
    from ffmpeg_filter.job.queue.run import QueueRequest

    if options.settle is not None and not (options.watch and options.settle >= 0):
        raise ValueError(f"settle: expected at least 0 seconds, with --watch, got {options.settle:g}")
    settle_s = SETTLE_S if options.settle is None else options.settle
    return QueueRequest(
        places=tuple(options.paths),
        output_dir=options.output_dir,
        job=job,
        recursive=options.recursive,
        order=options.order or "name",
        settle_s=settle_s if options.watch else None,
    )


def summary_event(summary: "QueueSummary") -> dict[str, object]:
    """The last line of --progress json."""
    counts = {name: value for name, value in asdict(summary.counts).items() if not name.startswith("bytes")}
    return {
        "event": "queue_summary",
        "files": summary.counts.files,
        **counts,
        "frames": summary.frames,
        "seconds": summary.seconds,
        "interrupted": summary.interrupted,
        "failures": [{"source": source, "error": error} for source, error in summary.failures],
    }


def summary_lines(summary: "QueueSummary", output_dir: Path) -> list[str]:
    """What is printed at the end of a queue."""
    counts = summary.counts
    parts = [f"{counts.done} upscaled ({summary.frames} frames)"]
    parts += [f"{counts.skipped} done already"] * bool(counts.skipped)
    parts += [f"{counts.failed} FAILED"] * bool(counts.failed)
    parts += [f"{counts.waiting} left"] * bool(counts.waiting)
    lines = [f"{output_dir}: {counts.files} files: {', '.join(parts)}, in {clock(summary.seconds)}"]
    lines += [f"FAILED: {source}: {error}" for source, error in summary.failures]
    if summary.interrupted:
        lines.append("stopped; everything finished is kept. Run the same command to go on.")
    return lines
