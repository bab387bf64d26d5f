import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.commands.scenes import starts
from ffmpeg_filter.media.decode import Damage, decode_frames
from ffmpeg_filter.media.probe import probe
from vs_iconvsr import scenes, weights
from vs_iconvsr.colorspace import Format
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, Session, iterate

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]


@pytest.fixture
def cut(ffmpeg: Make) -> Path:
    """Two scenes of 9 and 8 frames."""
    parts = "testsrc2=s=160x96,format=yuv420p,trim=end_frame=9[a];"
    parts += "mandelbrot=s=160x96,format=yuv420p,setsar=1,trim=end_frame=8[b];[a][b]concat=n=2"
    return ffmpeg("cut.mkv", "-filter_complex", parts, "-c:v", "ffv1")


def test_the_command_finds_the_cuts_of_the_upscaler(
    cut: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["scenes", str(cut), "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    source = probe(cut)
    found = [scene["frame"] for scene in said]
    assert found == [0, 9]
    assert said[1]["time_s"] == pytest.approx(source.timeline.time_of(9))
    here = list(decode_frames(source, 0, Damage()))
    settings = Settings(segment=30, context=2, device="cpu", threads=1)
    sizes = {"width": source.video.width, "height": source.video.height, "num_frames": source.num_frames}
    with Session(
        weights.load(tiny_model),
        settings,
        source=source.video.layout.format,
        target=Format("YUV", "integer", 8, 1, 1),
        **sizes,
    ) as session:
        seen = [0]
        frames = iterate(session, lambda n: Fetched(here[n].planes, here[n].properties), range(source.num_frames))
        for n, hr in frames:
            if n and hr.properties["_SceneChangePrev"]:
                seen.append(n)
    assert found == seen


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_short_video_is_one_scene(clip: Make, frames: int) -> None:
    assert list(starts(probe(clip("in.mkv", "-c:v", "ffv1", frames=frames)), scenes.DEFAULT_THRESHOLD)) == [0]
