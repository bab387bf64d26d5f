"""Videos as users have them: any container, behind links, with what other systems leave, damaged here and there."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.training.data.footage import film, leaves
from training.data.videos import display_names, find_videos, frames_of, video_identity, with_progress


def names(places: list[Path]) -> list[str]:
    return [path.name for path in find_videos(places)]


def test_videos_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/c.MKV", "a/tape.dv", "a/00001.MTS", "a/VTS_01_1.VOB", "a/notes.txt", "a/cover.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names([tmp_path]) == ["b.mp4", "00001.MTS", "VTS_01_1.VOB", "c.MKV", "tape.dv"]


def test_videos_with_unknown_names_are_found_by_their_content(tmp_path: Path) -> None:
    shutil.move(film(tmp_path / "a.mkv", (leaves(1), 2)), tmp_path / "recording.xyz")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\nrecording.xyz\n")
    (tmp_path / "no_video.bin").write_bytes(bytes(5000))
    assert names([tmp_path]) == ["recording.xyz"]


def test_hidden_files_and_what_other_systems_leave_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.mp4", "._a.mp4", "__MACOSX/a.mp4", ".Trash/b.mp4", "@eaDir/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names([tmp_path]) == ["a.mp4"]


def test_links_are_followed_and_end_where_they_go_round(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "b.mp4").touch()
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "disk")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "given" / "again").symlink_to(tmp_path / "disk")
    assert names([tmp_path / "given"]) == ["b.mp4"]


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected videos of any container, found none"):
        find_videos([tmp_path])


def test_equal_names_are_shown_with_their_folders() -> None:
    videos = [Path("/x/one/VTS_01_1.VOB"), Path("/x/two/VTS_01_1.VOB"), Path("/x/film.mkv")]
    assert display_names(videos) == ["one/VTS_01_1.VOB", "two/VTS_01_1.VOB", "film.mkv"]


def test_a_video_is_known_by_its_content(tmp_path: Path) -> None:
    video = film(tmp_path / "a.mkv", (leaves(1), 2))
    other = film(tmp_path / "b.mkv", (leaves(2), 2))
    identity = video_identity(video)
    assert identity != video_identity(other)
    assert identity == video_identity(video.rename(tmp_path / "c.mkv"))


def test_a_scratch_is_no_reason_to_leave_out_the_film(tmp_path: Path) -> None:
    video = film(tmp_path / "a.mkv", (leaves(1), 12))
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    video.write_bytes(content)
    assert 8 <= len(list(frames_of(video))) <= 12


@pytest.mark.parametrize("name", ["a:b.mkv", "-i.mkv", "100%d.mkv"])
def test_names_that_look_like_something_else_are_files(tmp_path: Path, name: str) -> None:
    assert len(list(frames_of(film(tmp_path / "a.mkv", (leaves(1), 2)).rename(tmp_path / name)))) == 2


def test_progress_names_the_frames_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    video = film(tmp_path / "a.mkv", (leaves(1), 5))
    monkeypatch.setattr("training.data.videos.PROGRESS_S", 0.0)
    with caplog.at_level(logging.INFO):
        assert len(list(with_progress(frames_of(video), video, doing="examining a.mkv"))) == 5
    assert "examining a.mkv, about 5 frames" in caplog.text
    assert "examining a.mkv: 3 frames of about 5, 0 min left" in caplog.text
