import io
import json

import pytest

from ffmpeg_filter.job.queue.events import BeginJob, Entry, QueueCounts
from ffmpeg_filter.job.queue.report import (
    BarQueue,
    JsonQueue,
    Overall,
    PlainQueue,
    QueueEstimate,
    QueueProgress,
    QueueView,
    view_for,
)

BEGIN = BeginJob(Entry("/shelf/a.mkv", "a.mkv"), 2, 4)
COUNTS = QueueCounts(done=1, waiting=2, running=1, bytes_ended=100, bytes_running=100, bytes_total=400)


def test_the_share_goes_by_bytes_and_the_time_left_by_what_this_run_made() -> None:
    estimate = QueueEstimate(now_s=10)
    estimate.begin(COUNTS, share=0.5)  # half of this file is there from an earlier run
    overall = estimate.overall(COUNTS, 0.75, now_s=20)
    assert overall.share == pytest.approx(175 / 400)
    assert overall.remaining_s == pytest.approx((400 - 175) / ((100 + 25) / 10))
    assert str(overall) == "all files: 1 of 4 done, 43.8 %, 0:18 left"


def test_no_time_is_promised_before_there_is_something_to_judge_by() -> None:
    assert QueueEstimate(0).overall(COUNTS, 0, now_s=0).remaining_s is None
    assert QueueEstimate(0).overall(QueueCounts(), 0, now_s=5).share == 1


def play(view: QueueView) -> None:
    """A queue of four files, at its second."""
    progress = QueueProgress(view)
    progress.update(COUNTS)
    view.file("begun", "/shelf/a.mkv", "out/a.mkv", number=2, of=4, why="")
    job = progress.job(BEGIN)
    job.begin(10, 5)
    job.advance(0)
    job.stage("muxing")
    job.note("[a note]")
    job.end()
    view.file("failed", "/shelf/a.mkv", "out/a.mkv", error="no room")
    view.end()


def test_plain_lines_hold_the_files_and_all_of_them_together() -> None:
    text = io.StringIO()
    play(PlainQueue(text))
    lines = text.getvalue().splitlines()
    assert lines[0] == "[2/4] /shelf/a.mkv → out/a.mkv"
    assert lines[1].startswith("all files: 1 of 4 done, 37.5 %")
    assert any(line.startswith("6/10 frames") for line in lines)
    assert lines[-1] == "FAILED: /shelf/a.mkv: no room"


def test_json_lines_hold_the_same_as_events() -> None:
    text = io.StringIO()
    play(JsonQueue(text))
    events = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["file", "begin", "queue", "progress", "stage", "note", "end", "file"]
    assert events[2]["share"] == pytest.approx(150 / 400)
    assert (events[2]["files"], events[2]["done"], events[2]["waiting"]) == (4, 1, 2)
    assert events[-1] == {
        "event": "file",
        "status": "failed",
        "source": "/shelf/a.mkv",
        "output": "out/a.mkv",
        "error": "no room",
    }


def test_two_bars_show_the_file_and_all_files() -> None:
    text = io.StringIO()
    play(BarQueue(text))
    assert "1 of 4 done" in text.getvalue()
    assert "[a note]" in text.getvalue()
    assert "FAILED: /shelf/a.mkv: no room" in text.getvalue()


def test_the_kind_fits_the_stream() -> None:
    assert isinstance(view_for("auto", io.StringIO()), PlainQueue)
    assert isinstance(view_for("json", io.StringIO()), JsonQueue)
    bars = view_for("bar", io.StringIO())
    assert isinstance(bars, BarQueue)
    bars.end()


def test_a_queue_without_work_is_whole() -> None:
    assert str(Overall(QueueCounts(skipped=3), 1.0, None)) == "all files: 3 of 3 done, 100.0 %"
