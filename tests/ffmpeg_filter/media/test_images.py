from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.media import images
from ffmpeg_filter.media import linear_light as light
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.frames import frame_of, planes_of
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError
from vs_iconvsr.colorspace import Format

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]


@pytest.fixture
def series(clip: Make, tmp_path: Path) -> Callable[..., Path]:
    """A folder of numbered images, 5 to 16."""

    def make(suffix: str = "png", pixels: str = "rgb24") -> Path:
        (tmp_path / "in").mkdir()
        clip(f"in/shot_%04d.{suffix}", "-start_number", "5", "-pix_fmt", pixels)
        return tmp_path / "in"

    return make


@pytest.mark.parametrize(
    ("suffix", "pixels"), [("png", "rgb24"), ("png", "rgb48be"), ("tif", "rgb48le"), ("jpg", "yuvj420p")]
)
def test_a_folder_of_images_becomes_a_video_of_the_given_rate(
    series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path, suffix: str, pixels: str
) -> None:
    upscaled(series(suffix, pixels), tmp_path / "out.mp4", rate=Fraction(24000, 1001))
    after = probe(tmp_path / "out.mp4")
    assert [pts * after.timeline.time_base for pts in after.timeline.pts] == [
        Fraction(1001 * n, 24000) for n in range(12)
    ]
    assert (after.video.width, after.video.height) == (192, 128)


