"""What Linux, macOS and Windows do differently. No other module asks which system it runs on.

What is decided by a parameter `windows` is a pure function, so that the tests of one system cover the other.
"""

import contextlib
import errno
import functools
import io
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

WINDOWS = sys.platform == "win32"

# ---- files ----

DELETES_OPEN_FILES = not WINDOWS
"""Whether a file can be deleted or renamed while it is open; on Windows that is an error (WinError 32)."""

_FORBIDDEN = frozenset('<>:"/\\|?*') | frozenset(map(chr, range(32)))
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{name}{n}" for name in ("COM", "LPT") for n in "123456789¹²³"]
)


def name_problem(name: str, *, windows: bool = WINDOWS) -> str:
    """Why a file cannot have this name, to be read after "expected a name …"; empty if it can.

    Windows would take some of these without an error and write elsewhere: a.mkv:b into a stream of a.mkv that no
    player sees, aux.mkv to a device.
    """
    if not windows:
        return ""
    if found := sorted(_FORBIDDEN.intersection(name)):
        return f'without any of < > : " / \\ | ? *, got {found[0]!r} in {name!r}'
    if name.endswith((" ", ".")):
        return f"that does not end in a dot or a space, got {name!r}"
    if (device := name.partition(".")[0].rstrip(" ").upper()) in _DEVICES:
        return f"that is not one of Windows' devices, got {name!r}, which means {device}"
    return ""


def longest_name_bytes(folder: Path) -> int:
    """The most bytes that the name of a file in this folder may have."""
    if sys.platform == "win32":
        return 255  # UTF-16 units, which are never more than the bytes that we count
    else:
        return os.pathconf(folder, "PC_NAME_MAX")


def sync(path: Path) -> None:
    """The content of the file, or the names in the folder, are on the disk when this returns."""
    if sys.platform == "win32":
        if path.is_file():  # NTFS keeps a journal of names, and has no call for folders
            with path.open("r+b") as file:  # only what is open for writing can be flushed
                os.fsync(file.fileno())
    else:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(file: IO[Any], *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Locks an open file against other processes for this block. Raises BlockingIOError if one of them holds it.

    shared: together with others that share it. wait: until nobody else holds it, instead of raising.

    Not by the library filelock: it has no shared lock on a file (its ReadWriteLock is an SQLite database, which must be
    writable, and data sets need not be). portalocker has one, but on Windows needs pywin32 for it.
    """
    if sys.platform == "win32":
        with _locked_by_windows(file, shared=shared, wait=wait):
            yield
    else:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        yield  # closing the file ends the lock


def cache_folder() -> Path:
    """Where a user's programs keep what can be had again. Raises RuntimeError if there is no home directory."""
    if sys.platform == "linux":
        # The XDG specification says to ignore a relative path.
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return cache if cache.is_absolute() else Path("~/.cache").expanduser()
    else:
        import platformdirs

        return platformdirs.user_cache_path().expanduser()


def private_folder(name: str) -> Path:
    """A temporary folder of this user alone; created by whoever uses it, with mode 0700."""
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / name  # lies in the user's profile
    else:
        return Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"


def unicode_path_of(file: BinaryIO) -> Path:
    """A path of the open file that is text: on Linux a name may be any bytes, which some libraries refuse."""
    return Path(f"/proc/self/fd/{file.fileno()}") if sys.platform == "linux" else Path(file.name)


NVIDIA_DRIVERS = (
    (Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll",)
    if WINDOWS
    else (Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/libcuda.so.1"))  # the second: in WSL
)
"""Files that are there where an NVIDIA driver is installed."""


# ---- the machine ----


def total_memory_bytes() -> int:
    """The main memory of the machine."""
    if sys.platform == "linux":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        import psutil

        return int(psutil.virtual_memory().total)


def usable_memory_bytes() -> int:
    """The main memory that this process may use: less than the machine's in a container with a limit."""
    total, limit = total_memory_bytes(), Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        total = min(total, int(text))
    return total


def occupied_memory_bytes() -> int:
    """The main memory that this process occupies; 0 where the system does not report it."""
    if sys.platform == "linux":
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")
    else:
        import psutil

        return int(psutil.Process().memory_info().rss)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    else:
        return os.cpu_count() or 1


def idle_share() -> float:
    """The share of the cores that was idle in the last minute; 0 if the system does not report it."""
    if sys.platform == "win32":
        return 0.0  # it keeps no such average
    else:
        try:
            return max(1 - os.getloadavg()[0] / usable_cores(), 0.0)
        except OSError:
            return 0.0


# ---- processes ----

STOP_SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
if sys.platform == "win32":
    STOP_SIGNALS = (*STOP_SIGNALS, signal.SIGBREAK)  # Ctrl-Break, and `ask_group_to_end`
"""What asks a program to save its work and end."""

WORKER_START = "spawn" if WINDOWS else "forkserver"
"""How multiprocessing starts workers: forking a process in which torch has started threads can deadlock."""


def start_group(
    command: Sequence[str | bytes], *, stdin: int, stdout: int, stderr: int, environment: Mapping[str, str] | None
) -> "subprocess.Popen[bytes]":
    """Starts a program in a process group of its own, so that Ctrl-C on the terminal reaches only us.

    On Windows it ends with this process, however that ends: its files could not be replaced while it lives.
    Raises OSError if it cannot be started.
    """
    env = dict(environment) if environment is not None else None
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, creationflags=flags)
        _end_with_us(process)
        return process
    else:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, start_new_session=True)


def ask_group_to_end(process: "subprocess.Popen[bytes]") -> None:
    """Lets a program of `start_group` finish its files and end. Raises OSError if it is gone or cannot be asked."""
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)  # needs a console, which both have or neither
    else:
        os.killpg(process.pid, signal.SIGTERM)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Ends a program of `start_group` and what it has started, at once. Raises OSError if it is gone."""
    if sys.platform == "win32":
        import psutil

        try:  # an ffmpeg on PATH can be a small program of a package manager that starts the real one
            below = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(errno.ESRCH, str(error)) from error
    else:
        os.killpg(process.pid, signal.SIGKILL)


def become(command: Sequence[str]) -> NoReturn:
    """Runs the program in place of this one: with its terminal, its signals and its exit code."""
    if sys.platform == "win32":
        # execv of Windows starts another process and ends this one at once: the shell would not wait for it.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches all programs of a console by itself
        process = subprocess.Popen(command)
        _end_with_us(process)
        sys.exit(process.wait())
    else:
        os.execv(command[0], list(command))


@contextlib.contextmanager
def signals_blocked(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Processes started in this block never receive these signals; this one gets them at its end.

    Windows cannot block any: there the processes themselves have to ignore them.
    """
    if sys.platform == "win32":
        yield
    else:
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)


