"""The lowest versions that pyproject.toml claims are those of tests/lowest.txt, and our tests pass with them."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
TESTED_EXTRAS = ("command", "train", "cluster")
FROM_DEV = ("scikit-image",)  # needs numpy itself: its bound must allow our lowest


def claimed() -> dict[str, Version]:
    """Name: the lowest version, of all that is required for building, for running and by the tested extras on Linux."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    extras = project["project"]["optional-dependencies"]
    lines += [line for extra in TESTED_EXTRAS for line in extras[extra]]
    lines += [line for line in extras["dev"] if Requirement(line).name in FROM_DEV]
    found = {}
    for requirement in map(Requirement, lines):
        here = requirement.marker is None or requirement.marker.evaluate({"sys_platform": "linux"})
        if here and requirement.name != "vapoursynth-iconvsr":
            (bound,) = [part.version for part in requirement.specifier if part.operator == ">="]
            found[requirement.name] = Version(bound)
    return found


def test_the_constraints_are_the_lower_bounds_of_pyproject() -> None:
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    # torchvision 0.21 goes with torch 2.6, and so on: equal as versions, 2.6 == 2.6.0
    assert {name: Version(version) for name, version in pinned.items()} == claimed()


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_the_tests_pass_with_the_lowest_versions() -> None:
    script = subprocess.run([ROOT / "scripts" / "test_lowest"], capture_output=True, text=True, check=False)
    assert script.returncode == 0, script.stdout[-4000:] + script.stderr[-2000:]
