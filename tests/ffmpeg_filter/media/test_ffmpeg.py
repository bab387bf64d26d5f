import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest
from packaging.version import Version

from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.ffmpeg import Child, FfmpegError, find_executable, version_of

pytestmark = pytest.mark.needs_ffmpeg


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str, str], Path]:
    """An executable in a folder of its own that claims to be some version of ffmpeg."""

    def make(name: str, version: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "ffmpeg"
        path.write_text(f'#!/bin/sh\n[ "$1" = -version ] && echo "{version}"\nexit 0\n')
        path.chmod(0o755)
        return path

    return make


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(children.ENVIRONMENT_VARIABLE, raising=False)


def test_a_named_ffmpeg_takes_precedence(fake: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    named, variable, on_path = (fake(n, f"ffmpeg version {v} x") for n, v in (("a", "9.1"), ("b", "9.2"), ("c", "9.3")))
    monkeypatch.setenv(children.ENVIRONMENT_VARIABLE, str(variable))
    monkeypatch.setenv("PATH", str(on_path.parent), prepend=":")
    assert find_executable(named).version == "9.1"
    assert find_executable().version == "9.2"
    monkeypatch.delenv(children.ENVIRONMENT_VARIABLE)
    assert find_executable().version == "9.3"


@pytest.mark.parametrize("text", ["ffmpeg version 4.2.2-static", "something else"])
def test_an_old_or_broken_ffmpeg_on_the_path_is_skipped(
    fake: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PATH", str(fake("old", text).parent), prepend=":")
    assert find_executable().path == imageio_ffmpeg.get_ffmpeg_exe()


def test_a_named_program_that_is_not_ffmpeg_is_an_error(fake: Callable[[str, str], Path]) -> None:
    with pytest.raises(FfmpegError, match="expected an ffmpeg, got a program whose -version prints"):
        find_executable(fake("no", "hello"))


def test_the_bundled_ffmpeg_lists_its_encoders() -> None:
    found = find_executable()
    assert {"libx264", "libx265", "ffv1", "prores_ks"} <= found.encoders
    assert {"bwdif", "setparams"} <= found.filters
    assert "fps_mode" in found.options


@pytest.mark.parametrize(
    ("text", "version"), [("n9.0.2-17-g2a", "9.0.2"), ("5.1.9-0+deb12u1", "5.1.9"), ("N-118-g0a1b2c3d", "999")]
)
def test_versions_are_read_from_what_builds_call_themselves(text: str, version: str) -> None:
    assert version_of(text) == Version(version)


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_the_end_of_standard_error_is_kept_and_the_aftermath_left_out() -> None:
    script = "import sys; [print(f'line {n}', file=sys.stderr) for n in range(9000)]; "
    script += "print('Conversion failed!', file=sys.stderr); sys.exit(3)"
    child = Child(python(script))
    with pytest.raises(FfmpegError, match=r"^ffmpeg failed \(exit code 3\): line 8996 \| .* \| line 8999$"):
        child.finish()


def test_a_child_that_does_not_end_is_killed() -> None:
    child = Child(python("import time; time.sleep(600)"))
    started = time.monotonic()
    with pytest.raises(FfmpegError, match="expected an end within 0 s, got none; it was killed"):
        child.finish(timeout_s=0.1)
    assert child.process.poll() is not None
    assert time.monotonic() - started < 30


def test_a_child_lives_in_a_process_group_of_its_own() -> None:
    child = Child(python("import os; print(os.getpgid(0) == os.getpid())"), stdout=subprocess.PIPE)
    assert child.process.stdout is not None
    assert child.process.stdout.read() == b"True\n"
    child.finish()
    child.process.stdout.close()


def test_a_missing_program_is_named() -> None:
    with pytest.raises(FfmpegError, match="/no/such: could not be started"):
        Child(["/no/such"])


def test_the_names_of_a_filters_values_are_known() -> None:
    values = children.option_values(find_executable(), "setparams")
    assert values["colorspace", "bt709"] == 1
    assert values["color_trc", "smpte2084"] == 16
    assert values["range", "tv"] == 1
