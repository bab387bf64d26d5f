"""What every test may count on: a home of its own for VapourSynth's configuration, and honest skipping."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def _has_ffmpeg() -> bool:
    return shutil.which("ffmpeg") is not None or importlib.util.find_spec("imageio_ffmpeg") is not None


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_plugin() -> bool:
    import vapoursynth

    return hasattr(vapoursynth.core, "iconvsr")


PRESENT = {
    "needs_cuda": _has_cuda,
    "needs_ffmpeg": _has_ffmpeg,
    "needs_shared": lambda: (SHARED / "reference").is_dir(),
    "needs_vapoursynth": _has_plugin,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """needs_* markers skip where the thing is missing, and fail where REQUIRE= names it."""
    for marker, present in PRESENT.items():
        if item.get_closest_marker(marker) and not present():
            if marker in os.environ.get("REQUIRE", "").split(","):
                pytest.fail(f"{marker}: REQUIRE names it, and it is not here")
            pytest.skip(f"{marker}: not here")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """XDG_CONFIG_HOME with the line in it that vspipe needs, and ICONVSR_MODELS without any downloaded weights."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        environment.setenv("ICONVSR_MODELS", str(tmp_path_factory.mktemp("models")))
        subprocess.run([Path(sys.executable).with_name("vapoursynth"), "config"], check=True, capture_output=True)
        yield
