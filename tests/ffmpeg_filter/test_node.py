from collections.abc import Callable
from pathlib import Path

import av
import ffmpeg
import pytest

import ffmpeg_filter
from ffmpeg_filter import node
from ffmpeg_filter.media.ffmpeg import FfmpegError
from ffmpeg_filter.media.probe import probe

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
FAST = {"segment": 4, "context": 1, "device": "cpu", "threads": 1}


@pytest.fixture(autouse=True)
def registered() -> None:
    assert node.iconvsr


@pytest.fixture
def source(ffmpeg: Make) -> Path:
    video = "testsrc2=s=48x32:r=30,format=yuv420p,settb=1/90000,setpts=N*3003+mod(N\\,3)*1201"
    inputs = ("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", "sine=d=0.5")
    tags = ("-vf", "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709")
    rate = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000", "-video_track_timescale", "90000")
    return ffmpeg("in.mp4", *inputs, *tags, *rate, "-frames:v", "14", "-c:v", "libx264", "-c:a", "aac")


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


def test_filters_before_and_after_with_sound_from_the_same_input(
    source: Path, tiny_model: Path, tmp_path: Path
) -> None:
    inputs = ffmpeg.input(str(source))
    video = inputs.video.filter("crop", 32, 32).iconvsr(model=str(tiny_model), **FAST).filter("pad", 160, 128)
    out = ffmpeg.output(video, inputs.audio, str(tmp_path / "out.mp4"), vcodec="libx264", acodec="copy")
    assert ffmpeg_filter.run(out) == 14
    before, after = probe(source), probe(tmp_path / "out.mp4")
    assert (after.video.width, after.video.height) == (160, 128)
    wanted = [pts * before.timeline.time_base for pts in before.timeline.pts]
    assert [pts * after.timeline.time_base for pts in after.timeline.pts] == wanted
    assert sound(tmp_path / "out.mp4") == sound(source)
    assert (
        after.video.properties["_Matrix"],
        after.video.properties["_Primaries"],
        after.video.properties["_Range"],
    ) == (1, 1, 0)


def test_the_graph_can_run_itself(source: Path, tiny_model: Path, tmp_path: Path) -> None:
    video = ffmpeg.input(str(source)).video.iconvsr(model=str(tiny_model), **FAST)
    out = ffmpeg.output(video, str(tmp_path / "out.mkv"), vcodec="ffv1").overwrite_output().global_args("-shortest")
    (tmp_path / "out.mkv").touch()
    assert out.run_iconvsr() == 14
    assert probe(tmp_path / "out.mkv").num_frames == 14


def test_plain_run_names_the_function_to_use(source: Path, tmp_path: Path) -> None:
    out = ffmpeg.output(ffmpeg.input(str(source)).video.iconvsr(), str(tmp_path / "out.mkv"))
    for attempt in (out.run, out.compile, out.get_args):
        with pytest.raises(RuntimeError, match=r"run the graph with ffmpeg_filter\.run"):
            attempt()


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"iconvsr: expected some of bits, .*, got modell"):
        ffmpeg.input("x").video.iconvsr(modell="light")


def test_options_have_the_units_and_limits_of_the_command(source: Path, tiny_model: Path, tmp_path: Path) -> None:
    video = ffmpeg.input(str(source)).video
    options = {"model": str(tiny_model), **FAST}
    with pytest.raises(ValueError, match=r"memory: expected at least 0\.25 GiB and at most \d+ GiB, got 0\.1"):
        ffmpeg_filter.run(ffmpeg.output(video.iconvsr(**options, memory=0.1), str(tmp_path / "out.mkv")))
    wide = video.iconvsr(**options, memory=1, matrix="709")
    assert ffmpeg_filter.run(ffmpeg.output(wide, str(tmp_path / "out.mkv"), vcodec="ffv1")) == 14
    assert probe(tmp_path / "out.mkv").video.properties["_Matrix"] == 1


def test_a_graph_without_the_node_is_refused(source: Path, tmp_path: Path) -> None:
    out = ffmpeg.output(ffmpeg.input(str(source)), str(tmp_path / "out.mkv"))
    with pytest.raises(ValueError, match="expected one iconvsr node, got 0"):
        ffmpeg_filter.run(out)


def test_an_error_of_the_first_ffmpeg_is_quoted(tiny_model: Path, tmp_path: Path) -> None:
    video = ffmpeg.input(str(tmp_path / "no.mkv")).video.iconvsr(model=str(tiny_model), **FAST)
    with pytest.raises(FfmpegError, match=r"no\.mkv"):
        ffmpeg_filter.run(ffmpeg.output(video, str(tmp_path / "out.mkv")))


def test_an_error_of_the_second_ffmpeg_is_quoted(source: Path, tiny_model: Path, tmp_path: Path) -> None:
    video = ffmpeg.input(str(source)).video.iconvsr(model=str(tiny_model), **FAST)
    with pytest.raises(FfmpegError, match="no_such_codec"):
        ffmpeg_filter.run(ffmpeg.output(video, str(tmp_path / "out.mkv"), vcodec="no_such_codec"))
