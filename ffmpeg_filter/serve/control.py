"""Runs what the page asks for, one process at a time: the queue itself, its list, and comparisons."""

import contextlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TextIO

from ffmpeg_filter.serve.board import Board, Phase
from vs_iconvsr import system


class BusyError(Exception):
    """Something else runs; the message says what."""


class Control:
    """Starts and stops the `iconvsr` processes behind a board.

    They are processes of their own so that a stop is the same as in a terminal, and so that nothing that happens to
    them ends the server. They write to its pipes: should it be killed, they end at their next line, and finished
    parts are kept.

    words: the arguments of `iconvsr upscale`. comparison: those of `iconvsr compare` that apply to every source.
    """

    def __init__(self, board: Board, words: Sequence[str], comparison: Sequence[str]) -> None:
        self._board = board
        at = words.index("--") if "--" in words else len(words)
        self._queue = ["upscale", *words[:at], "--progress", "json", *words[at:]]
        self._list = ["upscale", *words[:at], "--progress", "json", "--dry-run", *words[at:]]
        self._comparison = list(comparison)
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def list_files(self) -> None:
        """Fills the board with what the queue would do. Raises ValueError with what it printed if it cannot be."""
        codes: list[int] = []
        self._start("listing", self._list, codes)
        self.wait()
        if codes != [0]:
            raise ValueError(self._board.last_note().removeprefix("iconvsr: "))

    def start(self) -> None:
        """Begins the queue, or goes on with it. Raises BusyError."""
        self._start("upscaling", self._queue)

    def compare(self, source: str) -> None:
        """Makes the comparison of a source of the board. Raises BusyError."""
        page = self.page_of(source)
        page.parent.mkdir(parents=True, exist_ok=True)
        words = ["compare", source, str(page), "--overwrite", *self._comparison]
        self._start("comparing", words)

    def status(self) -> dict[str, Any]:
        """The board's snapshot, and of each file whether it has been compared."""
        snapshot = self._board.snapshot()
        for file in snapshot["files"]:
            file["compared"] = self.page_of(file["source"]).exists()
        return snapshot

    def page_of(self, source: str) -> Path:
        """Where the comparison of a source of the board is, or will be: beside the output."""
        output = self._board.output_of(source)
        return output.with_name(f"{output.name}.compare.html")

    def stop(self) -> None:
        """As Ctrl-C: the first time after the step at hand, the second time at once. Nothing if nothing runs."""
        with self._lock:
            if self._child is not None:
                self._board.enter("stopping")
                with contextlib.suppress(OSError):  # it has just ended
                    system.ask_group_to_end(self._child)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until nothing runs. False if something still does after the timeout."""
        with self._lock:
            return self._ended.wait_for(lambda: self._child is None, timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Stops what runs and waits for it, or kills it after the timeout; nothing starts any more."""
        with self._lock:
            self._closed = True
        self.stop()
        if not self.wait(timeout_s):
            with self._lock:
                if self._child is not None:
                    self._child.kill()
            self.wait()

    def _start(self, phase: Phase, words: list[str], codes: list[int] | None = None) -> None:
        with self._lock:
            if self._child is not None or self._closed:
                raise BusyError(f"expected nothing to run, got a queue that is {self._board.phase}; stop it, or wait")
            # Of its own group: Ctrl-C in the server's terminal is passed on by the server, once.
            self._child = system.start_group(
                [sys.executable, "-m", "ffmpeg_filter.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                environment=None,
            )
            self._board.enter(phase)
            threading.Thread(
                target=self._follow, args=(self._child, [] if codes is None else codes), name=f"serve-{phase}"
            ).start()

    def _follow(self, child: "subprocess.Popen[bytes]", codes: list[int]) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        errors = threading.Thread(target=self._read_notes, args=(_text(child.stderr),), name="serve-messages")
        errors.start()
        with _text(child.stdout) as lines:
            for line in lines:
                self._read_event(line)
        errors.join()
        codes.append(child.wait())
        with self._lock:
            self._child = None
            self._board.enter("idle")
            self._ended.notify_all()

    def _read_event(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            event = {"event": "note", "text": line.rstrip()}  # such as the path that `compare` prints
        self._board.apply(event)

    def _read_notes(self, stream: TextIO) -> None:
        with stream as lines:
            for line in lines:
                if text := line.rstrip():
                    self._board.note(text)


def _text(stream: IO[bytes]) -> TextIO:
    return io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
