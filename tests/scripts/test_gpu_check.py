"""scripts/gpu_check on the CPU: what is wrong is found, and what ends the run takes nothing along."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
gpu_check = pytest.importorskip("gpu_check")
from gpu_checking import guarantees, pixels, pressure, speed  # noqa: E402
from gpu_checking.machine import Machine, engine_frames  # noqa: E402
from gpu_checking.results import Check, Finding, Results, at_least, run_checks, within  # noqa: E402

HERE = {"device": "Alpha 1", "torch": "2.9"}
MACHINE = Machine(torch.device("cpu"), quick=True)
NAN = float("nan")


def check(name: str, run: Callable[[], Finding]) -> Check:
    return Check("stage", name, run)


def fine() -> Finding:
    return Finding(True, "fine")


def broken() -> Finding:
    raise ValueError("broken")


def written(path: Path) -> dict:
    return json.loads(path.read_text())["checks"]


def test_a_check_that_raises_loses_only_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    run_checks([check("one", broken), check("two", fine)], Results(file, HERE), limit_s=60)
    assert [(key, found["ok"]) for key, found in written(file).items()] == [("stage: one", False), ("stage: two", True)]
    assert written(file)["stage: one"]["detail"] == "ValueError: broken"
    assert "stage: one: FAILED: ValueError: broken" in capsys.readouterr().out


def test_the_file_is_written_after_every_check(tmp_path: Path) -> None:
    file = tmp_path / "found.json"

    def interrupted() -> Finding:
        assert written(file)["stage: one"]["ok"] is True
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_checks([check("one", fine), check("two", interrupted)], Results(file, HERE), limit_s=60)
    assert list(written(file)) == ["stage: one"]


def test_the_same_command_again_does_only_what_has_not_passed(tmp_path: Path) -> None:
    file, calls = tmp_path / "found.json", []

    def once_broken() -> Finding:
        calls.append("two")
        return Finding(len(calls) > 2, "")

    checks = [check("one", lambda: (calls.append("one"), fine())[1]), check("two", once_broken)]
    for _ in range(2):
        run_checks(checks, Results(file, HERE), limit_s=60)
    assert calls == ["one", "two", "two"]
    assert written(file)["stage: two"]["ok"] is True
    run_checks(checks[:1], Results(file, HERE), limit_s=60, again=True)
    assert calls[-1] == "one"


def test_a_check_that_ends_the_process_is_found_failed_and_not_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    Results(file, HERE).begin(check("one", fine))  # and here the process ends
    run_checks([check("one", broken), check("two", fine)], Results(file, HERE), limit_s=60)
    assert "the process ended in this check" in written(file)["stage: one"]["detail"]
    assert written(file)["stage: one"]["ok"] is False
    assert written(file)["stage: two"]["ok"] is True


def test_results_of_two_machines_are_not_mixed(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    run_checks([check("one", fine)], Results(file, HERE), limit_s=60)
    with pytest.raises(ValueError, match=r"expected results of Beta 2, .* got those of Alpha 1, .* --json"):
        Results(file, HERE | {"device": "Beta 2"})


def test_no_check_starts_after_the_limit(tmp_path: Path) -> None:
    run_checks([check("late", broken)], Results(tmp_path / "found.json", HERE), limit_s=-1)
    assert written(tmp_path / "found.json")["stage: late"]["ok"] is None


@pytest.mark.parametrize("finding", [within(NAN, 1.0, "difference"), at_least(NAN, 60.0, "PSNR")])
def test_nan_fails_and_can_be_written(tmp_path: Path, finding: Finding) -> None:
    assert finding.ok is False
    run_checks([check("nan", lambda: finding)], Results(tmp_path / "found.json", HERE), limit_s=60)
    assert written(tmp_path / "found.json")["stage: nan"]["figures"] == {"value": "nan"}


def with_nan(*arguments: object, **options: object) -> torch.Tensor:
    hr = engine_frames(*arguments, **options)  # type: ignore[arg-type]
    hr[0, 0, 0, 0] = NAN
    return hr


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_one_nan_in_one_frame_fails_the_golden(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    def at_float32(*arguments: object, precision: str) -> torch.Tensor:
        del precision  # the CPU has no other
        return with_nan(*arguments)

    monkeypatch.setattr(pixels, "engine_frames", at_float32)
    finding = pixels.check_golden(MACHINE, pixels.FIRST_GOLDEN, precision)
    assert finding.ok is False
    assert "nan" in finding.detail


def test_another_network_fails_the_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    other = (lambda: pixels.BasicVSR(mid_channels=16, num_blocks=1), 64, 64)
    monkeypatch.setitem(pixels.GOLDENS, pixels.FIRST_GOLDEN, other)
    assert pixels.check_golden(MACHINE, pixels.FIRST_GOLDEN, "float32").ok is False


def test_a_memory_strategy_that_changes_a_byte_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine_frames(MACHINE, pixels.small_network(MACHINE), pixels.sequence(1, 16, 16)[0])

    def other_bytes(*_: object, strategy: str = "keep", **__: object) -> torch.Tensor:
        return made + (strategy == "recompute")

    monkeypatch.setattr(pixels, "engine_frames", other_bytes)
    assert pixels.check_strategies(MACHINE, "float32").detail == "recompute gives other bytes than keep"
    monkeypatch.setattr(pixels, "engine_frames", lambda *_, **__: made * NAN)
    assert pixels.check_strategies(MACHINE, "float32").ok is False


def test_a_second_process_that_makes_other_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, stdout="other\n", stderr="")
    monkeypatch.setattr(pixels.subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr(pixels, "engine_hash", lambda *_: "this")
    assert pixels.check_second_process(MACHINE, "float32").ok is False


def test_switches_that_the_engine_does_not_set_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pixels.check_switches(MACHINE).ok is True
    wrong = [(torch.backends.cudnn, "benchmark", True)]
    monkeypatch.setattr(pixels, "exact_switches", lambda: wrong)
    assert pixels.check_switches(MACHINE).ok is False


def test_the_guarantees_hold() -> None:
    assert guarantees.check_both_frontends(MACHINE).ok is True


@pytest.mark.parametrize("family", ["YUV", "RGB"])
def test_a_conversion_that_is_two_codes_off_is_found(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    assert pixels.check_conversion(MACHINE, family).ok is True
    right, calls = pixels.colorspace.from_rgb, []

    def second_is_off(*arguments: object) -> tuple[torch.Tensor, ...]:
        calls.append(arguments)
        planes = right(*arguments)  # type: ignore[arg-type]
        return tuple((plane.int() + 2 * (len(calls) % 2 == 0)).to(plane.dtype) for plane in planes)

    monkeypatch.setattr(pixels.colorspace, "from_rgb", second_is_off)
    assert pixels.check_conversion(MACHINE, family).ok is False


def test_checks_that_need_a_gpu_say_so() -> None:
    assert pressure.check_out_of_memory(MACHINE).ok is None
    assert speed.check_step_memory(MACHINE, speed.QUICK[0]).ok is None


def test_a_lever_that_cannot_be_prepared_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> object:
        raise RuntimeError("no compiler")
        yield

    monkeypatch.setattr(speed, "on_the_cpu", fails)
    preparation, planes = speed.levers(MACHINE)
    assert (preparation.run().ok, preparation.run().detail) == (False, "RuntimeError: no compiler")
    assert planes.run().ok is None  # a GPU's, but it is not lost


def test_without_a_gpu_it_stops_with_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["smoke"]) == 2
    assert "expected a GPU" in capsys.readouterr().out


def test_a_foreign_package_of_the_name_tests_does_not_hide_ours(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    code = "import tests.vs_iconvsr.data; print(tests.__file__)"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert answer.stdout.strip() == str(ROOT / "tests" / "__init__.py"), answer.stderr


@pytest.mark.long
@pytest.mark.parametrize("stage", list(gpu_check.STAGES))
def test_every_stage_runs_here_and_is_written(tmp_path: Path, stage: str) -> None:
    file = tmp_path / "found.json"
    assert gpu_check.main([stage, "--device", "cpu", "--quick", "--json", str(file)]) == 0
    assert all(found["ok"] is not False for found in written(file).values())
    assert any(found["ok"] for found in written(file).values())
