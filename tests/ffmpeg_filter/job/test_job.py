"""Whole jobs on real files: what goes in comes out, four times as large, and nothing else changes."""

import re
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from ffmpeg_filter.job.job import JobSummary, part_boundaries
from ffmpeg_filter.media.ffmpeg import Executable
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import MediaSource, SourceError

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]

# Frames of 40, 20, 60 … ms: no constant rate fits them. In units of 1/1000 s for mkv and of 1/90000 s for mp4.
VARIABLE = "settb=1/90000,setpts=N*3003+mod(N\\,3)*1201+90*gt(N\\,5)"


def times(source: MediaSource) -> list[Fraction]:
    return [pts * source.timeline.time_base for pts in source.timeline.pts]


@pytest.fixture
def variable(ffmpeg: Make) -> Make:
    def make(name: str, *options: str) -> Path:
        graph = f"testsrc2=s=48x32:r=30,format=yuv420p,{VARIABLE}"
        exact = ("-video_track_timescale", "90000") if name.endswith(("mp4", "mov")) else ()
        rate = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000")
        return ffmpeg(name, "-f", "lavfi", "-i", graph, "-frames:v", "14", *rate, *exact, *options)

    return make


# ---- timestamps ----


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_variable_rate_keeps_every_timestamp(variable: Make, upscaled: Upscaled, tmp_path: Path, suffix: str) -> None:
    source = variable("in.mp4", "-c:v", "libx264", "-bf", "3")
    upscaled(source, tmp_path / f"out.{suffix}")
    before, after = probe(source), probe(tmp_path / f"out.{suffix}")
    assert len({b - a for a, b in zip(before.timeline.pts, before.timeline.pts[1:], strict=False)}) > 2
    worst = max(abs(a - b) for a, b in zip(times(before), times(after), strict=True))
    assert worst <= (Fraction(1, 2000) if suffix == "mkv" else 0)


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.mov", "in.ts", "in.webm", "in.avi"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_every_container_goes_into_every_other(
    clip: Make, upscaled: Upscaled, tmp_path: Path, name: str, suffix: str
) -> None:
    codec = {"in.webm": "libvpx-vp9", "in.avi": "mpeg4"}.get(name, "libx264")
    source = clip(name, "-c:v", codec)
    output = tmp_path / f"out.{suffix}"
    summary = upscaled(source, output)
    before, after = probe(source), probe(output)
    assert (after.video.width, after.video.height, after.num_frames) == (192, 128, 12)
    assert str(after.video.layout.format) == "YUV420P10"
    start = before.timeline.start if name == "in.ts" else 0
    worst = max(abs(a - start - b) for a, b in zip(times(before), times(after), strict=True))
    assert worst <= (Fraction(1, 2000) if suffix == "mkv" else 0)
    assert summary.left == ()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_late_start_of_the_video_stays_late(ffmpeg: Make, upscaled: Upscaled, tmp_path: Path, suffix: str) -> None:
    source = ffmpeg(
        f"in.{suffix}",
        *("-f", "lavfi", "-itsoffset", "1.5", "-i", "testsrc2=s=48x32:r=25", "-f", "lavfi", "-i", "sine=d=3"),
        *("-map", "0", "-map", "1", "-frames:v", "10", "-c:v", "libx264", "-c:a", "aac"),
    )
    upscaled(source, tmp_path / f"out.{suffix}")
    before, after = probe(source), probe(tmp_path / f"out.{suffix}")
    assert after.timeline.time_of(0) == pytest.approx(before.timeline.time_of(0), abs=0.0005)
    assert after.timeline.time_of(0) > 1.4


