"""core.iconvsr in a real VapourSynth core and under a real vspipe: law 1, counts, properties, errors, ends."""

import gc
import hashlib
import json
import os
import random
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs

from vs_iconvsr import weights
from vs_iconvsr.networks.light import LightVSR

pytestmark = pytest.mark.needs_vapoursynth

core = vs.core
WIDTH, HEIGHT, NUM_FRAMES, CUT = 32, 24, 41, 17
ARGUMENTS = {"segment": 8, "context": 2}
VSPIPE = Path(sys.executable).with_name("vspipe")


def samples(n: int, plane: int, shape: tuple[int, ...]) -> np.ndarray:
    scene = np.random.default_rng([n >= CUT, plane]).uniform(30, 220, (shape[0] // 2, shape[1] // 2))
    grain = np.random.default_rng([n, plane]).uniform(0, 8, shape)
    return (scene.repeat(2, axis=0).repeat(2, axis=1) + grain).astype(np.uint8)


def make_source(calls: Counter[int] | None = None, num_frames: int = NUM_FRAMES, **properties: int) -> vs.VideoNode:
    """A clip of two noisy scenes; calls counts how often each of its frames was made."""
    blank = core.std.BlankClip(
        format=vs.YUV420P8, width=WIDTH, height=HEIGHT, length=num_frames, fpsnum=24000, fpsden=1001, keep=True
    )

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if calls is not None:
            calls[n] += 1
        frame = f.copy()
        for plane in range(3):
            view = np.asarray(frame[plane])
            view[...] = samples(n, plane, view.shape)
        frame.props.update({"_Matrix": 6, "_Range": 0, "_DurationNum": 1001, "_DurationDen": 24000} | properties)
        return frame

    return core.std.ModifyFrame(blank, blank, fill)


def digest(frame: vs.VideoFrame) -> str:
    made = hashlib.md5()
    for plane in range(frame.format.num_planes):
        made.update(np.ascontiguousarray(np.asarray(frame[plane])).tobytes())
    properties = {k: v for k, v in frame.props.items() if isinstance(v, int)}
    return made.hexdigest() + str(sorted(properties.items()))


@pytest.fixture(autouse=True)
def two_threads():
    core.num_threads = 2
    yield
    core.num_threads = 2


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> list[str]:
    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    return [digest(frame) for frame in clip.frames(close=True)]


def test_the_plugin_is_there_by_name_and_creating_a_core_does_not_import_torch() -> None:
    program = "import sys, vapoursynth as vs; vs.core.iconvsr.Upscale; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_result_is_four_times_as_large_and_otherwise_like_the_source(tiny_model: Path) -> None:
    source = make_source()
    clip = core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS)
    assert (clip.width, clip.height, clip.num_frames) == (4 * WIDTH, 4 * HEIGHT, NUM_FRAMES)
    assert clip.format.id == source.format.id
    assert clip.fps == source.fps


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_any_number_of_threads_gives_the_same_bytes(tiny_model: Path, reference: list[str], threads: int) -> None:
    core.num_threads = threads
    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    assert [digest(frame) for frame in clip.frames(close=True)] == reference


def test_reversed_and_random_orders_give_the_same_bytes(tiny_model: Path, reference: list[str]) -> None:
    for seed in range(3):
        clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
        order = random.Random(seed).sample(range(NUM_FRAMES), 15) if seed else list(reversed(range(NUM_FRAMES)))
        assert [digest(clip.get_frame(n)) for n in order] == [reference[n] for n in order]


def test_cleared_and_tiny_caches_give_the_same_bytes(tiny_model: Path, reference: list[str]) -> None:
    usual = core.max_cache_size
    try:
        core.max_cache_size = 1
        clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
        for n in (*range(20), 3, 30, 2):
            assert digest(clip.get_frame(n)) == reference[n]
            core.clear_cache()
    finally:
        core.max_cache_size = usual


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("segment", [1, 2, 3, 4, 8])
def test_sequential_playback_asks_the_source_for_each_frame_once(tiny_model: Path, segment: int, threads: int) -> None:
    core.num_threads = threads
    calls: Counter[int] = Counter()
    clip = core.iconvsr.Upscale(make_source(calls), model=str(tiny_model), segment=segment, context=2)
    for _ in clip.frames(prefetch=8, backlog=16, close=True):
        pass
    assert calls == Counter(range(NUM_FRAMES))


def test_two_instances_in_one_script_do_not_disturb_each_other(tiny_model: Path, reference: list[str]) -> None:
    one = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    other = core.iconvsr.Upscale(make_source(), model=str(tiny_model), segment=3, context=0)
    both = core.std.Interleave([one, other], modify_duration=False)
    frames = [digest(frame) for frame in both.frames(close=True)]
    assert frames[::2] == reference
    assert frames[1::2] != reference


def test_an_upscaled_clip_can_be_upscaled_again(tiny_model: Path) -> None:
    once = core.iconvsr.Upscale(make_source(num_frames=5), model=str(tiny_model), **ARGUMENTS)
    twice = core.iconvsr.Upscale(once, model=str(tiny_model), **ARGUMENTS)
    assert (twice.get_frame(3).width, twice.get_frame(3).height) == (16 * WIDTH, 16 * HEIGHT)


def test_clips_of_one_frame_and_shorter_than_a_segment_work(tiny_model: Path) -> None:
    single = core.iconvsr.Upscale(make_source(num_frames=1), model=str(tiny_model), **ARGUMENTS)
    assert single.get_frame(0).width == 4 * WIDTH
    short = core.iconvsr.Upscale(make_source(num_frames=5), model=str(tiny_model), **ARGUMENTS)
    assert len([*short.frames(close=True)]) == 5


def test_properties_travel_from_the_source_frame_to_its_hr_frame(tiny_model: Path) -> None:
    source = make_source(
        num_frames=3, _SARNum=16, _SARDen=11, _Transfer=6, _Primaries=6, _ChromaLocation=1, _Combed=0, MyOwn=7
    )
    source = source.std.SetFrameProps(_PictType="B", _AbsoluteTime=12.5)
    frame = core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS).get_frame(1)
    expected = {
        "_SARNum": 16,
        "_SARDen": 11,
        "_Matrix": 6,
        "_Range": 0,
        "_Transfer": 6,
        "_Primaries": 6,
        "_ChromaLocation": 1,
        "_DurationNum": 1001,
        "_DurationDen": 24000,
        "_Combed": 0,
        "_FieldBased": 0,
        "_PictType": b"B",
        "_AbsoluteTime": 12.5,
        "MyOwn": 7,
        "_SceneChangePrev": 0,
        "_SceneChangeNext": 0,
        "IconVSRSegmentStart": 0,
    }
    got = {key: frame.props[key] for key in expected}
    assert {k: v.encode() if isinstance(v, str) else v for k, v in got.items()} == expected


