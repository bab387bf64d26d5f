"""Videos into sequences: scenes are told apart, what teaches nothing is named and left out."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from training.data.canvases import canvas
from training.data.frames import read_image
from training.data.prepare import (
    FrameStatistics,
    Preparation,
    find_videos,
    frame_statistics,
    frames_of,
    is_page,
    prepare,
    verdict,
)
from training.data.sequences import open_sequences
from training.data.synthesise import Generator, clips
from training.degrade.codecs import encode_decode
from training.degrade.resize import imresize, to_bytes
from training.metrics import luma

Picture = Callable[[int], Tensor]  # frame number → (3, 96, 128) uint8
SMALL = Preparation(frames=6, window_px=64, windows=1)
WHOLE = Preparation(frames=6, window_px=128, windows=1)


@cache
def drawn(seed: int) -> Tensor:
    return torch.from_numpy(255.0 * canvas(np.random.default_rng(seed), 192)).permute(2, 0, 1).to(torch.uint8)


def leaves(seed: int, *, speed: int = 1) -> Picture:
    """A detailed picture that moves to the right."""
    return lambda n: drawn(seed).roll(speed * n, dims=2)[:, :96, :128]


def black(n: int) -> Tensor:
    return torch.full((3, 96, 128), 2 * (n % 2), dtype=torch.uint8)


def soft(n: int) -> Tensor:
    x = torch.arange(128.0) + 3.0 * n
    waves = 120.0 + 100.0 * torch.sin(x / 30.0)[None] * torch.cos(torch.arange(96.0) / 25.0)[:, None]
    return waves.expand(3, -1, -1).to(torch.uint8)


def combed(n: int) -> Tensor:
    """Two moments in one frame."""
    picture = leaves(3, speed=8)
    frame = picture(2 * n).clone()
    frame[:, 1::2] = picture(2 * n + 1)[:, 1::2]
    return frame


def looks_at(picture: Picture, frames: int) -> list[FrameStatistics]:
    return [frame_statistics(picture(n), picture(n - 1) if n else None) for n in range(frames)]


def film(path: Path, *takes: tuple[Picture, int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 128, 96, "bgr0"
        for picture, frames in takes:
            for n in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(n).permute(1, 2, 0).contiguous().numpy(), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_scenes_become_sequences_and_one_is_held_out(tmp_path: Path) -> None:
    video = film(tmp_path / "two.mkv", (leaves(1), 14), (leaves(2), 13))
    found = prepare([video], tmp_path / "data", SMALL)
    assert [(scene.start, scene.stop, scene.verdict) for scene in found] == [(0, 14, "kept"), (14, 27, "kept")]
    assert sorted(scene.held_out for scene in found) == [False, True]
    train, held_out = (open_sequences(tmp_path / "data" / part, "prepared") for part in ("train", "held_out"))
    assert (len(train), len(held_out)) == (2, 2)
    assert train.shape(0) == (6, 64, 64)


def test_sequences_hold_the_frames_of_the_video(tmp_path: Path) -> None:
    """FFV1 and RGB lose nothing."""
    video = film(tmp_path / "one.mkv", (leaves(1), 8))
    prepare([video], tmp_path / "data", SMALL)
    sequences = open_sequences(tmp_path / "data" / "train", "prepared")
    name = next((tmp_path / "data" / "train").glob("*.npy")).stem
    y, x = map(int, name.split("_")[-2:])
    expected = torch.stack([leaves(1)(n)[:, y : y + 64, x : x + 64] for n in range(6)])
    assert torch.equal(sequences.read(0, range(6), slice(0, 64), slice(0, 64)), expected)


def starts_and_frames(folder: Path) -> dict[int, Tensor]:
    """By the first frame in the name: sequences of windows as large as the frame."""
    return {int(path.stem.split("_")[-3]): torch.from_numpy(np.load(path)) for path in sorted(folder.glob("*.npy"))}


def shown(*takes: tuple[Picture, int]) -> Tensor:
    return torch.stack([picture(n) for picture, frames in takes for n in range(frames)])


def test_a_sequence_begins_where_its_name_says_and_stays_in_its_scene(tmp_path: Path) -> None:
    takes = (leaves(1), 14), (leaves(2), 13)
    video = film(tmp_path / "two.mkv", *takes)
    prepare([video], tmp_path / "data", WHOLE)
    found = {
        n: frames for part in ("train", "held_out") for n, frames in starts_and_frames(tmp_path / "data" / part).items()
    }
    assert sorted(found) == [0, 6, 14, 20]
    assert all(torch.equal(frames, shown(*takes)[n : n + 6]) for n, frames in found.items())


def test_few_sequences_of_a_long_scene_are_spread_over_it(tmp_path: Path) -> None:
    video = film(tmp_path / "long.mkv", (leaves(1), 32))
    prepare([video], tmp_path / "data", replace(WHOLE, most_per_scene=2))
    found = starts_and_frames(tmp_path / "data" / "train")
    assert sorted(found) == [0, 12]
    assert torch.equal(found[12], shown((leaves(1), 32))[12:18])


def test_a_sequence_that_the_scene_cannot_fill_is_not_filled_from_the_next(tmp_path: Path) -> None:
    """The third begins at frame 12, where each frame is shown twice: three that differ until the cut."""
    video = film(tmp_path / "cut.mkv", (lambda n: leaves(1)(n if n < 12 else 12 + (n - 12) // 2), 18), (leaves(2), 9))
    prepare([video], tmp_path / "data", replace(WHOLE, held_out=0.0))
    assert sorted(starts_and_frames(tmp_path / "data" / "train")) == [0, 6, 18]


def test_a_sequence_that_repeats_make_longer_takes_the_place_of_the_next(tmp_path: Path) -> None:
    twice: Picture = lambda n: leaves(1)(n // 2)  # noqa: E731
    video = film(tmp_path / "twice.mkv", (twice, 30))
    prepare([video], tmp_path / "data", WHOLE)
    found = starts_and_frames(tmp_path / "data" / "train")
    assert sorted(found) == [0, 12]
    assert all(torch.equal(frames, shown((twice, 30))[n : n + 12 : 2]) for n, frames in found.items())


def test_what_is_not_kept_is_not_written(tmp_path: Path) -> None:
    video = film(tmp_path / "dark.mkv", (black, 8), (leaves(1), 8))
    prepare([video], tmp_path / "data", WHOLE)
    assert sorted(starts_and_frames(tmp_path / "data" / "train")) == [8]


def test_the_window_with_the_most_detail_is_taken(tmp_path: Path) -> None:
    def half_flat(n: int) -> Tensor:
        picture = leaves(1)(n).clone()
        picture[:, :, :64] = 90 + 2 * (n % 2)
        return picture

    prepare([film(tmp_path / "half.mkv", (half_flat, 8))], tmp_path / "data", SMALL)
    (path,) = (tmp_path / "data" / "train").glob("*.npy")
    assert path.stem.endswith("_0_64")


def test_any_scene_may_be_held_out_and_always_the_same(tmp_path: Path) -> None:
    takes = [(leaves(seed), 7) for seed in range(4)]
    held_out = []
    for name in ("a", "b", "c", "a"):
        found = prepare([film(tmp_path / f"{name}.mkv", *takes)], tmp_path / "data", SMALL)
        held_out.append([scene.start for scene in found if scene.held_out])
    assert held_out[0] == held_out[3]
    assert len({tuple(starts) for starts in held_out}) > 1


@pytest.mark.parametrize(("size", "matrix"), [((128, 96), "ITU601"), ((1280, 720), "ITU709")])
def test_colors_without_a_matrix_are_read_as_is_usual_at_that_size(
    tmp_path: Path, size: tuple[int, int], matrix: str
) -> None:
    red = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    red[:] = (200, 30, 60)
    path = tmp_path / "red.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(format="yuv444p", dst_colorspace=matrix)
        frame.colorspace = 2  # unknown
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (picture, _), *_ = frames_of(path)
    assert (picture.amax((1, 2)).int() - torch.tensor([200, 30, 60])).abs().max() <= 2


def test_soft_footage_is_sharp_at_half_its_size(tmp_path: Path) -> None:
    def enlarged(n: int) -> Tensor:
        return to_bytes(imresize(leaves(3)(n), 2.0))

    path = tmp_path / "soft.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 256, 192, "bgr0"
        for n in range(8):
            picture = enlarged(n).permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="soft: nothing finer than half its size; try --downscale 2"):
        prepare([path], tmp_path / "data", SMALL)
    prepare([path], tmp_path / "data", replace(WHOLE, downscale=2))
    (frames,) = starts_and_frames(tmp_path / "data" / "train").values()
    assert torch.equal(frames, torch.stack([to_bytes(imresize(enlarged(n), 0.5)) for n in range(6)]))


def test_frames_shown_twice_are_taken_once(tmp_path: Path) -> None:
    video = film(tmp_path / "twice.mkv", (lambda n: leaves(1)(n // 2), 24))
    prepare([video], tmp_path / "data", SMALL)
    piece = np.load(next((tmp_path / "data" / "train").glob("*.npy")))
    assert all((piece[k] != piece[k + 1]).any() for k in range(5))


@pytest.mark.parametrize(
    ("picture", "frames", "reason"),
    [
        (black, 10, "black"),
        (soft, 10, "soft: nothing finer than half its size; try --downscale 2"),
        (combed, 10, "interlaced: deinterlace it first"),
        (leaves(1), 4, "too short: 4 frames that differ, 6 expected"),
        (lambda _: leaves(1)(0), 10, "too short: 1 frames that differ, 6 expected"),
    ],
)
def test_what_teaches_nothing_is_left_out_with_its_reason(picture: Picture, frames: int, reason: str) -> None:
    assert verdict(looks_at(picture, frames), SMALL) == reason


def test_what_the_decoder_says_is_interlaced_is_believed() -> None:
    looks = [frame_statistics(leaves(1)(n), leaves(1)(n - 1), interlaced=n % 2 == 0) for n in range(1, 11)]
    assert verdict(looks, SMALL) == "interlaced: deinterlace it first"


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
    assert verdict(looks_at(credits_page(ground=ground, ink=ink, speed=speed), 12), SMALL).startswith("credits")


def test_a_scene_that_shows_a_page_for_a_while_is_kept() -> None:
    page = credits_page(ground=0, ink=235, speed=1)
    looks = looks_at(lambda n: page(n) if n < 5 else leaves(1)(n), 12)
    assert sum(look.written for look in looks) == 5
    assert verdict(looks, SMALL) == "kept"


def test_credits_are_known_after_compression() -> None:
    page = credits_page(ground=16, ink=220, speed=1)
    frames = encode_decode(torch.stack([page(n) for n in range(12)]), "libx264", quality=28.0)
    assert verdict(looks_at(lambda n: frames[n], 12), SMALL).startswith("credits")


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


def test_the_report_names_every_scene(tmp_path: Path) -> None:
    video = film(tmp_path / "a<b.mkv", (leaves(1), 8), (black, 8))
    prepare([video], tmp_path / "data", SMALL)
    page = (tmp_path / "data" / "report.html").read_text()
    assert "1 of 2 scenes kept" in page
    assert "a&lt;b.mkv" in page
    assert page.count("data:image/jpeg;base64,") == 2


def test_a_damaged_video_does_not_end_the_others(tmp_path: Path) -> None:
    good = film(tmp_path / "good.mkv", (leaves(1), 8))
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(b"no video")
    found = prepare([bad, good], tmp_path / "data", SMALL)
    assert found[0].verdict.startswith(f"not decoded: {bad}: expected a video that can be decoded")
    assert found[1].verdict == "kept"


def test_nothing_kept_is_an_error_that_says_why(tmp_path: Path) -> None:
    video = film(tmp_path / "dark.mkv", (black, 8))
    with pytest.raises(ValueError, match="expected at least one scene to keep, got black"):
        prepare([video], tmp_path / "data", SMALL)


def test_videos_are_found_below_folders_and_names_must_differ(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b.mp4", "a/c.MKV", "a/notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_videos([tmp_path])] == ["c.MKV", "b.mp4"]
    (tmp_path / "a" / "b.mp4").touch()
    with pytest.raises(ValueError, match=r"b\.mp4: expected names that differ"):
        find_videos([tmp_path])
