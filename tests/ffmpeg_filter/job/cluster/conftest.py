"""A short video and the job that a cluster is to do with it."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.media.ffmpeg import Executable
from vs_iconvsr.plan import Settings

PARTS, PART_FRAMES = 6, 8
FRAMES = PARTS * PART_FRAMES
SETTINGS = Settings(segment=4, context=1, device="cpu", threads=1)


@pytest.fixture(scope="module")
def source(executable: Executable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    make = "-v error -y -f lavfi -i testsrc2=s=48x32:r=25 -frames:v"
    subprocess.run([executable.path, *shlex.split(make), str(FRAMES), "-c:v", "libx264", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def job(source: Path, tiny_model: Path) -> JobOptions:
    """A job of PARTS parts; its output is to be replaced."""
    options = JobOptions(source, Path("unset.mkv"), model=str(tiny_model), settings=SETTINGS)
    return replace(options, speed="ultrafast", part_frames=PART_FRAMES)
