"""What core.iconvsr refuses, how it fails, and that nothing is left running."""

import contextlib
import gc
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs

from tests.end_to_end.noisy_clip import (
    ARGUMENTS,
    CUT,
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    core,
    digest,
    make_source,
)
from vs_iconvsr import weights
from vs_iconvsr.networks.light import LightVSR

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.usefixtures("two_threads")]


FORKED = """
import os, sys
import vapoursynth as vs
clip = vs.core.std.BlankClip(format=vs.GRAY8, width=16, height=16, length=4)
clip = vs.core.iconvsr.Upscale(clip, model=sys.argv[1])
child = os.fork()
if child == 0:
    clip.get_frame(1)
    print("the child has a frame", flush=True)
    os._exit(0)
os.waitpid(child, 0)
clip.get_frame(1)
print("the parent goes on")
"""


UNUSABLE_MEMORY = (0.01, 0.0, -1.0, float("nan"), float("inf"), 1e300)


def variable_format() -> vs.VideoNode:
    return core.std.Splice([make_source(), core.std.BlankClip(format=vs.GRAY8, width=8, height=8)], mismatch=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "no_such_model"}, r"^Upscale: .*no_such_model"),
        ({"segment": -1}, r"^Upscale: segment: expected .* got -1"),
        ({"context": -1}, r"^Upscale: context: expected .* got -1"),
        ({"tile": [10, 10]}, r"^Upscale: tile: expected .* got \(10, 10\)"),
        ({"tile": [100]}, r"^Upscale: tile: expected \[width, height\], got \[100\]"),
        ({"device": "cuda:7"}, r"^Upscale: device: expected .*cpu.* got cuda:7"),
        ({"precision": "float8"}, r"^Upscale: precision: expected .* got float8"),
        ({"dither": "noise"}, r"^Upscale: dither: expected .* got noise"),
        ({"matrix": "2020cl"}, r"^Upscale: matrix: expected .* got .*2020cl"),
        ({"matrix": "nonsense"}, r"^Upscale: matrix: expected .* got nonsense"),
        ({"matrix": "²"}, r"^Upscale: matrix: expected .* got ²"),
        *(({"memory": value}, r"^Upscale: memory: expected at least 0.25 GiB .*got") for value in UNUSABLE_MEMORY),
        ({"sc_threshold": 0.0}, r"^Upscale: sc_threshold: expected .* got 0"),
        ({"precision": "float16", "device": "cpu"}, r"^Upscale: precision: expected float32 on the CPU"),
        ({"format": 12345}, r"^Upscale: .*format"),
        ({"format": vs.GRAY32}, r"^Upscale: format: expected 8 to 16 bit integers, .* got 32 bit integer"),
        ({"halo": -3, "tile": [64, 64]}, r"^Upscale: halo: expected .* got -3"),
    ],
)
def test_a_bad_argument_is_refused_when_the_filter_is_made(
    tiny_model: Path, arguments: dict[str, object], message: str
) -> None:
    arguments = {"model": str(tiny_model)} | arguments
    with pytest.raises(vs.Error, match=message):
        core.iconvsr.Upscale(make_source(), **arguments)
    with pytest.raises(vs.Error, match=message.replace("Upscale", "Plan")):
        core.iconvsr.Plan(make_source(), **arguments)


@pytest.mark.parametrize(("target", "multiples"), [(vs.YUV420P8, "2x2"), (vs.YUV422P10, "2x1"), (vs.YUV410P8, "4x4")])
def test_a_format_whose_chroma_does_not_fit_is_refused_and_nothing_is_left_behind(
    tmp_path: Path, target: int, multiples: str
) -> None:
    model = tmp_path / "x1.safetensors"
    weights.save(LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=1), model, provenance={})
    odd = core.std.BlankClip(format=vs.GRAY8, width=33, height=25, length=2)
    gc.collect()
    before = engine_threads()
    for function in (core.iconvsr.Upscale, core.iconvsr.Plan):
        with pytest.raises(vs.Error, match=rf"format: expected one for frames of 33x25, got .* {multiples}; pass"):
            function(odd, model=str(model), format=target)
    assert engine_threads() == before
    assert core.iconvsr.Upscale(odd, model=str(model), format=vs.YUV444P8).get_frame(1).width == 33


def test_a_frame_that_cannot_be_upscaled_is_named_with_its_number(tiny_model: Path) -> None:
    source = make_source()
    odd_one = source[12].std.SetFrameProps(_Matrix=14)
    clip = core.iconvsr.Upscale(source[:12] + odd_one + source[13:], model=str(tiny_model), **ARGUMENTS)
    with pytest.raises(vs.Error, match=r"^Upscale: source frame 12: matrix: expected"):
        clip.get_frame(8)


