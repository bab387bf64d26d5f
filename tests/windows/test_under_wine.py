"""What runs on Windows, as far as Wine can show it: the filter, the command, its files, kills and names."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from ffmpeg_filter import cli
from tests.windows.conftest import CACHE, Wine, at, start
from training.loop import checkpoint

Training = Callable[[Path], list[str]]

FAST = ("--device", "cpu", "--threads", "1", "--segment", "4", "--context", "1")

FRAMES = """
import hashlib, sys
import numpy as np
import vapoursynth as vs
core = vs.core
ramp = core.std.BlankClip(format=vs.GRAY8, width=64, height=48, length=8)
def paint(n, f):
    f = f.copy()
    y, x = np.mgrid[:48, :64]
    np.asarray(f[0])[:] = (128 + 90 * np.sin((x + 2 * n) / 5) * np.cos((y - n) / 7)).astype(np.uint8)
    return f
clip = core.std.ModifyFrame(ramp, ramp, paint)
hr = core.iconvsr.Upscale(clip, device="cpu", segment=4, context=1)
order = [int(n) for n in sys.argv[2].split(",")]
frames = {n: np.asarray(hr.get_frame(n)[0]).copy() for n in order}
np.save(sys.argv[1], np.stack([frames[n] for n in range(8)]))
"""


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray16le") for frame in container.decode(video=0)]).astype(np.int64)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two scenes, one track of sound, one of subtitles, in a folder and under a name that are not ASCII."""
    folder = tmp_path / "ü × √"
    folder.mkdir()
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nhello\n", encoding="utf-8")
    import imageio_ffmpeg

    inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=0.5,format=yuv420p"]
    inputs += ["-f", "lavfi", "-i", "mandelbrot=s=64x48:r=24", "-f", "lavfi", "-i", "sine=440:d=1"]
    graph = "[1:v]format=yuv420p,trim=end_frame=12,setpts=PTS-STARTPTS[b];[0:v][b]concat=n=2:v=1:a=0[v]"
    maps = ["-filter_complex", graph, "-map", "[v]", "-map", "2:a", "-map", "3:s"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, "-i", str(tmp_path / "a.srt"), *maps]
    path = folder / "in √.mkv"
    subprocess.run([*command, "-c:v", "libx264", "-c:a", "aac", "-c:s", "srt", str(path)], check=True)
    return path


def test_the_filter_gives_the_frames_of_linux_but_for_rounding_and_in_any_order(wine: Wine, tmp_path: Path) -> None:
    script = tmp_path / "frames.py"
    script.write_text(FRAMES, encoding="utf-8")
    orders = {"forward": "0,1,2,3,4,5,6,7", "jumping": "6,1,7,0,3,2,5,4"}
    for name, order in orders.items():
        done = wine(at(script), at(tmp_path / f"{name}.npy"), order)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    import sys

    subprocess.run([sys.executable, script, tmp_path / "linux.npy", orders["forward"]], check=True)
    forward, jumping, linux = (
        np.load(tmp_path / f"{name}.npy").astype(int) for name in ("forward", "jumping", "linux")
    )
    assert np.array_equal(forward, jumping)
    assert np.abs(forward - linux).max() <= 1
    assert (forward != linux).mean() < 1e-3
    assert linux.std() > 20


def test_a_file_is_upscaled_with_everything_in_it(iconvsr: Wine, source: Path) -> None:
    windows, linux = source.with_name("out √.mkv"), source.with_name("linux.mkv")
    done = iconvsr("upscale", at(source), at(windows), "--encoder", "ffv1", *FAST)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert cli.main(["upscale", str(source), str(linux), "--encoder", "ffv1", *FAST]) == 0
    ours, theirs = frames_of(windows), frames_of(linux)
    assert ours.shape == (24, 192, 256)
    assert np.abs(ours - theirs).max() <= 75  # one step of ten bits in limited range
    assert (ours != theirs).mean() < 1e-3
    with av.open(str(windows)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "subtitle"]
    assert not windows.with_name(windows.name + ".iconvsr").exists()