def logged(make: Callable[[], object]) -> list[str]:
    """What the core's log is told while something is made."""
    told: list[str] = []
    handle = core.add_log_handler(lambda _, text: told.append(text) if text.startswith("Upscale") else None)
    try:
        make()
    finally:
        core.remove_log_handler(handle)
    return told


def test_the_plan_is_logged_before_frame_0_and_can_be_asked_for(tiny_model: Path) -> None:
    source = make_source()
    told = logged(lambda: core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS))
    asked = json.loads(core.iconvsr.Plan(source, model=str(tiny_model), **ARGUMENTS))
    assert told == [f"Upscale: {asked['text']}"]
    assert "8 frames + 2" in asked["text"]
    assert asked["segment"] == 8


@pytest.mark.parametrize(
    ("properties", "warning"),
    [({"_Matrix": 2}, "matrix: "), ({"_Transfer": 16}, "PQ"), ({"_Transfer": 18}, "HLG")],
)
def test_guesses_and_hdr_are_warned_of_once(tiny_model: Path, properties: dict[str, int], warning: str) -> None:
    clip = core.iconvsr.Upscale(make_source(num_frames=6, **properties), model=str(tiny_model), **ARGUMENTS)
    told = logged(lambda: [*clip.frames(close=True)])
    assert len(told) == 1
    assert warning in told[0]


