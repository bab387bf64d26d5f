"""Conversions: the reference is what VapourSynth's own resize (zimg) makes of the same planes."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import vapoursynth as vs

from tests.vs_iconvsr.colorspace.samples import (
    ALL_FORMATS,
    GRAY8,
    RGBS,
    SAMPLES,
    SUBSAMPLINGS,
    YUV420P8,
    YUV444P16,
    colors_for,
    random_planes,
    size_for,
)
from vs_iconvsr import colorspace
from vs_iconvsr.colorspace import Colorimetry, Format, from_rgb, gray_from_rgb, to_rgb

KERNEL = {
    "filter_param_a_uv": colorspace.CUBIC_B,
    "filter_param_b_uv": colorspace.CUBIC_C,
    "resample_filter_uv": "bicubic",
    "dither_type": "none",
}


def frame_clip(planes: Sequence[torch.Tensor], format: Format, **properties: int) -> vs.VideoNode:
    height, width = planes[0].shape
    blank = vs.core.std.BlankClip(format=format.id, length=1, width=width, height=height)

    def filled(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        del n
        copy = f.copy()
        for i, plane in enumerate(planes):
            np.copyto(np.asarray(copy[i]), plane.numpy())
        return copy

    return vs.core.std.SetFrameProps(vs.core.std.ModifyFrame(blank, blank, filled), **properties)


def planes_of(clip: vs.VideoNode) -> list[np.ndarray]:
    frame = clip.get_frame(0)
    return [np.array(frame[i], dtype=np.float64) for i in range(frame.format.num_planes)]


def tags(color: Colorimetry) -> dict[str, int]:
    return {"_Matrix": color.matrix, "_Range": int(color.full_range), "_ChromaLocation": color.chroma_location}


@pytest.mark.parametrize("format", ALL_FORMATS, ids=str)
def test_to_rgb_matches_zimg(format: Format) -> None:
    width, height = size_for(format)
    for color in colors_for(format):
        planes = random_planes(format, width, height)
        expected = planes_of(frame_clip(planes, format, **tags(color)).resize.Bicubic(format=RGBS.id, **KERNEL))
        expected = expected * 3 if format.family == "GRAY" and len(expected) == 1 else expected
        np.testing.assert_allclose(
            to_rgb(planes, format, color), np.clip(expected, 0, 1), atol=2e-6, err_msg=str(color)
        )


@pytest.mark.parametrize("format", ALL_FORMATS, ids=str)
def test_from_rgb_matches_zimg_within_one_code_value(format: Format) -> None:
    width, height = size_for(format)
    rgb = torch.stack(random_planes(RGBS, width, height))
    tolerance = 1.0 if format.sample == "integer" else {16: 5e-4, 32: 1e-6}[format.bits]
    for color in colors_for(format):
        expected = planes_of(
            frame_clip(tuple(rgb), RGBS, _Matrix=0).resize.Bicubic(
                format=format.id,
                matrix=color.matrix,
                range=int(color.full_range),
                chromaloc=color.chroma_location,
                **KERNEL,
            )
        )
        got = from_rgb(rgb, format, color, dither="none")
        for i, plane in enumerate(got):
            assert plane.dtype == format.dtype
            assert np.abs(plane.double().numpy() - expected[i]).max() <= tolerance, (color, i)


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_integer_rgb_from_yuv_matches_zimg_within_one_code_value(bits: int) -> None:
    format, target = Format("YUV", "integer", bits, 1, 1), Format("RGB", "integer", bits)
    for color in colors_for(format):
        planes = random_planes(format, 10, 14)
        expected = planes_of(frame_clip(planes, format, **tags(color)).resize.Bicubic(format=target.id, **KERNEL))
        got = from_rgb(to_rgb(planes, format, color), target, Colorimetry(0, True), dither="none")
        assert max(np.abs(g.double().numpy() - w).max() for g, w in zip(got, expected, strict=True)) <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4, 4), (8, 4)])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_frames_smaller_than_the_kernel_match_zimg(subsampling: tuple[int, int], width: int, height: int) -> None:
    if (width % (1 << subsampling[0])) or (height % (1 << subsampling[1])):
        pytest.skip("VapourSynth has no such frame")
    format = Format("YUV", "float", 32, *subsampling)
    planes, color = random_planes(format, width, height), Colorimetry(1, False, 2)
    expected = planes_of(frame_clip(planes, format, **tags(color)).resize.Bicubic(format=RGBS.id, **KERNEL))
    np.testing.assert_allclose(to_rgb(planes, format, color), np.clip(expected, 0, 1), atol=2e-6)


def test_frames_of_odd_size_keep_their_size_and_their_gray() -> None:
    for subsampling in SUBSAMPLINGS:
        format = Format("YUV", "integer", 8, *subsampling)
        sizes = format.plane_sizes(7, 5)
        gray = tuple(torch.full((h, w), 128, dtype=torch.uint8) for w, h in sizes)
        rgb = to_rgb(gray, format, Colorimetry(1, True))
        assert rgb.shape == (3, 5, 7)
        assert all(torch.equal(a, b) for a, b in zip(from_rgb(rgb, format, Colorimetry(1, True)), gray, strict=True))


@pytest.mark.parametrize("sample", SAMPLES)
def test_444_survives_the_round_trip_through_rgb(sample: tuple[str, int]) -> None:
    format = Format("YUV", *sample)
    tolerance = 1.0 if sample[0] == "integer" else {16: 1e-3, 32: 1e-4}[sample[1]]
    for color in colors_for(format):
        planes = from_rgb(torch.stack(random_planes(RGBS, 33, 17)), format, color, dither="none")
        again = from_rgb(to_rgb(planes, format, color), format, color, dither="none")
        assert max((a.double() - b.double()).abs().max() for a, b in zip(again, planes, strict=True)) <= tolerance


def test_legal_video_outside_the_rgb_cube_is_clamped() -> None:
    planes = tuple(torch.full((1, 1), code, dtype=torch.uint8) for code in (240, 200, 60))
    rgb = to_rgb(planes, Format("YUV", "integer", 8), Colorimetry(6, False))
    assert rgb.flatten().tolist() == pytest.approx([0.597, 1.0, 1.0], abs=1e-3)
    assert rgb.max() <= 1


def test_hr_is_clamped_before_conversion() -> None:
    beyond = torch.tensor([[[1.7]], [[-0.3]], [[1.0]]])
    for format in (YUV444P16, RGBS, GRAY8):
        color = Colorimetry(0 if format.family == "RGB" else 1, True)
        clamped = from_rgb(beyond.clamp(0, 1), format, color)
        assert all(torch.equal(a, b) for a, b in zip(from_rgb(beyond, format, color), clamped, strict=True))


def test_no_argument_is_changed() -> None:
    rgb = torch.rand(3, 16, 16) * 3 - 1
    planes = tuple(4 * plane for plane in random_planes(Format("YUV", "float", 32, 1, 1), 16, 16))
    kept_rgb, kept = rgb.clone(), [plane.clone() for plane in planes]
    for target in (YUV420P8, RGBS, GRAY8, Format("YUV", "float", 32)):
        made = from_rgb(rgb, target, Colorimetry(1, True))
        assert all(plane.data_ptr() != rgb.data_ptr() for plane in made)
    to_rgb(planes, Format("YUV", "float", 32, 1, 1), Colorimetry(1, True))
    to_rgb(planes[:1], Format("GRAY", "float", 32), Colorimetry(1, True))
    assert torch.equal(rgb, kept_rgb)
    assert all(torch.equal(a, b) for a, b in zip(planes, kept, strict=True))


def test_float16_and_bfloat16_rgb_is_accepted() -> None:
    rgb = torch.rand(3, 8, 8)
    for low in (rgb.half(), rgb.bfloat16()):
        expected = from_rgb(low.float(), YUV444P16, Colorimetry(1, False))
        made = from_rgb(low, YUV444P16, Colorimetry(1, False))
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


def test_the_number_of_torch_threads_changes_no_byte() -> None:
    rgb = torch.rand(3, 401, 603)
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for format in (YUV420P8, Format("YUV", "integer", 10, 2, 2), Format("YUV", "float", 32, 1, 0)):
                planes = from_rgb(rgb, format, Colorimetry(9, False, 2))
                made.append([*planes, to_rgb(planes, format, Colorimetry(9, False, 2))])
    finally:
        torch.set_num_threads(before)
    for one, other in [(made[i % 3], made[i]) for i in range(3, 9)]:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_planes_of_another_format_are_refused() -> None:
    planes = random_planes(YUV420P8, 8, 8)
    with pytest.raises(
        ValueError, match=r"planes: expected \[\(8, 8\), \(8, 8\), \(8, 8\)\] of torch.uint8 for YUV444P8"
    ):
        to_rgb(planes, Format("YUV", "integer", 8), Colorimetry(1, False))
    with pytest.raises(ValueError, match=r"torch.uint16 for YUV420P10"):
        to_rgb(planes, Format("YUV", "integer", 10, 1, 1), Colorimetry(1, False))


@pytest.mark.needs_cuda
def test_a_gpu_gives_the_same_bytes() -> None:
    for format in ALL_FORMATS:
        for color in (Colorimetry(0 if format.family == "RGB" else 1, full, 2) for full in (False, True)):
            planes = random_planes(format, 36, 20)
            rgb = to_rgb(planes, format, color)
            there = to_rgb(tuple(plane.cuda() for plane in planes), format, color)
            assert torch.equal(there.cpu(), rgb), format
            for dither in colorspace.DITHERS:
                made = from_rgb(rgb.cuda(), format, color, dither=dither)
                kept = from_rgb(rgb, format, color, dither=dither)
                assert all(torch.equal(a.cpu(), b) for a, b in zip(made, kept, strict=True)), (format, dither)


@pytest.mark.parametrize("dither", colorspace.DITHERS)
@pytest.mark.parametrize("format", ALL_FORMATS, ids=str)
def test_gray_stays_without_color_in_every_format_however_much_the_channels_differ(format: Format, dither: str) -> None:
    width, height = size_for(format)
    rgb = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    for color in colors_for(format):
        gray, *others = gray_from_rgb(rgb, format, color, matrix=6, dither=dither)
        assert [(plane.shape[1], plane.shape[0]) for plane in (gray, *others)] == format.plane_sizes(width, height)
        neutral = torch.tensor(1 << (format.bits - 1) if format.sample == "integer" else 0)
        for plane in others:
            assert torch.equal(plane.double(), (gray if format.family == "RGB" else neutral.expand_as(plane)).double())


@pytest.mark.parametrize("dither", colorspace.DITHERS)
def test_gray_has_the_luma_that_from_rgb_gives(dither: str) -> None:
    rgb = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    for format in (GRAY8, YUV420P8, YUV444P16):
        color = Colorimetry(9, full_range=False)
        expected = from_rgb(rgb, format, color, dither=dither)[0]
        assert torch.equal(gray_from_rgb(rgb, format, color, matrix=9, dither=dither)[0], expected)
