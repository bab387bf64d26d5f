"""What a user's folder, pattern or file is taken for, and that this is printed."""

import os
from pathlib import Path

import pytest

from ffmpeg_filter.job.queue.sources import Scan, identity_of, scan


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder on its way to being filled: see the names."""
    names = "ep1.mkv ep2.MP4 notes.txt ._ep1.mkv ep3.mkv.part disc/VTS_01_1.VOB disc/poster.jpg scan/f_001.png"
    names += " scan/f_002.png old/ep1.mkv done.mkv.iconvsr/part_000000.mov photo/cover1.jpg __MACOSX/x.mkv"
    for name in names.split():
        path = tmp_path / "shelf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path / "shelf"


def outputs(found: Scan) -> list[str]:
    return sorted(f"{f.folder}/{f.stem}".removeprefix("/") for f in found.found)


def test_a_folder_means_the_videos_in_it(shelf: Path, tmp_path: Path) -> None:
    found = scan([shelf], tmp_path / "out", recursive=False)
    assert outputs(found) == ["ep1", "ep2"]
    assert f"{shelf}: 2 videos" in found.notes
    assert f"{shelf}: 4 folders in it left out; pass --recursive" in found.notes


def test_recursive_keeps_folders_apart_and_finds_image_sequences(shelf: Path, tmp_path: Path) -> None:
    found = scan([shelf], tmp_path / "out", recursive=True)
    assert outputs(found) == ["disc/VTS_01_1", "ep1", "ep2", "old/ep1", "scan"]
    assert f"{shelf / 'scan'}: one image sequence of 2 pictures" in found.notes


def test_a_folder_of_numbered_pictures_is_one_image_sequence(shelf: Path, tmp_path: Path) -> None:
    found = scan([shelf / "scan"], tmp_path / "out", recursive=False)
    assert [(f.stem, f.folder, f.images) for f in found.found] == [("scan", "", 2)]
    assert found.notes == [f"{shelf / 'scan'}: one image sequence of 2 pictures"]


def test_a_single_numbered_picture_is_no_sequence(shelf: Path, tmp_path: Path) -> None:
    assert scan([shelf / "photo"], tmp_path / "out", recursive=False).found == []


def test_videos_beside_pictures_win_and_the_pictures_are_named(shelf: Path, tmp_path: Path) -> None:
    for name in ("still1.png", "still2.png"):
        (shelf / name).touch()
    found = scan([shelf], tmp_path / "out", recursive=False)
    assert outputs(found) == ["ep1", "ep2"]
    assert f"{shelf}: 2 videos; its 2 numbered images are left out" in found.notes


def test_a_pattern_means_what_matches_it(shelf: Path, tmp_path: Path) -> None:
    assert outputs(scan([shelf / "*.mkv"], tmp_path / "out", recursive=False)) == ["ep1"]
    assert outputs(scan([shelf / "scan" / "f_%03d.png"], tmp_path / "out", recursive=False)) == ["f"]


def test_a_file_is_taken_whatever_its_ending_and_once(shelf: Path, tmp_path: Path) -> None:
    assert outputs(scan([shelf / "notes.txt"], tmp_path / "out", recursive=False)) == ["notes"]
    assert len(scan([shelf / "ep1.mkv", shelf], tmp_path / "out", recursive=False).found) == 2


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^input: expected a file, a folder or a pattern, got nothing of .*/no$"):
        scan([tmp_path / "no"], tmp_path / "out", recursive=False)


def test_nothing_in_the_output_folder_is_a_source(shelf: Path) -> None:
    assert outputs(scan([shelf], shelf / "old", recursive=True)) == ["disc/VTS_01_1", "ep1", "ep2", "scan"]
    found = scan([shelf / "old", shelf / "old" / "ep1.mkv"], shelf / "old", recursive=True)
    assert found.found == []
    assert found.notes[0] == f"{shelf / 'old'}: left out: it is in the output folder"


def test_links_are_followed_and_circles_end(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "far.mkv").touch()
    (shelf / "linked").symlink_to(tmp_path / "disk")
    (shelf / "old" / "circle").symlink_to(shelf)
    assert "linked/far" in outputs(scan([shelf], tmp_path / "out", recursive=True))


def test_the_identity_changes_with_the_file_and_with_any_picture(shelf: Path) -> None:
    for path, inside in ((shelf / "ep1.mkv", shelf / "ep1.mkv"), (shelf / "scan", shelf / "scan" / "f_002.png")):
        before = identity_of(path)
        assert identity_of(path) == before
        os.utime(inside, ns=(0, before["modified"] + 1))
        assert identity_of(path) != before
        changed = identity_of(path)
        inside.write_bytes(b"longer than it was")
        os.utime(inside, ns=(0, before["modified"] + 1))
        assert identity_of(path) != changed
