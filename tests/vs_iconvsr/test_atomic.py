import os
from pathlib import Path

import pytest

from vs_iconvsr import atomic
from vs_iconvsr.atomic import open_atomically, write_atomically

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows opens no folder to flush it, and has no mode bits")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")
    write_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"new"}


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", b"old")
    with open_atomically(tmp_path / "a.json") as file:
        file.write(b"ne")
        file.flush()
        assert contents(tmp_path) == {"a.json": b"old", "a.json.part": b"ne"}
        file.write(b"w")
    assert contents(tmp_path) == {"a.json": b"new"}


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_old_file_alone(tmp_path: Path, failure: BaseException) -> None:
    def fail_halfway() -> None:
        with open_atomically(tmp_path / "a") as file:
            file.write(b"ne")
            raise failure

    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(type(failure)):
        fail_halfway()
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("failing_call", [1, pytest.param(2, marks=needs_posix)])
def test_a_failing_fsync_is_reported_and_leaves_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    write_atomically(tmp_path / "a", b"old")
    calls: list[int] = []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_call:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"old" if failing_call == 1 else b"new"}


@needs_posix
def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, dict[str, bytes]]] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_ino, contents(tmp_path)))
    )
    write_atomically(tmp_path / "a", b"new")
    assert synced == [
        ((tmp_path / "a").stat().st_ino, {"a.part": b"new"}),
        (tmp_path.stat().st_ino, {"a": b"new"}),
    ]


@needs_posix
def test_a_file_made_elsewhere_is_given_its_name_with_the_same_care(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    made = atomic.temporary_for(tmp_path / "a")
    made.write_bytes(b"made")
    atomic.replace(made, tmp_path / "a")
    assert contents(tmp_path) == {"a": b"made"}
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_a_leftover_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    atomic.temporary_for(tmp_path / "a").write_bytes(b"a much longer leftover")
    write_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"new"}


@needs_posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_mode_bits_are_those_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
