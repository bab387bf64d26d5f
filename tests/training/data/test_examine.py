"""What is in a video: scenes are told apart, and what teaches nothing is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tests.training.data.footage import Picture, black, combed, leaves, soft
from training.data.examine import FrameStatistics, examine, frame_statistics, is_page, verdict
from training.data.frames import read_image
from training.data.synthesise import Generator, clips
from training.degrade.codecs import encode_decode
from training.metrics import luma


def looks_at(picture: Picture, frames: int) -> list[FrameStatistics]:
    return [frame_statistics(picture(n), picture(n - 1) if n else None) for n in range(frames)]


@pytest.mark.parametrize(
    ("picture", "frames", "reason"),
    [
        (black, 10, "black"),
        (soft, 10, "soft: no detail finer than half its size; try --downscale 2"),
        (combed, 10, "interlaced: deinterlace it first"),
        (leaves(1), 4, "too short: expected at least 6 distinct frames, got 4"),
        (lambda _: leaves(1)(0), 10, "too short: expected at least 6 distinct frames, got 1"),
    ],
)
def test_what_teaches_nothing_is_left_out_with_its_reason(picture: Picture, frames: int, reason: str) -> None:
    assert verdict(looks_at(picture, frames), length=6) == reason


def test_whole_frames_that_are_flagged_as_interlaced_are_kept() -> None:
    """Films on PAL DVDs: deinterlacing would harm them."""
    looks = [frame_statistics(leaves(1)(n), leaves(1)(n - 1), interlaced=True) for n in range(1, 11)]
    assert verdict(looks, length=6) == "kept"


def test_slow_fields_are_recognized_with_the_help_of_the_flag() -> None:
    def slow(n: int) -> Tensor:
        frame = leaves(2, speed=2)(2 * n).clone()
        frame[:, 1::2] = leaves(2, speed=2)(2 * n + 1)[:, 1::2]
        return frame

    looks = [frame_statistics(slow(n), slow(n - 1), interlaced=True) for n in range(1, 11)]
    assert verdict(looks, length=6) == "interlaced: deinterlace it first"


def test_a_change_of_size_starts_a_scene() -> None:
    """Broadcasts switch between 704 and 544 px."""
    wide = [(leaves(1)(n), False) for n in range(8)]
    narrow = [(leaves(2)(n)[..., :96], False) for n in range(7)]
    found = examine("tv.ts", [*wide, *narrow], length=6)
    assert [(scene.start, scene.stop, scene.verdict) for scene in found] == [(0, 8, "kept"), (8, 15, "kept")]


def test_every_scene_has_one_small_image_of_its_own() -> None:
    frames = [*((leaves(1)(n), False) for n in range(9)), *((leaves(2)(n), False) for n in range(9))]
    found = examine("two.mkv", frames, length=6)
    assert len({scene.thumbnail for scene in found}) == len(found) == 2


def credits_page(*, ground: int, ink: int, speed: int, size: int = 9) -> Picture:
    """Names in lines, as they roll by."""
    page = Image.new("L", (128, 480), ground)
    draw = ImageDraw.Draw(page)
    for i in range(480 // (size + 6)):
        line = f"{'Camera' if i % 2 else 'Editing'}   Ann B. Clark {i}"
        draw.text((8, i * (size + 6)), line, fill=ink, font=ImageFont.load_default(size=size))
    whole = torch.from_numpy(np.array(page)).expand(3, -1, -1)
    return lambda n: whole[:, speed * n : speed * n + 96]


@pytest.mark.parametrize("speed", [0, 1, 3])
@pytest.mark.parametrize(("ground", "ink"), [(0, 235), (20, 160), (240, 30)])
def test_credits_are_left_out(ground: int, ink: int, speed: int) -> None:
    assert verdict(looks_at(credits_page(ground=ground, ink=ink, speed=speed), 12), length=6).startswith("credits")


def test_a_scene_that_shows_a_page_for_a_while_is_kept() -> None:
    page = credits_page(ground=0, ink=235, speed=1)
    looks = looks_at(lambda n: page(n) if n < 5 else leaves(1)(n), 12)
    assert sum(look.is_page for look in looks) == 5
    assert verdict(looks, length=6) == "kept"


def test_credits_are_known_after_compression() -> None:
    page = credits_page(ground=16, ink=220, speed=1)
    frames = encode_decode(torch.stack([page(n) for n in range(12)]), "libx264", quality=28.0)
    assert verdict(looks_at(lambda n: frames[n], 12), length=6).startswith("credits")


def test_a_title_on_black_is_a_page() -> None:
    page = Image.new("L", (320, 180))
    ImageDraw.Draw(page).text((70, 70), "THE END", fill=255, font=ImageFont.load_default(size=40))
    assert is_page(torch.from_numpy(np.array(page)).double())


def test_pictures_are_no_pages() -> None:
    """Generated clips, some with letters in them, stars, and a drawing with outlines."""
    generator = Generator(seed=9, clips=24, frames=2, size=128, canvases=12, canvas_px=320)
    pictures = [255.0 * clip[0] for clip, _ in clips(generator)]
    stars = torch.zeros(3, 180, 320)
    random = np.random.default_rng(1)
    for y, x in zip(random.integers(0, 178, 150), random.integers(0, 318, 150), strict=True):
        stars[:, y : y + 2, x : x + 2] = 230.0
    drawing = Image.new("RGB", (320, 180), (190, 210, 240))
    pen = ImageDraw.Draw(drawing)
    for k in range(6):
        corner = 40 * k
        pen.ellipse([corner, 40, corner + 70, 150], fill=(240, 40 * k, 90), outline=(0, 0, 0), width=3)
    pictures += [stars, torch.from_numpy(np.array(drawing)).permute(2, 0, 1)]
    assert not any(is_page(luma(picture)[0]) for picture in pictures)


def test_rows_of_things_thicker_than_strokes_are_no_page() -> None:
    picture = torch.full((180, 320), 30.0)
    for y in (20, 70, 120):
        for x in range(20, 300, 40):
            picture[y : y + 20, x : x + 20] = 220.0
    assert not is_page(picture)


def test_thin_things_without_lines_between_them_are_no_page() -> None:
    """Reeds, rain, a fence: strokes in every row."""
    picture = torch.full((180, 320), 200.0)
    picture[:, 10::24] = picture[:, 11::24] = 60.0
    assert not is_page(picture)


def test_writing_on_a_picture_with_soft_tones_is_no_page() -> None:
    """A hazy hill behind the lines that would be a page without it."""
    picture = torch.full((180, 320), 200.0)
    for y in range(10, 170, 24):
        picture[y : y + 10, 10::16] = picture[y : y + 10, 11::16] = 60.0
    assert is_page(picture)
    hill = picture.clone()
    hill[120:][picture[120:] == 200.0] = 175.0
    assert not is_page(hill)


@pytest.mark.needs_shared
def test_footage_is_no_page() -> None:
    shared = Path(__file__).parents[3].parent / "shared" / "clips"
    if not shared.is_dir():
        pytest.skip("no shared clips")
    frames = [read_image(path) for path in sorted(shared.rglob("*.png"))[::5]]
    assert len(frames) > 10
    assert not any(is_page(luma(frame)[0]) for frame in frames)
