"""Guarantee 2: the hr planes in a file from the command are those of core.iconvsr.Upscale for the same source."""

import io
import subprocess
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import vapoursynth as vs

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.job.run import run_job
from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.probe import probe
from vs_iconvsr.plan import Settings

pytestmark = [pytest.mark.needs_ffmpeg, pytest.mark.needs_vapoursynth]

TAGS = "setparams=range={}:color_primaries=bt709:color_trc=bt709:colorspace={}"


@pytest.mark.parametrize(
    ("pixels", "tags"),
    [
        ("yuv420p", TAGS.format("tv", "bt709")),
        ("yuv420p", "null"),  # nothing is said: both guess the same
        ("yuv422p10le", TAGS.format("tv", "smpte170m")),
        ("yuv444p", TAGS.format("tv", "bt2020nc")),
        ("gray", "null"),
    ],
)
def test_both_frontends_give_the_same_planes(tmp_path: Path, tiny_model: Path, pixels: str, tags: str) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    graph = "testsrc2=s=48x32:r=25,trim=end_frame=9[a];mandelbrot=s=48x32:r=25,setsar=1,trim=end_frame=9[b];"
    graph += f"[a]format={pixels}[c];[b]format={pixels}[d];[c][d]concat=n=2,{tags}"
    ffmpeg = children.find_executable().path
    command = [ffmpeg, "-v", "error", "-filter_complex", graph, "-c:v", "ffv1", "-pix_fmt", pixels, str(source)]
    subprocess.run(command, check=True, timeout=60)

    settings = Settings(segment=4, context=1, device="cpu")
    job = JobOptions(source, output, model=str(tiny_model), settings=settings, encoder="ffv1", part_frames=8)
    run_job(job, PlainProgress(io.StringIO()), threading.Event())
    target = probe(output).video.layout.format

    clip = vs.core.bs.VideoSource(str(source), cachemode=0)
    clip = vs.core.iconvsr.Upscale(clip, model=str(tiny_model), segment=4, context=1, device="cpu", format=target.id)
    with av.open(str(output)) as container:
        decoded = list(container.decode(video=0))
    assert clip.num_frames == len(decoded) == 18
    for n, (frame, other) in enumerate(zip(clip.frames(), decoded, strict=True)):
        planes = [torch.from_numpy(np.array(frame[i])) for i in range(frame.format.num_planes)]
        assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(other), strict=True)), n
