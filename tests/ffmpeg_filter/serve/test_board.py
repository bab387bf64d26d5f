"""What the page shows of each event of a queue."""

from typing import Any

import pytest

from ffmpeg_filter.serve.board import Board


def file(board: Board, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = board.snapshot()["files"][number]
    return found


def begin(board: Board, source: str = "a") -> None:
    board.apply({"event": "file", "status": "begun", "source": source, "output": f"out/{source}", "number": 1, "of": 1})


@pytest.fixture
def board() -> Board:
    """A board that was filled by a dry run of three files: a new one, one that is done, one that is refused."""
    board = Board("out")
    board.enter("listing")
    begin(board)
    board.apply({"event": "file", "status": "skipped", "source": "b", "output": "out/b"})
    board.apply({"event": "file", "status": "failed", "source": "c", "output": "out/c", "error": "made with crf 20"})
    board.enter("idle")
    return board


def test_the_list_says_what_would_be_done(board: Board) -> None:
    files = board.snapshot()["files"]
    assert [(found["source"], found["status"], found["text"]) for found in files] == [
        ("a", "waiting", ""),
        ("b", "done", ""),
        ("c", "failed", "made with crf 20"),
    ]


def test_a_file_shows_its_progress_its_steps_and_its_end(board: Board) -> None:
    board.enter("upscaling")
    begin(board)
    assert file(board)["status"] == "upscaling"
    board.apply({"event": "begin", "frames": 5, "total": 20})
    board.apply({"event": "progress", "frames": 8, "total": 20, "fps": 2.0, "remaining_s": 6.0, "memory_gib": 1.5})
    shown = file(board)
    assert [shown[name] for name in ("frames", "total", "fps", "remaining_s", "memory_gib")] == [8, 20, 2.0, 6.0, 1.5]
    board.apply({"event": "stage", "name": "muxing"})
    assert (file(board)["text"], file(board)["remaining_s"]) == ("muxing", None)
    board.apply({"event": "summary", "frames": 20})
    board.apply({"event": "file", "status": "done", "source": "a", "output": "out/a"})
    assert (file(board)["status"], file(board)["frames"], file(board)["text"]) == ("done", 20, "")


def test_files_keep_their_places(board: Board) -> None:
    board.enter("upscaling")
    begin(board, "d")
    begin(board, "b")
    assert [found["source"] for found in board.snapshot()["files"]] == ["a", "b", "c", "d"]
    assert (board.source(3), board.source(4), board.source(-1)) == ("d", None, None)


def test_a_file_whose_process_died_is_not_shown_as_running(board: Board) -> None:
    board.enter("upscaling")
    begin(board)
    board.enter("idle")
    assert file(board)["status"] == "stopped"
    board.apply({"event": "progress", "frames": 8, "total": 20})
    assert file(board)["frames"] == 0


def test_a_stopped_file_says_so(board: Board) -> None:
    board.enter("upscaling")
    begin(board)
    board.apply({"event": "file", "status": "interrupted", "source": "a", "output": "out/a"})
    assert file(board)["status"] == "stopped"


def test_all_files_together(board: Board) -> None:
    board.enter("upscaling")
    counts = {"files": 3, "done": 1, "skipped": 0, "failed": 1, "waiting": 1}
    board.apply({"event": "queue", **counts, "share": 0.25, "remaining_s": 60.0})
    assert board.snapshot()["overall"] == {**counts, "share": 0.25, "remaining_s": 60.0}
    board.apply({"event": "queue_summary", **counts, "running": 0, "frames": 1, "failures": []})
    assert board.snapshot()["overall"]["share"] == 0.25
    board.apply({"event": "queue_summary", **counts, "waiting": 0})
    assert (board.snapshot()["overall"]["share"], board.snapshot()["overall"]["remaining_s"]) == (1.0, None)


def test_notes_are_kept_up_to_a_limit_and_unknown_events_change_nothing(board: Board) -> None:
    before = board.snapshot()
    board.apply({"event": "something new"})
    assert board.snapshot() == before
    assert board.last_note() == ""
    for n in range(300):
        board.apply({"event": "note", "text": str(n)})
    assert board.snapshot()["notes"] == [str(n) for n in range(100, 300)]
    assert board.last_note() == "299"
