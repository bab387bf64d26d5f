import time
from dataclasses import replace
from pathlib import Path

import pytest

from ffmpeg_filter.media.ffmpeg import Executable, find_executable
from ffmpeg_filter.media.pixels import pixel_format_of
from ffmpeg_filter.media.presets import PRESETS, TRIAL_S, encoder_arguments, extra_arguments, preset_for, target_for
from vs_iconvsr.colorspace import Format

ALL = Executable("ffmpeg", "9.0", "test", frozenset(), frozenset(p.codec for p in PRESETS.values()), frozenset())


def yuv(bits: int, w: int = 1, h: int = 1) -> Format:
    return Format("YUV", "integer", bits, w, h)


@pytest.mark.parametrize(
    ("source", "encoder", "target", "lost"),
    [
        (yuv(8), "x264", "YUV420P10", ""),
        (yuv(10), "x264", "YUV420P10", ""),
        (yuv(12), "x264", "YUV420P10", "depth above 10 bits"),
        (yuv(12), "x265", "YUV420P12", ""),
        (yuv(16, 0, 0), "x265", "YUV444P12", "depth above 12 bits"),
        (yuv(8, 1, 0), "x264", "YUV422P10", ""),
        (yuv(8, 0, 0), "svtav1", "YUV420P10", "full chroma of YUV444P8"),
        (yuv(8, 1, 1), "prores", "YUV422P10", ""),
        (yuv(8, 0, 0), "prores", "YUV422P10", "full chroma"),
        (yuv(8, 0, 0), "prores-4444", "YUV444P10", ""),
        (yuv(8, 2, 2), "x264", "YUV420P10", ""),
        (yuv(8, 0, 1), "x264", "YUV444P10", ""),
        (Format("GRAY", "integer", 8), "x264", "GRAY10", ""),
        (Format("GRAY", "integer", 16), "ffv1", "GRAY16", ""),
        (Format("GRAY", "integer", 8), "svtav1", "YUV420P10", ""),
        (Format("RGB", "integer", 8), "x264", "YUV444P10", ""),
        (Format("RGB", "integer", 8), "ffv1", "RGB30", ""),
        (Format("RGB", "float", 32), "ffv1", "RGB48", ""),
    ],
)
def test_the_target_loses_as_little_as_the_encoder_allows(source: Format, encoder: str, target: str, lost: str) -> None:
    chosen, said = target_for(source, encoder, PRESETS[encoder])
    assert str(chosen) == target
    assert (lost in " ".join(said)) if lost else said == []


def test_the_user_may_choose_the_depth() -> None:
    assert str(target_for(yuv(10), "x264", PRESETS["x264"], 8)[0]) == "YUV420P8"
    with pytest.raises(ValueError, match="bits: expected one of 8, 10 for x264, got 12"):
        target_for(yuv(8), "x264", PRESETS["x264"], 12)


def test_auto_is_x264_and_x265_for_deep_sources() -> None:
    assert preset_for("auto", yuv(8), "mkv", ALL)[0] == "x264"
    assert preset_for("auto", yuv(12), "mkv", ALL)[0] == "x265"
    assert preset_for("auto", yuv(12), "mkv", replace(ALL, encoders=frozenset({"libx264"})))[0] == "x264"


@pytest.mark.parametrize(
    ("encoder", "container", "message"),
    [
        ("ffv1", "mp4", r"fits into \.mp4, got ffv1; name the output \.mkv"),
        ("prores", "mp4", r"fits into \.mp4, got prores; name the output \.mov or \.mkv"),
        ("svtav1", "mov", r"fits into \.mov, got svtav1; name the output \.mkv or \.mp4"),
    ],
)
def test_a_container_that_cannot_hold_it_is_named(encoder: str, container: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset_for(encoder, yuv(8), container, ALL)


def test_an_ffmpeg_without_the_encoder_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected one that ffmpeg has, got nvenc-hevc \(hevc_nvenc\)"):
        preset_for("nvenc-hevc", yuv(8), "mkv", replace(ALL, encoders=frozenset()))


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("nvenc")])
def test_a_trial_finds_a_hardware_encoder_without_its_hardware_in_seconds(name: str) -> None:
    found = find_executable()
    if Path("/dev/nvidia0").exists() or PRESETS[name].codec not in found.encoders:
        pytest.skip("wants an ffmpeg with NVENC on a machine without")
    begun = time.monotonic()
    with pytest.raises(
        ValueError,
        match=rf"{name} does not work on this machine \(.*(libcuda|CUDA|nvenc).*\); use x264, x265 or svtav1",
    ):
        preset_for(name, yuv(8), "mkv", found)
    assert time.monotonic() - begun < TRIAL_S


@pytest.mark.parametrize("name", PRESETS)
def test_every_format_of_every_preset_has_a_name_and_fixed_threads(name: str) -> None:
    preset = PRESETS[name]
    assert preset.formats()
    for chosen in preset.formats():
        arguments = encoder_arguments(name, preset, chosen, crf=None, speed=None, threads=8, hdr=[])
        assert arguments[arguments.index("-threads") + 1] == "8"
        assert pixel_format_of(chosen) in arguments[arguments.index("-pix_fmt") + 1] or preset.sent_as


def test_quality_and_speed_reach_the_encoder() -> None:
    arguments = encoder_arguments("x265", PRESETS["x265"], yuv(10), crf=18.5, speed="slow", threads=4, hdr=["a=b"])
    assert arguments[arguments.index("-crf") + 1] == "18.5"
    assert arguments[arguments.index("-preset") + 1] == "slow"
    assert arguments[arguments.index("-x265-params") + 1] == "log-level=error:pools=4:frame-threads=4:a=b"


@pytest.mark.parametrize(("option", "value"), [("crf", 16.0), ("speed", "slow")])
def test_a_setting_that_the_encoder_lacks_is_refused(option: str, value: object) -> None:
    settings = {"crf": None, "speed": None, option: value}
    with pytest.raises(ValueError, match="ffv1 has no such setting"):
        encoder_arguments("ffv1", PRESETS["ffv1"], yuv(10), threads=1, hdr=[], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        ["-tune", "grain"],
        ["-bf", "-1"],
        ["-x264-params", "keyint=30:bframes=2"],
        ["-g", "30"],
        ["-metadata:s:v:0", "title=a b"],
        [],
    ],
)
def test_options_of_the_encoder_pass(options: list[str]) -> None:
    assert extra_arguments(options) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-i", "x"], "-i would change muxing"),
        (["-map", "0"], "-map would change muxing"),
        (["-vf", "hflip"], "-vf would change what is kept of the source"),
        (["-filter:v", "hflip"], "-filter:v would change what is kept of the source"),
        (["-r", "25"], "-r would change the timestamps"),
        (["-c:v", "mpeg4"], "-c:v would change the encoder"),
        (["out.mkv"], "got 'out.mkv' without a name"),
        (["-g", "30", "out.mkv"], "got 'out.mkv' without a name"),
        (["-y"], "-y would change how ffmpeg runs"),
    ],
)
def test_options_that_would_break_the_job_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extra_arguments(options)
