"""A real ffmpeg, clips that it makes, and whole jobs with a tiny network."""

import io
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media.ffmpeg import Executable, find_executable
from vs_iconvsr.plan import Settings

Ffmpeg = Callable[..., Path]

SMALL = Settings(segment=4, context=1, device="cpu", threads=1)


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """Commands change how this process takes signals; no test sees what another one left."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def executable() -> Executable:
    return find_executable()


@pytest.fixture
def ffmpeg(executable: Executable, tmp_path: Path) -> Ffmpeg:
    """ffmpeg("out.mkv", "-f", "lavfi", "-i", …): runs ffmpeg in tmp_path and returns the path of what it wrote."""

    def make(name: str, *arguments: str | Path) -> Path:
        path = tmp_path / name
        command = [executable.path, "-v", "error", "-nostdin", "-y", *map(str, arguments), str(path)]
        subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
        return path

    return make


@pytest.fixture
def clip(ffmpeg: Ffmpeg) -> Ffmpeg:
    """clip("a.mkv", "-c:v", "ffv1", frames=12, size="48x32", rate="25"): a moving test picture."""

    def make(name: str, *options: str, frames: int = 12, size: str = "48x32", rate: str = "25") -> Path:
        source = f"testsrc2=s={size}:r={rate},format=yuv420p"
        return ffmpeg(name, "-f", "lavfi", "-i", source, "-frames:v", str(frames), *options)

    return make


@pytest.fixture
def upscaled(tiny_model: Path) -> Callable[..., JobSummary]:
    """upscaled(source, output, encoder="ffv1", …): runs the job with the tiny network; keywords as of JobOptions."""

    def make(source: Path, output: Path, *, settings: Settings = SMALL, **options: object) -> JobSummary:
        job = JobOptions(source, output, model=str(tiny_model), settings=settings, speed="ultrafast", part_frames=8)
        return run_job(replace(job, **options), PlainProgress(io.StringIO()), threading.Event())  # type: ignore[arg-type]

    return make


@pytest.fixture
def fake_ffmpeg(executable: Executable, tmp_path: Path) -> Callable[[str], str]:
    """fake_ffmpeg(script): an ffmpeg that runs the shell script where it should encode, else the real one ($real)."""

    def make(script: str) -> str:
        path = tmp_path / "fake-ffmpeg"
        path.write_text(
            f'#!/bin/sh\nreal="{executable.path}"\ncase "$*" in *pipe:0*) {script} ;; *) exec "$real" "$@" ;; esac\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def packet_times() -> Callable[[Path, str], Sequence[Sequence[float]]]:
    """packet_times(path, "audio"): for each stream of the kind, the times of its packets in seconds."""
    import av

    def read(path: Path, kind: str) -> list[list[float]]:
        with av.open(str(path)) as container:
            streams = getattr(container.streams, kind)
            times: list[list[float]] = [[] for _ in streams]
            for packet in container.demux(*streams) if streams else ():
                if packet.size and packet.pts is not None:
                    times[streams.index(packet.stream)].append(float(packet.pts * packet.time_base))
        return times

    return read
