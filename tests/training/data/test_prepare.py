"""Videos into sequences: a data folder may be prepared again, and no scene changes sides."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.data.footage import Picture, black, film, leaves
from training.data import prepare as prepare_module
from training.data.prepare import Preparation, frames_of, prepare
from training.data.sequences import open_sequences
from training.degrade.resize import imresize, to_bytes

SMALL = Preparation(frames=6, window_px=64, windows=1)
WHOLE = Preparation(frames=6, window_px=128, windows=1)


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
    assert path.stem.endswith("_64")


def test_windows_lie_anywhere_in_the_frame(tmp_path: Path) -> None:
    """Of a frame that is no multiple of the window, the right and the lower end count, too."""

    def corner(n: int) -> Tensor:
        picture = torch.full((3, 96, 128), 90 + 2 * (n % 2), dtype=torch.uint8)
        picture[:, 56:, 72:] = leaves(1)(n)[:, 56:, 72:]
        return picture

    prepare([film(tmp_path / "corner.mkv", (corner, 8))], tmp_path / "data", replace(SMALL, window_px=40))
    (path,) = (tmp_path / "data" / "train").glob("*.npy")
    assert path.stem.endswith("_56_80") or path.stem.endswith("_56_88")


def test_any_scene_may_be_held_out_and_always_the_same(tmp_path: Path) -> None:
    takes = [(leaves(seed), 7) for seed in range(4)]
    held_out = []
    for k, name in enumerate(("a", "b", "c", "a")):
        found = prepare([film(tmp_path / f"{name}.mkv", *takes)], tmp_path / f"data{k}", SMALL)
        held_out.append([scene.start for scene in found if scene.held_out])
    assert held_out[0] == held_out[3]
    assert len({tuple(starts) for starts in held_out}) > 1


def names_in(data: Path, part: str) -> set[str]:
    return {path.name for path in (data / part).glob("*.npy")}


def test_more_footage_moves_no_scene_to_the_other_side(tmp_path: Path) -> None:
    videos = [film(tmp_path / f"{k}.mkv", (leaves(k % 4, speed=1 + k // 4), 7)) for k in range(8)]
    data = tmp_path / "data"
    prepare(videos[:3], data, SMALL)
    held_out, train = names_in(data, "held_out"), names_in(data, "train")
    prepare(videos, data, replace(SMALL, held_out=0.5))
    assert held_out < names_in(data, "held_out")
    assert train <= names_in(data, "train")
    assert not names_in(data, "train") & names_in(data, "held_out")
    assert len(names_in(data, "train") | names_in(data, "held_out")) == 8


def test_a_renamed_video_keeps_its_sides_and_is_not_written_twice(tmp_path: Path) -> None:
    video = film(tmp_path / "a.mkv", (leaves(1), 7), (leaves(2), 7))
    copy = tmp_path / "copy.mkv"
    data = tmp_path / "data"
    prepare([video], data, SMALL)
    before = names_in(data, "train"), names_in(data, "held_out")
    shutil.copy(video, copy)
    found = prepare([copy, video], data, SMALL)
    assert (names_in(data, "train"), names_in(data, "held_out")) == before
    assert len(found) == 2


def test_sequences_of_a_file_whose_content_changed_are_replaced(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare([film(tmp_path / "a.mkv", (leaves(1), 8))], data, WHOLE)
    prepare([film(tmp_path / "a.mkv", (leaves(2), 9))], data, WHOLE)
    (frames,) = starts_and_frames(data / "train").values()
    assert torch.equal(frames, shown((leaves(2), 6)))


def test_sequences_without_a_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    np.save(tmp_path / "data" / "train" / "old_000000_0_0.npy", np.zeros((6, 3, 64, 64), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"expected only sequences of .* got 1 others, such as old_000000_0_0\.npy"):
        prepare([film(tmp_path / "a.mkv", (leaves(1), 8))], tmp_path / "data", SMALL)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of its video for every frame that is decoded from here on."""
    decoded: list[str] = []

    def counted(video: Path, *, downscale: int = 1) -> Iterator[tuple[Tensor, bool]]:
        for frame in frames_of(video, downscale=downscale):
            decoded.append(video.name)
            yield frame

    monkeypatch.setattr(prepare_module, "frames_of", counted)
    return decoded


def test_each_frame_is_decoded_twice_however_many_scenes_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = [(leaves(k % 4, speed=1 + k // 4), 7) for k in range(8)]
    video = film(tmp_path / "many.mkv", *takes)
    decoded = counting(monkeypatch)
    assert len(prepare([video], tmp_path / "data", SMALL)) > 4
    assert len(decoded) <= 2 * 7 * len(takes)


def test_what_was_prepared_before_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor after a kill: each video is recorded when it is done."""
    one, two = film(tmp_path / "one.mkv", (leaves(1), 8)), film(tmp_path / "two.mkv", (leaves(2), 8))
    first = prepare([one], tmp_path / "data", SMALL)
    decoded = counting(monkeypatch)
    again = prepare([one, two], tmp_path / "data", SMALL)
    assert set(decoded) == {"two.mkv"}
    assert again[0].thumbnail == first[0].thumbnail
    assert [scene.sequences for scene in again] == [1, 1]
    page = (tmp_path / "data" / "report.html").read_text()
    assert "2 of 2 scenes kept" in page


def test_few_gibibytes_are_shared_out_among_the_scenes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    takes = [(leaves(seed), 14) for seed in range(3)]
    room = replace(WHOLE, most_gib=4 * WHOLE.sequence_bytes / 2**30)
    found = prepare([film(tmp_path / "three.mkv", *takes)], tmp_path / "data", room)
    assert sorted(scene.sequences for scene in found) == [1, 1, 2]
    assert "4 of 6 pieces fit into --most-gib" in caplog.text


def test_a_disk_without_room_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "SPARE_BYTES", 2**60)
    with pytest.raises(ValueError, match=r"expected room for up to 0\.0 GiB, got 0\.0 GiB; pass a smaller --most-gib"):
        prepare([film(tmp_path / "a.mkv", (leaves(1), 8))], tmp_path / "data", SMALL)
    assert not names_in(tmp_path / "data", "train")


def test_progress_is_reported_while_videos_are_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        prepare([film(tmp_path / "a.mkv", (leaves(1), 8))], tmp_path / "data", SMALL)
    assert "examining a.mkv (1 of 1), about 8 frames" in caplog.text


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
    with pytest.raises(ValueError, match="soft: no detail finer than half its size; try --downscale 2"):
        prepare([path], tmp_path / "data", SMALL)
    prepare([path], tmp_path / "data", replace(WHOLE, downscale=2))
    (frames,) = starts_and_frames(tmp_path / "data" / "train").values()
    assert torch.equal(frames, torch.stack([to_bytes(imresize(enlarged(n), 0.5)) for n in range(6)]))


def test_frames_shown_twice_are_taken_once(tmp_path: Path) -> None:
    video = film(tmp_path / "twice.mkv", (lambda n: leaves(1)(n // 2), 24))
    prepare([video], tmp_path / "data", SMALL)
    piece = np.load(next((tmp_path / "data" / "train").glob("*.npy")))
    assert all((piece[k] != piece[k + 1]).any() for k in range(5))


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
    with pytest.raises(ValueError, match="expected at least one usable scene, got black"):
        prepare([video], tmp_path / "data", SMALL)
