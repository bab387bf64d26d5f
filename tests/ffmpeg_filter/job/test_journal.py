"""The work directory: which parts count, which manifests resume, and what is deleted when."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffmpeg_filter.job import journal
from ffmpeg_filter.job.journal import FINISHED, LOCK, Journal, JournalError, Manifest, differences
from tests.ffmpeg_filter.job.json_values import ANY, changed
from vs_iconvsr import system

MANIFEST = Manifest(
    source={"size": 3},
    settings={"crf": 16, "tile": (0, 0)},
    machine={"ffmpeg": "9.0"},
    time_base="1/25",
    pts=(0, 1, 2),
    last_duration=1,
    boundaries=(0, 2, 3),
)


@pytest.fixture
def opened(tmp_path: Path) -> Journal:
    (tmp_path / "work").mkdir()
    return Journal(tmp_path / "work", "mov")


@pytest.fixture
def with_part(opened: Journal) -> Callable[[], Journal]:
    """A journal whose part 0, of 2 frames, is finished."""

    def make() -> Journal:
        opened.begin(MANIFEST, allow_mixed=False)
        opened.temporary_part(0).write_bytes(b"encoded")
        opened.commit(0, 2)
        return opened

    return make


def test_a_committed_part_is_done(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    assert work.is_done(0, 2)
    assert not work.temporary_part(0).exists()


def test_a_part_without_its_sidecar_is_not_done(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    (work.folder / "part_000000.mov.json").unlink()
    assert not work.is_done(0, 2)


@pytest.mark.parametrize("content", [b"Encoded", b"encode", b"encoded!"])
def test_a_part_whose_bytes_changed_is_not_done(with_part: Callable[[], Journal], content: bytes) -> None:
    work = with_part()
    work.part(0).write_bytes(content)
    assert not work.is_done(0, 2)


def test_a_part_of_another_length_is_not_done(with_part: Callable[[], Journal]) -> None:
    assert not with_part().is_done(0, 3)


def test_the_same_manifest_resumes(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    assert work.begin(MANIFEST, allow_mixed=False) == []
    assert work.is_done(0, 2)


def test_incomplete_files_are_deleted_when_a_run_begins(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    work.temporary_part(1).write_bytes(b"half")
    work.begin(MANIFEST, allow_mixed=False)
    assert not work.temporary_part(1).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": {"size": 4}}, r"source size: the parts have 3, this run has 4; the source has changed.*--restart"),
        ({"settings": {"crf": 18, "tile": (0, 0)}}, r"settings crf: the parts have 16, this run has 18; .*--restart"),
        ({"machine": {"ffmpeg": "5.1"}}, r"ffmpeg: the parts have 9\.0, this run has 5\.1; .*--allow-mixed.*--restart"),
        ({"pts": (0, 1, 3)}, r"the timestamps or the part boundaries differ"),
    ],
)
def test_another_manifest_is_refused_and_the_value_named(
    with_part: Callable[[], Journal], change: dict[str, object], message: str
) -> None:
    with pytest.raises(JournalError, match=message):
        with_part().begin(replace(MANIFEST, **change), allow_mixed=False)  # type: ignore[arg-type]


def test_mixed_parts_are_allowed_by_the_user_and_recorded(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    other = replace(MANIFEST, machine={"ffmpeg": "5.1"})
    warnings = work.begin(other, allow_mixed=True)
    assert warnings == ["mixed parts: ffmpeg: the parts have 9.0, this run has 5.1"]
    assert work.is_done(0, 2)
    assert work.begin(other, allow_mixed=False) == []
    assert b"mixed parts" in (work.folder / journal.MANIFEST).read_bytes()


def test_parts_without_a_manifest_belong_to_no_job(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    (work.folder / journal.MANIFEST).unlink()
    work.begin(MANIFEST, allow_mixed=False)
    assert not work.is_done(0, 2)


def test_a_damaged_manifest_is_named(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    (work.folder / journal.MANIFEST).write_bytes(b'{"format": ')
    with pytest.raises(JournalError, match=r"manifest\.json: damaged; pass --restart"):
        work.begin(MANIFEST, allow_mixed=False)


def test_a_manifest_of_another_version_is_refused(with_part: Callable[[], Journal]) -> None:
    work = with_part()
    path = work.folder / journal.MANIFEST
    path.write_text(path.read_text().replace(journal.FORMAT, "iconvsr job/1"))
    with pytest.raises(
        JournalError, match=r"manifest\.json: written by another version of vapoursynth-iconvsr; pass --restart"
    ):
        work.begin(MANIFEST, allow_mixed=False)


def test_a_work_directory_is_deleted_with_the_finished_note_last(
    with_part: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = with_part()
    work.write_note(journal.FINISHED, {})

    def die(path: Path) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr("shutil.rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        work.remove()
    assert [path.name for path in work.folder.iterdir()] == ["finished.json"]
    monkeypatch.undo()
    work.remove()
    assert not work.folder.exists()


def test_notes_are_read_in_the_order_of_their_names(opened: Journal) -> None:
    for number in (2, 1):
        opened.write_note(f"damage_{number}", [number])
    assert opened.read_notes("damage_*", tuple) == [(1,), (2,)]


def test_a_damaged_note_is_named(opened: Journal) -> None:
    opened.write_note("damage_1", 5)
    with pytest.raises(JournalError, match=r"damage_1\.json: damaged; pass --restart to start over"):
        opened.read_notes("damage_*", tuple)


def test_a_manifest_knows_its_parts() -> None:
    assert [MANIFEST.frames_of(n) for n in range(MANIFEST.num_parts)] == [range(2), range(2, 3)]


def test_differences_of_mixed_parts_are_recorded_once(opened: Journal) -> None:
    opened.begin(MANIFEST, allow_mixed=False)
    for mixed in (["a"], ["a", "b"]):
        opened.record_mixed(mixed)
    manifest = opened.manifest()
    assert manifest is not None
    assert manifest.machine["mixed"] == ["a", "b"]


def test_a_damaged_part_is_logged(with_part: Callable[[], Journal], caplog: pytest.LogCaptureFixture) -> None:
    work = with_part()
    work.part(0).write_bytes(b"Encoded")
    work.is_done(0, 2)
    assert "part_000000.mov is damaged and will be made again" in caplog.text


def test_starting_over_deletes_folders_too_but_not_the_rewrapped_source(opened: Journal) -> None:
    (opened.folder / "covers").mkdir()
    (opened.folder / "rewrapped_1.mkv").touch()
    opened.restart()
    assert [path.name for path in opened.folder.iterdir()] == ["rewrapped_1.mkv"]


# ---- whatever is in a file ----


@pytest.mark.parametrize("mixed", ["text", [3], {"a": "b"}])
def test_records_of_mixed_parts_are_texts(mixed: object) -> None:
    with pytest.raises(ValueError, match="manifest: expected values as a job writes them"):
        replace(MANIFEST, machine={"mixed": mixed})


@given(
    whole=changed(json.loads(json.dumps({"format": journal.FORMAT, **asdict(MANIFEST)}))), text=st.binary(max_size=9)
)
def test_any_manifest_is_compared_or_refused_by_name(
    whole: object, text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("work")
    for content in (json.dumps(whole).encode(), text, b"[" * 100_000):
        (folder / journal.MANIFEST).write_bytes(content)
        try:
            Journal(folder, "mov").begin(MANIFEST, allow_mixed=True)
        except JournalError as error:
            assert re.match(f"{folder}.*: .*--restart", str(error))  # noqa: PT017 - either is right


@given(name=st.text(max_size=8), value=ANY.filter(lambda value: "NaN" not in json.dumps(value)))
def test_what_a_job_depends_on_is_read_as_it_was_written(
    name: str, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("work")
    written = replace(MANIFEST, source={name: value}, settings={name: value})
    Journal(folder, "mov").begin(written, allow_mixed=False)
    Journal(folder, "mov").begin(written, allow_mixed=False)


@given(sidecar=changed({"frames": 2, "size": 7, "sha256": "0" * 64}))
def test_no_sidecar_but_its_own_makes_a_part_done(sidecar: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    work = Journal(tmp_path_factory.mktemp("work"), "mov")
    work.part(0).write_bytes(b"encoded")
    for content in (json.dumps(sidecar).encode(), b"[" * 100_000):
        (work.folder / "part_000000.mov.json").write_bytes(content)
        assert not work.is_done(0, 2)


def test_a_work_directory_has_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "work", "mov").hold(),
        pytest.raises(JournalError, match="another run works on this output"),
        Journal(tmp_path / "work", "mov").hold(),
    ):
        pass


def test_a_work_directory_in_which_nothing_was_begun_is_deleted(tmp_path: Path) -> None:
    with Journal(tmp_path / "work", "mov").hold():
        pass
    assert list(tmp_path.iterdir()) == []


def test_differences_see_through_json() -> None:
    assert list(differences({"tile": [0, 0]}, {"tile": (0, 0)})) == []
    assert list(differences({"a": 1}, {"b": 2})) == [("a", 1, None), ("b", None, 2)]


def test_where_open_files_cannot_be_deleted_the_lock_goes_last(
    opened: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "DELETES_OPEN_FILES", False)
    with opened.hold():
        opened.begin(MANIFEST, allow_mixed=False)
        opened.write_note(FINISHED, True)
        opened.remove()
        assert [path.name for path in opened.folder.iterdir()] == [LOCK]
    assert not opened.folder.exists()


@pytest.mark.parametrize("deletes_open_files", sorted({system.DELETES_OPEN_FILES, False}))
def test_a_run_that_began_nothing_leaves_nothing(
    opened: Journal, monkeypatch: pytest.MonkeyPatch, deletes_open_files: bool
) -> None:
    monkeypatch.setattr(system, "DELETES_OPEN_FILES", deletes_open_files)
    with pytest.raises(ValueError, match="the cause"), opened.hold():
        raise ValueError("the cause")
    assert not opened.folder.exists()
