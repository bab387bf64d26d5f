"""The doctor, given things that are really broken: the cause and the remedy that it reports."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vs_iconvsr import doctor, plan, weights
from vs_iconvsr.doctor import FAIL, OK, WARN, Check


@pytest.mark.needs_vapoursynth
def test_no_check_fails_where_everything_is_installed() -> None:
    found = doctor.checks()
    assert [check for check in found if check.status == FAIL] == []
    assert doctor.all_well(found)
    assert [check.name for check in found] == [
        "Python", "VapourSynth", "plugin", "core.iconvsr", "torch", "CUDA", "devices", "precision", "memory", "models"
    ]  # fmt: skip


@pytest.mark.needs_vapoursynth
def test_the_functions_of_the_plugin_are_named() -> None:
    assert "Upscale" in doctor.namespace_answers().detail


def test_a_truncated_plugin_is_named_with_the_loaders_error(tmp_path: Path) -> None:
    broken = tmp_path / "iconvsr.so"
    broken.write_bytes(b"\x7fELF broken")
    check = doctor.plugin_loads(broken)
    assert (check.name, check.status) == ("plugin", FAIL)
    assert check.detail == f"{broken} cannot be opened: {broken}: file too short"
    assert "pip install --force-reinstall" in check.remedy


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_plugin_with_a_missing_library_is_named_with_the_library(tmp_path: Path) -> None:
    compile_library(tmp_path, "int inner(void) { return 1; }", "libinner.so")
    broken = compile_library(tmp_path, "int inner(void); int outer(void) { return inner(); }", "iconvsr.so", "-linner")
    (tmp_path / "libinner.so").unlink()
    assert "libinner.so: cannot open shared object file" in doctor.plugin_loads(broken).detail


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_library_that_is_not_a_plugin_is_reported(tmp_path: Path) -> None:
    check = doctor.plugin_loads(compile_library(tmp_path, "int something = 1;", "iconvsr.so"))
    assert check.status == FAIL
    assert "VapourSynthPluginInit2 is missing" in check.detail


def compile_library(folder: Path, source: str, name: str, *options: str) -> Path:
    code = folder / f"{name}.c"
    code.write_text(source)
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / name), str(code), f"-L{folder}", *options]
    subprocess.run(command, check=True, capture_output=True)
    return folder / name


def test_a_missing_plugin_is_named(tmp_path: Path) -> None:
    check = doctor.plugin_loads(tmp_path / "iconvsr.so")
    assert check.status == FAIL
    assert "no such file" in check.detail


def test_a_core_without_the_plugin_reports_why_vapoursynth_refused_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vapoursynth

    class WithoutUs:
        std = vapoursynth.core.std

    broken = tmp_path / "iconvsr.so"
    broken.write_bytes(b"\x7fELF broken")
    monkeypatch.setattr(doctor, "import_module", lambda _: type("Module", (), {"core": WithoutUs()}))
    check = doctor.namespace_answers(broken)
    assert check.status == FAIL
    assert f"Failed to load {broken}" in check.detail
    assert "file too short" in check.detail


def test_an_old_python_fails_with_the_version_needed() -> None:
    check = doctor.python_version((3, 11, 4))
    assert (check.status, check.remedy) == (FAIL, "create an environment with Python 3.12")
    assert check.detail.startswith("3.11.4 on ")
    assert check.detail.endswith("expected 3.12 or newer")


def test_a_missing_vapoursynth_is_reported_with_the_import_error() -> None:
    check = doctor.vapoursynth_version("vapoursynth_that_is_not_there")
    assert check.status == FAIL
    assert "No module named 'vapoursynth_that_is_not_there'" in check.detail
    assert check.remedy == 'pip install "vapoursynth>=74"'


def test_a_torch_that_cannot_be_imported_fails_its_check_and_skips_those_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor.torch_version("broken_torch")
    assert (check.status, check.detail) == (
        FAIL,
        "cannot be imported: libcudart.so.13: cannot open shared object file",
    )
    monkeypatch.setattr(doctor, "torch_version", lambda: check)
    assert doctor.checks()[-1] == check


def test_the_doctor_runs_without_torch() -> None:
    code = "import sys; import vs_iconvsr.doctor; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout == "False\n"


def test_without_vapoursynth_the_namespace_check_points_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vapoursynth", None)
    assert doctor.namespace_answers().remedy == "see the VapourSynth check"
    assert doctor.plugin_loads().status == FAIL


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a working CUDA device")
def test_a_driver_that_torch_cannot_use_is_a_warning_with_both_versions(tmp_path: Path) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.1\nGCC version: 9\n")
    check = doctor.cuda(driver)
    assert check.status == WARN
    assert "Kernel Module  470.1, " in check.detail
    assert "CUDA" in check.detail
    assert check.remedy
    assert doctor.cuda(tmp_path / "absent").status == OK


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a working CUDA device")
def test_a_cpu_build_of_torch_beside_a_driver_is_a_warning_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    driver = tmp_path / "libcuda.so.1"
    driver.write_bytes(b"\x7fELF")
    check = doctor.cuda(tmp_path / "absent", driver)
    assert check.status == WARN
    assert f"{driver}, but torch {torch.__version__} is a build without CUDA: the CPU does the work" in check.detail
    assert "torch torchvision" in check.remedy


def test_float16_that_gives_numbers_is_fine_and_bfloat16_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = doctor.precision_on(torch.device("cpu"))
    assert (check.status, check.detail) == (OK, "cpu: float32, float16, bfloat16")
    monkeypatch.setattr(plan, "has_bfloat16", lambda _: False)
    assert doctor.precision_on(torch.device("cpu")).detail.endswith("no bfloat16: it is refused")


def test_float16_that_gives_nan_fails_with_the_option_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    conv2d = torch.conv2d

    def broken(features: torch.Tensor, weight: torch.Tensor, **options: int) -> torch.Tensor:
        nan = float("nan") if features.dtype == torch.float16 else 0.0
        return conv2d(features, weight, **options) + nan

    monkeypatch.setattr(torch, "conv2d", broken)
    check = doctor.precision_on(torch.device("cpu"))
    assert check.status == FAIL
    assert "float16 differ from float32 by nan" in check.detail
    assert "precision=float32" in check.remedy


def test_a_default_model_that_does_not_load_fails_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "DEFAULT_MODEL", "no_such_model")
    check = doctor.models()
    assert check.status == FAIL
    assert "got 'no_such_model'" in check.detail


def test_a_check_that_breaks_is_a_failed_check() -> None:
    def broken() -> Check:
        raise RuntimeError("the roof")

    check = doctor.run_check("roof", broken)
    assert (check.name, check.status, check.detail) == ("roof", FAIL, "RuntimeError: the roof")


def test_warnings_are_not_failures() -> None:
    assert doctor.all_well([Check("a", OK, ""), Check("b", WARN, "", "do")])
    assert not doctor.all_well([Check("a", OK, ""), Check("b", FAIL, "", "do")])


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="status: expected ok, warn or fail, got fine"):
        Check("a", "fine", "")


def test_the_checks_do_not_change_torchs_thread_count() -> None:
    code = "import torch; torch.set_num_threads(1); from vs_iconvsr import doctor; doctor.checks()"
    code += "; print(torch.get_num_threads())"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout == "1\n"
