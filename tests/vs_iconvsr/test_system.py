import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vs_iconvsr import locks, system


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("aux.mkv", "that is not one of Windows' devices, got 'aux.mkv', which means AUX"),
        ("Com1 .tar.gz", "that is not one of Windows' devices, got 'Com1 .tar.gz', which means COM1"),
        ("a:b.mkv", "without any of < > : \" / \\ | ? *, got ':' in 'a:b.mkv'"),
        ("what?.mkv", "without any of < > : \" / \\ | ? *, got '?' in 'what?.mkv'"),
        ("a\tb.mkv", "without any of < > : \" / \\ | ? *, got '\\t' in 'a\\tb.mkv'"),
        ("out.mkv.", "that does not end in a dot or a space, got 'out.mkv.'"),
    ],
)
def test_a_name_that_windows_would_take_for_something_else_is_a_problem_there_only(name: str, problem: str) -> None:
    assert system.name_problem(name, windows=True) == problem
    assert system.name_problem(name, windows=False) == ""


@pytest.mark.parametrize("name", ["out.mkv", "auxiliary.mkv", "com10.mkv", "ü × √.mkv", ".hidden", "a (1) & b.mkv"])
def test_other_names_are_none(name: str) -> None:
    assert system.name_problem(name, windows=True) == ""


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        (r"C:\films\in.mkv", r"C:\films\in.mkv"),
        (r"C:\my films\in.mkv", r'"C:\my films\in.mkv"'),
        ("a&b.mkv", '"a&b.mkv"'),
        ("in(1).mkv", '"in(1).mkv"'),
        ("range=1,scale=2", '"range=1,scale=2"'),
        ("a&b\\", r'"a&b\\"'),
        ('say "hi"', r'"say \"hi\""'),
        ('"', r'"\""'),
        ("", '""'),
        ("it's", '"it\'s"'),
    ],
)
def test_a_word_is_quoted_for_windows_by_the_rules_of_its_c_runtime(word: str, typed: str) -> None:
    assert system.command_line([word], windows=True) == typed


def test_a_command_is_quoted_for_the_system_at_hand() -> None:
    words = ["ffmpeg", "-i", "my film.mkv"]
    assert system.command_line(words, windows=True) == 'ffmpeg -i "my film.mkv"'
    assert system.command_line(words, windows=False) == "ffmpeg -i 'my film.mkv'"


def test_remedies_are_those_of_the_system() -> None:
    folder = Path("my films")
    assert system.remedy_for_missing_folder(folder, windows=True) == 'mkdir "my films"'
    assert system.remedy_for_missing_folder(folder, windows=False) == "mkdir -p my films"
    assert system.remedy_for_path(folder, windows=True) == "set PATH=my films;%PATH%"
    assert system.remedy_for_path(folder, windows=False) == 'PATH="my films:$PATH"'
    assert system.program_name("vspipe", windows=True) == "vspipe.exe"


def test_this_machine_has_memory_and_cores() -> None:
    assert 0 < system.occupied_memory_bytes() < system.usable_memory_bytes() <= system.total_memory_bytes()
    assert 1 <= system.usable_cores() <= (os.cpu_count() or 1)


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "lock"):
        for others in (locks.hold(tmp_path / "lock"), locks.share(tmp_path / "lock")):
            with pytest.raises(BlockingIOError), others:
                pass
    with locks.hold(tmp_path / "lock", wait=True):
        pass


def test_a_shared_lock_keeps_out_only_who_wants_to_hold_it(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    refused = locks.hold(tmp_path / "lock", ValueError("taken"))
    with (
        locks.share(tmp_path / "lock"),
        locks.share(tmp_path / "lock"),
        pytest.raises(ValueError, match="taken"),
        refused,
    ):
        pass
    with locks.hold(tmp_path / "lock"):
        pass


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from vs_iconvsr import locks\n"
        "with locks.hold(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read(1); os._exit(1)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(BlockingIOError), locks.hold(tmp_path / "lock"):
            pass
        other.communicate(b"x")
    with locks.hold(tmp_path / "lock"):
        pass


SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(9); print('late')"]


@pytest.mark.parametrize("end", [system.ask_group_to_end, system.kill_group])
def test_a_group_ends_with_what_it_has_started(end: object) -> None:
    if sys.platform == "win32" and end is system.ask_group_to_end:
        pytest.skip("needs a console, which Wine gives nobody here")
    inner = f"import subprocess; subprocess.run({SLEEP!r})"
    process = started([sys.executable, "-c", inner])
    assert callable(end)
    end(process)
    assert process.wait(10) != 0
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read() == b""  # not "late": what it has started has ended, too


def test_a_program_may_have_ended_before_it_is_killed() -> None:
    process = started([sys.executable, "-c", "print('up')"])
    assert process.stdout is not None
    with process.stdout:
        process.wait(10)
    with pytest.raises(ProcessLookupError):
        system.kill_group(process)


def started(command: list[str]) -> "subprocess.Popen[bytes]":
    null = subprocess.DEVNULL
    process = system.start_group(command, stdin=null, stdout=subprocess.PIPE, stderr=null, environment=None)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"up"
    return process


def test_the_limits_of_a_job_object_are_as_large_as_windows_expects() -> None:
    """The structure that _job() writes as 36 words, spelled out."""

    class Basic(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", ctypes.c_uint32),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", ctypes.c_uint32),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", ctypes.c_uint32),
            ("SchedulingClass", ctypes.c_uint32),
        )

    class Extended(ctypes.Structure):
        _fields_ = (("basic", Basic), ("io", ctypes.c_uint64 * 6), ("memory", ctypes.c_size_t * 4))

    assert ctypes.sizeof(Extended) == 36 * 4
    assert Basic.LimitFlags.offset == 4 * 4


@pytest.mark.skipif(sys.platform == "win32", reason="begins where descriptors are shared")
def test_pyav_gets_a_file_where_the_number_of_a_descriptor_means_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    with reading, writing:
        assert system.for_pyav(writing) == f"pipe:{writing.fileno()}"
        monkeypatch.setattr(system, "DESCRIPTORS_ARE_SHARED", False)
        assert system.for_pyav(writing) is writing
        writing.write(b"all there is")
        writing.flush()
        assert system.for_pyav(reading).read(1 << 15) == b"all there is"
