"""scripts/benchmark.py at its smallest: it runs, and what it writes can be read."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
benchmark = pytest.importorskip("benchmark")


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_an_exponent_is_that_of_the_power() -> None:
    assert benchmark.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


def test_the_engine_is_the_plain_network_within_60_db_and_both_are_measured() -> None:
    plain, engine = benchmark.speed_rows(benchmark.Case("BasicVSR-8x1", 16, 16, 2), torch.device("cpu"), 1)
    assert (plain.path, plain.speedup) == ("plain float32", 1.0)
    assert engine.psnr_db >= 60
    assert min(engine.ms_per_frame, engine.gflop_per_s, engine.cpu_speedup) > 0


def test_the_doors_are_measured_on_the_same_frames() -> None:
    settings = benchmark.Settings(segment=2, context=1, device="cpu", threads=1)
    found = benchmark.doors(benchmark.Case("light", 24, 16, 8), settings, programs=False, turns=1)
    assert list(found) == ["engine", "stream"]
    assert all(math.isfinite(spent.clock) for spent in found.values())  # differences of two runs: noise may win here


def test_a_door_takes_longer_than_the_steps_of_its_engine() -> None:
    settings = benchmark.Settings(segment=2, context=1, device="cpu", threads=1)
    found = benchmark.own_time(benchmark.Case("light", 24, 16, 4), settings, programs=False, turns=2)
    assert list(found) == ["stream"]
    assert found["stream"] > 1


def test_json_and_plot_are_written(tmp_path: Path) -> None:
    words = ["--quick", "--turns", "1", "--no-doors", "--device", "cpu", "--threads", "1"]
    words += ["--case", "BasicVSR-8x1:16x16:2", "--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "f.png")]
    assert benchmark.main(words) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert [row["path"] for row in found["rows"]] == ["plain float32", "engine float32"]
    assert found["machine"]["torch"] == torch.__version__
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
