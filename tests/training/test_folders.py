"""Two commands never write to one folder; data that is read is not replaced."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.folders import reading, writing
from training.loop.run_options import TrainingError


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that writes to the folder until it is killed."""
    program = (
        "import sys; from pathlib import Path; from training.folders import writing\n"
        "with writing(Path(sys.argv[1])): print('here', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_of_two_commands_is_refused_while_the_first_runs(
    tmp_path: Path, other: "subprocess.Popen[bytes]"
) -> None:
    with pytest.raises(TrainingError, match="expected a folder that no other command uses"), writing(tmp_path):
        pass
    with pytest.raises(TrainingError, match="got a folder that is being written"), reading(tmp_path):
        pass
    other.kill()
    other.wait()
    with writing(tmp_path):
        pass


def test_many_read_and_nobody_writes_meanwhile(tmp_path: Path) -> None:
    with writing(tmp_path):
        pass
    with reading(tmp_path), reading(tmp_path), pytest.raises(TrainingError), writing(tmp_path):
        pass


def test_data_of_others_gets_no_lock_file(tmp_path: Path) -> None:
    with reading(tmp_path):
        assert not list(tmp_path.iterdir())