def test_images_give_the_pixels_of_a_video(
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


@pytest.mark.parametrize(("suffix", "bits"), [("png", 16), ("png", 8), ("tif", 16), ("dpx", 16), ("exr", 16)])
def test_a_video_becomes_images(clip: Make, upscaled: Upscaled, tmp_path: Path, suffix: str, bits: int) -> None:
    source = clip("in.mkv", "-c:v", "ffv1")
    summary = upscaled(source, tmp_path / f"out_%03d.{suffix}", bits=bits, speed=None)
    names = sorted(p.name for p in tmp_path.glob("out_*"))
    assert names == [f"out_{n:03d}.{suffix}" for n in range(12)]
    frame = images.read_image(tmp_path / names[3])
    assert (frame.width, frame.height) == (192, 128)
    assert layout_bits(frame) == bits
    assert "timestamps: images hold none" in summary.left


def layout_bits(frame: av.VideoFrame) -> int:
    return frame.format.components[0].bits


def test_images_hold_the_values_of_the_frames(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", "-pix_fmt", "gbrp12le", frames=4)
    upscaled(source, tmp_path / "out_%d.png", speed=None)
    upscaled(source, tmp_path / "out.mkv", speed=None, encoder="ffv1", bits=16)
    with av.open(str(tmp_path / "out.mkv")) as container:
        for n, frame in enumerate(container.decode(video=0)):
            picture = planes_of(images.read_image(tmp_path / f"out_{n}.png"))
            assert all(torch.equal(a, b) for a, b in zip(picture, planes_of(frame), strict=True))


def test_existing_images_are_not_replaced(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    (tmp_path / "out_000.png").write_text("mine")
    with pytest.raises(ValueError, match=r"expected new images, got one that exists: .*out_000\.png; pass --overwrite"):
        upscaled(clip("in.mkv", "-c:v", "ffv1"), tmp_path / "out_%03d.png", speed=None)


def test_a_gap_is_an_error_that_names_it(series: Callable[..., Path]) -> None:
    folder = series()
    (folder / "shot_0009.png").unlink()
    with pytest.raises(
        SourceError, match=r"expected an image sequence without gaps, got no image between shot_0008\.png and shot_0010"
    ):
        images.find_images(folder)


def test_two_series_in_one_folder_are_distinguished(series: Callable[..., Path]) -> None:
    folder = series()
    (folder / "other_0001.png").touch()
    with pytest.raises(SourceError, match="expected one image sequence, got several"):
        images.find_images(folder)
    assert len(images.find_images(folder / "shot_%04d.png")) == 12


def test_a_rate_is_asked_for(series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"rate: expected the frames per second of the image sequence, got none; .*--rate 24"
    ):
        upscaled(series(), tmp_path / "out.mkv")


def test_a_broken_image_is_named(series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path) -> None:
    folder = series()
    (folder / "shot_0012.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"shot_0012\.png"):
        upscaled(folder, tmp_path / "out.mkv", rate=Fraction(24))


@pytest.mark.parametrize(
    ("pattern", "number", "name"),
    [
        ("a_%05d.png", 7, "a_00007.png"),
        ("%d.png", 12, "12.png"),
        ("x%02dy.tif", 3, "x03y.tif"),
        ("100%_%d.png", 1, "100%_1.png"),
        ("100%%_%d.png", 1, "100%_1.png"),
        ("%%d_%d.png", 1, "%d_1.png"),
    ],
)
def test_names_are_filled_in(pattern: str, number: int, name: str) -> None:
    assert images.name_of(Path(pattern), number) == Path(name)


@pytest.mark.parametrize(
    ("suffix", "bits"), [(suffix, bits) for suffix, (_, depths) in images.WRITTEN.items() for bits in depths]
)
def test_every_kind_of_picture_is_lossless(suffix: str, bits: int, tmp_path: Path) -> None:
    if suffix == ".exr":
        pytest.skip("has tests of its own: half floats hold 16 bits of light only nearly")
    chosen = Format("RGB", "integer", bits)
    planes = tuple(torch.randint(0, 1 << bits, (6, 8)).to(chosen.dtype) for _ in range(3))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(images.encode_image(frame_of(planes, chosen, 8, 6), suffix, bits))
    assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(images.read_image(path)), strict=True))


def test_images_keep_their_numbers_and_pixel_aspect_ratio(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    clip("in/100%%_%04d.png", "-start_number", "1001", "-vf", "setsar=2", frames=3)
    upscaled(tmp_path / "in", tmp_path / "out_%05d.png", rate=Fraction(24), speed=None)
    assert sorted(p.name for p in tmp_path.glob("out_*")) == ["out_01001.png", "out_01002.png", "out_01003.png"]
    assert images.probe_images(tmp_path / "out_%05d.png", Fraction(24)).video.sample_aspect_ratio == 2
    upscaled(tmp_path / "in" / "100%%_%04d.png", tmp_path / "out.mkv", rate=Fraction(24))
    assert probe(tmp_path / "out.mkv").video.sample_aspect_ratio == 2


def test_an_existing_image_anywhere_is_found_before_the_work(
    series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path
) -> None:
    folder = series()
    (tmp_path / "out_0012.png").write_text("mine")
    with pytest.raises(
        ValueError, match=r"expected new images, got one that exists: .*out_0012\.png; pass --overwrite"
    ):
        upscaled(folder, tmp_path / "out_%04d.png", rate=Fraction(24), speed=None)
    with pytest.raises(ValueError, match=r"expected other names than those of the input, got the same: .*shot_0005"):
        upscaled(folder, folder / "shot_%04d.png", rate=Fraction(24), speed=None, overwrite=True)
    assert not (tmp_path / "out_%04d.png.iconvsr").exists()


def test_a_run_that_ended_while_writing_images_resumes(
    series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path
) -> None:
    folder, output, obstacle = series(), tmp_path / "out_%04d.png", tmp_path / "out_0009.png"
    obstacle.mkdir()
    with pytest.raises(OSError, match=r"out_0009\.png"):
        upscaled(folder, output, rate=Fraction(24), speed=None, overwrite=True)
    assert (tmp_path / "out_0008.png").exists()
    obstacle.rmdir()
    assert upscaled(folder, output, rate=Fraction(24), speed=None).upscaled == 0
    assert len(list(tmp_path.glob("out_00*.png"))) == 12


def test_two_images_of_one_number_and_two_number_patterns_are_refused(series: Callable[..., Path]) -> None:
    folder = series()
    (folder / "shot_7.png").touch()
    with pytest.raises(SourceError, match=r"expected one image for each number, got shot_"):
        images.find_images(folder)
    with pytest.raises(SourceError, match=r"expected a name with one %d or %05d in it, got %02d_%02d\.png"):
        images.find_images(folder / "%02d_%02d.png")


@pytest.mark.parametrize("suffix", ["png", "exr"])
def test_one_image_becomes_one_image(
    clip: Make, lit: Callable[..., Path], upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    if suffix == "png":
        source = clip("in.png", frames=1, size="16x8")
    else:
        source = lit([torch.full((8, 16), 0.5)]) / "plate.1001.exr"
    upscaled(source, tmp_path / f"out.{suffix}", speed=None)
    assert (images.read_image(tmp_path / f"out.{suffix}").width, len(list(tmp_path.glob("out*")))) == (64, 1)
    video = clip("in.mkv", "-c:v", "ffv1", frames=2)
    with pytest.raises(
        ValueError,
        match=r"expected a name with a number placeholder for 2 images, such as out_%05d\.png, got .*two",
    ):
        upscaled(video, tmp_path / f"two.{suffix}", speed=None)


# ---- EXR: linear light ----


@pytest.fixture
def lit(tmp_path: Path) -> Callable[..., Path]:
    """lit(tensors): a folder of half-float EXR pictures, one for each tensor (height, width) of light."""

    def make(lights: Sequence[torch.Tensor], form: str = "half") -> Path:
        folder = tmp_path / "light"
        folder.mkdir()
        for n, plane in enumerate(lights):
            frame = frame_of((plane, plane, plane), Format("RGB", "float", 32), plane.shape[1], plane.shape[0])
            frame.time_base = Fraction(1, 25)
            encoder = av.CodecContext.create("exr", "w")
            assert isinstance(encoder, av.VideoCodecContext)
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "gbrpf32le"
            encoder.time_base, encoder.options = Fraction(1, 25), {"format": form}
            (folder / f"plate.{1001 + n}.exr").write_bytes(b"".join(map(bytes, encoder.encode(frame))))
        return folder

    return make


@pytest.mark.parametrize("form", ["half", "float"])
@pytest.mark.parametrize("peak", [None, 4.0])
def test_light_goes_in_on_a_curve_and_comes_out_linear(
    lit: Callable[..., Path], upscaled: Upscaled, tmp_path: Path, form: str, peak: float | None
) -> None:
    levels = [0.0, 0.18, 0.5] if peak is None else [0.18, 1.0, 3.5]
    source = images.probe_images(lit([torch.full((8, 16), v) for v in levels], form), Fraction(24), peak)
    assert source.video.properties["_Transfer"] == 13
    assert str(source.video.layout.format) == "RGBS"
    for picture, level in zip(decode_frames(source, 0, Damage()), levels, strict=True):
        assert float(picture.planes[1].mean()) == pytest.approx(srgb(level / (peak or 1)), abs=2e-4)
    summary = upscaled(source.path, tmp_path / "out.%d.exr", rate=Fraction(24), peak=peak, speed=None)
    made = images.probe_images(tmp_path / "out.%d.exr", Fraction(24), peak or 1.0)
    assert made.images is not None
    assert [p.name for p in made.images.files] == ["out.1001.exr", "out.1002.exr", "out.1003.exr"]
    assert images.read_image(made.images.files[0]).color_trc == 8
    assert any("headers" in text for text in summary.left)


def srgb(light: float) -> float:
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


@pytest.mark.parametrize("transfer", [13, 1, 2, 4, 5, 8])
def test_an_exr_holds_the_light_that_the_values_stand_for(transfer: int, tmp_path: Path) -> None:
    values = torch.linspace(0, 65535, 32 * 16).reshape(16, 32).to(torch.uint16)
    frame = frame_of((values, values, values), Format("RGB", "integer", 16), 32, 16)
    path = tmp_path / "a.exr"
    path.write_bytes(images.encode_image(frame, ".exr", 16, transfer=transfer, peak=8.0))
    wanted = light.to_linear(values.float() / 65535, transfer, 8.0)
    assert float(wanted.max()) == 8.0
    assert torch.equal(planes_of(images.read_image(path))[0].float(), wanted.half().float())


def test_the_curve_and_its_inverse_meet() -> None:
    share = torch.linspace(0, 1, 4097)
    assert float((light.to_linear(light.to_srgb(6 * share, 6.0), 13, 6.0) - 6 * share).abs().max()) < 1e-5
    clipped = light.to_srgb(torch.tensor([float("nan"), -1.0, float("inf"), 7.0]), 6.0)
    assert clipped.tolist() == pytest.approx([0, 0, 1, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (
            12.5,
            r"expected linear light from 0 to 1, got up to 12\.5 in plate\.1002\.exr; pass --peak 12\.5 to keep",
        ),
        (-0.25, r"expected linear light from 0 to 1, got as low as -0\.25; pass --peak 1 to clip it at 0"),
    ],
)
def test_light_outside_0_to_1_is_refused_before_the_work(
    lit: Callable[..., Path], upscaled: Upscaled, tmp_path: Path, level: float, message: str
) -> None:
    folder = lit([torch.full((8, 16), v) for v in (0.5, level, 0.5)])
    with pytest.raises(SourceError, match=message):
        upscaled(folder, tmp_path / "out_%d.exr", rate=Fraction(24), speed=None)
    summary = upscaled(folder, tmp_path / "out_%d.exr", rate=Fraction(24), speed=None, peak=1.0)
    assert summary.frames == 3


def test_alpha_and_channels_that_are_not_read_are_named(lit: Callable[..., Path], ffmpeg: Make, tmp_path: Path) -> None:
    folder = lit([torch.full((8, 16), 0.5)])
    path = folder / "plate.1001.exr"
    head, rest = path.read_bytes().split(b"channels\0chlist\0", 1)
    size = int.from_bytes(rest[:4], "little")
    channels = rest[4 : 4 + size - 1] + b"Z\0" + bytes([1, 0, 0, 0] + [0] * 4 + [1, 0, 0, 0] * 2) + b"\0"
    content = head + b"channels\0chlist\0" + len(channels).to_bytes(4, "little") + channels + rest[4 + size :]
    deep = tmp_path / "deep.exr"
    deep.write_bytes(content)
    assert images.unread_channels(deep) == {"channel Z of the EXR"}
    assert images.unread_channels(path) == set()
    ffmpeg("alpha_%d.exr", "-f", "lavfi", "-i", "color=red@0.5:s=16x8,format=gbrapf32le", "-frames:v", "1")
    with pytest.raises(
        SourceError, match=r"expected one without alpha, got gbrapf\d+le; .* -vf format=gbrpf32le OUT_%05d"
    ):
        images.probe_images(tmp_path / "alpha_%d.exr", Fraction(24))


def test_hdr_video_does_not_become_exr(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    tags = "format=yuv420p10le,setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    source = clip("in.mkv", "-vf", tags, "-c:v", "ffv1", frames=2)
    with pytest.raises(
        ValueError, match=r"transfer: expected one of .* for EXR, which holds linear light, got 16 \(PQ\)"
    ):
        upscaled(source, tmp_path / "out_%d.exr", speed=None)
    with pytest.raises(ValueError, match=r"bits: expected 16 for \.exr images, got 8"):
        upscaled(source, tmp_path / "out_%d.exr", speed=None, bits=8)


def test_peak_is_refused_for_images_without_linear_light(
    series: Callable[..., Path], upscaled: Upscaled, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="peak: expected no value for images that do not hold linear light, got 4"):
        upscaled(series(), tmp_path / "out.mkv", rate=Fraction(24), peak=4.0)
