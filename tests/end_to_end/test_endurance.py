"""What only shows over time: memory over long clips and scenes, threads over many starts and stops."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_vapoursynth

MIB = 2**20


def run(program: str, *arguments: str | Path, timeout: int = 1800) -> str:
    """What a Python program of its own prints: memory of this process would tell of all tests before."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PLAY_THROUGH = """
    import ctypes, sys
    import vapoursynth as vs

    class Mallinfo(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo

    def in_use():
        measured = libc.mallinfo2()
        return measured.uordblks + measured.hblkhd

    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * 4096

    core = vs.core
    core.num_threads = 2
    core.max_cache_size = 64
    model, length = sys.argv[1], int(sys.argv[2])
    clip = core.std.BlankClip(format=vs.YUV420P8, width=32, height=24, length=length, color=[90, 120, 130], keep=True)
    clip = core.std.SetFrameProps(clip, _Matrix=6)
    clip = core.iconvsr.Upscale(clip, model=model, segment=10, context=2)
    memory = []
    for n, _ in enumerate(clip.frames(prefetch=4, close=True)):
        if n == 40 or n % 100 == 99:  # the first three segments, and then now and again
            memory.append((in_use(), resident()))
    print(*memory[0], *map(max, zip(*memory[1:])))
"""


@pytest.mark.parametrize("length", [400, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_memory_is_flat_after_the_first_three_segments(tiny_model: Path, length: int) -> None:
    measured = run(PLAY_THROUGH, tiny_model, length, timeout=3600)
    early, early_resident, later, later_resident = map(int, measured.split())
    assert later - early < 4 * MIB
    assert later_resident - early_resident < 32 * MIB  # glibc's arenas fill up over 2000 frames: 22 seen


ONE_SCENE = """
    import hashlib, sys
    import torch
    from vs_iconvsr import weights
    from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
    from vs_iconvsr.segments import Segment

    model, frames, strategy = sys.argv[1], int(sys.argv[2]), MemoryStrategy(sys.argv[3])
    torch.set_num_threads(1)
    upscaler = Upscaler(weights.load(model), torch.device("cpu"), Shape(96, 64))
    still = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
    segment = Segment(range(frames), range(frames))

    def resident_kib(of):
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(of))

    open("/proc/self/clear_refs", "w").write("5")  # the peak begins here: imports have one of their own
    before = resident_kib("VmRSS")
    propagation = upscaler.propagate(segment, lambda n: still.roll(n, dims=2), strategy=strategy)
    made = hashlib.sha256()
    while not propagation.finished:
        hr = propagation.step()
        if hr is not None:
            made.update(hr.numpy().tobytes())
    print(made.hexdigest(), 1024 * (resident_kib("VmHWM") - before))
