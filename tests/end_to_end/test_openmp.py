"""Both frontends let torch's idle threads sleep: what OpenMP itself says of its settings when it is loaded."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def spin_count(command: Sequence[str | Path], settings: Mapping[str, str]) -> int:
    """How often a thread of this command looks again before it sleeps."""
    unset = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment = unset | {"OMP_DISPLAY_ENV": "verbose"} | settings
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if found is None:
        pytest.skip("this torch has another OpenMP, which does not say")
    return int(found.group(1))


@pytest.fixture(params=["vspipe", "iconvsr"])
def frontend(request: pytest.FixtureRequest, tmp_path: Path) -> list[str | Path]:
    """A command that loads torch as this frontend does."""
    if request.param == "iconvsr":
        return [BIN / "iconvsr", "models", "verify", "light"]
    script = tmp_path / "script.vpy"
    script.write_text(
        "import vapoursynth as vs\n"
        "vs.core.std.BlankClip(format=vs.GRAYS, width=16, height=16, length=1).iconvsr.Upscale().set_output()\n"
    )
    return [BIN / "vspipe", script, "--"]


@pytest.mark.needs_vapoursynth
def test_idle_threads_sleep_at_once(frontend: list[str | Path]) -> None:
    assert spin_count(frontend, {}) == 0


@pytest.mark.needs_vapoursynth
def test_the_users_setting_takes_precedence(frontend: list[str | Path]) -> None:
    assert spin_count(frontend, {"OMP_WAIT_POLICY": "active"}) > 0
