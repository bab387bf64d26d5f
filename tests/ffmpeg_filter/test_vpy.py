import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.media.probe import probe
from ffmpeg_filter.media.source import Orientation
from vs_iconvsr import weights
from vs_iconvsr.networks.light import LightVSR

pytestmark = [pytest.mark.needs_ffmpeg, pytest.mark.needs_vapoursynth]

Make = Callable[..., Path]


@pytest.fixture
def encoded(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Path]:
    """Writes the script, runs the printed line in a shell, and gives what it made."""

    def run(source: Path) -> Path:
        output = tmp_path / "out.mkv"
        words = ["vpy", str(source), "--model", str(tiny_model), "--output", str(output)]
        assert cli.main(words) == 0
        done = subprocess.run(["sh", "-c", capsys.readouterr().out], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return output

    return run


def test_a_constant_rate_keeps_its_rate_its_color_and_its_sound(ffmpeg: Make, encoded: Callable[[Path], Path]) -> None:
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=24000/1001,format=yuv420p", "-f", "lavfi", "-i", "sine=d=0.5")
    tags = ("-vf", "setparams=range=tv:color_primaries=smpte170m:color_trc=bt709:colorspace=smpte170m,setsar=8/9")
    source = ffmpeg("it's.mkv", *inputs, *tags, "-frames:v", "12", "-c:v", "libx264", "-c:a", "aac")
    before, after = probe(source), probe(encoded(source))
    assert (after.video.width, after.video.height, after.num_frames) == (192, 128, 12)
    assert after.video.properties | {"_ChromaLocation": 0} == before.video.properties | {"_ChromaLocation": 0}
    assert after.video.sample_aspect_ratio == Fraction(8, 9)
    assert str(after.video.layout.format) == "YUV420P10"
    assert [t.codec for t in after.tracks] == ["aac"]
    assert [after.timeline.time_of(n) for n in range(12)] == pytest.approx(
        [before.timeline.time_of(n) for n in range(12)], abs=0.0011
    )


def test_a_variable_rate_stays_variable(ffmpeg: Make, encoded: Callable[[Path], Path]) -> None:
    video = "testsrc2=s=48x32:r=30,format=yuv420p,settb=1/90000,setpts=N*3003+mod(N\\,3)*1201"
    rate = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000", "-video_track_timescale", "90000")
    source = ffmpeg("in.mp4", "-f", "lavfi", "-i", video, *rate, "-frames:v", "14", "-c:v", "libx264")
    before, after = probe(source), probe(encoded(source))
    assert [after.timeline.time_of(n) for n in range(14)] == pytest.approx(
        [before.timeline.time_of(n) for n in range(14)], abs=0.0011
    )


@pytest.mark.parametrize("scale", [1, 2])
def test_a_model_of_another_scale_names_the_output_by_it(
    clip: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: int
) -> None:
    model = tmp_path / "model.safetensors"
    network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=scale)
    weights.save(network, model, provenance={})
    assert cli.main(["vpy", str(clip("in.mkv", "-c:v", "libx264")), "--model", str(model)]) == 0
    done = subprocess.run(["sh", "-c", capsys.readouterr().out], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    after = probe(tmp_path / f"in.x{scale}.mkv")
    assert (after.video.width, after.video.height, after.num_frames) == (48 * scale, 32 * scale, 12)


def test_the_command_writes_the_orientation(clip: Make, ffmpeg: Make, capsys: pytest.CaptureFixture[str]) -> None:
    flat = clip("flat.mp4", "-c:v", "libx264", frames=3)
    source = ffmpeg("in.mp4", "-display_rotation", "90", "-display_hflip", "-i", flat, "-c", "copy")
    assert cli.main(["vpy", str(source)]) == 0
    done = subprocess.run(["sh", "-c", capsys.readouterr().out], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    after = probe(source.with_name("in.x4.mkv")).video
    assert (after.width, after.height, after.orientation) == (192, 128, Orientation(90, mirrored=True))


def test_an_unknown_model_is_refused_before_the_script_is_written(
    clip: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    assert cli.main(["vpy", str(source), "--model", "nonesuch"]) == 1
    assert "nonesuch" in capsys.readouterr().err
    assert not source.with_name("in.mkv.vpy").exists()


def test_an_existing_script_is_not_replaced(clip: Make, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip("in.mkv", "-c:v", "libx264")
    source.with_name("in.mkv.vpy").write_text("mine")
    assert cli.main(["vpy", str(source)]) == 1
    assert "script: expected a new file, got one that exists" in capsys.readouterr().err
    assert source.with_name("in.mkv.vpy").read_text() == "mine"
