"""core.iconvsr completes in editors and is checked by mypy, once the field's usual tool has written its stubs."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vs_iconvsr import options

pytestmark = pytest.mark.needs_vapoursynth


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "vapoursynth").mkdir()
    program = Path(sys.executable).with_name("vsstubs")
    subprocess.run([program, "-o", folder / "vapoursynth" / "__init__.pyi"], check=True, capture_output=True)
    return folder


def mypy(script: str, stubs: Path) -> str:
    path = stubs / "script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", stubs / "cache", path],
        env=os.environ | {"MYPYPATH": str(stubs)},
        cwd=stubs,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_users_script_passes(stubs: Path) -> None:
    told = mypy(
        """
        import vapoursynth as vs

        core = vs.core
        clip = core.std.BlankClip(format=vs.YUV420P8)
        clip = core.iconvsr.Upscale(clip, model="light", segment=30, tile=[0, 0], memory=4, format=vs.YUV420P10)
        core.iconvsr.SceneDetect(clip).iconvsr.Upscale().set_output()
        """,
        stubs,
    )
    assert told.startswith("Success"), told


def test_the_stubs_have_the_options_of_the_filter(stubs: Path) -> None:
    text = (stubs / "vapoursynth" / "__init__.pyi").read_text()
    methods = [line for line in text.splitlines() if "def Upscale(" in line and "auto_download" in line]
    assert methods
    for method in methods:
        names = re.findall(r"(\w+): [^,]+ \| None = None", method)
        assert names == [option.name for option in options.FILTER], method


def test_a_wrong_argument_is_found_before_the_script_runs(stubs: Path) -> None:
    told = mypy(
        """
        import vapoursynth as vs

        vs.core.iconvsr.Upscale(vs.core.std.BlankClip(), segments=30)
        """,
        stubs,
    )
    assert '"segments"' in told
