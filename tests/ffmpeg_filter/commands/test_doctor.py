"""`iconvsr doctor`: what it says and its exit code, with vspipe and ffmpeg that are really broken."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ffmpeg_filter.commands import doctor as doctor_command
from ffmpeg_filter.media import ffmpeg as children
from ffmpeg_filter.media.ffmpeg import Executable
from vs_iconvsr import doctor
from vs_iconvsr.doctor import FAIL, OK, WARN, Check


def asked(*words: str) -> tuple[int, list[str]]:
    """The exit code and the lines of `iconvsr doctor WORDS`."""
    top = argparse.ArgumentParser()
    doctor_command.add_parser(top.add_subparsers())
    options, lines = top.parse_args(["doctor", *words]), []
    options.print_line = lines.append
    return options.run(options), lines


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the checks find; to be changed by a test."""
    found = [Check("Python", OK, "3.12")]
    monkeypatch.setattr(doctor, "checks", lambda: found)
    monkeypatch.setattr(doctor_command, "vspipe", lambda: Check("vspipe", OK, "fine"))
    monkeypatch.setattr(doctor_command, "ffmpeg_check", lambda named: Check("ffmpeg", OK, f"{named}"))
    return found


def test_a_line_for_each_finding_and_exit_code_0(findings: list[Check]) -> None:
    findings.append(Check("memory", WARN, "2 GiB", "pass memory="))
    assert asked("--ffmpeg", "mine") == (
        0,
        [
            "ok    Python: 3.12",
            "warn  memory: 2 GiB",
            "      → pass memory=",
            "ok    vspipe: fine",
            "ok    ffmpeg: mine",
        ],
    )


def test_a_failure_is_exit_code_1(findings: list[Check]) -> None:
    findings.append(Check("plugin", FAIL, "broken", "reinstall"))
    assert asked()[0] == 1


def test_json_holds_the_same(findings: list[Check]) -> None:
    findings.append(Check("plugin", FAIL, "broken", "reinstall"))
    code, lines = asked("--json")
    told = json.loads("\n".join(lines))
    assert (code, told["ok"]) == (1, False)
    assert told["checks"][1] == {"name": "plugin", "status": "fail", "detail": "broken", "remedy": "reinstall"}


@pytest.mark.needs_vapoursynth
def test_vspipe_of_this_environment_is_found_and_its_core_named(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(sys.prefix) / "bin"
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    check = doctor_command.vspipe()
    assert check.status == OK, check
    assert "Core R" in check.detail


@pytest.mark.needs_vapoursynth
def test_an_unconfigured_vspipe_fails_with_its_message_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    check = doctor_command.vspipe()
    assert check.status == FAIL, check
    assert "Failed to initialize VSScript" in check.detail
    assert check.remedy == f"{Path(sys.prefix) / 'bin' / 'vapoursynth'} config"


def test_another_vspipe_on_the_path_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        program(folder, "vspipe", "echo 'Core R81'")
    monkeypatch.setenv("PATH", f"{theirs}:/usr/bin:/bin")
    check = doctor_command.vspipe(ours)
    assert check.status == WARN
    assert str(theirs / "vspipe") in check.detail


def test_no_vspipe_is_a_warning(tmp_path: Path) -> None:
    assert doctor_command.vspipe(tmp_path).status == WARN


def test_a_vspipe_that_cannot_be_run_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "vspipe").write_text("not a program")
    check = doctor_command.vspipe(tmp_path)
    assert check.status == FAIL
    assert "Permission denied" in check.detail


@pytest.mark.needs_ffmpeg
def test_the_ffmpeg_that_upscale_would_use_is_named_with_its_origin() -> None:
    check = doctor_command.ffmpeg_check()
    assert check.status in (OK, WARN)
    assert " from " in check.detail


def test_an_ffmpeg_that_does_not_work_fails(tmp_path: Path) -> None:
    assert doctor_command.ffmpeg_check(str(tmp_path / "absent")).status == FAIL
    check = doctor_command.ffmpeg_check(str(program(tmp_path, "ffmpeg", "echo hello")))
    assert check.status == FAIL
    assert "got a program whose -version prints 'hello" in check.detail


@pytest.mark.needs_ffmpeg
def test_an_old_ffmpeg_is_a_warning_that_names_what_it_cannot_write(
    executable: Executable, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(executable, version="5.1.9", options=executable.options - {"display_rotation", "mastering_display"})
    monkeypatch.setattr(children, "find_executable", lambda _: old)
    found = doctor_command.ffmpeg_check()
    assert found.status == WARN
    assert "works, but cannot write rotation in .mkv and HDR10 metadata (except with x265)" in found.detail
    assert "5.1 is the oldest that works" in found.remedy


def test_an_ffmpeg_without_the_usual_encoders_is_a_warning(tmp_path: Path) -> None:
    check = doctor_command.ffmpeg_check(str(program(tmp_path, "ffmpeg", "echo 'ffmpeg version 7.1 Copyright'")))
    assert check.status == WARN
    assert "without libx264, libx265" in check.detail
