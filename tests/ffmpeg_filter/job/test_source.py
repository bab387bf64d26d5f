from pathlib import Path

from ffmpeg_filter.job.source import series_identity, source_identity


def test_one_changed_byte_changes_the_identity_of_a_source(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = source_identity(path)
    path.write_bytes(b"abd")
    assert source_identity(path) != before


def test_a_large_source_is_identified_by_samples_and_its_modification_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    before = source_identity(path)
    assert set(before) == {"size", "sampled sha256", "changed"}
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert source_identity(path)["sampled sha256"] != before["sampled sha256"]


def test_the_identity_of_numbered_images_changes_with_their_names_and_sizes(tmp_path: Path) -> None:
    files = [tmp_path / "a_1.png", tmp_path / "a_2.png"]
    for path in files:
        path.write_bytes(b"abc")
    before = series_identity(files)
    assert before["images"] == 2
    assert series_identity([files[1], files[0]]) != before
    files[1].write_bytes(b"abcd")
    assert series_identity(files) != before
