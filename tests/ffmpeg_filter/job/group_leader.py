"""The command with a process group of its own, which is killed whole; torch is imported only once for all of them."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence

from ffmpeg_filter import cli


class GroupLeader:
    """A running `iconvsr WORDS`."""

    def __init__(self, words: Sequence[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["ffmpeg_filter.job.queue.run", "ffmpeg_filter.job.run"])
        self._process = context.Process(target=_lead, args=(list(words),))
        self._process.start()

    def ended(self, limit_s: float) -> int | None:
        """The exit code; None if it still runs after that time."""
        self._process.join(limit_s)
        return self._process.exitcode

    def kill(self) -> None:
        """Kills it and its children with SIGKILL, and waits for it."""
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it has not made the group yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _lead(words: list[str]) -> None:
    os.setsid()
    sys.exit(cli.main(words))