def start_until(words: list[str], *, reached: Callable[[], object]) -> "subprocess.Popen[bytes]":
    """A Python program under Wine that is still at work, but has come as far as that."""
    process = start([str(CACHE / "python" / "python.exe"), *words])
    end = time.monotonic() + 600
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def kill(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # what it started has its pipes
        process.communicate(timeout=60)


def test_a_killed_run_is_resumed(iconvsr: Wine, source: Path) -> None:
    output = source.with_name("out.mkv")
    words = ["upscale", at(source), at(output), "--part-frames", "4", "--encoder", "ffv1", *FAST]
    work = output.with_name("out.mkv.iconvsr")
    kill(start_until(["-m", "ffmpeg_filter.cli", *words], reached=lambda: list(work.glob("part_*.json"))))
    assert not output.exists()
    done = iconvsr(*words, "--progress", "json")
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    begin = next(event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "begin")
    assert 0 < begin["frames"] < begin["total"] == 24
    assert len(frames_of(output)) == 24
    assert not work.exists()


def test_of_two_runs_for_one_output_one_makes_it(source: Path) -> None:
    output = source.with_name("out.mkv")
    words = ["upscale", at(source), at(output), "--part-frames", "4", "--encoder", "ffv1", *FAST]
    python = str(CACHE / "python" / "python.exe")
    runs = [start([python, "-m", "ffmpeg_filter.cli", *words]) for _ in range(2)]
    printed = [run.communicate(timeout=600)[1].decode(errors="replace") for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1], printed
    refused = next(text for run, text in zip(runs, printed, strict=True) if run.returncode == 1)
    assert "another run works on this output" in refused or "got one that exists" in refused
    assert len(frames_of(output)) == 24
    assert not output.with_name("out.mkv.iconvsr").exists()


def test_paths_may_be_longer_than_windows_once_allowed(iconvsr: Wine, source: Path) -> None:
    output = source.parent / ("long_" * 30) / ("longer_" * 20) / "out.mkv"
    output.parent.mkdir(parents=True)
    assert len(at(output)) > 260
    done = iconvsr("upscale", at(source), at(output), "--encoder", "ffv1", *FAST)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert len(frames_of(output)) == 24


@pytest.mark.parametrize(("name", "word"), [("aux.mkv", "AUX"), ("a:b.mkv", ":"), ("out.mkv.", "dot")])
def test_names_that_windows_would_write_elsewhere_are_refused(
    iconvsr: Wine, source: Path, name: str, word: str
) -> None:
    done = iconvsr("upscale", at(source), at(source.parent) + "\\" + name, "--container", "mkv", *FAST)
    assert done.returncode == 1
    assert b"output: " in done.stderr
    assert word.encode() in done.stderr


def test_the_pipe_reads_and_writes_bytes(iconvsr: Wine, source: Path, tmp_path: Path) -> None:
    (tmp_path / "in.nut").write_bytes(b"")
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(source), "-map", "0:v", "-c", "copy"]
    subprocess.run([*command, str(tmp_path / "in.nut")], check=True)
    done = iconvsr("pipe", *FAST, given=(tmp_path / "in.nut").read_bytes())
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    (tmp_path / "out.nut").write_bytes(done.stdout)
    assert frames_of(tmp_path / "out.nut").shape == (24, 192, 256)


@pytest.mark.parametrize("command", [("doctor",), ("models", "list"), ("upscale", "--help"), ("bench", "--help")])
def test_messages_can_be_printed_on_an_old_console(iconvsr: Wine, command: tuple[str, ...]) -> None:
    done = iconvsr(*command, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert b"Traceback" not in done.stderr
    assert b"UnicodeEncodeError" not in done.stderr
    assert done.returncode == 0 or command == ("doctor",)
    assert len(done.stdout) > 100


def test_a_script_is_written_and_runs_in_vspipe(iconvsr: Wine, source: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.vpy"
    done = iconvsr("scenes", at(source))
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == ["0", "12"]
    script.write_text(
        "import vapoursynth as vs\n"
        "clip = vs.core.std.BlankClip(format=vs.GRAY8, width=32, height=32, length=3, color=99)\n"
        "vs.core.iconvsr.Upscale(clip, device='cpu').set_output()\n",
        encoding="utf-8",
    )
    process = start([str(CACHE / "python/Lib/site-packages/vapoursynth/vspipe.exe"), at(script), "-"])
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode(errors="replace")
    assert len(out) == 3 * 128 * 128


@pytest.fixture
def training(wine: Wine, tmp_path: Path) -> Training:
    """training(run): the words of a run of 20 steps that saves after every fifth; its data are there."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "seed: 1\n"
        "network: {architecture: LightVSR, arguments: {mid_channels: 4, num_blocks: 1, flow_channels: 4}}\n"
        "data:\n"
        "  train: generated\n"
        "  held_out: held_out\n"
        "  train_generator: {seed: 1, clips: 2, frames: 4, size: 96, canvases: 2, canvas_px: 256}\n"
        "  held_out_generator: {seed: 2, clips: 1, frames: 4, size: 96, canvases: 1, canvas_px: 256}\n"
        "patches: {batch: 1, frames: 3, patch_px: 16}\n"
        "degradations: [{kind: bi}]\n"
        "optimiser: {steps: 20, learning_rate: 1.0e-3, warm_up: 1}\n"
        "watch: {log: 5, evaluate: 10, save: 5, held_out_sequences: 1}\n",
        encoding="utf-8",
    )
    words = [at(recipe), "--data", at(tmp_path / "data")]
    done = wine("-m", "training", "synthesise", *words)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return lambda run: ["-m", "training", "train", *words, "--out", at(run), "--device", "cpu"]


def test_training_ends_and_knows_it(wine: Wine, training: Training, tmp_path: Path) -> None:
    for _ in range(2):  # the second finds that nothing is left to do
        done = wine(*training(tmp_path / "run"))
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (tmp_path / "run" / "run.html").exists()


def test_a_training_that_was_killed_goes_on_to_the_same_weights(wine: Wine, training: Training, tmp_path: Path) -> None:
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    kill(start_until(training(killed), reached=(killed / "last.pt").exists))
    assert (checkpoint.load(killed) or {})["step"] < 20
    for run in (killed, straight):
        done = wine(*training(run))
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    ours, theirs = (checkpoint.load(run) or {} for run in (killed, straight))
    assert ours["step"] == theirs["step"] == 20
    assert all(torch.equal(ours["network"][name], value) for name, value in theirs["network"].items())


# The parts that know the system they are on, and those that read or keep files; the rest of the tests takes hours here.
ORDINARY = (
    "tests/vs_iconvsr/test_system.py",
    "tests/vs_iconvsr/test_atomic.py",
    "tests/vs_iconvsr/weights/test_download.py",
)


@pytest.mark.parametrize("tests", ORDINARY)
def test_ordinary_tests_pass(wine: Wine, tests: str, tmp_path: Path) -> None:
    done = wine("-m", "pytest", "-m", "not long", "-p", "no:cacheprovider", "--basetemp", at(tmp_path / "t"), tests)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-4000:]
