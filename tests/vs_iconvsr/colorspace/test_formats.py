import pytest
import vapoursynth as vs

from tests.vs_iconvsr.colorspace.samples import ALL_FORMATS, GRAY8, RGBS, YUV420P8
from vs_iconvsr.colorspace import Format


def test_ids_and_names_match_vapoursynth() -> None:
    for ours in ALL_FORMATS:
        theirs = vs.core.get_video_format(ours.id)
        assert (theirs.name.upper(), Format.from_id(theirs.id)) == (str(ours), ours)


def test_chroma_sizes_of_odd_frames_are_rounded_up() -> None:
    assert YUV420P8.plane_sizes(5, 3) == [(5, 3), (3, 2), (3, 2)]
    assert Format("YUV", "integer", 8, 2, 0).plane_sizes(9, 3) == [(9, 3), (3, 3), (3, 3)]
    assert GRAY8.plane_sizes(5, 3) == [(5, 3)]


def test_an_rgb_frame_has_three_planes_of_its_size() -> None:
    assert RGBS.plane_sizes(5, 3) == [(5, 3)] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("YUV", "integer", 17), "got 17 bit integer"),
        (("YUV", "integer", 32), "no filter of VapourSynth.s own converts it: have it made with 8 to 16 bits"),
        (("YUV", "float", 24), "got 24 bit float"),
        (("COMPAT", "integer", 8), "got COMPAT"),
        (("RGB", "integer", 8, 1, 1), r"got log2 \(1, 1\)"),
        (("YUV", "integer", 8, 3, 0), r"got log2 \(3, 0\)"),
    ],
)
def test_an_unsupported_format_is_refused_by_name(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Format(*arguments)


def test_the_id_of_a_variable_format_is_refused() -> None:
    with pytest.raises(ValueError, match="got the id 0"):
        Format.from_id(0)
