"""What tests do to the nodes of a Ray cluster on this machine: add, watch and kill them."""

import hashlib
import io
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.report import PlainProgress

PARTS, PART_FRAMES = 6, 8
FRAMES = PARTS * PART_FRAMES
NODE_FOLDER = f"iconvsr-{os.getuid()}"  # in a node's temporary directory

Run = Callable[..., JobSummary]
PartFfmpeg = Callable[[str, str], str]


class Recorder(PlainProgress):
    """Keeps the notes, counts frames, and does something at the first note that holds some words."""

    def __init__(self, words: str = "", action: Callable[[], object] = lambda: None) -> None:
        super().__init__(io.StringIO())
        self.notes: list[str] = []
        self.frames = 0
        self._words, self._action = words, action

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self._words and self._words in text:
            self._words = ""
            self._action()

    def advance(self, segment: int | None = None) -> None:
        super().advance(segment)
        self.frames += 1

    def with_words(self, words: str) -> list[str]:
        """The notes that hold these words."""
        return [text for text in self.notes if words in text]

    def makers(self) -> set[str]:
        """The nodes that have made parts, by the beginnings of their ids."""
        return {text.split(" by ")[1].split(",")[0].split("/")[1] for text in self.with_words(" frames by ")}


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_node(cluster: Any, *, num_cpus: int = 1, **environment: str) -> Any:
    """A new node whose processes have these environment variables and the current working directory."""
    for attempt in range(3):  # Ray gives a node's helpers 15 s to start, too few for a busy machine
        try:
            return cluster.add_node(
                num_cpus=num_cpus,
                node_ip_address="127.0.0.1",
                object_store_memory=80 << 20,
                include_dashboard=False,
                include_log_monitor=False,
                env_vars={"TMPDIR": str(cluster.temporary), **environment},
            )
        except Exception:
            if attempt == 2:
                raise
    return None


def encoders(cluster: Any) -> list[int]:
    """Processes that encode parts on a node."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes()
        except OSError:
            continue
        if b"pipe:0" in words and bytes(cluster.temporary / NODE_FOLDER) in words:
            found.append(int(command.parent.name))
    return found


def kill_a_worker(cluster: Any) -> threading.Thread:
    """SIGKILL to the first process that is seen to make a part; returns at once."""

    def kill() -> bool:
        for encoder in encoders(cluster):
            try:
                os.kill(_parent_of(encoder), signal.SIGKILL)
            except (OSError, ValueError):
                continue
            return True
        return False

    return in_background(kill, lambda: None)


def _parent_of(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: Callable[[], object], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.03)


def in_background(condition: Callable[[], object], action: Callable[[], object]) -> threading.Thread:
    """Waits for the condition, then acts; returns at once."""

    def act() -> None:
        wait_for(condition, 200)
        action()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def command_line(job: JobOptions, folder: Path, address: str) -> list[str]:
    fixed = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --progress plain")
    words = ["upscale", str(job.input), str(folder / "out.mkv"), "--model", job.model, *fixed]
    words += ["--ffmpeg", job.ffmpeg] if job.ffmpeg else []
    return [*words, "--part-frames", str(PART_FRAMES), "--cluster", address]
