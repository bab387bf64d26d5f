import json
from dataclasses import asdict, fields, replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.queue import state
from ffmpeg_filter.job.queue.events import Entry
from ffmpeg_filter.job.queue.state import QueueError, StateFile, image_settings_of, settings_of
from tests.ffmpeg_filter.job.json_values import changed
from vs_iconvsr.plan import Settings

ENTRY = Entry("/shelf/ä.mkv", "ä.mkv", "done", {"size": 1, "modified": 2}, {"crf": "16"}, 8, 100, 1.5, "")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state_file = StateFile(tmp_path / "out")
    with state_file.hold():
        assert state_file.read() == ()
        state_file.write([ENTRY, replace(ENTRY, source="/b", status="failed", error="no")])
    assert StateFile(tmp_path / "out").read() == (ENTRY, replace(ENTRY, source="/b", status="failed", error="no"))


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "iconvsr queue/1", "entries": [{"sauce": 1}]}'])
def test_a_damaged_state_file_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / state.STATE).write_text(text)
    with pytest.raises(QueueError, match=r"iconvsr-queue\.json: damaged; move it away to begin anew"):
        StateFile(tmp_path).read()


@settings(deadline=None)  # the machine may be busy
@given(entry=changed(asdict(ENTRY)), whole=changed({"format": state.FORMAT, "entries": []}), text=st.binary(max_size=9))
def test_any_state_file_is_read_or_named_with_the_remedy(
    entry: object, whole: object, text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("out")
    listed = json.dumps({"format": state.FORMAT, "entries": [entry]}).encode()
    for content in (listed, json.dumps(whole).encode(), text, b"[" * 100_000):
        (folder / state.STATE).write_bytes(content)
        try:
            entries = StateFile(folder).read()
        except QueueError as error:
            assert "outputs are kept" in str(error)  # noqa: PT017 - either is right
            continue
        for read in entries:
            assert (folder / read.output).resolve().is_relative_to(folder.resolve())
            Path(read.source).exists()


@pytest.mark.parametrize("output", ["/etc/passwd", "../a.mkv", "b/../../a.mkv", "", ".", "a\0.mkv", "\ud800", 3, None])
def test_an_entry_cannot_name_an_output_elsewhere(output: object) -> None:
    with pytest.raises(ValueError, match="output: expected a path below the output folder, got"):
        replace(ENTRY, output=output)  # type: ignore[arg-type]


def test_a_state_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / state.STATE).write_text('{"format": "iconvsr queue/9"}')
    with pytest.raises(QueueError, match=r"expected iconvsr queue/1, got iconvsr queue/9, of another version"):
        StateFile(tmp_path).read()


def test_two_queues_in_one_folder_are_refused(tmp_path: Path) -> None:
    with StateFile(tmp_path).hold(), pytest.raises(QueueError, match="another queue works in this folder"):
        StateFile(tmp_path).hold().__enter__()


def test_the_output_folder_is_made_but_not_the_folders_above_it(tmp_path: Path) -> None:
    with pytest.raises(QueueError, match=r"output-dir: expected a folder in one that exists, .*mkdir -p .*/no"):
        StateFile(tmp_path / "no" / "out").hold().__enter__()
    (tmp_path / "file").touch()
    with pytest.raises(QueueError, match="output-dir: expected a folder, got a file"):
        StateFile(tmp_path / "file").hold().__enter__()


def test_settings_hold_what_the_user_changed_in_the_users_words(tiny_model: Path) -> None:
    job = JobOptions(Path("a"), Path("b"), model=str(tiny_model), crf=20.0, speed="fast", rate=Fraction(24))
    job = replace(job, settings=Settings(context=2, device="cpu", threads=1), encoders=1, overwrite=True)
    found = settings_of(job)
    assert len(found.pop("model")) == 64
    assert found == {"crf": "20.0", "preset": "fast", "context": "2"}
    assert image_settings_of(job) == {"rate": "24"}


def test_every_option_of_a_job_is_either_a_setting_or_known_to_leave_finished_outputs_alone() -> None:
    known = {*state._RUN_ONLY, *state._IMAGES_ONLY}
    others = {field.name for field in fields(JobOptions)} - known
    assert others == {
        *("encoder", "crf", "speed", "bits", "extra", "start_s", "duration_s", "deinterlace", "ignore_interlaced"),
        *("ivtc", "container_name", "target_size", "scenes", "drop_dynamic_hdr"),
    }
