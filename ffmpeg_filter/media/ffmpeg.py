"""The ffmpeg executable: finding it, what it supports, and running it so that it neither hangs nor fails unnoticed."""

import functools
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from vs_iconvsr import system

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "ICONVSR_FFMPEG"
OLDEST = Version("5.1")  # -fps_mode appeared there
STDERR_TAIL_LINES = 40
QUOTED_LINES = 4
CLOSE_TIMEOUT_S = 600.0  # an encoder may still hold a minute of 4K frames when its input ends
KILL_TIMEOUT_S = 5.0

# Anything else could be reached by a playlist or a reference inside a file that poses as a video.
INPUT_PROTOCOLS = "file,pipe,fd"

# What ffmpeg's other threads print after one has failed: never the cause.
_AFTERMATH = re.compile(
    "Task finished with error|Terminating thread|Nothing was written into|Could not open encoder before|"
    "Error sending frames to consumers|Conversion failed!"
)


class FfmpegError(Exception):
    """An ffmpeg process that could not be started, failed, or reported success without finishing."""


@dataclass(frozen=True)
class Executable:
    """An ffmpeg program that answered `-version`."""

    path: str
    version: str
    origin: str  # where it was found, for messages
    options: frozenset[str]  # option names of `-h full`, without the dash
    encoders: frozenset[str]
    filters: frozenset[str]


def find_executable(named_path: str | os.PathLike[str] | None = None) -> Executable:
    """The user's ffmpeg, else $ICONVSR_FFMPEG, else the one on PATH if new enough, else that of imageio-ffmpeg.

    Raises FfmpegError if the one that the user named does not work, or if there is none at all.
    """
    named = os.fspath(named_path) if named_path is not None else os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        path = shutil.which(named)
        if path is None:
            raise FfmpegError(f"ffmpeg: expected an executable file, got {named!r}; correct --ffmpeg, or leave it out")
        return _inspect_executable(path, "named by the user" if named_path is not None else f"${ENVIRONMENT_VARIABLE}")
    on_path = shutil.which("ffmpeg")
    if on_path is not None:
        try:
            found = _inspect_executable(on_path, "PATH")
        except FfmpegError as error:
            logger.warning("the ffmpeg on PATH is skipped: %s", error)
        else:
            if version_of(found.version) >= OLDEST:
                return found
            logger.warning("ffmpeg %s at %s is skipped: expected %s or newer", found.version, on_path, OLDEST)
    import imageio_ffmpeg

    try:
        bundled = str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise FfmpegError(f"ffmpeg: none found; install ffmpeg {OLDEST} or newer, or pass --ffmpeg PATH") from error
    return _inspect_executable(bundled, "imageio-ffmpeg")


def version_of(text: str) -> Version:
    """'n9.0.2-essentials' → 9.0.2; a build that names a date or a commit counts as newest."""
    match = re.search(r"\d+(\.\d+)+", text)
    try:
        return Version(match.group()) if match else Version("999")
    except InvalidVersion:
        return Version("999")


@functools.cache
def _inspect_executable(path: str, origin: str) -> Executable:
    head = _output_of(path, "-version")
    match = re.match(r"ffmpeg version (\S+)", head)
    if match is None:
        raise FfmpegError(f"{path}: expected an ffmpeg, got a program whose -version prints {head[:80]!r}")
    options = re.findall(r"^\s*-([a-zA-Z0-9_]+)", _output_of(path, "-h", "full"), flags=re.MULTILINE)
    encoders = re.findall(r"^ [VASD][F.]\S{4} (\S+)", _output_of(path, "-encoders"), flags=re.MULTILINE)
    filters = re.findall(r"^ \S{2,3} (\S+) +\S+->", _output_of(path, "-filters"), flags=re.MULTILINE)
    return Executable(path, match.group(1), origin, frozenset(options), frozenset(encoders), frozenset(filters))


def option_values(executable: Executable, filter_name: str) -> dict[tuple[str, str], int]:
    """(option, name) → number, for the options of a filter whose values have names; they differ between versions."""
    values: dict[tuple[str, str], int] = {}
    option = ""
    for line in _output_of(executable.path, "-h", f"filter={filter_name}").splitlines():
        if match := re.match(r"^ {2,3}(\w+) +<", line):
            option = match.group(1)
        elif match := re.match(r"^ {5}(\S+) +(-?\d+) ", line):
            values[option, match.group(1)] = int(match.group(2))
    return values