def test_rgb_is_tagged_as_rgb_and_yuv_gets_its_tags_back(tiny_model: Path) -> None:
    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), format=vs.RGB24, **ARGUMENTS)
    properties = clip.get_frame(0).props
    assert (properties["_Matrix"], properties["_Range"]) == (0, 1)
    assert "_ChromaLocation" not in properties


def test_cuts_are_told_on_the_hr_frames(tiny_model: Path) -> None:
    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    assert clip.get_frame(CUT).props["_SceneChangePrev"] == 1
    assert clip.get_frame(CUT - 1).props["_SceneChangeNext"] == 1
    assert clip.get_frame(CUT - 1).props["_SceneChangePrev"] == 0


def test_scene_detect_alone_sets_both_properties_and_leaves_the_planes(tiny_model: Path) -> None:
    source = make_source()
    marked = core.iconvsr.SceneDetect(source)
    frames = list(marked.frames(close=False))
    assert [n for n, f in enumerate(frames) if f.props["_SceneChangePrev"]] == [CUT]
    assert [n for n, f in enumerate(frames) if f.props["_SceneChangeNext"]] == [CUT - 1]
    assert np.array_equal(np.asarray(frames[5][0]), samples(5, 0, (HEIGHT, WIDTH)))
    upscaled = core.iconvsr.Upscale(marked, model=str(tiny_model), **ARGUMENTS)
    assert upscaled.get_frame(CUT).props["_SceneChangePrev"] == 1


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt nothing yet: it enlarges by bicubic interpolation, so flat stays flat."""
    path = tmp_path_factory.mktemp("model") / "plain.safetensors"
    weights.save(LightVSR(mid_channels=4, num_blocks=1, flow_channels=4), path, provenance={"name": "plain"})
    return path


FORMATS = [
    *(vs.GRAY8, vs.GRAY16, vs.GRAYH, vs.GRAYS, vs.RGB24, vs.RGB30, vs.RGB48, vs.RGBH, vs.RGBS),
    *(vs.YUV410P8, vs.YUV411P8, vs.YUV420P8, vs.YUV440P8, vs.YUV422P10, vs.YUV444P12, vs.YUV420P16),
    *(vs.YUV444PS, vs.YUV420PS, vs.YUV422PH),
]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_every_family_depth_and_subsampling_comes_back_as_it_was(plain_model: Path, format: int) -> None:
    """One color goes in as codes of the format and must come out as the same codes, dither or not."""
    grey = core.std.BlankClip(format=vs.RGBS, width=20, height=12, length=2, color=[0.6, 0.3, 0.45])
    family = core.get_video_format(format).color_family
    matrix = {} if family == vs.RGB else {"matrix_s": "709"}
    source = grey.resize.Bicubic(format=format, **matrix)
    frame = core.iconvsr.Upscale(source, model=str(plain_model)).get_frame(1)
    wanted = source.get_frame(1)
    assert (frame.width, frame.height, frame.format.id) == (80, 48, format)
    for plane in range(frame.format.num_planes):
        got, expected = np.asarray(frame[plane]).astype(float), np.asarray(wanted[plane]).astype(float)
        assert got.shape == (expected.shape[0] * 4, expected.shape[1] * 4)
        tolerance = (
            1.01 if frame.format.sample_type == vs.INTEGER else 2e-3 if frame.format.bits_per_sample == 16 else 1e-4
        )
        assert np.abs(got - expected.flat[0]).max() <= tolerance


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (17, 2)])
def test_odd_and_tiny_sizes_work_where_the_format_allows_them(tiny_model: Path, width: int, height: int) -> None:
    source = core.std.BlankClip(format=vs.YUV444P8, width=width, height=height, length=3).std.SetFrameProps(_Matrix=6)
    frame = core.iconvsr.Upscale(source, model=str(tiny_model)).get_frame(2)
    assert (frame.width, frame.height) == (4 * width, 4 * height)


def test_another_format_and_matrix_are_delivered_on_request(plain_model: Path) -> None:
    source = core.std.BlankClip(format=vs.RGB24, width=20, height=12, length=2, color=[200, 30, 90])
    clip = core.iconvsr.Upscale(source, model=str(plain_model), format=vs.YUV420P10, matrix="2020ncl")
    frame = clip.get_frame(0)
    expected = source.resize.Bicubic(format=vs.YUV420P10, matrix_s="2020ncl").get_frame(0)
    assert (frame.props["_Matrix"], frame.props["_Range"]) == (9, 0)
    for plane in range(3):
        assert abs(int(np.asarray(frame[plane])[8, 8]) - int(np.asarray(expected[plane])[2, 2])) <= 1


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
        ({"memory": 0.01}, r"^Upscale: memory: expected at least 0.25 GiB"),
        ({"sc_threshold": 0.0}, r"^Upscale: sc_threshold: expected .* got 0"),
        ({"format": 12345}, r"^Upscale: .*format"),
        ({"halo": -3, "tile": [64, 64]}, r"^Upscale: halo: expected .* got -3"),
    ],
)
def test_a_bad_argument_is_refused_when_the_filter_is_made(
    tiny_model: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(vs.Error, match=message):
        core.iconvsr.Upscale(make_source(), **({"model": str(tiny_model)} | arguments))


def test_a_clip_of_variable_format_is_refused_with_the_remedy(tiny_model: Path) -> None:
    with pytest.raises(vs.Error, match=r"^Upscale: clip: expected constant format and size, got .*resize"):
        core.iconvsr.Upscale(variable_format(), model=str(tiny_model))


def test_interlaced_frames_are_refused_with_the_remedy(tiny_model: Path) -> None:
    clip = core.iconvsr.Upscale(make_source(_FieldBased=2), model=str(tiny_model), **ARGUMENTS)
    with pytest.raises(vs.Error, match=r"^Upscale: _FieldBased: expected .*deinterlace"):
        clip.get_frame(0)


def test_alpha_is_refused_with_the_remedy(tiny_model: Path) -> None:
    alpha = core.std.BlankClip(format=vs.GRAY8, width=WIDTH, height=HEIGHT, length=NUM_FRAMES)
    source = core.std.ClipToProp(make_source(), alpha, prop="_Alpha")
    clip = core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS)
    with pytest.raises(vs.Error, match=r"^Upscale: _Alpha: expected"):
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


def test_models_and_version_are_told() -> None:
    told = core.iconvsr.Version()
    assert told["version"] == version("vs-iconvsr")
    assert "cpu" in np.atleast_1d(told["devices"])
    models = core.iconvsr.Models()
    assert {"iconvsr_reds4", "basicvsr_vimeo90k_bd"} <= set(np.atleast_1d(models["name"]))
    assert len(models["name"]) == len(models["description"])


# ---- under vspipe ----


@pytest.fixture
def script(tmp_path: Path, tiny_model: Path) -> Path:
    path = tmp_path / "script.vpy"
    path.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from test_filter import ARGUMENTS, core, make_source
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


def test_vspipe_writes_the_same_bytes_by_any_requests_and_range(script: Path) -> None:
    whole = vspipe(script)
    assert len(whole) == NUM_FRAMES * FRAME_BYTES
    assert vspipe("-r", "1", script) == whole
    assert vspipe("-r", "20", script) == whole
    assert vspipe("-s", "13", "-e", "19", script) == whole[13 * FRAME_BYTES : 20 * FRAME_BYTES]


def test_nothing_but_frames_comes_out_of_vspipe(script: Path) -> None:
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
