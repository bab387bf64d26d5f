"""The command in a process of its own, with limits of time and memory; torch is imported only once for all of them."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffmpeg_filter import cli
from ffmpeg_filter.media.probe import probe

LIMIT_S = 60.0
LIMIT_BYTES = 2 << 30

_POLL_S = 0.02
_PRELOADED = [
    "ffmpeg_filter.job.queue.run",
    "ffmpeg_filter.job.run",
    "ffmpeg_filter.pipe",
    "ffmpeg_filter.commands.upscale",
]


@dataclass(frozen=True)
class Ended:
    """How a process ended. code: of the exit, minus the signal's number, or None if it had to be killed at a limit.

    peak_bytes: the most memory that it and its children occupied at once.
    """

    code: int | None
    printed: str
    errors: str
    peak_bytes: int


def run_command(words: Sequence[str], folder: Path, *, stdin: Path | None = None, stdout: Path | None = None) -> Ended:
    """`iconvsr WORDS` in a folder, its output also kept there. stdin, stdout: files in place of those."""
    errors, printed = folder / "stderr.txt", stdout or folder / "stdout.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_become, args=(list(words), folder, stdin, printed, errors))
    process.start()
    assert process.pid is not None
    peak_bytes, exceeded = _watch(process, process.pid)
    process.join()
    code = None if exceeded else process.exitcode
    text = "" if stdout else printed.read_text(errors="replace")
    return Ended(code, text, errors.read_text(errors="replace") if errors.exists() else "", peak_bytes)


def _become(words: list[str], folder: Path, stdin: Path | None, printed: Path, errors: Path) -> None:
    os.setsid()  # so that its children can be found, and killed with it
    os.chdir(folder)
    for number, path, flags in (
        (0, stdin or Path(os.devnull), os.O_RDONLY),
        (1, printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags, 0o644), number)
    sys.stdin = open(0)  # noqa: SIM115 - multiprocessing has closed the one that there was
    sys.exit(_probe(words[1]) if words[0] == "probe" else cli.main(words))


def _probe(path: str) -> int:
    """As a command would call `probe`, which has none of its own."""
    try:
        probe(Path(path))
    except Exception as error:
        sys.stderr.write(f"iconvsr: {cli._one_line(error)}\n")
        return cli.EXIT_FAILED
    return 0


def _watch(process: multiprocessing.process.BaseProcess, group: int) -> tuple[int, bool]:
    """The most memory of the group, and whether it was killed at one of the limits."""
    peak_bytes, end_s = 0, time.monotonic() + LIMIT_S
    while process.is_alive():
        peak_bytes = max(peak_bytes, sum(_resident_bytes(group)))
        if peak_bytes > LIMIT_BYTES or time.monotonic() > end_s:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            return peak_bytes, True
        process.join(_POLL_S)
    return peak_bytes, False


def _resident_bytes(group: int) -> Iterator[int]:
    """Of each process of the group."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                yield int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
