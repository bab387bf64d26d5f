"""Every module can be imported where there is only what Windows has, and only vs_iconvsr.system knows the systems."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vs_iconvsr", "ffmpeg_filter", "training")
KNOWS_THE_SYSTEMS = ROOT / "vs_iconvsr" / "system.py"

# What only one system has, or has in another meaning.
MODULES = ("fcntl", "msvcrt", "resource", "termios", "tty", "pty", "pwd", "grp", "winreg", "_winapi")
# fmt: off
ATTRIBUTES = {
    "os": (
        "name", "sysconf", "pathconf", "statvfs", "killpg", "getpgid", "setpgid", "setsid", "getuid", "geteuid",
        "getgid", "fork", "forkpty", "execv", "execve", "execvp", "mkfifo", "mknod", "uname", "getloadavg", "nice",
        "sched_getaffinity", "sched_setaffinity", "chown", "fchmod", "waitid", "WNOHANG", "O_DIRECTORY",
    ),
    "signal": (
        "SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGSTOP", "SIGCONT",
        "SIGBREAK", "CTRL_C_EVENT", "CTRL_BREAK_EVENT", "SIG_BLOCK", "SIG_SETMASK", "pthread_sigmask", "pthread_kill",
        "alarm", "setitimer", "sigwait", "siginterrupt",
    ),
    "sys": ("platform", "getwindowsversion"),
    "time": ("tzset",),
    "shlex": ("join", "quote"),  # for POSIX shells only: system.command_line
}
# fmt: on
FOLDERS = ("/proc", "/dev/", "/sys/", "/tmp", "/etc/")

# With a Windows that has no file of ours loaded yet: what our modules import by themselves is there, as it would be.
IMPORT_ALL = """
import builtins, importlib, os, signal, sys

modules, blocked, ours = {modules!r}, {blocked!r}, {packages!r}


def belongs(name):
    return name.partition(".")[0] in ours


for name in modules:  # whatever else they need is imported while this still is Linux
    importlib.import_module(name)
for name in [name for name in sys.modules if belongs(name)]:
    del sys.modules[name]

original = builtins.__import__


def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    if globals and belongs(globals.get("__name__") or "") and name in blocked:
        raise ModuleNotFoundError(f"No module named {{name!r}}, as on Windows")
    return original(name, globals, locals, fromlist, level)


builtins.__import__ = guarded
sys.platform = "win32"
signal.SIGBREAK = signal.SIGABRT  # any: Windows has one
for module, names in {attributes!r}.items():
    for name in names:
        if hasattr(sys.modules.get(module), name):
            delattr(sys.modules[module], name)
for name in modules:
    importlib.import_module(name)
print(len(modules))
"""
GONE = {
    "os": ("sysconf", "pathconf", "killpg", "getuid", "geteuid", "setsid", "fork", "getloadavg", "sched_getaffinity"),
    "signal": ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "pthread_sigmask", "SIG_BLOCK", "SIG_SETMASK"),
}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_module_can_be_imported_with_what_windows_has() -> None:
    modules = [module_of(path) for path in sources() if path.stem != "__main__"]
    assert len(modules) > 100
    blocked = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp")
    script = IMPORT_ALL.format(modules=modules, blocked=blocked, packages=PACKAGES, attributes=GONE)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(len(modules))]


def system_specific(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module in MODULES:
                yield str(node.module)
            names = ATTRIBUTES.get(str(node.module), ())
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name in names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in ATTRIBUTES.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(FOLDERS):
            yield node.value


@pytest.mark.parametrize(
    "path", [path for path in sources() if path != KNOWS_THE_SYSTEMS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_one_module_knows_the_systems(path: Path) -> None:
    found = sorted(set(system_specific(ast.parse(path.read_text(encoding="utf-8")))))
    assert found == [], f"{path.name}: not on every system, so it belongs into vs_iconvsr/system.py"


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """Lines where a text file is read or written in an encoding that Windows chooses."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg in ("encoding", None) for word in node.keywords):
            continue
        if (
            (isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"))
            or (isinstance(node.func, ast.Name) and node.func.id == "open")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "open" and opens_text(node))
        ):
            yield node.lineno


def opens_text(call: ast.Call) -> bool:
    """Whether a call of a method named open, of any object, has the look of a text file: path.open("a")."""
    modes = [argument.value for argument in call.args[:1] if isinstance(argument, ast.Constant)]
    return any(isinstance(mode, str) and len(mode) <= 3 and "b" not in mode and mode[:1] in "rwax" for mode in modes)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_text_files_have_an_encoding(path: Path) -> None:
    assert list(without_encoding(ast.parse(path.read_text(encoding="utf-8")))) == [], "pass encoding="
