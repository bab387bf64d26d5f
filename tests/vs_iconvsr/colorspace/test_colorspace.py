"""Colorimetry: what VapourSynth's own resize (zimg) makes of the same planes is the oracle."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
import vapoursynth as vs

from vs_iconvsr import colorspace
from vs_iconvsr.colorspace import (
    Colorimetry,
    Format,
    Planes,
    colorimetry_of,
    from_rgb,
    output_colorimetry,
    properties_of,
    range_warnings,
    to_rgb,
)

KERNEL = {
    "filter_param_a_uv": colorspace.CUBIC_B,
    "filter_param_b_uv": colorspace.CUBIC_C,
    "resample_filter_uv": "bicubic",
    "dither_type": "none",
}
SUBSAMPLINGS = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 2), (0, 1)]
SAMPLES = [*(("integer", bits) for bits in (8, 9, 10, 12, 14, 16)), ("float", 16), ("float", 32)]
MATRICES = (1, 4, 5, 6, 7, 9)
YUV420P8 = Format("YUV", "integer", 8, 1, 1)
YUV444P16 = Format("YUV", "integer", 16)
RGBS = Format("RGB", "float", 32)
GRAY8 = Format("GRAY", "integer", 8)


def every_format() -> Iterator[Format]:
    for sample, bits in SAMPLES:
        yield Format("GRAY", sample, bits)
        yield Format("RGB", sample, bits)
        yield from (Format("YUV", sample, bits, *subsampling) for subsampling in SUBSAMPLINGS)


ALL_FORMATS = list(every_format())


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


def random_planes(format: Format, width: int, height: int, seed: int = 0) -> Planes:
    generator = torch.Generator().manual_seed(seed)

    def plane(size: tuple[int, int], chroma: bool) -> torch.Tensor:
        if format.sample == "integer":
            codes = torch.randint(0, 1 << format.bits, (size[1], size[0]), generator=generator, dtype=torch.int32)
            return codes.to(format.dtype)
        return (torch.rand(size[1], size[0], generator=generator) - 0.5 * chroma).to(format.dtype)

    sizes = format.plane_sizes(width, height)
    return tuple(plane(size, format.family == "YUV" and i > 0) for i, size in enumerate(sizes))


def size_for(format: Format) -> tuple[int, int]:
    """Odd where the format allows it, and not much larger than the kernel, so that edges count."""
    return (5 << format.subsampling_w, 7 << format.subsampling_h)


def colors_for(format: Format) -> Iterator[Colorimetry]:
    locations = range(6) if format.subsampled else (0,)
    matrices = (0,) if format.family == "RGB" else MATRICES
    for matrix, full_range in itertools.product(matrices, (False, True)):
        yield Colorimetry(matrix, full_range)
    yield from (
        Colorimetry(matrices[0], full_range, location) for full_range in (False, True) for location in locations
    )


def tags(color: Colorimetry) -> dict[str, int]:
    return {"_Matrix": color.matrix, "_Range": int(color.full_range), "_ChromaLocation": color.chroma_location}


# --- formats


def test_ids_are_those_of_vapoursynth() -> None:
    for ours in ALL_FORMATS:
        theirs = vs.core.get_video_format(ours.id)
        assert (theirs.name.upper(), Format.from_id(theirs.id)) == (str(ours), ours)


def test_plane_sizes_round_chroma_of_odd_frames_up() -> None:
    assert YUV420P8.plane_sizes(5, 3) == [(5, 3), (3, 2), (3, 2)]
    assert Format("YUV", "integer", 8, 2, 0).plane_sizes(9, 3) == [(9, 3), (3, 3), (3, 3)]
    assert GRAY8.plane_sizes(5, 3) == [(5, 3)]


def test_an_rgb_frame_has_three_planes_of_its_size() -> None:
    assert RGBS.plane_sizes(5, 3) == [(5, 3)] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("YUV", "integer", 17), "got 17 bit integer"),
        (("YUV", "integer", 32), "convert with resize.Bicubic"),
        (("YUV", "float", 24), "got 24 bit float"),
        (("COMPAT", "integer", 8), "got COMPAT"),
        (("RGB", "integer", 8, 1, 1), r"got log2 \(1, 1\)"),
        (("YUV", "integer", 8, 3, 0), r"got log2 \(3, 0\)"),
    ],
)
def test_a_format_that_we_do_not_have_is_refused_by_name(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Format(*arguments)


def test_the_id_of_a_variable_format_is_refused() -> None:
    with pytest.raises(ValueError, match="got the id 0"):
        Format.from_id(0)


# --- the oracle


@pytest.mark.parametrize("format", ALL_FORMATS, ids=str)
def test_to_rgb_is_what_zimg_makes(format: Format) -> None:
    width, height = size_for(format)
    for color in colors_for(format):
        planes = random_planes(format, width, height)
        wanted = planes_of(frame_clip(planes, format, **tags(color)).resize.Bicubic(format=RGBS.id, **KERNEL))
        wanted = wanted * 3 if format.family == "GRAY" and len(wanted) == 1 else wanted
        np.testing.assert_allclose(to_rgb(planes, format, color), np.clip(wanted, 0, 1), atol=2e-6, err_msg=str(color))


@pytest.mark.parametrize("format", ALL_FORMATS, ids=str)
def test_from_rgb_is_what_zimg_makes_within_one_code_value(format: Format) -> None:
    width, height = size_for(format)
    rgb = torch.stack(random_planes(RGBS, width, height))
    tolerance = 1.0 if format.sample == "integer" else {16: 5e-4, 32: 1e-6}[format.bits]
    for color in colors_for(format):
        wanted = planes_of(
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
            assert np.abs(plane.double().numpy() - wanted[i]).max() <= tolerance, (color, i)


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_integer_rgb_from_yuv_is_zimg_s_within_one_code_value(bits: int) -> None:
    format, target = Format("YUV", "integer", bits, 1, 1), Format("RGB", "integer", bits)
    for color in colors_for(format):
        planes = random_planes(format, 10, 14)
        wanted = planes_of(frame_clip(planes, format, **tags(color)).resize.Bicubic(format=target.id, **KERNEL))
        got = from_rgb(to_rgb(planes, format, color), target, Colorimetry(0, True), dither="none")
        assert max(np.abs(g.double().numpy() - w).max() for g, w in zip(got, wanted, strict=True)) <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4, 4), (8, 4)])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_frames_smaller_than_the_kernel_are_zimg_s_too(subsampling: tuple[int, int], width: int, height: int) -> None:
    if (width % (1 << subsampling[0])) or (height % (1 << subsampling[1])):
        pytest.skip("VapourSynth has no such frame")
    format = Format("YUV", "float", 32, *subsampling)
    planes, color = random_planes(format, width, height), Colorimetry(1, False, 2)
    wanted = planes_of(frame_clip(planes, format, **tags(color)).resize.Bicubic(format=RGBS.id, **KERNEL))
    np.testing.assert_allclose(to_rgb(planes, format, color), np.clip(wanted, 0, 1), atol=2e-6)


def test_odd_frames_of_decoders_keep_their_size_and_their_grey() -> None:
    for subsampling in SUBSAMPLINGS:
        format = Format("YUV", "integer", 8, *subsampling)
        sizes = format.plane_sizes(7, 5)
        grey = tuple(torch.full((h, w), 128, dtype=torch.uint8) for w, h in sizes)
        rgb = to_rgb(grey, format, Colorimetry(1, True))
        assert rgb.shape == (3, 5, 7)
        assert all(torch.equal(a, b) for a, b in zip(from_rgb(rgb, format, Colorimetry(1, True)), grey, strict=True))


@pytest.mark.parametrize("sample", SAMPLES)
def test_444_comes_back_through_rgb(sample: tuple[str, int]) -> None:
    format = Format("YUV", *sample)
    tolerance = 1.0 if sample[0] == "integer" else {16: 1e-3, 32: 1e-4}[sample[1]]
    for color in colors_for(format):
        planes = from_rgb(torch.stack(random_planes(RGBS, 33, 17)), format, color, dither="none")
        again = from_rgb(to_rgb(planes, format, color), format, color, dither="none")
        assert max((a.double() - b.double()).abs().max() for a, b in zip(again, planes, strict=True)) <= tolerance


# --- clamping, determinism, dither


def test_legal_video_that_leaves_the_rgb_cube_is_clamped() -> None:
    planes = tuple(torch.full((1, 1), code, dtype=torch.uint8) for code in (240, 200, 60))
    rgb = to_rgb(planes, Format("YUV", "integer", 8), Colorimetry(6, False))
    assert rgb.flatten().tolist() == pytest.approx([0.597, 1.0, 1.0], abs=1e-3)
    assert rgb.max() <= 1


@pytest.mark.parametrize(
    ("level", "share", "full_range", "warned"),
    [
        (250, 0.02, False, True),
        (3, 0.02, False, True),
        (250, 0.005, False, False),  # a lamp
        (238, 1.0, False, False),  # ringing
        (250, 1.0, True, False),
    ],
)
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_codes_that_limited_range_does_not_have_are_warned_of(
    bits: int, level: int, share: float, full_range: bool, warned: bool
) -> None:
    format = Format("YUV", "integer", bits, 1, 1)
    luma = torch.full((100, 100), 128 << bits - 8, dtype=torch.int32)
    luma.view(-1)[: round(share * luma.numel())] = level << bits - 8
    color, _ = colorimetry_of({"_Matrix": 1, "_Range": int(full_range)}, format, 100, 100)
    found = range_warnings(luma.to(format.dtype), format, color)
    assert [text.split(":")[0] for text in found] == ["range"] * warned


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


def test_half_and_brain_floats_from_a_network_are_taken() -> None:
    rgb = torch.rand(3, 8, 8)
    for low in (rgb.half(), rgb.bfloat16()):
        wanted = from_rgb(low.float(), YUV444P16, Colorimetry(1, False))
        made = from_rgb(low, YUV444P16, Colorimetry(1, False))
        assert all(torch.equal(a, b) for a, b in zip(made, wanted, strict=True))


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


def test_dither_keeps_the_mean() -> None:
    for value in (20.1, 77.5, 200.93):
        rgb = torch.full((3, 128, 128), value / 255)
        for plane in from_rgb(rgb, Format("RGB", "integer", 8), Colorimetry(0, True)):
            assert plane.double().mean().item() == pytest.approx(value, abs=0.02)
            assert set(plane.unique().tolist()) == {int(value), int(value) + 1}


def test_dither_keeps_the_mean_of_every_small_neighbourhood() -> None:
    plane = from_rgb(torch.full((3, 192, 192), 100.5 / 255), GRAY8, Colorimetry(1, True))[0].float()
    means = torch.nn.functional.avg_pool2d(plane[None, None], 8, stride=1)
    assert (means - 100.5).abs().max() <= 0.1  # a random pattern is off by 0.06 on average, by 0.25 somewhere


def test_dither_leaves_alone_what_the_format_can_hold() -> None:
    codes = torch.arange(256, dtype=torch.uint8).reshape(16, 16).repeat(6, 6)
    for full_range in (False, True):
        rgb = to_rgb((codes, codes, codes), Format("RGB", "integer", 8), Colorimetry(0, True))
        kept = from_rgb(rgb, Format("RGB", "integer", 8), Colorimetry(0, True))
        assert torch.equal(kept[0], codes), full_range


def test_dither_depends_on_the_position_alone() -> None:
    left, right = torch.rand(3, 90, 40), torch.rand(3, 90, 24)
    whole = from_rgb(torch.cat([left, right], dim=2), YUV444P16, Colorimetry(1, False))
    alone = from_rgb(left, YUV444P16, Colorimetry(1, False))
    assert all(torch.equal(a[:, :40], b) for a, b in zip(whole, alone, strict=True))


def test_an_unknown_dither_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected one of ordered, none, got 'random'"):
        from_rgb(torch.zeros(3, 2, 2), RGBS, Colorimetry(0, True), dither="random")


def test_planes_that_do_not_fit_the_format_are_refused() -> None:
    planes = random_planes(YUV420P8, 8, 8)
    with pytest.raises(
        ValueError, match=r"planes: expected \[\(8, 8\), \(8, 8\), \(8, 8\)\] of torch.uint8 for YUV444P8"
    ):
        to_rgb(planes, Format("YUV", "integer", 8), Colorimetry(1, False))
    with pytest.raises(ValueError, match=r"torch.uint16 for YUV420P10"):
        to_rgb(planes, Format("YUV", "integer", 10, 1, 1), Colorimetry(1, False))


@pytest.mark.needs_cuda
def test_a_gpu_makes_the_same_bytes() -> None:
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


# --- properties


def test_tags_of_the_frame_are_taken() -> None:
    properties = {"_Matrix": 9, "_Range": 1, "_ChromaLocation": 2, "_Transfer": 1, "_Primaries": 9}
    assert colorimetry_of(properties, YUV420P8, 720, 480) == (Colorimetry(9, True, 2, 1, 9), [])


def test_absent_range_is_limited_for_luma_and_full_for_rgb() -> None:
    ranges = {f.family: colorimetry_of({"_Matrix": 1}, f, 720, 480)[0].full_range for f in (YUV420P8, GRAY8, RGBS)}
    assert ranges == {"YUV": False, "GRAY": False, "RGB": True}


def test_a_limited_rgb_clip_is_read_and_stays_limited() -> None:
    color, _ = colorimetry_of({"_Matrix": 0, "_Range": 0}, Format("RGB", "integer", 8), 8, 8)
    planes = tuple(torch.full((1, 1), code, dtype=torch.uint8) for code in (16, 235, 16))
    assert to_rgb(planes, Format("RGB", "integer", 8), color).flatten().tolist() == pytest.approx([0.0, 1.0, 0.0])
    assert not output_colorimetry(color, Format("RGB", "integer", 8), Format("RGB", "integer", 10), 32, 32).full_range


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [(720, 480, 6), (320, 240, 6), (720, 576, 5), (352, 288, 5), (1280, 720, 1), (1920, 1080, 1)],
)
@pytest.mark.parametrize("properties", [{}, {"_Matrix": 2}])
def test_an_untagged_matrix_is_guessed_by_size_with_one_warning(
    properties: dict[str, int], width: int, height: int, matrix: int
) -> None:
    color, warnings = colorimetry_of(properties, YUV420P8, width, height)
    assert color.matrix == matrix
    assert len(warnings) == 1
    assert f"usual for {width}x{height}" in warnings[0]
    assert "matrix=" in warnings[0]


def test_an_untagged_grey_clip_is_no_cause_for_a_warning() -> None:
    assert colorimetry_of({}, GRAY8, 1280, 720) == (Colorimetry(1, False), [])
    assert colorimetry_of({"_Matrix": 0}, GRAY8, 1280, 720) == (Colorimetry(1, False), [])


def test_the_users_matrix_goes_before_the_tag() -> None:
    assert colorimetry_of({"_Matrix": 2}, YUV420P8, 720, 480, matrix=1) == (Colorimetry(1, False), [])
    assert colorimetry_of({"_Matrix": 14}, YUV420P8, 720, 480, matrix=9)[0].matrix == 9


@pytest.mark.parametrize(("matrix", "name"), [(0, "rgb"), (8, "ycgco"), (10, "2020cl"), (14, "ictcp"), (99, "unknown")])
def test_a_matrix_that_we_do_not_know_is_refused_by_name(matrix: int, name: str) -> None:
    for refuse in ({"_Matrix": matrix}, None), ({}, matrix):
        with pytest.raises(ValueError, match=rf"matrix: expected one of 1 \(709\).* got {matrix} \({name}\).*matrix="):
            colorimetry_of(refuse[0], YUV420P8, 720, 480, matrix=refuse[1])


@pytest.mark.parametrize("field_based", [1, 2])
def test_interlaced_frames_are_refused_with_the_remedy(field_based: int) -> None:
    with pytest.raises(ValueError, match=r"_FieldBased: .*deinterlace first.*SetFieldBased\(0\)"):
        colorimetry_of({"_Matrix": 1, "_FieldBased": field_based}, YUV420P8, 720, 480)
    assert colorimetry_of({"_Matrix": 1, "_FieldBased": 0}, YUV420P8, 720, 480)[1] == []


def test_alpha_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"_Alpha: .*RemoveFrameProps.*PropToClip"):
        colorimetry_of({"_Matrix": 1, "_Alpha": 1}, YUV420P8, 720, 480)


@pytest.mark.parametrize(("name", "value"), [("_Range", 2), ("_ChromaLocation", 6), ("_ChromaLocation", -1)])
def test_a_property_out_of_its_range_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected one of 0, 1.*got {value}"):
        colorimetry_of({"_Matrix": 1, name: value}, YUV420P8, 720, 480)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (8, "linear")])
def test_hdr_and_linear_light_go_through_as_encoded_with_one_warning(transfer: int, name: str) -> None:
    color, warnings = colorimetry_of({"_Matrix": 9, "_Transfer": transfer, "_Primaries": 9}, YUV420P8, 1920, 1080)
    assert len(warnings) == 1
    assert name in warnings[0]
    sdr, _ = colorimetry_of({"_Matrix": 9, "_Transfer": 1, "_Primaries": 9}, YUV420P8, 1920, 1080)
    planes = random_planes(YUV420P8, 8, 8)
    assert torch.equal(to_rgb(planes, YUV420P8, color), to_rgb(planes, YUV420P8, sdr))
    assert properties_of(output_colorimetry(color, YUV420P8, YUV420P8, 7680, 4320), YUV420P8)["_Transfer"] == transfer


def test_yuv_gets_its_own_tags_back() -> None:
    properties = {"_Matrix": 5, "_Range": 1, "_ChromaLocation": 1, "_Transfer": 6, "_Primaries": 5}
    color, _ = colorimetry_of(properties, YUV420P8, 720, 576)
    hr = output_colorimetry(color, YUV420P8, Format("YUV", "integer", 10, 1, 1), 2880, 2304)
    assert properties_of(hr, Format("YUV", "integer", 10, 1, 1)) == {**properties, "_FieldBased": 0}


def test_a_guessed_matrix_is_written_down_because_the_hr_size_would_suggest_another() -> None:
    color, _ = colorimetry_of({}, YUV420P8, 720, 480)
    assert properties_of(output_colorimetry(color, YUV420P8, YUV420P8, 2880, 1920), YUV420P8)["_Matrix"] == 6


def test_an_rgb_target_is_tagged_rgb_and_full_and_has_no_chroma_location() -> None:
    color, _ = colorimetry_of({"_Matrix": 6, "_Primaries": 6, "_Transfer": 6}, YUV420P8, 720, 480)
    hr = output_colorimetry(color, YUV420P8, RGBS, 2880, 1920)
    assert properties_of(hr, RGBS) == {"_Matrix": 0, "_Range": 1, "_Transfer": 6, "_Primaries": 6, "_FieldBased": 0}
    assert "_ChromaLocation" in colorspace.COLOR_PROPERTIES


def test_a_yuv_target_of_an_rgb_source_is_limited_with_the_usual_or_the_users_matrix() -> None:
    color, _ = colorimetry_of({}, RGBS, 480, 270)
    assert output_colorimetry(color, RGBS, YUV420P8, 1920, 1080) == Colorimetry(1, False)
    assert output_colorimetry(color, RGBS, YUV420P8, 720, 480) == Colorimetry(6, False)
    assert output_colorimetry(color, RGBS, YUV420P8, 1920, 1080, matrix=9) == Colorimetry(9, False)
