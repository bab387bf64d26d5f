from pathlib import Path

import pytest

from ffmpeg_filter.job import source
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.source import open_source, series_identity, source_identity
from ffmpeg_filter.media.ffmpeg import FfmpegError
from ffmpeg_filter.media.source import SourceError
from ffmpeg_filter.media.timestamps import DiscontinuityError


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


def test_a_source_that_cannot_be_rewrapped_is_named_with_both_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        raise error

    monkeypatch.setattr(source, "probe", lambda _: fail(DiscontinuityError("input: timestamps jump backwards")))
    monkeypatch.setattr(source.ffmpeg, "run", lambda _: fail(FfmpegError("ffmpeg failed (exit code 183): invalid")))
    (tmp_path / "in.ts").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"^input: timestamps jump .*, and it cannot be rewrapped: ffmpeg failed"):
        open_source(JobOptions(tmp_path / "in.ts", tmp_path / "out.mkv"), Journal(tmp_path, ""))
