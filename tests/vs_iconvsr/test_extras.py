"""A missing package is reported with the extra that brings it; what does not need it goes on working."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vs_iconvsr.extras import DISTRIBUTION, MissingExtraError, with_extra_named

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
COMMAND = ("av", "ffmpeg", "imageio_ffmpeg", "rich")


def run_without(modules: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """`code` in a Python that cannot import `modules`, as where they are not installed."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, timeout=120, check=False)


def run_command_without(modules: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_without(
        modules, f"from ffmpeg_filter.cli import main\nsys.argv[1:] = {list(arguments)!r}\nsys.exit(main())"
    )


def test_the_distribution_is_the_one_that_pyproject_names() -> None:
    assert PROJECT["name"] == DISTRIBUTION


@pytest.mark.parametrize(("module", "package"), [("av", "av"), ("yaml", "pyyaml"), ("ray", "ray"), ("PIL", "pillow")])
def test_the_extra_that_is_named_brings_the_package(module: str, package: str) -> None:
    named = with_extra_named(ModuleNotFoundError(name=f"{module}.part"))
    assert isinstance(named, MissingExtraError)
    extra = str(named).partition("[")[2].partition("]")[0]
    assert str(named) == f'{module}: expected this Python package, found none; pip install "{DISTRIBUTION}[{extra}]"'
    assert any(wanted.startswith((f"{package}>", f"{package}[")) for wanted in PROJECT["optional-dependencies"][extra])


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="torch"), ImportError("av is damaged", name="av")])
def test_other_import_errors_stay_as_they_are(error: ImportError) -> None:
    assert with_extra_named(error) is error


def test_the_filter_needs_no_extra() -> None:
    modules = (*COMMAND, "yaml", "PIL", "ray", "tensorboard")
    done = run_without(modules, "import vs_iconvsr.plugin.upscale, vs_iconvsr.plugin.functions, vs_iconvsr.doctor")
    assert done.returncode == 0, done.stderr


def test_a_command_without_its_extra_names_the_line_to_type() -> None:
    done = run_command_without(COMMAND, "upscale", "in.mkv", "out.mkv")
    assert done.returncode == 1
    assert done.stderr == (
        f'iconvsr: av: expected this Python package, found none; pip install "{DISTRIBUTION}[command]"\n'
    )


def test_models_are_listed_without_the_extra_of_the_command() -> None:
    done = run_command_without(COMMAND, "models", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "light-bi" in done.stdout


def test_training_without_its_extra_names_the_line_to_type() -> None:
    done = run_without(("yaml",), "import runpy; runpy.run_module('training', run_name='__main__')")
    assert done.returncode == 1
    assert done.stderr == (
        f'training: yaml: expected this Python package, found none; pip install "{DISTRIBUTION}[train]"\n'
    )
