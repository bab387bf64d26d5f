import base64
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from ffmpeg_filter import cli
from ffmpeg_filter.compare.moments import Moment
from ffmpeg_filter.compare.page import Rendering, compare, page
from ffmpeg_filter.job.report import PlainProgress
from ffmpeg_filter.media.frames import frame_of, planes_of
from ffmpeg_filter.media.images import encode_image
from ffmpeg_filter.media.probe import probe
from vs_iconvsr import weights
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.plan import Settings

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
    assert re.search(r'<td>tiny</td><td class="number">\d+\.\d\d</td><td>about \d+ s</td>', text)


@pytest.mark.parametrize(
    ("fps", "shown"), [(10.0, "about 2 s"), (0.01, "about 33 min"), (0.001, "about 5.6 hours"), (1e6, "about 1 s")]
)
def test_the_time_for_the_whole_video_is_given_in_fitting_units(clip: Make, fps: float, shown: str) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", frames=20))
    assert f"<td>{shown}</td>" in page(source, [], [Rendering("light", (), 4, fps)])


def test_wide_pixels_are_shown_wide(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", "-vf", "setsar=4/3"))
    assert source.video.sample_aspect_ratio == Fraction(4, 3)
    assert 'style="--shape: 2 / 1"' in page(source, [Moment(0, "chosen")], [Rendering("a", (b"",), 4, None)])


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_bicubic_has_the_colors_of_the_source(ffmpeg: Make, matrix: str, tmp_path: Path) -> None:
    tagged = f"color=0xd02010:s=32x32:d=0.2,format=gbrp,scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p"
    source = ffmpeg("in.mkv", "-f", "lavfi", "-i", tagged, "-c:v", "ffv1", "-colorspace", matrix, "-color_range", "tv")
    target = tmp_path / "page.html"
    assert cli.main(["compare", str(source), str(target), "--models", "bicubic", "--frames", "0"]) == 0
    image = re.findall(r"data:image/png;base64,([^\"]+)", target.read_text())[0]
    with av.open(BytesIO(base64.b64decode(image))) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")[64, 64].tolist()
    assert all(abs(a - b) <= 3 for a, b in zip(shown, (0xD0, 0x20, 0x10), strict=True)), shown


# What a person would find out with a mouse; told in the page's title, which --dump-dom writes out.
VISIT = """<script>
addEventListener("load", () => {
  const section = document.querySelector("section"), stage = section.querySelector(".stage");
  const control = label => section.querySelector(`[aria-label="${label}"]`);
  const change = (label, value) => { control(label).value = value; control(label).dispatchEvent(new Event("input")); };
  const drag = (share, buttons) => {
    const box = stage.getBoundingClientRect();
    stage.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width * share, buttons }));
  };
  const seen = () => {
    const left = stage.querySelector("img.left"), right = stage.querySelector("img.right");
    const edge = section.querySelector(".edge").getBoundingClientRect(), box = stage.getBoundingClientRect();
    return {
      left: left && left.dataset.name, right: right.dataset.name, clip: left && getComputedStyle(left).clipPath,
      edge: Math.round(100 * (edge.left + edge.width / 2 - box.left) / box.width),
      labels: [...section.querySelectorAll(".label")].map(label => label.textContent),
      width: Math.round(box.width), sizes: [left, right].map(image => image && [image.offsetWidth, image.offsetHeight]),
      shown: stage.querySelectorAll("img.left, img.right").length,
      fits: document.documentElement.scrollWidth <= innerWidth,
    };
  };
  const found = { loaded: [...document.images].map(image => [image.naturalWidth, image.naturalHeight]) };
  found.first = seen();
  drag(0.25, 1); found.dragged = seen();
  drag(0.75, 0); found.hovered = seen();
  change("where the pictures meet", 900); found.slid = seen();
  change("left picture", 1); found.chosen = seen();
  change("right picture", 1); found.same = seen();
  change("zoom", 8); found.zoomed = seen();
  const frame = section.querySelector(".frame");
  found.middle = (frame.scrollLeft + frame.clientWidth / 2) / stage.offsetWidth;
  document.title = JSON.stringify(found);
});
</script></body>"""


@pytest.fixture
def visited(clip: Make, tmp_path: Path) -> dict[str, Any]:
    """What was seen in a real browser on a page of one moment, by red and blue "models" of x4 and a green one of x2."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    source = probe(clip("in.mkv", "-c:v", "libx264"))
    images = []
    for lit, scale in enumerate((4, 2, 4)):
        width, height = 48 * scale, 32 * scale
        planes = tuple(torch.full((height, width), 255 if i == lit else 0, dtype=torch.uint8) for i in range(3))
        images.append(encode_image(frame_of(planes, Format("RGB", "integer", 8), width, height), ".png", 8))
    named = zip(("red", "green", "blue"), images, (4, 2, 4), strict=True)
    renderings = [Rendering(name, (image,), scale, 1.0) for name, image, scale in named]
    written = tmp_path / "page.html"
    written.write_text(page(source, [Moment(3, "motion")], renderings).replace("</body>", VISIT), encoding="utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}"]
    flags += ["--window-size=600,800", "--virtual-time-budget=3000", "--dump-dom", written.as_uri()]
    done = subprocess.run([browser, "--headless", *flags], capture_output=True, text=True, timeout=60, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    found = json.loads(html.unescape(title.group(1)))
    assert isinstance(found, dict)
    return found


def test_a_browser_shows_the_page_as_promised(visited: dict[str, Any]) -> None:
    assert visited["loaded"] == [[192, 128], [96, 64], [192, 128]]
    first = visited["first"]
    assert (first["left"], first["right"], first["labels"]) == ("red", "blue", ["red", "blue"])
    assert (first["clip"], first["edge"]) == ("inset(0px 50% 0px 0px)", 50)
    assert (first["width"], first["shown"], first["fits"]) == (192, 2, True)
    assert (visited["dragged"]["clip"], visited["dragged"]["edge"]) == ("inset(0px 75% 0px 0px)", 25)
    assert visited["hovered"] == visited["dragged"]
    assert (visited["slid"]["clip"], visited["slid"]["edge"]) == ("inset(0px 10% 0px 0px)", 90)
    assert (visited["chosen"]["left"], visited["chosen"]["labels"]) == ("green", ["green", "blue"])
    assert visited["chosen"]["sizes"] == [[192, 128], [192, 128]]  # models of different scales line up
    assert (visited["same"]["left"], visited["same"]["right"], visited["same"]["shown"]) == (None, "green", 1)
    assert (visited["zoomed"]["width"], visited["zoomed"]["fits"]) == (192 * 8, True)
    assert visited["middle"] == pytest.approx(0.5, abs=0.01)


@pytest.fixture
def model_of_scale(tmp_path: Path) -> Callable[[int], Path]:
    """A weight file of a network of any scale."""

    def make(scale: int) -> Path:
        path = tmp_path / f"x{scale}.safetensors"
        network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=scale)
        weights.save(network, path, provenance={})
        return path

    return make


@pytest.mark.parametrize(
    ("scales", "sizes", "shown"),
    [
        ((2,), [(96, 64), (96, 64)], "48×32 → ×2, 12 frames"),
        ((1,), [(48, 32), (48, 32)], "48×32 → ×1, 12 frames"),
        ((2, 4), [(192, 128), (96, 64), (192, 128)], "48×32 → ×2, ×4 (all shown as large as ×4), 12 frames"),
    ],
)
def test_models_keep_their_scale_and_bicubic_takes_the_largest(
    clip: Make, model_of_scale: Callable[[int], Path], scales: tuple[int, ...], sizes: list[tuple[int, int]], shown: str
) -> None:
    models = ["bicubic", *(str(model_of_scale(scale)) for scale in scales)]
    source = probe(clip("in.mkv", "-c:v", "libx264"))
    text = compare(source, models, Settings(device="cpu"), PlainProgress(io.StringIO()), moments=[0])
    frames = [probe_image(base64.b64decode(image)) for image in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    assert [(frame.width, frame.height) for frame in frames] == sizes
    assert shown in text
    assert [f"×{width // 48}" for width, _ in sizes] == re.findall(r"<td>(×\d)</td></tr>", text)


def test_bicubic_alone_takes_the_scale_of_the_default_model(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264"))
    text = compare(source, ["bicubic"], Settings(device="cpu"), PlainProgress(io.StringIO()), moments=[0])
    assert f"→ ×{weights.scale_of(weights.DEFAULT_MODEL)}," in text


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_a_turned_video_is_shown_upright(
    clip: Make, ffmpeg: Make, tiny_model: Path, angle: int, mirrored: bool
) -> None:
    flat = clip("flat.mp4", "-c:v", "libx264", "-qp", "0", "-vf", "setsar=2", frames=2)
    turn = ("-display_rotation", str(angle), *(("-display_hflip",) if mirrored else ()))
    source = ffmpeg("in.mp4", *turn, "-i", flat, "-c", "copy")
    shown = ffmpeg("shown.png", "-i", source, "-frames:v", "1")  # ffmpeg turns by itself, as players do
    text = compare(probe(source), ["bicubic", str(tiny_model)], Settings(device="cpu"), PlainProgress(io.StringIO()))
    wanted = mean_of(probe_image(shown.read_bytes()))
    pages = [base64.b64decode(image) for image in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    bicubic = probe_image(pages[0])
    assert (bicubic.width, bicubic.height) == ((128, 192) if angle % 180 else (192, 128))
    assert (mean_of(bicubic) - wanted).abs().max() < 25  # turned wrongly it is over 100
    assert len({(frame.width, frame.height) for frame in map(probe_image, pages)}) == 1
    assert f'style="--shape: {"1 / 3" if angle % 180 else "3 / 1"}"' in text


def probe_image(content: bytes) -> av.VideoFrame:
    with av.open(BytesIO(content)) as container:
        return next(container.decode(video=0))


def mean_of(frame: av.VideoFrame) -> torch.Tensor:
    """The frame in 4x4 patches, each its mean color."""
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).float().permute(2, 0, 1)
    return torch.nn.functional.adaptive_avg_pool2d(pixels, 4)


def test_a_warning_common_to_all_models_is_printed_once(clip: Make, tiny_model: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.safetensors"
    twin.write_bytes(tiny_model.read_bytes())
    said = io.StringIO()
    source = probe(clip("in.mkv", "-c:v", "libx264"))
    compare(source, [str(tiny_model), str(twin)], Settings(device="cpu"), PlainProgress(said), moments=[0])
    assert said.getvalue().count("matrix: the clip does not say") == 1


def test_the_time_of_a_moment_is_given_to_a_tenth_of_a_second(clip: Make) -> None:
    source = probe(clip("in.mkv", "-c:v", "libx264", rate="5"))
    assert "<h2>0:01.8 (frame 9): motion</h2>" in page(source, [Moment(9, "motion")], [Rendering("a", (b"",), 4, None)])


def test_an_unknown_model_ends_the_comparison_before_the_work(clip: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(clip("in.mkv", "-c:v", "libx264")), "--models", "bicubic,nonesuch"]) == 1
    assert "nonesuch" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["12", "-1", "a", "0,,1"])
def test_invalid_frame_numbers_are_refused(clip: Make, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert cli.main(["compare", str(clip("in.mkv", "-c:v", "libx264")), f"--frames={words}"]) == 1
    assert "frames: expected numbers from 0 to 11" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", [Format("RGB", "integer", 8), Format("YUV", "integer", 10, 1, 1)], ids=str)
def test_planes_go_into_a_frame_and_back(chosen: Format) -> None:
    planes = tuple(
        torch.arange(w * h).reshape(h, w).remainder(1 << chosen.bits).to(chosen.dtype)
        for w, h in chosen.plane_sizes(38, 22)
    )
    assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(frame_of(planes, chosen, 38, 22)), strict=True))


def test_a_png_is_lossless() -> None:
    planes = tuple(torch.randint(0, 256, (6, 8), dtype=torch.uint8) for _ in range(3))
    with av.open(BytesIO(encode_image(frame_of(planes, Format("RGB", "integer", 8), 8, 6), ".png", 8))) as container:
        assert all(torch.equal(a, b) for a, b in zip(planes, planes_of(next(container.decode(video=0))), strict=True))
