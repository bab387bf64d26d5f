"""The shell and Python blocks of the pages for users, run as they stand there, on short generated clips."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import pytest

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.needs_ffmpeg]

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("recipes", "scenes")
PLAYER = "#!/bin/sh\ncat > played\ntest -s played\n"

SOUND = "-f lavfi -i sine=sample_rate=48000"
SHORT, H264 = "-t 0.2", "-c:v libx264 -pix_fmt yuv420p"
INTERLACED = "-c:v mpeg2video -q:v 2 -flags +ilme+ildct -c:a ac3"
MANDELBROT, TEST = "-f lavfi -i mandelbrot=s=48x32", "-f lavfi -i testsrc2=s=48x32"
CLIPS = {
    "title.vob": f"{TEST}:r=50 {SOUND} {SHORT} -vf tinterlace=interleave_top,setsar=16/15,setfield=tff {INTERLACED}",
    "ntsc.vob": f"{TEST}:r=24000/1001 {SOUND} -t 0.5 -vf telecine,setsar=8/9 {INTERLACED}",
    "capture.avi": f"{MANDELBROT}:r=50 {SOUND} {SHORT} -vf tinterlace=interleave_top,noise=alls=8:allf=t -c:v ffv1",
    "episode.mkv": f"{TEST}:r=8 {SOUND} {SHORT} -vf fps=24 {H264}",
    "upright.mp4": f"{MANDELBROT}:r=30 {SOUND} {SHORT} -vf setpts=PTS*(1+0.3*mod(N\\,2)) -fps_mode vfr {H264}",
    "phone.mp4": "-display_rotation 90 -i upright.mp4 -c copy",
    "in.mkv": f"{MANDELBROT}:r=24 {SOUND} {SHORT} {H264} -colorspace bt709",
    "shot.mkv": f"{MANDELBROT}:r=24 {SHORT} {H264}",
    "frames/shot_%04d.png": f"{MANDELBROT}:r=24 {SHORT}",
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With ffmpeg, vspipe, iconvsr, and a stand-in for mpv that reads all of its input, first on PATH."""
    import imageio_ffmpeg

    programs = tmp_path_factory.mktemp("bin")
    (programs / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    for name in ("vspipe", "iconvsr"):
        (programs / name).symlink_to(Path(sys.executable).with_name(name))
    (programs / "mpv").write_text(PLAYER)
    (programs / "mpv").chmod(0o755)
    return os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    (made / "frames").mkdir()
    for name, arguments in CLIPS.items():
        command = ["ffmpeg", "-v", "error", *shlex.split(arguments.replace("\\", "\\\\")), name]
        subprocess.run(command, cwd=made, env=environment, check=True)
    return made


@pytest.fixture(autouse=True)
def in_folder(folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", environment["PATH"])
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=f"{page} {n}") for page in PAGES for n, block in enumerate(blocks(page, "bash"))]
)
def test_the_commands_of_a_block_run(block: str, environment: dict[str, str]) -> None:
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "iconvsr" and not {"|", ">"} & set(words):
            run_here(words[1:])
        else:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", line],
                env=environment,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"


def run_here(words: list[str]) -> None:
    """The command in this process, which has torch already; its output may be there from the line before."""
    from ffmpeg_filter import cli

    output = Path(words[2]) if words[0] == "upscale" else None
    if output is not None:
        output.unlink(missing_ok=True)
    assert cli.main(words) == 0, shlex.join(words)
    if output is not None and "%" not in output.name:
        with av.open(str(output)) as container:
            assert next(container.decode(video=0)).width > 48


def test_the_graph_of_the_page_of_the_command_runs() -> None:
    (block,) = blocks("command", "python")
    Path("out.mkv").unlink(missing_ok=True)
    exec(compile(block, "docs/command.md", "exec"), {})
    with av.open("out.mkv") as container:
        assert (container.streams.video[0].width, len(container.streams.audio)) == (4 * 48, 1)