"""


@pytest.mark.parametrize("frames", [120, pytest.param(300, marks=pytest.mark.long)])
def test_a_long_scene_recomputed_gives_the_same_bytes_in_less_memory(tmp_path: Path, frames: int) -> None:
    import torch

    from vs_iconvsr import weights
    from vs_iconvsr.networks.light import LightVSR

    torch.manual_seed(0)
    model = tmp_path / "wide.safetensors"
    weights.save(LightVSR(mid_channels=64, num_blocks=1, flow_channels=4), model, provenance={"name": "wide"})
    kept, recomputed = (run(ONE_SCENE, model, frames, strategy).split() for strategy in ("keep", "recompute"))
    assert kept[0] == recomputed[0]
    features = frames * 64 * 64 * 96 * 4
    assert features < int(kept[1]) < 1.2 * features + 80 * MIB  # no holes beside them
    assert int(recomputed[1]) < 0.25 * features + 80 * MIB


START_AND_STOP = """
    import sys, threading
    import vapoursynth as vs

    core = vs.core
    model, rounds = sys.argv[1], int(sys.argv[2])

    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * 4096

    memory = []
    for i in range(rounds):
        core.num_threads = 1 + i % 3
        clip = core.std.BlankClip(format=vs.YUV420P8, width=32, height=24, length=60, color=[90, 120, 130])
        clip = core.iconvsr.Upscale(clip.std.SetFrameProps(_Matrix=6), model=model, segment=6, context=1)
        if i % 4:
            waiting = [clip.get_frame_async(k * (i % 4)) for k in range(1 + i % 5)]
            waiting[0].result()
            for future in waiting:
                future.result()
            del waiting
        del clip
        memory.append(resident())
    for thread in threading.enumerate():
        if thread.name.startswith("iconvsr-"):
            thread.join(10)
    print(sum(t.name.startswith("iconvsr-") for t in threading.enumerate()), memory[len(memory) // 2], memory[-1])
"""


@pytest.mark.parametrize("rounds", [24, pytest.param(200, marks=pytest.mark.long)])
def test_starting_and_stopping_leaks_neither_threads_nor_memory(tiny_model: Path, rounds: int) -> None:
    threads, middle, end = map(int, run(START_AND_STOP, tiny_model, rounds).split())
    assert threads == 0
    assert end - middle < 16 * MIB


MEASURED = """
    import os, statistics, threading, time

    def measured(one_round, seconds):
        for _ in range(3):
            one_round()  # imports, pools and arenas
        samples, end = [], time.monotonic() + seconds
        while time.monotonic() < end or len(samples) < 6:
            one_round()
            resident = int(open("/proc/self/statm").read().split()[1]) * 4096
            tasks, handles = (len(os.listdir(f"/proc/self/{name}")) for name in ("task", "fd"))
            samples.append((threading.active_count(), tasks, handles, resident))
        third = len(samples) // 3
        for part in (samples[:third], samples[-third:]):
            print(*(int(statistics.median(column)) for column in zip(*part)))
"""
SOAKS = {
    "filter": """
        import random, sys
        import vapoursynth as vs
        core, dice = vs.core, random.Random(0)
        core.num_threads, core.max_cache_size = 2, 64
        model, seconds = sys.argv[1], float(sys.argv[2])

        def one_round():
            clip = core.std.BlankClip(format=vs.YUV420P8, width=32, height=24, length=60, color=[90, 120, 130])
            clip = core.iconvsr.Upscale(clip.std.SetFrameProps(_Matrix=6), model=model, segment=6, context=1)
            for n in dice.sample(range(60), 12):
                clip.get_frame(n).close()

        measured(one_round, seconds)
    """,
    "command": """
        import io, contextlib, sys
        from ffmpeg_filter import cli
        model, seconds, source, output = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
        words = "--overwrite --device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --part-frames 8"

        def one_round():
            with contextlib.redirect_stderr(io.StringIO()):
                assert cli.main(["upscale", source, output, *words.split(), "--model", model]) == 0

        measured(one_round, seconds)
    """,
}
SOAK_S = float(os.environ.get("SOAK_S", "7200"))


@pytest.mark.needs_ffmpeg
@pytest.mark.parametrize(
    "seconds", [8, pytest.param(SOAK_S / 2, marks=[pytest.mark.long, pytest.mark.timeout(90_000)])]
)
@pytest.mark.parametrize("frontend", ["filter", "command"])
def test_threads_files_and_memory_stay_flat_for_hours(
    tiny_model: Path, tmp_path: Path, frontend: str, seconds: float
) -> None:
    """SOAK_S: how many seconds the long version takes, both frontends together."""
    from ffmpeg_filter.media.ffmpeg import find_executable

    source = tmp_path / "in.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=48x32:r=25", "-frames:v", "12", "-c:v", "mpeg4"]
    subprocess.run([find_executable().path, "-v", "error", *picture, str(source)], check=True, timeout=60)
    program = textwrap.dedent(MEASURED) + textwrap.dedent(SOAKS[frontend])
    printed = run(program, tiny_model, str(seconds), source, tmp_path / "out.mkv", timeout=round(seconds * 2 + 300))
    first, last = ([int(word) for word in line.split()] for line in printed.splitlines())
    python_threads, threads, handles, resident = zip(first, last, strict=True)
    assert python_threads[1] <= python_threads[0]
    assert threads[1] <= threads[0] + 1  # one may be about to end
    assert handles[1] <= handles[0]
    assert resident[1] - resident[0] < 32 * MIB