def _output_of(path: str, *arguments: str) -> str:
    try:
        answer = subprocess.run(
            [path, "-hide_banner", *arguments] if arguments != ("-version",) else [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FfmpegError(f"{path}: cannot be run as ffmpeg: {error}") from error
    return answer.stdout.decode(errors="replace")


def safe_url(path: str | os.PathLike[str]) -> bytes:
    """A file name that ffmpeg and PyAV cannot mistake for an option, protocol, pattern or pipe."""
    return b"file:" + os.path.abspath(os.fsencode(path))  # noqa: PTH100 (bytes: names need not be Unicode)


def safe_name(path: str | os.PathLike[str]) -> str:
    """`safe_url` as str, for PyAV and for logs; undecodable bytes become surrogates, as in Python's paths."""
    return os.fsdecode(safe_url(path))


class Child:
    """A running program in a process group of its own, so that Ctrl-C on the terminal reaches only us.

    Its standard error is always drained; the last lines are kept. `finish` or `kill` must be called.
    """

    def __init__(
        self,
        command: Sequence[str | bytes],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [os.fsdecode(part) for part in command]
        logger.info("running %s", describe(self.command))
        try:
            self.process = system.start_group(
                command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, environment=environment
            )
        except OSError as error:
            raise FfmpegError(f"{self.command[0]}: could not be started: {error}") from error
        self._tail: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        self._drain = threading.Thread(target=self._read_stderr, name="ffmpeg-stderr", daemon=True)
        self._drain.start()

    def finish(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Waits for the end; raises FfmpegError with the last lines of standard error if the exit code is not 0."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise FfmpegError(f"ffmpeg: expected an end within {timeout_s:.0f} s, got none; it was killed") from error
        self._drain.join(KILL_TIMEOUT_S)
        if self.process.returncode:
            raise FfmpegError(self.failure())

    def ends_within(self, patience_s: float) -> bool:
        """Waits that long for the end; whether it came."""
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def failure(self) -> str:
        """Why the program ended, as far as is known; waits briefly for it to end."""
        try:
            code = self.process.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return "ffmpeg no longer reads its input, though it is still running"
        self._drain.join(KILL_TIMEOUT_S)
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = [line for line in self._tail if line and not _AFTERMATH.search(line)]
        printed = " | ".join(lines[-QUOTED_LINES:]) or "it printed nothing"
        if any("No space left on device" in line for line in lines):
            return f"disk full: make room and run the same command again; finished parts are kept ({printed})"
        return (
            f"ffmpeg failed ({how}): {printed}"
            if code
            else f"ffmpeg stopped before its input ended (exit code 0): {printed}"
        )

    def kill(self, *, at_once: bool = False) -> None:
        """Ends the program and its children and waits for that. Safe to call at any time, more than once.

        at_once: do not let it finish its current work, which can take ffmpeg seconds.
        """
        if self.process.poll() is None:
            for end in (system.kill_group,) if at_once else (system.ask_group_to_end, system.kill_group):
                try:
                    end(self.process)
                except ProcessLookupError:
                    break
                except OSError:  # it cannot be asked
                    continue
                try:
                    self.process.wait(KILL_TIMEOUT_S)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self._drain.join(KILL_TIMEOUT_S)

    @property
    def stderr_tail(self) -> list[str]:
        """The last lines of its standard error."""
        return list(self._tail)

    def _read_stderr(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        with stderr:
            for line in stderr:
                self._tail.append(line.decode(errors="replace").strip())


def run(command: Sequence[str | bytes], *, timeout_s: float | None = None) -> list[str]:
    """Runs the command to its end and returns the last lines of standard error; raises FfmpegError if it fails."""
    child = Child(command)
    try:
        child.finish(timeout_s if timeout_s is not None else CLOSE_TIMEOUT_S * 100)
    finally:
        child.kill()
    return child.stderr_tail


def describe(command: Sequence[str | bytes]) -> str:
    """The command as one would type it into a shell."""
    return system.command_line([os.fsdecode(part) for part in command])


def command_prefix(executable: Executable) -> list[str | bytes]:
    """The start of every ffmpeg command: quiet, overwriting, never reading the terminal."""
    return [executable.path, "-hide_banner", "-v", "warning", "-nostats", "-nostdin", "-y"]
