"""scripts/gpu_check.py on the CPU: its checks run here too, and one that fails makes the script fail."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
gpu_check = pytest.importorskip("gpu_check")


@pytest.fixture(scope="module")
def machine():
    return gpu_check.DeviceInfo(torch.device("cpu"), quick=True)


def test_the_goldens_pass(machine) -> None:
    ok, detail = gpu_check.check_goldens(machine, "float32")
    assert ok, detail


def test_a_wrong_network_fails_the_goldens(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(gpu_check.GOLDENS))
    monkeypatch.setitem(gpu_check.GOLDENS, name, (lambda: gpu_check.BasicVSR(mid_channels=16, num_blocks=1), 64, 64))
    ok, detail = gpu_check.check_goldens(machine, "float32")
    assert not ok
    assert name in detail


def test_both_guarantees_hold(machine) -> None:
    for check in (gpu_check.check_guarantee_1, gpu_check.check_guarantee_2):
        ok, detail = check(machine)
        assert ok, detail


def test_the_out_of_memory_check_needs_a_gpu(machine) -> None:
    assert gpu_check.check_out_of_memory(machine)[0] is None


def test_failed_and_late_checks_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> tuple[bool, str]:
        raise ValueError("broken")

    results = gpu_check.run_all({"one": fails, "two": lambda: (True, "fine")}, 60)
    assert [(r.ok, r.detail) for r in results] == [(False, "ValueError: broken"), (True, "fine")]
    assert gpu_check.run_all({"late": fails}, -1)[0].ok is None
    assert "one: FAILED: ValueError: broken" in capsys.readouterr().out


def test_without_a_gpu_it_stops_with_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "expected a GPU" in capsys.readouterr().out


@pytest.mark.long
def test_all_checks_pass_and_are_written(tmp_path: Path) -> None:
    assert gpu_check.main(["--device", "cpu", "--quick", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert {check["check"]: check["ok"] for check in found["checks"]}["guarantee 1"] is True
