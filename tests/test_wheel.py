"""The wheel, as a stranger installs it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_wheel_works_without_a_compiler_in_an_empty_environment(tmp_path: Path) -> None:
    script = subprocess.run([ROOT / "scripts" / "test_wheel", tmp_path], capture_output=True, text=True, check=False)
    assert script.returncode == 0, script.stdout[-2000:] + script.stderr[-2000:]
    assert list(tmp_path.glob("vapoursynth_iconvsr-*.whl"))
