"""Queues of real jobs: what is made, skipped, refused and reported, and what interrupts and kills leave."""

import hashlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter import cli
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.job.queue import machine, run
from ffmpeg_filter.job.queue.state import STATE, StateFile
from ffmpeg_filter.media.probe import probe
from tests.ffmpeg_filter.job.group_leader import GroupLeader

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Queue = Callable[..., tuple[int, str, str]]
FAST = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --part-frames 8")


@pytest.fixture
def queue(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Queue:
    """queue("--recursive", …): exit code and output of `iconvsr upscale SHELF --output-dir OUT …`."""

    def start(*more: str | Path, places: tuple[Path, ...] = ()) -> tuple[int, str, str]:
        words = map(str, (*(places or (tmp_path / "shelf",)), "--output-dir", tmp_path / "out", *more))
        code = cli.main(["upscale", *words, *FAST, "--model", str(tiny_model)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return start


@pytest.fixture
def shelf(clip: Make, tmp_path: Path) -> Path:
    """Two videos of one stem and a third one that is none."""
    (tmp_path / "shelf").mkdir()
    clip("shelf/a.mkv", "-c:v", "ffv1", frames=8)
    clip("shelf/a.mp4", "-c:v", "libx264", frames=8)
    (tmp_path / "shelf" / "b.mkv").write_text("dear diary\n" * 100)
    return tmp_path / "shelf"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved(tmp_path: Path) -> dict[str, str]:
    """The status of each output in the state file."""
    return {entry.output: entry.status for entry in StateFile(tmp_path / "out").read()}


# ---- what is made ----


def test_a_failure_does_not_end_the_queue_and_the_next_run_skips_what_is_done(
    shelf: Path, queue: Queue, tmp_path: Path
) -> None:
    code, out, err = queue()
    assert (code, out) == (1, "")
    assert f"{shelf}: 3 videos" in err
    assert f"[2/3] {shelf / 'a.mp4'} → {tmp_path / 'out' / 'a.mp4.mkv'}" in err
    assert re.search(r"FAILED: .*b\.mkv: input: expected a video file, got one that cannot be read", err)
    assert re.search(r"out: 3 files: 2 upscaled \(16 frames\), 1 FAILED, in 0:\d\d", err)
    assert saved(tmp_path) == {"a.mkv": "done", "a.mp4.mkv": "done", "b.mkv": "failed"}
    (shelf / "b.mkv").unlink()
    before = sha(tmp_path / "out" / "a.mkv")
    code, _, err = queue()
    assert code == 0
    assert f"done already: {shelf / 'a.mkv'} → {tmp_path / 'out' / 'a.mkv'}" in err
    assert "2 files: 0 upscaled (0 frames), 2 done already" in err
    assert sha(tmp_path / "out" / "a.mkv") == before


def test_a_queue_makes_the_files_that_single_jobs_make(
    shelf: Path, queue: Queue, tiny_model: Path, tmp_path: Path
) -> None:
    queue()
    single = tmp_path / "single.mkv"
    assert cli.main(["upscale", str(shelf / "a.mp4"), str(single), *FAST, "--model", str(tiny_model)]) == 0
    assert sha(tmp_path / "out" / "a.mp4.mkv") == sha(single)


def test_a_file_of_the_users_is_not_overwritten_unless_that_is_asked_for(
    shelf: Path, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mkv").write_text("precious")
    code, _, err = queue(places=(shelf / "a.mkv",))
    assert code == 1
    assert re.search(
        r"FAILED: .*a\.mkv: output: expected a new file, got one that exists: .*; pass --overwrite to replace it", err
    )
    assert (tmp_path / "out" / "a.mkv").read_text() == "precious"
    assert queue("--overwrite", places=(shelf / "a.mkv",))[0] == 0
    assert probe(tmp_path / "out" / "a.mkv").num_frames == 8


def test_folders_in_folders_and_image_sequences_are_upscaled_into_the_same_folders(
    clip: Make, shelf: Path, queue: Queue, tmp_path: Path
) -> None:
    (shelf / "b.mkv").unlink()
    (shelf / "season").mkdir()
    (shelf / "scan").mkdir()
    clip("shelf/season/a.mkv", "-c:v", "ffv1", frames=4)
    clip("shelf/scan/f_%03d.png", frames=4)
    code, _, err = queue("--recursive", "--rate", "24")
    assert code == 0
    assert f"{shelf / 'scan'}: one image sequence of 4 pictures" in err
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.mkv"))
    assert made == ["a.mkv", "a.mp4.mkv", "scan.mkv", "season/a.mkv"]


def test_a_dry_run_lists_and_writes_nothing(shelf: Path, queue: Queue, tmp_path: Path) -> None:
    code, _, err = queue("--dry-run")
    assert code == 0
    assert f"[3/3] {shelf / 'b.mkv'} → {tmp_path / 'out' / 'b.mkv'}" in err
    assert not (tmp_path / "out").exists()


def test_paths_may_stand_on_both_sides_of_options(shelf: Path, queue: Queue) -> None:
    code, _, err = queue("--crf", "20", shelf / "a.mp4", places=(shelf / "a.mkv",))
    assert code == 0
    assert "2 files: 2 upscaled" in err


# ---- mistakes ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--settle", "3"), r"settle: expected at least 0 seconds, with --watch, got 3"),
        (("--encoder", "h269"), r"encoder: expected auto or one of x264"),
        (("--encoder", "ffv1", "--container", "mp4"), r"expected one whose video fits into \.mp4, got ffv1"),
        (("--model", "nonesuch"), r"nonesuch"),
    ],
)
def test_what_would_fail_for_every_file_is_refused_before_the_first(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert cli.main(["upscale", str(shelf), "--output-dir", str(tmp_path / "out"), *words]) == 1
    printed = capsys.readouterr().err
    assert re.search(message, printed)
    assert "[1/" not in printed


def test_a_folder_without_videos_is_named(tmp_path: Path, queue: Queue) -> None:
    (tmp_path / "shelf").mkdir()
    code, _, err = queue()
    assert code == 1
    assert re.search(r"input: expected videos or numbered images, got none: .*shelf", err)


@pytest.mark.parametrize("words", [("--recursive",), ("--watch",), ("--order", "size"), ("--settle", "3")])
def test_options_of_a_queue_need_an_output_folder(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upscale", str(tmp_path / "a.mkv"), str(tmp_path / "b.mkv"), *words]) == 1
    assert f"{words[0][2:]}: expected with --output-dir only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "message"),
    [(["a.mkv"], "are required: OUTPUT, or --output-dir"), (["a", "b", "c"], "got 3 paths; pass --output-dir")],
)
def test_one_or_three_paths_need_an_output_folder(
    paths: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["upscale", *paths])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# ---- reports ----


def test_the_progress_page_names_every_event_and_field(shelf: Path, queue: Queue) -> None:
    page = (Path(__file__).parents[4] / "docs" / "queue.md").read_text()
    documented = {
        name: set(re.findall(r"`(\w+)`", fields))
        for name, fields in re.findall(r"^\| `(\w+)` \| (.*?) \|", page.partition("## Progress as JSON")[2], re.M)
    }
    code, out, _ = queue("--progress", "json", "--verify")
    assert code == 1
    events = [json.loads(line) for line in out.splitlines()]
    assert {e["event"] for e in events} == documented.keys()
    for event in events:
        optional = {"quality", "number", "of", "why", "error"}
        fields = event.keys() - {"event"}
        assert fields <= documented[event["event"]], event
        assert documented[event["event"]] - fields <= optional, event
    assert events[-1]["event"] == "queue_summary"
    assert [failure["source"] for failure in events[-1]["failures"]] == [str(shelf / "b.mkv")]


# ---- interrupts and kills ----


def die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_run_killed_while_it_cleaned_up_is_done_and_leaves_nothing(
    shelf: Path, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", die)
        assert queue(places=(shelf / "a.mkv",))[0] == 130
    assert (tmp_path / "out" / "a.mkv.iconvsr").exists()
    code, _, err = queue(places=(shelf / "a.mkv",))
    assert code == 0
    assert "done already" in err
    assert not (tmp_path / "out" / "a.mkv.iconvsr").exists()


def test_an_output_published_by_a_killed_run_counts_with_the_settings_of_that_run(
    shelf: Path, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = StateFile.write

    def write_or_die(state: StateFile, entries: object) -> None:
        if (tmp_path / "out" / "a.mkv").exists():
            die()
        write(state, entries)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "write", write_or_die)
        assert queue(places=(shelf / "a.mkv",))[0] == 130
    assert saved(tmp_path) == {"a.mkv": "running"}
    before = sha(tmp_path / "out" / "a.mkv")
    code, _, err = queue("--crf", "30", places=(shelf / "a.mkv",))
    assert code == 1
    assert "made with other settings: crf default, now 30.0; pass --overwrite" in err
    assert sha(tmp_path / "out" / "a.mkv") == before
    assert queue(places=(shelf / "a.mkv",))[0] == 0


def started(source: Path, output_dir: Path, model: Path, *more: str) -> list[str]:
    command = ["upscale", str(source), "--output-dir", str(output_dir), *FAST, "--progress", "plain", *more]
    return [*command, "--model", str(model)]


def test_one_interrupt_keeps_what_is_done_and_the_same_command_goes_on(
    ffmpeg: Make, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "shelf").mkdir()
    for name in ("a", "b"):
        lavfi = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=25", "-frames:v", "3000", "-c:v", "mpeg4")
        ffmpeg(f"shelf/{name}.mkv", *lavfi)
    command = started(tmp_path / "shelf", tmp_path / "out", tiny_model)
    process = subprocess.Popen([sys.executable, "-m", "ffmpeg_filter.cli", *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while " frames (" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 files: 0 upscaled (0 frames), 2 left" in printed
    assert "Run the same command to go on" in printed
    assert "Traceback" not in printed
    assert set(saved(tmp_path).values()) == {"waiting"}


def test_a_watching_queue_takes_what_arrives_and_ends_with_an_interrupt(
    clip: Make, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "POLL_S", 0.02)
    (tmp_path / "shelf").mkdir()
    clip("late.mkv", "-c:v", "ffv1", frames=4)
    scans = iter(range(1000))
    scan = run.sources.scan

    def scan_and_fill(*places: object, **more: object) -> object:
        """The file arrives byte by byte; when its output is there, the user presses Ctrl-C."""
        if (n := next(scans)) in (2, 4):
            whole = (tmp_path / "late.mkv").read_bytes()
            (tmp_path / "shelf" / "late.mkv").write_bytes(whole[: len(whole) * n // 4])
        if (tmp_path / "out" / "late.mkv").exists():
            os.kill(os.getpid(), signal.SIGINT)
        return scan(*places, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(run.sources, "scan", scan_and_fill)
    command = started(tmp_path / "shelf", tmp_path / "out", tiny_model, "--watch", "--settle", "0.3")
    assert cli.main(command) == 0
    assert probe(tmp_path / "out" / "late.mkv").num_frames == 4


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3000)])])
def test_a_queue_killed_at_any_moment_gives_the_same_files(
    clip: Make, tiny_model: Path, tmp_path: Path, kills: int
) -> None:
    """Killed with all its children, and started again until it ends; when it has, another one is begun."""
    dice = random.Random(kills)
    (tmp_path / "shelf").mkdir()
    for name, frames in (("a.mkv", 16), ("a.avi", 8), ("b.mp4", 20)):
        clip(f"shelf/{name}", "-c:v", "mpeg4", frames=frames)

    def start(output_dir: Path) -> GroupLeader:
        return GroupLeader(started(tmp_path / "shelf", output_dir, tiny_model))

    def finished(output_dir: Path) -> dict[str, str]:
        hidden = sorted(path.name for path in output_dir.iterdir() if path.suffix != ".mkv")
        assert hidden == [".iconvsr-queue.lock", STATE]
        return {path.name: sha(path) for path in output_dir.glob("*.mkv")}

    assert start(tmp_path / "undisturbed").ended(120) == 0
    undisturbed = finished(tmp_path / "undisturbed")
    assert len(undisturbed) == 3
    hits, films = 0, 0
    while hits < kills:
        output_dir, films, code = tmp_path / f"out{films}", films + 1, None
        while code is None:
            process = start(output_dir)
            code = process.ended(dice.uniform(0.05, 2.5) if hits < kills else 120)
            if code is None:
                process.kill()
                hits += 1
        assert code == 0
        assert finished(output_dir) == undisturbed
