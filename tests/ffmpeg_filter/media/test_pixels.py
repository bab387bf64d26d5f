import av
import pytest

from ffmpeg_filter.media.pixels import has_alpha, layout_of, pixel_format_of, plane_order
from vs_iconvsr.colorspace import Format


@pytest.mark.parametrize(
    ("name", "text", "decode_as"),
    [
        ("yuv420p", "YUV420P8", None),
        ("yuvj422p", "YUV422P8", None),
        ("yuv444p12le", "YUV444P12", None),
        ("yuv420p10be", "YUV420P10", "yuv420p10le"),
        ("p010le", "YUV420P10", "yuv420p10le"),
        ("nv12", "YUV420P8", "yuv420p"),
        ("rgb24", "RGB24", "gbrp"),
        ("pal8", "RGB24", "gbrp"),
        ("gbrpf32le", "RGBS", None),
        ("gray16be", "GRAY16", "gray16le"),
    ],
)
def test_pixel_formats_map_to_layouts(name: str, text: str, decode_as: str | None) -> None:
    layout = layout_of(name)
    assert (str(layout.format), layout.decode_as) == (text, decode_as)


def test_yuvj_is_full_range() -> None:
    assert layout_of("yuvj420p").full_range
    assert not layout_of("yuv420p").full_range


@pytest.mark.parametrize("name", [n for n in sorted(av.video.format.names) if av.VideoFormat(n).has_palette is False])
def test_alpha_is_never_dropped_silently(name: str) -> None:
    chosen = av.VideoFormat(name)
    if any(component.is_alpha for component in chosen.components) and not name.endswith(("0rgb", "rgb0")):
        with pytest.raises(ValueError, match="pixel format"):
            layout_of(name)


def test_alpha_has_a_message_of_its_own() -> None:
    assert has_alpha("yuva444p12le")
    assert has_alpha("gbrap16le")
    assert has_alpha("rgba64le")
    assert not has_alpha("rgb24")


@pytest.mark.parametrize("name", ["bayer_rggb8", "xyz12le", "cuda", "yuv420p17le"])
def test_unsupported_formats_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"expected YUV, RGB or GRAY of 8 to 16 bits, got {name}"):
        layout_of(name)


def test_names_and_formats_are_inverse() -> None:
    for name in ("yuv420p", "yuv422p10le", "gbrp14le", "gray12le"):
        assert pixel_format_of(layout_of(name).format) == name
    with pytest.raises(ValueError, match="expected one that FFmpeg has, got YUV411P10"):
        pixel_format_of(Format("YUV", "integer", 10, 2, 0))


def test_plane_orders_undo_each_other() -> None:
    there = layout_of("gbrp").order
    back = plane_order(Format("RGB", "integer", 8))
    assert [there[i] for i in back] == [0, 1, 2]
