"""What core.iconvsr delivers: properties, colors, formats, sizes, what it logs."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs

from tests.end_to_end.noisy_clip import ARGUMENTS, CUT, HEIGHT, WIDTH, core, make_source, samples
from vs_iconvsr import weights
from vs_iconvsr.networks.light import LightVSR

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.usefixtures("two_threads")]


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
    """What the core's log is logged_lines while something is made."""
    logged_lines: list[str] = []
    handle = core.add_log_handler(lambda _, text: logged_lines.append(text) if text.startswith("Upscale") else None)
    try:
        make()
    finally:
        core.remove_log_handler(handle)
    return logged_lines


def test_the_plan_is_logged_before_frame_0_and_can_be_asked_for(tiny_model: Path) -> None:
    source = make_source()
    logged_lines = logged(lambda: core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS))
    asked = json.loads(core.iconvsr.Plan(source, model=str(tiny_model), **ARGUMENTS))
    assert logged_lines == [f"Upscale: {asked['text']}"]
    assert "8 frames + 2" in asked["text"]
    assert asked["segment"] == 8


@pytest.mark.parametrize(
    ("properties", "warning"),
    [({"_Matrix": 2}, "matrix: "), ({"_Transfer": 16}, "PQ"), ({"_Transfer": 18}, "HLG")],
)
def test_guesses_and_hdr_are_warned_of_once(tiny_model: Path, properties: dict[str, int], warning: str) -> None:
    clip = core.iconvsr.Upscale(make_source(num_frames=6, **properties), model=str(tiny_model), **ARGUMENTS)
    logged_lines = logged(lambda: [*clip.frames(close=True)])
    assert len(logged_lines) == 1
    assert warning in logged_lines[0]


def test_rgb_is_tagged_as_rgb_and_yuv_gets_its_tags_back(tiny_model: Path) -> None:
    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), format=vs.RGB24, **ARGUMENTS)
    properties = clip.get_frame(0).props
    assert (properties["_Matrix"], properties["_Range"]) == (0, 1)
    assert "_ChromaLocation" not in properties


def test_cuts_are_marked_on_the_hr_frames(tiny_model: Path) -> None:
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


@pytest.mark.parametrize("target", [vs.YUV420P8, vs.YUV444P16, vs.YUV422PS, vs.RGB24, vs.RGBS])
@pytest.mark.parametrize("source", [vs.GRAY8, vs.GRAY16, vs.GRAYS])
def test_a_gray_clip_stays_without_color_in_any_format(tiny_model: Path, source: int, target: int) -> None:
    gray = make_source(num_frames=2).std.ShufflePlanes(0, vs.GRAY).resize.Point(format=source)
    frame = core.iconvsr.Upscale(gray, model=str(tiny_model), format=target).get_frame(1)
    planes = [np.asarray(frame[plane]) for plane in range(3)]
    neutral = 0 if frame.format.sample_type == vs.FLOAT else 1 << (frame.format.bits_per_sample - 1)
    expected = planes[0] if frame.format.color_family == vs.RGB else neutral
    assert np.ptp(planes[0]) > 0
    assert all((plane == expected).all() for plane in planes[1:])


@pytest.mark.parametrize("mark", [1, 2, 255, -1])
@pytest.mark.parametrize("name", ["_SceneChangePrev", "_SceneChangeNext"])
def test_any_value_but_0_marks_a_cut_as_for_vapoursynths_own_filters(tiny_model: Path, name: str, mark: int) -> None:
    source = make_source(num_frames=6).std.SetFrameProps(**{name: 0})
    marked = 4 if name == "_SceneChangePrev" else 3
    source = source[:marked] + source[marked].std.SetFrameProps(**{name: mark}) + source[marked + 1 :]
    clip = core.iconvsr.Upscale(source, model=str(tiny_model), segment=0, context=0)
    assert [frame.props["IconVSRSegmentStart"] for frame in clip.frames(close=True)] == [0, 0, 0, 0, 4, 4]


def test_the_last_frames_of_an_endless_clip_come_without_a_byte_for_each_of_the_others(tiny_model: Path) -> None:
    def resident_mib() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    endless = make_source(num_frames=1).std.Loop()
    for clip in (core.iconvsr.SceneDetect(endless), core.iconvsr.Upscale(endless, model=str(tiny_model), segment=4)):
        before = resident_mib()
        clip.get_frame(endless.num_frames - 1)
        assert resident_mib() - before < 200