def test_a_stream_without_timestamps_gets_those_of_its_rate(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.264", "-c:v", "libx264", "-f", "h264")
    upscaled(source, tmp_path / "out.mp4")
    assert times(probe(tmp_path / "out.mp4")) == [Fraction(n, 25) for n in range(12)]


def test_files_joined_byte_by_byte_run_on_in_time(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    once = clip("once.ts", "-c:v", "libx264").read_bytes()
    source = tmp_path / "twice.ts"
    source.write_bytes(once + once)
    summary = upscaled(source, tmp_path / "out.mkv")
    assert summary.frames == 24
    assert not (tmp_path / "out.mkv.iconvsr").exists()


def test_a_single_frame_is_a_video_too(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    upscaled(clip("in.mp4", "-c:v", "libx264", frames=1), tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").num_frames == 1


def test_odd_sizes_are_upscaled_whole(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "crop=47:33:0:0:exact=1", "-c:v", "ffv1", size="64x48")
    upscaled(source, tmp_path / "out.mkv")
    after = probe(tmp_path / "out.mkv")
    assert (after.video.width, after.video.height) == (188, 132)


# ---- what goes with the pictures ----


@pytest.fixture
def rich(ffmpeg: Make, tmp_path: Path) -> Make:
    """A clip with two audio tracks, two subtitle tracks, chapters, tags and, in mkv, an attachment and a cover."""

    def make(name: str) -> Path:
        (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:00,300\nGrüße\n")
        (tmp_path / "font.ttf").write_bytes(b"no real font")
        (tmp_path / "m.txt").write_text(
            ';FFMETADATA1\ntitle=Ein "Titel"\\; mit \\= Zeichen ü\n'
            "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=eins\n"
            "[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=480\ntitle=zwei\n"
        )
        ffmpeg("cover.png", "-f", "lavfi", "-i", "color=red:s=16x16", "-frames:v", "1")
        mkv = name.endswith("mkv")
        subtitles = "srt" if mkv else "mov_text"
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=48x32:r=25,format=yuv420p"]
        inputs += ["-f", "lavfi", "-i", "sine=f=300:d=0.48", "-f", "lavfi", "-i", "sine=f=500:d=0.48"]
        inputs += ["-i", "s.srt", "-i", "s.srt", "-i", "m.txt"]
        maps = ["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4", "-map_metadata", "5"]
        if mkv:
            extra = ["-attach", "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font"]
            extra += ["-attach", "cover.png", "-metadata:s:t:1", "mimetype=image/png"]
        else:
            inputs += ["-i", "cover.png"]
            extra = ["-map", "6", "-c:v:1", "png", "-disposition:v:1", "attached_pic"]
        words = ["-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=eng", "-disposition:a:1", "default"]
        words += ["-disposition:a:0", "0", "-metadata:s:s:1", "language=fra", "-metadata:s:v:0", "language=ita"]
        return ffmpeg(
            name,
            *inputs,
            *maps,
            "-frames:v:0",
            "12",
            "-c:v:0",
            "libx264",
            "-c:a",
            "aac",
            "-c:s",
            subtitles,
            *extra,
            *words,
        )

    return make


def packets(path: Path, kind: str) -> list[list[bytes]]:
    with av.open(str(path)) as container:
        streams = list(getattr(container.streams, kind))
        found: list[list[bytes]] = [[] for _ in streams]
        for packet in container.demux(*streams):
            if packet.size:
                found[streams.index(packet.stream)].append(bytes(packet))
    return found


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_sound_is_copied_bit_for_bit(rich: Make, upscaled: Upscaled, tmp_path: Path, name: str, suffix: str) -> None:
    source = rich(name)
    upscaled(source, tmp_path / f"out.{suffix}")
    assert packets(tmp_path / f"out.{suffix}", "audio") == packets(source, "audio")
    assert len(packets(source, "audio")) == 2


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_everything_beside_the_video_is_kept_or_named(
    rich: Make, upscaled: Upscaled, tmp_path: Path, name: str, suffix: str
) -> None:
    source = rich(name)
    summary = upscaled(source, tmp_path / f"out.{suffix}")
    left = " ".join(summary.left)
    with av.open(str(source)) as before, av.open(str(tmp_path / f"out.{suffix}")) as after:
        german = "ger" if suffix == "mov" else "deu"  # QuickTime has codes of its own
        assert [s.metadata.get("language") for s in after.streams.audio] == [german, "eng"]
        assert [bool(s.disposition & Disposition.default) for s in after.streams.audio] == [False, True]
        assert [s.metadata.get("language") for s in after.streams.subtitles][1] == "fra"
        assert after.streams.video[0].metadata["language"] == "ita"
        assert after.metadata["title"] == 'Ein "Titel"; mit = Zeichen ü'
        assert [c["metadata"]["title"] for c in after.chapters()] == ["eins", "zwei"]
        assert [c["start"] * c["time_base"] for c in after.chapters()] == [0, Fraction(1, 5)]
        covers = [s for s in after.streams.video if s.disposition & Disposition.attached_pic]
        assert len(covers) == (0 if suffix == "mov" else 1)
        assert ("cover" in left) == (suffix == "mov")
        if name == "in.mkv":
            fonts = [s for s in after.streams if s.type == "attachment"]
            assert len(fonts) == (1 if suffix == "mkv" else 0)
            assert ("font.ttf" in left) == (suffix != "mkv")
        assert len(before.streams.audio) == 2


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_text_of_subtitles_survives_the_change_of_container(
    rich: Make, upscaled: Upscaled, tmp_path: Path, suffix: str
) -> None:
    upscaled(rich("in.mkv" if suffix == "mp4" else "in.mp4"), tmp_path / f"out.{suffix}")
    assert "Grüße".encode() in packets(tmp_path / f"out.{suffix}", "subtitles")[0][0]


def test_sound_that_mp4_cannot_hold_is_an_error_before_the_work(
    ffmpeg: Make, upscaled: Upscaled, tmp_path: Path
) -> None:
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25:d=0.2", "-f", "lavfi", "-i", "sine=d=0.2")
    source = ffmpeg("in.mkv", *inputs, "-c:v", "libx264", "-c:a", "wmav2")
    with pytest.raises(ValueError, match=r"\.mp4 cannot hold the sound audio 1 wmav2; name the output \.mkv"):
        upscaled(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4.iconvsr").exists()


# ---- how the picture is to be shown ----


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
    ("encoder", "suffix"), [("x264", "mp4"), ("x265", "mkv"), ("ffv1", "mkv"), ("dnxhr-hqx", "mov"), ("svtav1", "mkv")]
)
def test_full_range_stays_full(clip: Make, upscaled: Upscaled, tmp_path: Path, encoder: str, suffix: str) -> None:
    source = clip("in.mkv", "-vf", "format=yuv422p,setparams=range=pc", "-c:v", "libx264", size="64x64")
    speed = {"svtav1": "12", "x264": "ultrafast", "x265": "ultrafast"}.get(encoder)
    upscaled(source, tmp_path / f"out.{suffix}", encoder=encoder, speed=speed)
    assert probe(tmp_path / f"out.{suffix}").video.properties["_Range"] == 1


# What editors look at: the codec, its profile and its four characters.
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
    said = subprocess.run(
        [executable.path, "-v", "error", "-i", str(output), "-f", "null", "-"], capture_output=True, check=True
    )
    assert said.stderr == b""  # ffmpeg finds nothing odd in any frame


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


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_is_written_back(
    clip: Make, ffmpeg: Make, executable: Executable, upscaled: Upscaled, tmp_path: Path, suffix: str, angle: int
) -> None:
    if "display_rotation" not in executable.options:
        pytest.skip("wants an ffmpeg that can make a turned video")
    flat = clip("flat.mp4", "-c:v", "libx264", frames=3)
    source = ffmpeg("in.mp4", "-display_rotation", str(angle), "-i", flat, "-c", "copy")
    assert probe(source).video.rotation == angle
    upscaled(source, tmp_path / f"out.{suffix}")
    assert probe(tmp_path / f"out.{suffix}").video.rotation == angle


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("encoder", ["x264", "x265"])
def test_hdr10_metadata_goes_along_or_is_named(
    clip: Make, executable: Executable, upscaled: Upscaled, tmp_path: Path, encoder: str, suffix: str
) -> None:
    light = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    hdr = ("-pix_fmt", "yuv420p10le", "-x265-params", f"log-level=none:master-display={light}:max-cll=1000,400")
    source = clip("in.mkv", "-c:v", "libx265", *hdr, size="96x64", frames=4)
    summary = upscaled(source, tmp_path / f"out.{suffix}", encoder=encoder)
    after = probe(tmp_path / f"out.{suffix}")
    if encoder == "x264" and "mastering_display" not in executable.options:
        assert any("HDR10 mastering metadata" in text for text in summary.left)
        return
    assert summary.left == ()
    assert (after.video.mastering_display, after.video.content_light) == (light, "1000,400")


def hdr10_plus_unit() -> bytes:
    """A NAL unit of HEVC with dynamic metadata of ST 2094-40: one window, nothing in it but a brightness."""
    fields = [(8, 0xB5), (16, 0x3C), (16, 1), (8, 4), (8, 1), (2, 1), (27, 1000), (1, 0)]  # T.35 codes, then the head
    fields += [(17, 100), (17, 200), (17, 300), (17, 50), (4, 1), (7, 99), (17, 400), (10, 0), (1, 0), (1, 0), (1, 0)]
    bits = "".join(format(value, f"0{size}b") for size, value in fields)
    payload = int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes(-(-len(bits) // 8))
    message, unit, zeros = bytes([4, len(payload)]) + payload + b"\x80", bytearray(b"\0\0\0\1\x4e\1"), 0
    for byte in message:
        if zeros == 2 and byte <= 3:  # three zeros in a row would look like the start of a unit
            unit.append(3)
            zeros = 0
        unit.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(unit)


def test_dynamic_metadata_of_hdr_is_named(clip: Make, ffmpeg: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    coded = ("-c:v", "libx265", "-x265-params", "log-level=none:bframes=0", "-pix_fmt", "yuv420p10le", "-f", "hevc")
    plain = clip("plain.hevc", *coded, size="64x64", frames=2).read_bytes()
    slices = [m.start() for m in re.finditer(rb"\x00\x00\x00?\x01[\x02\x26\x28]\x01", plain)]
    assert len(slices) == 2
    (tmp_path / "plus.hevc").write_bytes(
        plain[: slices[0]] + hdr10_plus_unit() + plain[slices[0] : slices[1]] + hdr10_plus_unit() + plain[slices[1] :]
    )
    source = ffmpeg("in.mp4", "-r", "25", "-i", "plus.hevc", "-c", "copy")
    wanted = ("HDR10+ dynamic metadata: made for the small picture, and not carried to the large one",)
    assert upscaled(source, tmp_path / "out.mkv", encoder="x265").left == wanted
    assert set(wanted) <= set(upscaled(source, tmp_path / "out_%d.png", speed=None).left)


@pytest.mark.parametrize(
    ("pixels", "encoder", "got"),
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
    clip: Make, upscaled: Upscaled, tmp_path: Path, pixels: str, encoder: str, got: str
) -> None:
    source = clip("in.mkv", "-c:v", "ffv1" if pixels != "yuv411p" else "rawvideo", "-pix_fmt", pixels, frames=3)
    upscaled(source, tmp_path / "out.mkv", encoder=encoder, speed=None)
    assert str(probe(tmp_path / "out.mkv").video.layout.format) == got


# ---- what is refused ----


def test_interlaced_video_is_refused_with_the_remedy(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-vf", "setfield=tff", "-c:v", "libx264", "-flags", "+ildct+ilme", size="64x64")
    with pytest.raises(SourceError, match=r"expected progressive video, got interlaced: .*--deinterlace"):
        upscaled(source, tmp_path / "out.mkv")
    upscaled(source, tmp_path / "out.mkv", deinterlace=True)
    after = probe(tmp_path / "out.mkv")
    assert (after.num_frames, after.video.interlaced) == (12, False)


def test_alpha_is_refused_with_the_remedy(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", "-pix_fmt", "yuva420p", frames=2)
    with pytest.raises(SourceError, match=r"expected one without alpha, got yuva420p; take it off first"):
        upscaled(source, tmp_path / "out.mkv")


def test_the_same_file_as_output_is_refused(clip: Make, upscaled: Upscaled) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="expected another file than the input"):
        upscaled(source, source, overwrite=True)
    assert source.read_bytes() == before


# ---- parts and previews ----


def test_parts_are_whole_cells() -> None:
    assert part_boundaries(range(100), segment=30, part_frames=50) == (0, 60, 100)
    assert part_boundaries(range(70, 100), segment=30, part_frames=50) == (70, 100)
    assert part_boundaries(range(5), segment=0, part_frames=250) == (0, 5)


def test_a_preview_shows_the_pixels_of_the_whole_job(clip: Make, upscaled: Upscaled, tmp_path: Path) -> None:
    source = clip("in.mkv", "-c:v", "ffv1", frames=30)
    upscaled(source, tmp_path / "whole.mkv", encoder="ffv1", speed=None)
    upscaled(source, tmp_path / "piece.mkv", encoder="ffv1", speed=None, start_s=0.4, duration_s=0.4)
    with av.open(str(tmp_path / "whole.mkv")) as whole, av.open(str(tmp_path / "piece.mkv")) as piece:
        wanted = [f.to_ndarray().tobytes() for f in whole.decode(video=0)][10:20]
        got = [(f.pts, f.to_ndarray().tobytes()) for f in piece.decode(video=0)]
    assert [pixels for _, pixels in got] == wanted
    assert got[0][0] == 0


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
