"""core.iconvsr under a real vspipe."""

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.end_to_end.noisy_clip import HEIGHT, NUM_FRAMES, VSPIPE, WIDTH

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.usefixtures("two_threads")]


@pytest.fixture
def script(tmp_path: Path, tiny_model: Path) -> Path:
    path = tmp_path / "script.vpy"
    path.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from noisy_clip import ARGUMENTS, core, make_source
            core.iconvsr.Upscale(make_source(), model={str(tiny_model)!r}, **ARGUMENTS).set_output()
            """
        )
    )
    return path


def vspipe(*arguments: str | Path) -> bytes:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([VSPIPE, *arguments, "-"], capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


FRAME_BYTES = 4 * WIDTH * 4 * HEIGHT * 3 // 2


def test_vspipe_writes_the_same_bytes_for_any_range_and_number_of_requests(script: Path) -> None:
    whole = vspipe(script)
    assert len(whole) == NUM_FRAMES * FRAME_BYTES
    assert vspipe("-r", "1", script) == whole
    assert vspipe("-r", "20", script) == whole
    assert vspipe("-s", "13", "-e", "19", script) == whole[13 * FRAME_BYTES : 20 * FRAME_BYTES]


def test_vspipe_writes_nothing_but_frames(script: Path) -> None:
    stream = vspipe("-c", "y4m", "-e", "2", script)
    header, rest = stream.split(b"\n", 1)
    assert header.startswith(b"YUV4MPEG2 ")
    assert len(rest) == 3 * (len(b"FRAME\n") + FRAME_BYTES)


def test_vspipe_ends_soon_after_an_interrupt(script: Path) -> None:
    import signal

    for _ in range(2):
        running = subprocess.Popen(
            [VSPIPE, "-c", "y4m", script, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert running.stdout is not None
        running.stdout.read(100)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
        assert running.returncode is not None
