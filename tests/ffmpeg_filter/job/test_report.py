import io
import json
import logging
import re
from pathlib import Path

import pytest

from ffmpeg_filter.job.report import (
    BarProgress,
    JsonProgress,
    LoggedProgress,
    PlainProgress,
    clock,
    log_file,
    memory_gib,
    progress_for,
    progress_line,
)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (1147, "19:07"), (3723, "1:02:03")])
def test_times_are_formatted_for_people(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_shows_frames_speed_and_time_left() -> None:
    assert progress_line(120, 3000, 2.514, 1147) == "120/3000 frames (4.0 %), 2.51 fps, 19:07 left"
    assert progress_line(0, 10, 0, None) == "0/10 frames (0.0 %), 0.00 fps"


def test_plain_progress_is_sparse_and_always_shows_the_last_frame() -> None:
    text = io.StringIO()
    progress = PlainProgress(text, every_s=1e9)
    progress.begin(50, 20)
    for _ in range(30):
        progress.advance()
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("21/50 frames")
    assert lines[-1].startswith("50/50 frames (100.0 %)")
    assert len(lines) == 2


def test_json_progress_is_one_object_per_line() -> None:
    text = io.StringIO()
    progress = JsonProgress(text, every_s=0)
    progress.note("ein\nzwei")
    progress.begin(2, 0)
    progress.advance()
    progress.advance()
    progress.stage("joining")
    progress.end()
    events = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["note", "begin", "progress", "progress", "stage", "end"]
    assert events[3]["frames"] == 2


def test_a_bar_counts_the_frames_of_earlier_runs() -> None:
    text = io.StringIO()
    progress = BarProgress(text)
    progress.begin(10, 9)
    progress.advance()
    progress.note("[not markup]")
    progress.stage("muxing")
    progress.end()
    assert "10/10" in text.getvalue()
    assert "[not markup]" in text.getvalue()


def test_the_kind_fits_the_stream() -> None:
    assert isinstance(progress_for("auto", io.StringIO()), PlainProgress)
    assert isinstance(progress_for("json", io.StringIO()), JsonProgress)
    assert isinstance(progress_for("bar", io.StringIO()), BarProgress)


def test_memory_is_shown_in_every_form() -> None:
    plain, lines = io.StringIO(), io.StringIO()
    for shown in (PlainProgress(plain, every_s=0), JsonProgress(lines, every_s=0)):
        shown.begin(2, 0)
        shown.advance()
    assert re.search(r", \d+\.\d GiB of memory$", plain.getvalue().splitlines()[-1])
    assert json.loads(lines.getvalue().splitlines()[-1])["memory_gib"] == pytest.approx(memory_gib(), rel=0.2)
    assert memory_gib() > 0.01


def test_a_closed_stream_does_not_fail_the_job() -> None:
    progress_for("auto", None).note("nobody reads this")


def test_a_log_file_holds_the_notes_and_the_terminal_shows_no_more_than_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.txt"
    path.write_text("earlier\n")
    shown = io.StringIO()
    with log_file(path):
        LoggedProgress(PlainProgress(shown)).note("a note")
        logging.getLogger("ffmpeg_filter.media.ffmpeg").info("running ffmpeg -i 'a b'")
    logging.getLogger("ffmpeg_filter.media.ffmpeg").info("after")
    written = path.read_text()
    assert written.startswith("earlier\n")
    assert re.search(r"^\d{4}-\d\d-\d\d .* a note$", written, re.MULTILINE)
    assert "running ffmpeg -i 'a b'" in written
    assert "after" not in written
    assert shown.getvalue() == "a note\n"
    assert capsys.readouterr().err == ""