# ---- pipes ----

DESCRIPTORS_ARE_SHARED = not WINDOWS
"""Whether the number of an open file means the same to us and to libraries written in C.

On Windows each C runtime has a table of its own, and PyAV's libraries have another one than Python.
"""


def for_pyav(pipe: IO[bytes]) -> Any:
    """What PyAV opens to read from this pipe or write to it: a name, or a file."""
    if DESCRIPTORS_ARE_SHARED:
        return f"pipe:{pipe.fileno()}"
    # The raw reader returns what there is, instead of waiting for more; the raw writer might not write all.
    return pipe.raw if isinstance(pipe, io.BufferedReader) else pipe


def enlarge_pipe(pipe: IO[bytes], size_bytes: int) -> None:
    """A larger pipe means fewer context switches between two programs; Linux only, and never relied on."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, size_bytes)


# ---- shells and terminals ----

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./\\:=+")


def command_line(words: Sequence[str], *, windows: bool = WINDOWS) -> str:
    """The words as one would type them into a shell: a POSIX one, or cmd.

    PowerShell reads the same line, except that a program in quotes needs an & before it there, and that it replaces $
    and ` in quotes. cmd replaces %NAME% even in quotes, if there is such a variable.
    """
    return " ".join(_quoted_for_windows(word) for word in words) if windows else shlex.join(words)


def _quoted_for_windows(word: str) -> str:
    if word and _PLAIN.issuperset(word):
        return word
    quoted = subprocess.list2cmdline([word])  # what Windows' C runtime takes apart again
    if quoted.startswith('"'):
        return quoted
    backslashes = len(quoted) - len(quoted.rstrip("\\"))
    return f'"{quoted}{"\\" * backslashes}"'  # & | < > ( ) and the like are plain characters in quotes only


def remedy_for_missing_folder(folder: Path, *, windows: bool = WINDOWS) -> str:
    """The command that creates a folder and those above it."""
    return f"mkdir {command_line([str(folder)], windows=True)}" if windows else f"mkdir -p {folder}"


def remedy_for_path(folder: Path, *, windows: bool = WINDOWS) -> str:
    """The command that puts a folder first on PATH."""
    return f"set PATH={folder};%PATH%" if windows else f'PATH="{folder}:$PATH"'


def scripts_folder() -> Path:
    """Where this environment has its programs."""
    return Path(sys.prefix) / ("Scripts" if WINDOWS else "bin")


def program_name(name: str, *, windows: bool = WINDOWS) -> str:
    """The name of the file of a program."""
    return f"{name}.exe" if windows else name


def write_utf8() -> None:
    """Makes what this program prints UTF-8, as it is elsewhere, and as Python 3.15 does everywhere.

    Windows' old encodings know no arrows and few letters: printing one into a pipe or a file would be an error.
    """
    if WINDOWS:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and hasattr(stream, "reconfigure"):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


# ---- Windows itself ----

if sys.platform == "win32":

    @contextlib.contextmanager
    def _locked_by_windows(file: IO[Any], *, shared: bool, wait: bool) -> Iterator[None]:
        """LockFileEx on the first byte; lock files are empty, so nobody wants to read it."""
        import ctypes
        import msvcrt

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file.fileno()))
        flags = (0 if shared else 2) | (0 if wait else 1)  # LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY
        if not kernel.LockFileEx(handle, flags, 0, 1, 0, (ctypes.c_uint64 * 4)()):  # OVERLAPPED: zeros are offset 0
            code = ctypes.get_last_error()
            if code == 33:  # ERROR_LOCK_VIOLATION
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), file.name)
            raise ctypes.WinError(code)
        try:
            yield
        finally:  # closing the file would do it, too, but not at once
            kernel.UnlockFileEx(handle, 0, 1, 0, (ctypes.c_uint64 * 4)())

    def _end_with_us(process: "subprocess.Popen[Any]") -> None:
        """Best effort: the process may have ended already."""
        import ctypes

        handle = ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined]
        ctypes.WinDLL("kernel32").AssignProcessToJobObject(_job(), handle)

    @functools.cache
    def _job() -> Any:
        """A job object, whose programs Windows ends when its last handle closes: when this process ends."""
        import ctypes

        kernel = ctypes.WinDLL("kernel32")
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        limits = (ctypes.c_uint32 * 36)()  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION of 64-bit systems: 144 bytes
        limits[4] = 0x2000  # LimitFlags: JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        kernel.SetInformationJobObject(job, 9, limits, ctypes.sizeof(limits))
        return job
