"""What is settled before the first frame: formats, color, encoders, parts, and what is refused."""

import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.prepare import part_boundaries
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import SourceError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]


def test_sound_that_mp4_cannot_hold_is_an_error_before_the_work(
    ffmpeg: Make, upscaled: Upscaled, tmp_path: Path
) -> None:
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25:d=0.2", "-f", "lavfi", "-i", "sine=d=0.2")
    source = ffmpeg("in.mkv", *inputs, "-c:v", "libx264", "-c:a", "wmav2")
    with pytest.raises(ValueError, match=r"\.mp4 cannot hold the sound audio 1 wmav2; name the output \.mkv"):
        upscaled(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4.iconvsr").exists()


def test_color_and_pixel_aspect_are_those_of_the_source(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    tags = "setparams=range=tv:color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc,setsar=16/11"
    source = clip("in.mkv", "-vf", tags, "-c:v", "libx264", "-chroma_sample_location", "topleft")
    for suffix in ("mkv", "mp4"):
        upscaled(source, tmp_path / f"out.{suffix}")
        after = probe(tmp_path / f"out.{suffix}")
        assert after.video.properties == {
            "_Matrix": 9,
            "_Primaries": 9,
            "_Transfer": 16,
            "_Range": 0,
            "_ChromaLocation": 2,
        }
        assert after.video.sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [
        ("x264", "mp4"),
        ("x265", "mkv"),
        ("ffv1", "mkv"),
        ("dnxhr-hqx", "mov"),
        ("svtav1", "mkv"),
        ("svtav1", "webm"),
        ("vp9", "webm"),
        ("vp9", "mp4"),
    ],
)
def test_full_range_stays_full(clip: Make, upscaled: Upscaled, tmp_path: Path, encoder: str, suffix: str) -> None:
    source = clip("in.mkv", "-vf", "format=yuv422p,setparams=range=pc", "-c:v", "libx264", size="64x64")
    speed = {"svtav1": "12", "vp9": "8", "x264": "ultrafast", "x265": "ultrafast"}.get(encoder)
    upscaled(source, tmp_path / f"out.{suffix}", encoder=encoder, speed=speed)
    assert probe(tmp_path / f"out.{suffix}").video.properties["_Range"] == 1


# What editing programs check: the codec, its profile and its four-character code.
INTERMEDIATES = {
    "prores-proxy": ("prores", "Proxy", "apco"),
    "prores-lt": ("prores", "LT", "apcs"),
    "prores": ("prores", "Standard", "apcn"),
    "prores-hq": ("prores", "HQ", "apch"),
    "prores-4444": ("prores", "4444", "ap4h"),
    "prores-4444xq": ("prores", "XQ", "ap4x"),
    "dnxhr-lb": ("dnxhd", "DNXHR LB", "AVdh"),
    "dnxhr-sq": ("dnxhd", "DNXHR SQ", "AVdh"),
    "dnxhr-hq": ("dnxhd", "DNXHR HQ", "AVdh"),
    "dnxhr-hqx": ("dnxhd", "DNXHR HQX", "AVdh"),
    "dnxhr-444": ("dnxhd", "DNXHR 444", "AVdh"),
    "ffv1": ("ffv1", None, "FFV1"),
}


@pytest.mark.parametrize("encoder", INTERMEDIATES)
def test_intermediates_open_with_their_profile_and_the_color_of_the_source(
    clip: Make, executable: Executable, upscaled: Upscaled, tmp_path: Path, encoder: str
) -> None:
    tags = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709,setsar=4/3"
    source = clip("in.mkv", "-vf", tags, "-c:v", "ffv1", "-color_range", "tv", size="64x32", frames=3)
    codec, profile, tag = INTERMEDIATES[encoder]
    output = tmp_path / f"out.{'mkv' if encoder == 'ffv1' else 'mov'}"
    upscaled(source, output, encoder=encoder, speed=None)
    with av.open(str(output)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.profile, context.codec_tag) == (
            codec,
            profile,
            tag if codec != "ffv1" else context.codec_tag,
        )
        assert len(list(container.decode(video=0))) == 3
    after = probe(output)
    assert after.video.properties | {"_ChromaLocation": 0} == probe(source).video.properties | {"_ChromaLocation": 0}
    assert float(after.video.sample_aspect_ratio) == pytest.approx(4 / 3, rel=0.01)  # Matroska rounds the size to show
    decoding = subprocess.run(
        [executable.path, "-v", "error", "-i", str(output), "-f", "null", "-"], capture_output=True, check=True
    )
    assert decoding.stderr == b""  # ffmpeg finds nothing odd in any frame


def test_full_range_values_are_not_squeezed_by_ffmpeg(ffmpeg: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    white = "color=white:s=64x64:r=25,format=yuvj420p,setparams=range=pc"
    source = ffmpeg("in.mkv", "-f", "lavfi", "-i", white, "-frames:v", "2", "-c:v", "mjpeg", "-q:v", "1")
    peaks = {}
    for encoder, speed in (("ffv1", None), ("x264", "ultrafast")):
        output = tmp_path / f"{encoder}.mkv"
        upscaled(source, output, encoder=encoder, speed=speed, crf=None if encoder == "ffv1" else 0)
        with av.open(str(output)) as container:
            plane = next(container.decode(video=0)).planes[0]
            peaks[encoder] = max(memoryview(plane).cast("B").cast("H"))
    assert peaks["ffv1"] == pytest.approx(peaks["x264"], abs=8)


def test_full_range_that_an_encoder_cannot_hold_is_refused(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "setparams=range=pc", "-c:v", "libx264")
    with pytest.raises(ValueError, match="expected one that holds full range, as the source has, got prores"):
        upscaled(source, tmp_path / "out.mov", encoder="prores", speed=None)


def test_untagged_primaries_stay_untagged(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    upscaled(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mp4")
    assert not {"_Primaries", "_Transfer"} & set(probe(tmp_path / "out.mp4").video.properties)


@pytest.mark.parametrize(
    ("pixels", "encoder", "target"),
    [
        ("yuv420p", "ffv1", "YUV420P10"),
        ("yuv422p10le", "x264", "YUV422P10"),
        ("yuv444p", "x264", "YUV444P10"),
        ("yuv444p12le", "auto", "YUV444P12"),
        ("yuv420p12le", "ffv1", "YUV420P12"),
        ("yuv444p16le", "ffv1", "YUV444P16"),
        ("gray", "x265", "GRAY10"),
        ("gray16le", "ffv1", "GRAY16"),
        ("gbrp", "ffv1", "RGB30"),
        ("gbrp12le", "ffv1", "RGB36"),
        ("bgr0", "x264", "YUV444P10"),
        ("yuv411p", "ffv1", "YUV422P10"),
    ],
)
def test_depth_and_chroma_are_kept(
    clip: Make, upscaled: Upscaled, tmp_path: Path, pixels: str, encoder: str, target: str
) -> None:
    source = clip("in.mkv", "-c:v", "ffv1" if pixels != "yuv411p" else "rawvideo", "-pix_fmt", pixels, frames=3)
    upscaled(source, tmp_path / "out.mkv", encoder=encoder, speed=None)
    assert str(probe(tmp_path / "out.mkv").video.layout.format) == target


def test_interlaced_video_is_refused_with_the_remedy(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "setfield=tff", "-c:v", "libx264", "-flags", "+ildct+ilme", size="64x64")
    with pytest.raises(SourceError, match=r"expected progressive video, got interlaced: .*--deinterlace"):
        upscaled(source, tmp_path / "out.mkv")
    upscaled(source, tmp_path / "out.mkv", deinterlace=True)
    after = probe(tmp_path / "out.mkv")
    assert (after.num_frames, after.video.interlaced) == (12, False)


def test_alpha_is_refused_with_the_remedy(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "format=yuva420p,colorchannelmixer=aa=0.5,format=yuva420p", "-c:v", "ffv1", frames=2)
    with pytest.raises(SourceError, match=r"expected one without alpha, got yuva420p; remove it first"):
        upscaled(source, tmp_path / "out.mkv")


def test_parts_are_whole_cells() -> None:
    assert part_boundaries(range(100), segment=30, part_frames=50) == (0, 60, 100)
    assert part_boundaries(range(70, 100), segment=30, part_frames=50) == (70, 100)
    assert part_boundaries(range(5), segment=0, part_frames=250) == (0, 5)


def test_the_extra_options_reach_the_encoder(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    upscaled(
        clip("in.mkv", "-c:v", "ffv1"),
        tmp_path / "out.mkv",
        part_frames=12,
        extra=("-x264-params", "keyint=3:min-keyint=3:scenecut=0"),
    )
    with av.open(str(tmp_path / "out.mkv")) as output:
        assert sum(f.key_frame for f in output.decode(video=0)) == 4


def test_mastering_numbers_are_those_of_x265() -> None:
    from ffmpeg_filter.media.metadata import mastering_display_text

    chromaticities = [34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450]
    numbers = [part for value in chromaticities for part in (value, 50000)] + [1, 10000, 10000000, 10000, 1, 1]
    text = mastering_display_text(struct.pack("22i", *numbers))
    assert text == "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
