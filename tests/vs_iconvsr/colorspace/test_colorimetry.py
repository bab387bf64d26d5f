import pytest
import torch

from tests.vs_iconvsr.colorspace.samples import GRAY8, RGBS, YUV420P8, random_planes
from vs_iconvsr import colorspace
from vs_iconvsr.colorspace import (
    Colorimetry,
    Format,
    colorimetry_of,
    output_colorimetry,
    properties_of,
    range_warnings,
    to_rgb,
)


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
def test_code_values_outside_limited_range_cause_a_warning_when_they_are_many(
    bits: int, level: int, share: float, full_range: bool, warned: bool
) -> None:
    format = Format("YUV", "integer", bits, 1, 1)
    luma = torch.full((100, 100), 128 << bits - 8, dtype=torch.int32)
    luma.view(-1)[: round(share * luma.numel())] = level << bits - 8
    color, _ = colorimetry_of({"_Matrix": 1, "_Range": int(full_range)}, format, 100, 100)
    found = range_warnings(luma.to(format.dtype), format, color)
    assert [text.split(":")[0] for text in found] == ["range"] * warned


def test_the_tags_of_the_frame_are_used() -> None:
    properties = {"_Matrix": 9, "_Range": 1, "_ChromaLocation": 2, "_Transfer": 1, "_Primaries": 9}
    assert colorimetry_of(properties, YUV420P8, 720, 480) == (Colorimetry(9, True, 2, 1, 9), [])


def test_the_default_range_is_limited_for_luma_and_full_for_rgb() -> None:
    ranges = {f.family: colorimetry_of({"_Matrix": 1}, f, 720, 480)[0].full_range for f in (YUV420P8, GRAY8, RGBS)}
    assert ranges == {"YUV": False, "GRAY": False, "RGB": True}


def test_rgb_of_limited_range_is_read_as_such_and_stays_limited() -> None:
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
    assert "the option matrix chooses another" in warnings[0]


def test_an_untagged_gray_clip_causes_no_warning() -> None:
    assert colorimetry_of({}, GRAY8, 1280, 720) == (Colorimetry(1, False), [])
    assert colorimetry_of({"_Matrix": 0}, GRAY8, 1280, 720) == (Colorimetry(1, False), [])


def test_the_users_matrix_overrides_the_tag() -> None:
    assert colorimetry_of({"_Matrix": 2}, YUV420P8, 720, 480, matrix=1) == (Colorimetry(1, False), [])
    assert colorimetry_of({"_Matrix": 14}, YUV420P8, 720, 480, matrix=9)[0].matrix == 9


@pytest.mark.parametrize(("matrix", "name"), [(0, "rgb"), (8, "ycgco"), (10, "2020cl"), (14, "ictcp"), (99, "unknown")])
def test_an_unsupported_matrix_is_refused_by_name(matrix: int, name: str) -> None:
    for tag, given in ({"_Matrix": matrix}, None), ({}, matrix):
        with pytest.raises(ValueError, match=rf"matrix: expected one of 1 \(709\).* got {matrix} \({name}\).*matrix="):
            colorimetry_of(tag, YUV420P8, 720, 480, matrix=given)


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


def test_a_yuv_target_keeps_the_tags_of_its_yuv_source() -> None:
    properties = {"_Matrix": 5, "_Range": 1, "_ChromaLocation": 1, "_Transfer": 6, "_Primaries": 5}
    color, _ = colorimetry_of(properties, YUV420P8, 720, 576)
    hr = output_colorimetry(color, YUV420P8, Format("YUV", "integer", 10, 1, 1), 2880, 2304)
    assert properties_of(hr, Format("YUV", "integer", 10, 1, 1)) == {**properties, "_FieldBased": 0}


def test_a_guessed_matrix_is_tagged_on_hr_whose_size_would_suggest_another() -> None:
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