def test_a_model_whose_name_is_not_unicode_is_named_and_loads(tiny_model: Path, tmp_path: Path) -> None:
    path = bytes(tmp_path / "caf") + b"\xe9.safetensors"
    with pytest.raises(
        vs.Error, match=r"^Upscale: .*caf.udce9.safetensors: expected a weight file, got a path that does"
    ):
        core.iconvsr.Upscale(make_source(), model=path)
    Path(os.fsdecode(path)).write_bytes(tiny_model.read_bytes())
    assert core.iconvsr.Upscale(make_source(), model=path).get_frame(0).width == 4 * WIDTH


def test_a_clip_of_variable_format_is_refused_with_the_remedy(tiny_model: Path) -> None:
    with pytest.raises(vs.Error, match=r"^Upscale: clip: expected constant format and size, got .*resize"):
        core.iconvsr.Upscale(variable_format(), model=str(tiny_model))


def test_interlaced_frames_are_refused_with_the_remedy(tiny_model: Path) -> None:
    clip = core.iconvsr.Upscale(make_source(_FieldBased=2), model=str(tiny_model), **ARGUMENTS)
    with pytest.raises(vs.Error, match=r"^Upscale: source frame 0: _FieldBased: expected .*deinterlace"):
        clip.get_frame(0)


def test_alpha_is_refused_with_the_remedy(tiny_model: Path) -> None:
    alpha = core.std.BlankClip(format=vs.GRAY8, width=WIDTH, height=HEIGHT, length=NUM_FRAMES)
    source = core.std.ClipToProp(make_source(), alpha, prop="_Alpha")
    clip = core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS)
    with pytest.raises(vs.Error, match=r"^Upscale: source frame 0: _Alpha: expected"):
        clip.get_frame(0)


def test_an_error_of_the_source_reaches_the_user_and_the_filter_goes_on(tiny_model: Path, reference: list[str]) -> None:
    broken = {3}

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if n in broken:
            raise RuntimeError("the disk is gone")
        return f.copy()

    source = make_source()
    clip = core.iconvsr.Upscale(core.std.ModifyFrame(source, source, fill), model=str(tiny_model), **ARGUMENTS)
    with pytest.raises(vs.Error, match="the disk is gone"):
        clip.get_frame(0)
    broken.clear()
    assert digest(clip.get_frame(0)) == reference[0]


def had(clip: vs.VideoNode, order: Iterable[int]) -> set[int]:
    """Those frames of an order that come without an error."""
    numbers = set()
    for n in order:
        with contextlib.suppress(vs.Error):
            clip.get_frame(n)
            numbers.add(n)
    return numbers


@pytest.mark.parametrize("kind", ["broken", "interlaced"])
def test_which_frames_can_be_had_around_one_that_cannot_does_not_depend_on_the_order(
    tiny_model: Path, kind: str
) -> None:
    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if n == 27 and kind == "broken":
            raise RuntimeError("the disk is gone")
        frame = f.copy()
        frame.props["_FieldBased"] = int(n == 27)
        return frame

    source = make_source()
    source = core.std.ModifyFrame(source, source, fill)
    orders = [list(range(NUM_FRAMES)), list(reversed(range(NUM_FRAMES)))]
    orders.append(random.Random(0).sample(orders[0], NUM_FRAMES))
    found = [had(core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS), order) for order in orders]
    assert found == [set(range(NUM_FRAMES)) - set(range(CUT, 32))] * 3


def test_a_filter_without_a_frame_yet_works_in_a_forked_child_and_in_its_parent(tiny_model: Path) -> None:
    """Later nothing does: VapourSynth's own threads are missing in the child."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["the child has a frame", "the parent goes on"]


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("iconvsr-")]


def test_starting_and_stopping_leaves_no_thread_behind(tiny_model: Path) -> None:
    for n in range(12):
        clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
        if n % 3:
            clip.get_frame(n)
        if n % 3 == 2:
            futures = [clip.get_frame_async(k) for k in range(n, n + 4)]
            for future in futures:
                future.result()
            del futures
        del clip
    gc.collect()
    for name in engine_threads():
        next(t for t in threading.enumerate() if t.name == name).join(timeout=10)
    assert engine_threads() == []


def test_models_and_version_are_listed() -> None:
    version_info = core.iconvsr.Version()
    assert version_info["version"] == version("vapoursynth-iconvsr")
    assert "cpu" in np.atleast_1d(version_info["devices"])
    models = core.iconvsr.Models()
    assert {"iconvsr_reds4", "basicvsr_vimeo90k_bd"} <= set(np.atleast_1d(models["name"]))
    assert len(models["name"]) == len(models["description"])
