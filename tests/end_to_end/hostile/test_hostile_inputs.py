"""Damaged and lying files: each run ends with success or with one line that names the fault; never worse.

The cases are numbered, and a number always gives the same case. HOSTILE=300-999 runs these instead, HOSTILE=7 one.
"""

import os
import re
import tempfile
from pathlib import Path
from random import Random

import pytest

from ffmpeg_filter.media.ffmpeg import find_executable
from ffmpeg_filter.media.probe import probe
from tests.end_to_end.hostile.attacks import OPTIONS, WAYS, Attack, Attempt
from tests.end_to_end.hostile.confined import LIMIT_BYTES, LIMIT_S, run_command
from tests.end_to_end.hostile.samples import SOURCE, Samples, make_samples
from vs_iconvsr.networks.propagation import VideoNetwork

pytestmark = pytest.mark.needs_ffmpeg

FEW, MANY = 24, 300

# The last line: a file or an option, what is wrong with it.
CLEAR = re.compile(r"^(iconvsr|FAILED): [^\s'\":\[\]]+: \S.*\n\Z", re.MULTILINE)


@pytest.fixture(scope="module")
def samples(tiny_network: VideoNetwork, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return make_samples(find_executable().path, tiny_network, tiny_model, tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def shelf(samples: Samples, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one video; beside it `out`, the output folder of a finished queue."""
    folder = tmp_path_factory.mktemp("queue")
    (folder / "shelf").mkdir()
    (folder / "shelf" / SOURCE).write_bytes(samples.videos[SOURCE])
    words = ["upscale", str(folder / "shelf"), "--output-dir", str(folder / "out"), "--model", str(tiny_model)]
    ended = run_command([*words, *OPTIONS], folder)
    assert ended.code == 0, ended.errors
    return folder / "shelf"


def fault_of(attempt: Attempt) -> str:
    """What is wrong with how the attempt ended; "" if nothing is."""
    ended = attempt.ended
    if ended.code is None:
        over = ended.peak_bytes > LIMIT_BYTES
        return f"took more than {LIMIT_BYTES / 2**30:g} GiB" if over else f"took more than {LIMIT_S:g} s"
    if ended.code not in (0, 1):
        return f"ended with {ended.code}"
    if "Traceback" in ended.errors or re.search(r"unexpected \w+:", ended.errors):
        return "an error that nobody expected"
    if ended.code == 1 and not CLEAR.search(ended.errors):
        return "the last line does not name the fault"
    return _fault_of_output(attempt)


def _fault_of_output(attempt: Attempt) -> str:
    if attempt.output is None:
        return ""
    if attempt.ended.code == 1:
        return "an output under its final name" if attempt.output.exists() else ""
    if attempt.output.with_name(attempt.output.name + ".iconvsr").exists():
        return "a work directory after success"
    return "" if attempt.output.exists() and probe(attempt.output).num_frames else "no output"


def attempt_of(number: int, samples: Samples, shelf: Path, model: Path) -> str:
    """Runs a case in a folder that is deleted afterwards. The fault, with all that is needed to look at it."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        attack = Attack(samples, model, shelf, shelf.with_name("out"), Path(name), Random(number))
        attempt = WAYS[number % len(WAYS)](attack)
        fault = fault_of(attempt)
        return f"case {number}, {attempt.description}: {fault}\n{attempt.ended.errors[-2000:]}" if fault else ""


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_hostile_inputs_end_with_success_or_one_clear_line(
    samples: Samples, shelf: Path, tiny_model: Path, cases: int
) -> None:
    first, _, last = os.environ.get("HOSTILE", f"0-{cases - 1}").partition("-")
    numbers = range(int(first), int(last or first) + 1)
    faults = [fault for number in numbers if (fault := attempt_of(number, samples, shelf, tiny_model))]
    assert not faults, "\n\n".join(faults)
