"""The README's own script and pipe, as they stand there, on a small file."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from ffmpeg_filter import cli

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.needs_ffmpeg]

README = (Path(__file__).parents[2] / "README.md").read_text()
FRAMES, WIDTH, HEIGHT = 5, 48, 32


def block(language: str, containing: str) -> str:
    """The code block of the README in this language that holds these words."""
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with input.mkv, script.vpy, and what the commands are called in the README on its PATH."""
    with av.open(str(tmp_path / "input.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(FRAMES):
            picture = np.random.default_rng(n).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    (tmp_path / "script.vpy").write_text(block("python", "core.iconvsr.Upscale"))
    import imageio_ffmpeg

    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    (programs / "vspipe").symlink_to(Path(sys.executable).with_name("vspipe"))
    return tmp_path


def test_the_script_and_the_pipe_of_the_readme_work(folder: Path) -> None:
    pipe = next(line for line in block("bash", "vspipe -c y4m").splitlines() if "vspipe" in line)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipe],
        cwd=folder,
        env=os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(folder / "output.mkv")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == FRAMES
    assert (frames[0].width, frames[0].height, frames[0].format.name) == (4 * WIDTH, 4 * HEIGHT, "yuv420p10le")


def test_the_page_of_the_filter_has_the_same_script_and_pipe() -> None:
    page = (Path(__file__).parents[2] / "docs" / "filter.md").read_text()
    for language, words in (("python", "core.iconvsr.Upscale"), ("bash", "vspipe -c y4m")):
        assert f"```{language}\n{block(language, words)}```" in page


def test_every_command_of_the_readme_exists() -> None:
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^iconvsr .*$", README, re.MULTILINE)]
    assert len(commands) >= 5
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            cli.main([command[1], "--help"])
        assert ended.value.code == 0, command
