"""scripts/benchmark.py with tiny networks: it runs, and what it writes can be read."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
benchmark = pytest.importorskip("benchmark")
from benchmarking.cases import Case  # noqa: E402
from benchmarking.frontends import frontends, own_time  # noqa: E402
from benchmarking.speed import exponent, speed_rows  # noqa: E402

from vs_iconvsr.plan import Settings  # noqa: E402


@pytest.fixture(autouse=True)
def unchanged_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_exponent_of_a_power_is_found() -> None:
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


def test_the_engine_is_the_plain_network_within_60_db_and_both_are_measured() -> None:
    plain, engine = speed_rows(Case("BasicVSR-8x1", 16, 16, 2), torch.device("cpu"), 1)
    assert (plain.path, plain.speedup) == ("plain float32", 1.0)
    assert engine.psnr_db >= 60
    assert min(engine.ms_per_frame, engine.gflop_per_s, engine.cpu_speedup) > 0


def test_the_engine_and_the_stream_are_measured_on_the_same_frames() -> None:
    settings = Settings(segment=2, context=1, device="cpu", threads=1)
    found = frontends(Case("light", 24, 16, 8), settings, programs=False, turns=1)
    assert list(found) == ["engine", "stream"]
    assert all(math.isfinite(elapsed.clock) for elapsed in found.values())  # differences of two runs may be negative


def test_a_frontend_takes_longer_than_the_steps_of_its_engine() -> None:
    settings = Settings(segment=2, context=1, device="cpu", threads=1)
    found = own_time(Case("light", 24, 16, 4), settings, programs=False, turns=2)
    assert list(found) == ["stream"]
    assert found["stream"] > 1


def test_json_and_plot_are_written(tmp_path: Path) -> None:
    arguments = ["--quick", "--turns", "1", "--no-frontends", "--device", "cpu", "--threads", "1"]
    arguments += [
        "--case",
        "BasicVSR-8x1:16x16:2",
        "--json",
        str(tmp_path / "f.json"),
        "--plot",
        str(tmp_path / "f.png"),
    ]
    assert benchmark.main(arguments) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert [row["path"] for row in found["rows"]] == ["plain float32", "engine float32"]
    assert found["machine"]["torch"] == torch.__version__
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
