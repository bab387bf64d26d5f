import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import av
import pytest
import torch

from ffmpeg_filter import cli
from ffmpeg_filter.compare import Measured, Moment, frame_of, measure, pick
from ffmpeg_filter.decode import planes_of
from ffmpeg_filter.images import encoded
from ffmpeg_filter.probe import probe
from vs_iconvsr.colour import Format

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
FAST = ["--device", "cpu", "--threads", "1", "--segment", "4", "--context", "1"]


class Outside(HTMLParser):
    """Collects everything that a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.links += [value for name, value in attrs if name in ("src", "href") and value and value[:5] != "data:"]


def test_the_page_holds_every_picture_and_nothing_from_elsewhere(
    clip: Make, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip("<b>in.mkv", "-c:v", "libx264", frames=20)
    page = tmp_path / "page.html"
    words = ["compare", str(source), str(page), "--models", f"bicubic,{tiny_model}", *FAST]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    images = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(images) >= 4
    assert len(images) % 2 == 0
    for image in images:
        with av.open(BytesIO(base64.b64decode(image))) as container:
            frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (192, 128)
    outside = Outside()
    outside.feed(text)
    assert outside.links == []
    assert "&lt;b&gt;in.mkv" in text
    assert "<b>in.mkv" not in text
    assert re.search(r"tiny: about \d+\.\d\d fps on this machine, about \d+ minutes for the whole video", text)


def test_hard_moments_are_moving_detailed_or_dark() -> None:
    measured = [
        Measured(0, motion=1, detail=1, brightness=120),
        Measured(10, motion=9, detail=1, brightness=120),
        Measured(20, motion=1, detail=9, brightness=120),
        Measured(30, motion=0, detail=2, brightness=40),
        Measured(40, motion=50, detail=50, brightness=5),
    ]
    assert pick(measured, count=1) == [Moment(10, "motion"), Moment(20, "detail"), Moment(30, "darkness")]


def test_a_black_video_still_has_moments() -> None:
    assert pick([Measured(0, 0, 0, 0), Measured(5, 0, 0, 0)])


def test_motion_is_measured(ffmpeg: Make) -> None:
    still = ffmpeg("still.mkv", "-f", "lavfi", "-i", "color=gray:s=32x32:d=0.4", "-c:v", "ffv1")
    moving = ffmpeg("moving.mkv", "-f", "lavfi", "-i", "testsrc2=s=96x64:d=0.4", "-c:v", "ffv1")
    assert max(m.motion for m in measure(probe(still))) == 0
    assert min(m.motion for m in measure(probe(moving))[:-1]) > 0


def test_an_unknown_model_ends_it_before_the_work(clip: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(clip("in.mkv", "-c:v", "libx264")), "--models", "bicubic,nonesuch"]) == 1
    assert "nonesuch" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["12", "-1", "a", "0,,1"])
def test_frames_that_are_not_there_are_refused(clip: Make, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert cli.main(["compare", str(clip("in.mkv", "-c:v", "libx264")), f"--frames={words}"]) == 1
    assert "frames: wanted numbers from 0 to 11" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", [Format("RGB", "integer", 8), Format("YUV", "integer", 10, 1, 1)], ids=str)
def test_planes_go_into_a_frame_and_back(chosen: Format) -> None:
    planes = tuple(
        torch.arange(w * h).reshape(h, w).remainder(1 << chosen.bits).to(chosen.dtype)
        for w, h in chosen.plane_sizes(38, 22)
    )
    assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(frame_of(planes, chosen, 38, 22)), strict=True))


def test_a_png_is_lossless() -> None:
    planes = tuple(torch.randint(0, 256, (6, 8), dtype=torch.uint8) for _ in range(3))
    with av.open(BytesIO(encoded(frame_of(planes, Format("RGB", "integer", 8), 8, 6), ".png", 8))) as container:
        assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(next(container.decode(video=0))), strict=True))
