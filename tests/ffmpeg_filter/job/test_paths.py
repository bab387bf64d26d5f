import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ffmpeg_filter.job.paths import check_output
from vs_iconvsr import system


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., None]:
    """checked("out.mkv"): whether tmp_path/out.mkv can be written, made from tmp_path/in.mkv."""
    (tmp_path / "in.mkv").write_text("video")

    def check(name: str, *, overwrite: bool = False) -> None:
        output = tmp_path / name
        check_output(output, tmp_path / "in.mkv", work=output.with_name(output.name + ".iconvsr"), overwrite=overwrite)

    return check


def test_a_new_name_may_be_written(checked: Callable[..., None]) -> None:
    checked("out.mkv")
    checked("x" * 243 + ".mkv")


def test_a_name_must_leave_room_for_that_of_the_work_directory(checked: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="output: expected a name of at most 247 bytes, got 248"):
        checked("x" * 244 + ".mkv")
    with pytest.raises(ValueError, match="at most 247 bytes, got 304"):
        checked("ü" * 150 + ".mkv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in.mkv", "expected another file than the input, got the same"),
        ("no/out.mkv", r"expected an existing folder, got .*/no; create it first: mkdir -p"),
        ("there.mkv", r"expected a new file, got one that exists: .*there\.mkv; pass --overwrite"),
        ("folder", r"expected a file name, got a folder: .*folder; name the file: .*folder/OUT\.mkv"),
        ("fifo.mkv", r"expected a file name, got a pipe or a device: .*fifo\.mkv; see iconvsr pipe"),
        ("blocked.mkv", r"expected .*blocked\.mkv\.iconvsr for the parts, got a file of that name; move it away"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_with_the_reason(
    checked: Callable[..., None], tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "there.mkv").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo.mkv")
    (tmp_path / "blocked.mkv.iconvsr").touch()
    with pytest.raises(ValueError, match=message):
        checked(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "aux.mkv",
            "output: expected a name that is not one of Windows' devices, got 'aux.mkv', which means AUX; choose",
        ),
        ("a:b.mkv", "output: expected a name without any of .*, got ':' in 'a:b.mkv'; choose another"),
    ],
)
def test_a_name_that_windows_gives_another_meaning_is_refused_there(
    checked: Callable[..., None], monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr(system, "name_problem", partial(system.name_problem, windows=True))
    with pytest.raises(ValueError, match=message):
        checked(name)
    checked("out.mkv")


def test_an_output_is_replaced_with_overwrite_or_after_a_killed_run_finished_it(
    checked: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "there.mkv").touch()
    checked("there.mkv", overwrite=True)
    (tmp_path / "there.mkv.iconvsr").mkdir()
    (tmp_path / "there.mkv.iconvsr" / "finished.json").touch()
    checked("there.mkv")
