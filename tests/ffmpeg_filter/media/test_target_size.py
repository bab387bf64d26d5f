from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffmpeg_filter.media.target_size import Resize, TargetSize, resize_for
from vs_iconvsr.colorspace import Format

YUV420, YUV444 = Format("YUV", "integer", 10, 1, 1), Format("YUV", "integer", 10)
NTSC, PAL = (720, 480), (720, 576)


@pytest.mark.parametrize(
    ("target", "source", "aspect", "expected"),
    [
        (TargetSize(height=2160), (1920, 1080), "1", "3840x2160 1"),
        (TargetSize(height=1080), NTSC, "8/9", "1620x1080 8/9"),
        (TargetSize(height=1080, square_pixels=True), NTSC, "8/9", "1440x1080 1"),
        (TargetSize(height=1080, square_pixels=True), NTSC, "32/27", "1920x1080 1"),
        (TargetSize(scale=Fraction(2)), PAL, "16/15", "1440x1152 16/15"),
        (TargetSize(scale=Fraction(2), square_pixels=True), PAL, "16/15", "1536x1152 1"),
        (TargetSize(square_pixels=True), PAL, "16/15", "3072x2304 1"),
        (TargetSize(size=(1440, 1080)), NTSC, "8/9", "1440x1080 1"),
        (TargetSize(size=(1440, 1080)), NTSC, "32/27", "1440x1080 4/3"),
        (TargetSize(size=(1440, 1080)), NTSC, "0", "1440x1080 9/8"),
        (TargetSize(height=1080), (854, 480), "0", "1922x1080 0"),
        (TargetSize(size=(1920, 1080)), (854, 480), "1", "1920x1080 1"),
        (TargetSize(scale=Fraction(3, 2)), (101, 51), "1", "152x76 1"),
    ],
)
def test_the_picture_keeps_its_shape(target: TargetSize, source: tuple[int, int], aspect: str, expected: str) -> None:
    resize = resize_for(target, source, 4, Fraction(aspect), YUV420)
    assert resize is not None
    assert f"{resize.width}x{resize.height} {resize.aspect}" == expected


@given(
    width=st.integers(16, 2000),
    height=st.integers(200, 2000),
    lines=st.integers(16, 2000),
    aspect=st.sampled_from(("8/9", "32/27", "16/15", "64/45", "1", "0")),
    square=st.booleans(),
)
def test_any_shape_is_kept_to_the_nearest_size_there_is(
    width: int, height: int, lines: int, aspect: str, square: bool
) -> None:
    lines -= lines % 2
    target = TargetSize(height=lines, square_pixels=square)
    resize = resize_for(target, (width, height), 2, Fraction(aspect), YUV420)
    if resize is not None:
        exact = Fraction(width, height) * lines * ((Fraction(aspect) or 1) / (resize.aspect or 1))
        assert resize.width % 2 == 0
        assert abs(resize.width - exact) <= max(1, 2 - exact)


@pytest.mark.parametrize("target", [TargetSize(scale=Fraction(4)), TargetSize(height=192), TargetSize(size=(288, 192))])
def test_the_networks_own_size_is_not_resized(target: TargetSize) -> None:
    assert resize_for(target, (72, 48), 4, Fraction(1), YUV420) is None


def test_no_chroma_means_no_even_sizes() -> None:
    assert resize_for(TargetSize(size=(101, 75)), (100, 75), 4, Fraction(1), YUV444) == Resize(
        101, 75, "spline36", Fraction(1)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TargetSize(size=(2, 2), height=3),
            r"size: expected one of size, height and scale, got size and height",
        ),
        (lambda: TargetSize(kernel="magic"), r"kernel: expected one of bilinear, .*spline64, got magic"),
        (lambda: TargetSize(height=0), r"height: expected more than 0, got 0"),
        (lambda: TargetSize(size=(0, 0)), r"size: expected more than 0, got 0"),
        (lambda: TargetSize(scale=Fraction(-1)), r"scale: expected more than 0, got -1"),
        (
            lambda: resize_for(TargetSize(size=(1441, 1080)), NTSC, 4, Fraction(1), YUV420),
            r"size: expected a multiple of 2x2 for YUV420P10, got 1441x1080; pass --size 1440x1080",
        ),
        (
            lambda: resize_for(TargetSize(height=101), NTSC, 4, Fraction(1), YUV420),
            r"size: expected a multiple of 2x2 for YUV420P10, got 152x101; pass --size 152x100",
        ),
        (
            lambda: resize_for(TargetSize(size=(2000, 1080), square_pixels=True), NTSC, 4, Fraction("8/9"), YUV420),
            r"square-pixels: expected a size of the picture's shape, 1\.333:1, got 2000x1080; pass --size 1440x1080",
        ),
        (
            lambda: resize_for(TargetSize(height=40000), NTSC, 4, Fraction(1), YUV420),
            r"size: expected at most 32768 px on a side, got 60000x40000",
        ),
    ],
)
def test_a_size_that_cannot_be_is_refused_with_one_that_can(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=rf"^{message}"):
        make()
