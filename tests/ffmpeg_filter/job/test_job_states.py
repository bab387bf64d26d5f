"""The table "what each crash leaves" of docs/job-states.md: each moment from the first commit on, in order."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter.job import finalize
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.journal import Journal
from ffmpeg_filter.media import mux
from vs_iconvsr import atomic

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Upscaled = Callable[..., JobSummary]

PART_FRAMES = 8
FRAMES = 2 * PART_FRAMES
FIRST_PART = ["damage_000000.json", "part_000000.mov", "part_000000.mov.json"]
BOTH_PARTS = sorted([*FIRST_PART, "damage_000001.json", "part_000001.mov", "part_000001.mov.json"])


class Crash(Exception):  # noqa: N818 - stands for a SIGKILL
    """The process is gone."""


def crash(*_: object, **__: object) -> None:
    raise Crash


def crash_at(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """The function, until one of its arguments is a path of that name."""

    def double(*arguments: object, **keywords: object) -> object:
        if any(isinstance(value, Path) and value.name == name for value in arguments):
            raise Crash
        return function(*arguments, **keywords)

    return double


def leave(name: str) -> Callable[..., None]:
    """Writes half of a file of that name beside the first path that it is given, then crashes."""

    def double(*arguments: object, **_: object) -> None:
        folder = next(value for value in arguments if isinstance(value, Path)).parent
        (folder / name).write_bytes(b"half")
        raise Crash

    return double


@pytest.fixture
def source(clip: Make) -> Path:
    return clip("in.mkv", "-c:v", "ffv1", frames=FRAMES)


@pytest.mark.parametrize(
    ("owner", "function", "double", "left", "again"),
    [
        pytest.param(
            *(atomic, "replace", crash_at("part_000001.mov", atomic.replace)),
            [*FIRST_PART, "damage_000001.json", "part_000001.mov.part"],
            PART_FRAMES,
            id="committing a part, before its rename",
        ),
        pytest.param(
            *(atomic, "write_atomically", crash_at("part_000001.mov.json", atomic.write_atomically)),
            [*FIRST_PART, "damage_000001.json", "part_000001.mov"],
            PART_FRAMES,
            id="committing a part, before its sidecar",
        ),
        pytest.param(finalize, "join_parts", crash, BOTH_PARTS, 0, id="joining"),
        pytest.param(mux, "check_output", leave("out.mkv.part"), BOTH_PARTS, 0, id="muxing or checking"),
        pytest.param(
            *(atomic, "write_atomically", crash_at("finished.json", atomic.write_atomically)),
            BOTH_PARTS,
            0,
            id="writing finished.json",
        ),
        pytest.param(
            *(atomic, "replace", crash_at("out.mkv", atomic.replace)),
            [*BOTH_PARTS, "finished.json"],
            0,
            id="between finished.json and the rename",
        ),
        pytest.param(*(Journal, "remove", crash), [*BOTH_PARTS, "finished.json"], 0, id="after the rename"),
        pytest.param(
            *(shutil, "rmtree", crash_at("out.mkv.iconvsr", shutil.rmtree)),
            ["finished.json"],
            0,
            id="deleting the work directory",
        ),
    ],
)
def test_what_a_crash_leaves_and_what_the_next_run_does(
    source: Path,
    upscaled: Upscaled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    function: str,
    double: Callable[..., object],
    left: list[str],
    again: int,
) -> None:
    upscaled(source, tmp_path / "undisturbed.mkv", encoder="x264")
    output, work = tmp_path / "out.mkv", tmp_path / "out.mkv.iconvsr"
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, double)
        with pytest.raises(Crash):
            upscaled(source, output, encoder="x264")
    found = {path.name for path in work.iterdir()} - {"lock", "manifest.json"}
    assert found == set(left)
    assert upscaled(source, output, encoder="x264").upscaled == again
    assert output.read_bytes() == (tmp_path / "undisturbed.mkv").read_bytes()
    assert [path.name for path in tmp_path.glob("out.mkv*")] == ["out.mkv"]


def test_a_crash_while_rewrapping_leaves_a_file_that_the_next_run_replaces(
    clip: Make, upscaled: Upscaled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = clip("once.ts", "-c:v", "libx264").read_bytes()
    source, work = tmp_path / "twice.ts", tmp_path / "out.mkv.iconvsr"
    source.write_bytes(once + once)
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "replace", crash)
        with pytest.raises(Crash):
            upscaled(source, tmp_path / "out.mkv")
    (half,) = work.glob("rewrapped_*.mkv.part")
    half.write_bytes(b"half")
    assert upscaled(source, tmp_path / "out.mkv").frames == 24
    assert not work.exists()


def test_after_a_crash_while_writing_images_all_are_written_again(
    source: Path, upscaled: Upscaled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, work = tmp_path / "out_%d.png", tmp_path / "out_%d.png.iconvsr"
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_atomically", crash_at("out_5.png", atomic.write_atomically))
        with pytest.raises(Crash):
            upscaled(source, output, speed=None)
    assert (work / "images.json").exists()
    assert (tmp_path / "out_4.png").exists()
    (tmp_path / "out_5.png.part").write_bytes(b"half")
    (tmp_path / "out_4.png").write_bytes(b"something else")
    summary = upscaled(source, output, speed=None)
    assert summary.upscaled == 0
    assert (tmp_path / "out_4.png").stat().st_size > 100
    assert len(list(tmp_path.glob("out_*.png*"))) == FRAMES
