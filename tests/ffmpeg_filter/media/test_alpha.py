"""Opaque alpha is left out, transparency is refused: in every kind of file that can have it, hidden or not."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media import alpha, images
from ffmpeg_filter.media.frames import planes_of
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]
CODED = {
    "gif": ("-c:v", "gif"),
    "webp": ("-c:v", "libwebp_anim", "-lossless", "1"),
    "apng": ("-c:v", "apng", "-pix_fmt", "rgba", "-plays", "0"),
    "mov": ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"),
    "mkv": ("-c:v", "ffv1", "-pix_fmt", "gbrap12le"),
    "avi": ("-c:v", "rawvideo", "-pix_fmt", "bgra"),
    "webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"),
    "vp8.webm": ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"),
}


@pytest.fixture
def animated(ffmpeg: Make) -> Make:
    """animated("webp", "through"): six frames that are opaque, or one of which, the fourth, is not."""

    def make(kind: str, how: str = "opaque") -> Path:
        hole = ",geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(eq(N,3)*lt(X,9),0,255)'" if how == "through" else ""
        picture = f"testsrc2=s=48x32:r=10,format=rgba{hole}"
        return ffmpeg(f"in.{kind}", "-f", "lavfi", "-i", picture, "-frames:v", "6", *CODED[kind])

    return make


@pytest.mark.parametrize("kind", CODED)
def test_opaque_alpha_is_left_out(animated: Make, upscaled: Upscaled, tmp_path: Path, kind: str) -> None:
    source = animated(kind)
    summary = upscaled(source, tmp_path / "out.mkv")
    assert summary.frames == probe(source).num_frames >= 3
    assert probe(tmp_path / "out.mkv").timeline.seconds == pytest.approx(0.6, abs=0.11)


@pytest.mark.parametrize("kind", [k for k in CODED if k != "gif"])
def test_one_transparent_frame_is_refused_before_the_work(animated: Make, kind: str) -> None:
    with pytest.raises(SourceError, match=r"frame \d is transparent; .*; remove it first.* -c:v ffv1 OUT\.mkv"):
        probe(animated(kind, "through"))


def test_a_gif_with_a_transparent_background_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("P", (32, 32), 1) for _ in range(2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0])
        frame.paste(0, (0, 0, 9, 9))
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:], transparency=0, disposal=2)
    with pytest.raises(SourceError, match=r"frame 0 is transparent; .* got bgra; remove it first"):
        probe(tmp_path / "in.gif")


@pytest.mark.parametrize("kind", ["webm", "vp8.webm"])
def test_the_remedy_for_hidden_alpha_works(animated: Make, ffmpeg: Make, kind: str) -> None:
    flat = ffmpeg("flat.mkv", "-i", animated(kind, "through"), "-map", "0", "-c", "copy", "-c:v", "ffv1")
    assert probe(flat).num_frames == 6


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "webp"), ("RGBA", "tif")])
def test_series_of_pictures_are_opaque_to_the_last(tmp_path: Path, mode: str, suffix: str) -> None:
    for n in range(3):
        Image.new(mode, (32, 32), (9,) * (len(mode) - 1) + (255,)).save(tmp_path / f"{n}.{suffix}", lossless=True)
    assert images.probe_images(tmp_path, Fraction(24)).num_frames == 3
    Image.new(mode, (32, 32), (9,) * (len(mode) - 1) + (254,)).save(tmp_path / f"2.{suffix}", lossless=True)
    with pytest.raises(SourceError, match=r"expected one without alpha, got .*; remove it first"):
        images.probe_images(tmp_path, Fraction(24))


def test_a_palette_counts_where_it_is_used(tmp_path: Path) -> None:
    picture = Image.new("P", (16, 16), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    for clear, opaque in ((0, True), (1, False)):
        picture.save(tmp_path / "in.png", transparency=clear)
        assert alpha.is_opaque(images.read_image(tmp_path / "in.png")) == opaque


@pytest.mark.parametrize("name", ["rgba", "argb", "bgra", "abgr", "ya8", "rgba64le", "rgba64be", "ya16le", "yuva444p"])
def test_the_place_of_alpha_is_known(name: str) -> None:
    frame = VideoFrame(16, 8, "rgba")
    frame.planes[0].update(bytes([10, 20, 30, 255]) * (frame.planes[0].buffer_size // 4))
    opaque = frame.reformat(format=name, threads=1)
    assert alpha.is_opaque(opaque)
    assert [int(plane[0, 0]) for plane in planes_of(opaque)][:1] != [255]
    frame.planes[0].update(bytes([255, 255, 255, 200]) * (frame.planes[0].buffer_size // 4))
    clear = frame.reformat(format=name, threads=1)
    assert not alpha.is_opaque(clear)
    with pytest.raises(ValueError, match=f"expected one without alpha, got {name}; remove it first"):
        planes_of(clear)


@pytest.mark.parametrize("kind", ["jpg", "avi", "mov", "mkv"])
def test_gray_jpeg_is_full_range(ffmpeg: Make, tmp_path: Path, upscaled: Upscaled, kind: str) -> None:
    Image.fromarray(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (32, 1))).save(tmp_path / "gray.jpg")
    path = tmp_path / "gray.jpg" if kind == "jpg" else ffmpeg(f"in.{kind}", "-i", "gray.jpg", "-c", "copy")
    assert probe(path).video.properties["_Range"] == 1
    upscaled(path, tmp_path / "out.mkv", encoder="ffv1", speed=None)
    assert probe(tmp_path / "out.mkv").video.properties["_Range"] == 1


def test_gray_pictures_are_full_range(tmp_path: Path) -> None:
    for suffix in ("pgm", "tif", "png", "jpg"):
        Image.new("L", (16, 16), 75).save(tmp_path / f"p.{suffix}")
        series = images.probe_images(tmp_path / f"p.{suffix}", Fraction(1))
        assert series.video.properties["_Range"] == 1


def test_cmyk_is_named_with_a_remedy_that_works(tmp_path: Path, ffmpeg: Make) -> None:
    content = io.BytesIO()
    Image.new("CMYK", (32, 32), (0, 200, 0, 20)).save(content, "jpeg")
    (tmp_path / "0.jpg").write_bytes(content.getvalue())
    for read in (lambda: probe(tmp_path / "0.jpg"), lambda: images.probe_images(tmp_path, Fraction(24))):
        with pytest.raises(SourceError, match=r"got CMYK \(a JPEG of four components\); .* -pix_fmt rgb24 OUT\.png"):
            read()
    converted = ffmpeg("OUT.png", "-i", "0.jpg", "-pix_fmt", "rgb24")
    red, green, blue = (int(plane[5, 5]) for plane in planes_of(images.read_image(converted)))
    assert red > 200 > 100 > green
    assert blue > 200
    assert av.open(str(converted)).streams.video[0].codec_context.name == "png"
