from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from ffmpeg_filter import images
from ffmpeg_filter.compare import frame_of
from ffmpeg_filter.decode import planes_of
from ffmpeg_filter.job import JobError, Summary
from ffmpeg_filter.probe import SourceError, probe
from vs_iconvsr.colour import Format

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., Summary]


@pytest.fixture
def series(clip: Make, tmp_path: Path) -> Callable[..., Path]:
    """A folder of numbered pictures, 5 to 16."""

    def make(suffix: str = "png", pixels: str = "rgb24") -> Path:
        (tmp_path / "in").mkdir()
        clip(f"in/shot_%04d.{suffix}", "-start_number", "5", "-pix_fmt", pixels)
        return tmp_path / "in"

    return make


@pytest.mark.parametrize(
    ("suffix", "pixels"), [("png", "rgb24"), ("png", "rgb48be"), ("tif", "rgb48le"), ("jpg", "yuvj420p")]
)
def test_a_folder_of_pictures_becomes_a_video_of_the_rate_given(
    series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path, suffix: str, pixels: str
) -> None:
    upscaled(series(suffix, pixels), tmp_path / "out.mp4", rate=Fraction(24000, 1001))
    after = probe(tmp_path / "out.mp4")
    assert [pts * after.time_base for pts in after.pts] == [Fraction(1001 * n, 24000) for n in range(12)]
    assert (after.width, after.height) == (192, 128)


def test_pictures_give_the_pixels_of_a_video(
    series: Callable[..., Path], ffmpeg: Make, upscaled: Upscaled, tmp_path: Path
) -> None:
    folder = series()
    video = ffmpeg(
        "in.mkv", "-start_number", "5", "-i", folder / "shot_%04d.png", "-c:v", "ffv1", "-pix_fmt", "gbrp10le"
    )
    del video
    upscaled(folder / "shot_%04d.png", tmp_path / "a.mkv", rate=Fraction(25), encoder="ffv1", speed=None)
    upscaled(folder, tmp_path / "b.mkv", rate=Fraction(25), encoder="ffv1", speed=None)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


@pytest.mark.parametrize(("suffix", "bits"), [("png", 16), ("png", 8), ("tif", 16), ("dpx", 16)])
def test_a_video_becomes_pictures(clip: Make, upscaled: Upscaled, tmp_path: Path, suffix: str, bits: int) -> None:
    source = clip("in.mkv", "-c:v", "ffv1")
    summary = upscaled(source, tmp_path / f"out_%03d.{suffix}", bits=bits, speed=None)
    names = sorted(p.name for p in tmp_path.glob("out_*"))
    assert names == [f"out_{n:03d}.{suffix}" for n in range(12)]
    frame = images.read(tmp_path / names[3])
    assert (frame.width, frame.height) == (192, 128)
    assert layout_bits(frame) == bits
    assert "timestamps: pictures hold none" in summary.left


def layout_bits(frame: av.VideoFrame) -> int:
    return frame.format.components[0].bits


def test_pictures_hold_the_values_of_the_frames(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", "-pix_fmt", "gbrp12le", frames=4)
    upscaled(source, tmp_path / "out_%d.png", speed=None)
    upscaled(source, tmp_path / "out.mkv", speed=None, encoder="ffv1", bits=16)
    with av.open(str(tmp_path / "out.mkv")) as container:
        for n, frame in enumerate(container.decode(video=0)):
            picture = planes_of(images.read(tmp_path / f"out_{n}.png"))
            assert all(torch.equal(a, b) for a, b in zip(picture, planes_of(frame), strict=True))


def test_pictures_that_exist_are_not_replaced(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    (tmp_path / "out_000.png").write_text("mine")
    with pytest.raises(JobError, match=r"it exists already: .*out_000\.png; pass --overwrite"):
        upscaled(clip("in.mkv", "-c:v", "ffv1"), tmp_path / "out_%03d.png", speed=None)


def test_a_gap_is_an_error_that_names_it(series: Callable[..., Path]) -> None:
    folder = series()
    (folder / "shot_0009.png").unlink()
    with pytest.raises(
        SourceError, match=r"wanted pictures without gaps, got none between shot_0008\.png and shot_0010"
    ):
        images.find(folder)


def test_two_series_in_a_folder_are_told_apart(series: Callable[..., Path]) -> None:
    folder = series()
    (folder / "other_0001.png").touch()
    with pytest.raises(SourceError, match="wanted one series of pictures, got several"):
        images.find(folder)
    assert len(images.find(folder / "shot_%04d.png")) == 12


def test_a_rate_is_asked_for(series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rate: wanted the frames per second of the pictures, got none; .*--rate 24"):
        upscaled(series(), tmp_path / "out.mkv")


def test_a_broken_picture_is_named(series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path) -> None:
    folder = series()
    (folder / "shot_0012.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"shot_0012\.png"):
        upscaled(folder, tmp_path / "out.mkv", rate=Fraction(24))


@pytest.mark.parametrize(
    ("pattern", "number", "name"),
    [("a_%05d.png", 7, "a_00007.png"), ("%d.png", 12, "12.png"), ("x%02dy.tif", 3, "x03y.tif")],
)
def test_names_are_filled_in(pattern: str, number: int, name: str) -> None:
    assert images.name_of(Path(pattern), number) == Path(name)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", images.WRITTEN)
def test_every_kind_of_picture_is_lossless(suffix: str, bits: int, tmp_path: Path) -> None:
    chosen = Format("RGB", "integer", bits)
    planes = tuple(torch.randint(0, 1 << bits, (6, 8)).to(chosen.dtype) for _ in range(3))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(images.encoded(frame_of(planes, chosen, 8, 6), suffix, bits))
    assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(images.read(path)), strict=True))
