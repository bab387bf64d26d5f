"""Windows' Python under Wine, as ./scripts/test_windows sets it up; without that, these tests are skipped."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("ICONVSR_WINDOWS", "/nowhere"))
NATIVE = (
    *("ucrtbase", "bcryptprimitives", "concrt140", "msvcp140", "msvcp140_1", "msvcp140_2", "msvcp140_atomic_wait"),
    *("vcomp140", "vcruntime140", "vcruntime140_1"),
)

Wine = Callable[..., subprocess.CompletedProcess[bytes]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.long)
            item.add_marker(pytest.mark.timeout(900))
            if not (CACHE / "plugin.done").exists():
                item.add_marker(pytest.mark.skip("not set up: ./scripts/test_windows"))


def at(path: Path) -> str:
    """The path as Windows' programs know it."""
    return "Z:" + str(path).replace("/", "\\")


def environment(**more: str) -> dict[str, str]:
    return os.environ | {
        "WINEPREFIX": str(CACHE / "prefix"),
        "WINEDEBUG": "-all",
        "WINEPATH": at(CACHE / "python"),
        "WINEDLLOVERRIDES": f"{','.join(NATIVE)}=n,b;mscoree,mshtml=;winedbg.exe=d",
        "PYTHONPATH": at(ROOT),
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "KMP_AFFINITY": "disabled",  # or Intel's OpenMP aborts
        **more,
    }


def start(words: list[str], **more: str) -> "subprocess.Popen[bytes]":
    """A program under Wine. All three streams are pipes: Wine gives Python no others without a display."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["wine", *words], stdin=pipe, stdout=pipe, stderr=pipe, env=environment(**more), start_new_session=True
    )


@pytest.fixture
def wine() -> Wine:
    """wine("-m", "ffmpeg_filter.cli", …, given=b"", NAME="value"): Windows' Python, run to its end."""

    def run(*words: str, given: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        process = start([str(CACHE / "python" / "python.exe"), *words], **more)
        out, err = process.communicate(given, timeout=600)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return run


@pytest.fixture
def iconvsr(wine: Wine) -> Wine:
    """iconvsr("upscale", …): the command."""
    return lambda *words, **more: wine("-m", "ffmpeg_filter.cli", *words, **more)
