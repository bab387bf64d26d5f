"""What a frame costs in each frontend, compared with the engine alone."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from benchmarking.cases import Case, load_network, make_clip
from benchmarking.driving import run_pipeline, run_session
from benchmarking.speed import run_segments
from benchmarking.timing import Elapsed, measure
from tests.vs_iconvsr.networks.deterministic import sequence
from vs_iconvsr.engine import Propagation, Upscaler
from vs_iconvsr.plan import Settings, plan_for


def frontends(case: Case, settings: Settings, *, programs: bool, turns: int) -> dict[str, Elapsed]:
    """The time of a kept frame, for the same clip and plan: in the engine alone; in the stream; in the decoder, engine
    and writer of iconvsr upscale with an encoder that discards everything; in vspipe; in the whole command with x264
    ultrafast.

    case.frames: whole segments. programs: include what needs VapourSynth, PyAV and ffmpeg. Start-up time is removed by
    subtracting the time of a clip of half the length; because that is noisy, the median over the turns is taken.
    """
    network = load_network("light")
    plan = plan_for(settings, network, case.width, case.height)
    torch.set_num_threads(plan.threads)
    device = torch.device(plan.devices[0])
    rgb = sequence(case.frames, case.height, case.width)[0].to(device)
    clip = make_clip(rgb)
    upscaler = Upscaler(network, device, plan.shape(case.width, case.height))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths: dict[str, Callable[[int], object]] = {
            "engine": lambda n: run_segments(upscaler, rgb[:n], plan.segment, plan.context),
            "stream": lambda n: run_session(network, settings, clip[:n]),
        }
        if programs:
            paths["upscale to nowhere"] = lambda n: run_pipeline(network, settings, video_file(case, clip[:n], folder))
            paths["vspipe"] = lambda n: run_vspipe(case, settings, n, folder)
            paths["iconvsr upscale"] = lambda n: run_command(case, settings, clip[:n], folder)
        found: dict[str, list[Elapsed]] = {name: [] for name in paths}
        half = case.frames // 2
        for _ in range(turns):
            for name, path in paths.items():
                whole, part = (measure(lambda path=path, n=n: path(n)) for n in (case.frames, half))
                count = case.frames - half
                found[name].append(Elapsed((whole.clock - part.clock) / count, (whole.cpu - part.cpu) / count))
    return {
        name: Elapsed(statistics.median(each.clock for each in spent), statistics.median(each.cpu for each in spent))
        for name, spent in found.items()
    }


def own_time(case: Case, settings: Settings, *, programs: bool, turns: int) -> dict[str, float]:
    """The clock time of a frontend over that of the engine's steps in the same run; 1: the frontend costs nothing.

    For the CPU, where a step has done its work when it returns. Unlike `frontends` this works on machines whose speed
    changes from run to run, but it misses steps that are slowed down by a busy frontend: processor time shows those.
    """
    network = load_network("light")
    clip = make_clip(sequence(case.frames, case.height, case.width)[0])
    steps_s = 0.0
    step = Propagation.step

    def timed(propagation: Propagation) -> Tensor | None:
        nonlocal steps_s
        start = time.perf_counter()
        hr = step(propagation)
        steps_s += time.perf_counter() - start
        return hr

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, mock.patch.object(Propagation, "step", timed):
        paths: dict[str, Callable[[], object]] = {"stream": lambda: run_session(network, settings, clip)}
        if programs:
            video = video_file(case, clip, Path(name))
            paths["upscale to nowhere"] = lambda: run_pipeline(network, settings, video)
            paths["core.iconvsr"] = lambda: run_in_a_core(case, settings)
        for _ in range(turns):
            for frontend, path in paths.items():
                steps_s = 0.0
                start = time.perf_counter()
                path()
                found.setdefault(frontend, []).append((time.perf_counter() - start) / steps_s)
    return {frontend: statistics.median(ratios) for frontend, ratios in found.items()}


def run_in_a_core(case: Case, settings: Settings) -> None:
    import vapoursynth as vs

    clip = vs.core.std.BlankClip(
        format=vs.YUV420P8,
        width=case.width,
        height=case.height,
        length=case.frames,
        color=[90, 110, 140],
        keep=True,
    ).std.SetFrameProps(_Matrix=1, _Range=0)
    clip = clip.iconvsr.Upscale(
        segment=settings.segment, context=settings.context, device=settings.device, format=vs.YUV420P10
    )
    for _ in clip.frames(close=True):
        pass


def run_vspipe(case: Case, settings: Settings, num_frames: int, folder: Path) -> None:
    script = folder / "benchmark.vpy"
    script.write_text(
        "import vapoursynth as vs\n"
        f"clip = vs.core.std.BlankClip(format=vs.YUV420P8, width={case.width}, height={case.height}, "
        f"length={num_frames}, color=[90, 110, 140], keep=True)\n"
        "clip = clip.std.SetFrameProps(_Matrix=1, _Range=0)\n"
        f"clip.iconvsr.Upscale(segment={settings.segment}, context={settings.context}, "
        f"device='{settings.device}', format=vs.YUV420P10).set_output()\n"
    )
    _run([str(Path(sys.executable).with_name("vspipe")), str(script), "--"], settings)


def run_command(case: Case, settings: Settings, clip: Sequence[tuple[Tensor, ...]], folder: Path) -> None:
    source = video_file(case, clip, folder)
    command = [str(Path(sys.executable).with_name("iconvsr")), "upscale", str(source), str(folder / "upscaled.mkv")]
    command += ["--overwrite", "--segment", str(settings.segment), "--context", str(settings.context)]
    command += ["--device", settings.device, "--no-scene-detect", "--preset", "ultrafast"]
    _run(command, settings)


def _run(command: Sequence[str], settings: Settings) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def video_file(case: Case, clip: Sequence[tuple[Tensor, ...]], folder: Path) -> Path:
    """The clip as an FFV1 file, written at the first call."""
    import av
    import numpy as np

    path = folder / f"benchmark-{len(clip)}.mkv"
    if path.exists():
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = case.width, case.height, "yuv420p"
        for planes in clip:
            whole = np.concatenate([plane.numpy().reshape(-1) for plane in planes]).reshape(-1, case.width)
            for packet in stream.encode(av.VideoFrame.from_ndarray(whole, format="yuv420p")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
