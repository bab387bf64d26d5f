"""scripts/release.py: what keeps a release from being made is named, and a tag is made only where nothing is."""

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
release = pytest.importorskip("release")

PYPROJECT = """
[project]
name = "vapoursynth-iconvsr"
version = "1.2.3"
license = "Apache-2.0"
[tool.scikit-build]
cmake.source-dir = "vs_iconvsr/plugin/native"
wheel.exclude = ["vs_iconvsr/plugin/native"]
sdist.exclude = [".ci"]
[tool.scikit-build.wheel.packages]
vs_iconvsr = "vs_iconvsr"
"vs_iconvsr/training" = "training"
"""
INFORMATION = "vapoursynth_iconvsr-1.2.3.dist-info"
WHEEL = "vapoursynth_iconvsr-1.2.3-cp312-abi3-linux_x86_64.whl"

Change = Callable[[Path], object]


def git(root: Path, *words: str) -> str:
    return release.git(root, "-c", "user.name=A", "-c", "user.email=a@localhost", *words)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository of the shape of ours, of which 1.2.3 can be released."""
    root = tmp_path / "checkout"
    texts = {
        "pyproject.toml": PYPROJECT,
        "LICENSE": "terms",
        "CHANGELOG.md": "# Changes\n\n## 1.2.3 (2026-12-01)\n\n- It is\n  faster.\n\n## 1.2.2 (2026-11-01)\n\n- Old.\n",
        "docs/licenses.md": "| files | origin |\n|---|---|\n| `vs_iconvsr/weights/bundled/*.safetensors` | ours |\n",
        ".ci/run": "",
        "training/fit.py": "STEPS = 20\n",
        "vs_iconvsr/plan.py": "SEGMENT = 30\n",
        "vs_iconvsr/plugin/native/manifest.vs": "iconvsr",
        "vs_iconvsr/plugin/native/CMakeLists.txt": "project(iconvsr VERSION ${SKBUILD_PROJECT_VERSION} LANGUAGES C)\n",
        "vs_iconvsr/weights/bundled/small.md": "# small\n\nLightVSR, x4. License: Apache-2.0.\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    weights = root / "vs_iconvsr" / "weights" / "bundled" / "small.safetensors"
    # 255: no text in UTF-8
    save_file({"weight": np.full(9, 255, np.uint8)}, weights, metadata={"licence": "Apache-2.0"})
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", root], check=True)
    commit(root)
    return root


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=All of it")


@pytest.fixture
def built(checkout: Path, tmp_path: Path) -> Path:
    """The folder of a wheel and a source distribution that hold what they should."""
    folder = tmp_path / "dist"
    folder.mkdir()
    names = {
        "vs_iconvsr/plan.py": "vs_iconvsr/plan.py",
        "vs_iconvsr/training/fit.py": "training/fit.py",
        "vs_iconvsr/weights/bundled/small.md": "vs_iconvsr/weights/bundled/small.md",
        "vs_iconvsr/weights/bundled/small.safetensors": "vs_iconvsr/weights/bundled/small.safetensors",
        "vapoursynth/plugins/iconvsr/manifest.vs": "vs_iconvsr/plugin/native/manifest.vs",
        f"{INFORMATION}/licenses/LICENSE": "LICENSE",
    }
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, path in names.items():
            wheel.write(checkout / path, name)
        wheel.writestr("vapoursynth/plugins/iconvsr/iconvsr.so", b"\x7fELF")
        wheel.writestr(f"{INFORMATION}/METADATA", "Name: vapoursynth-iconvsr\nLicense-Expression: Apache-2.0\n")
        wheel.writestr(f"{INFORMATION}/RECORD", "")
    with tarfile.open(folder / "vapoursynth_iconvsr-1.2.3.tar.gz", "w:gz") as source:
        for path in git(checkout, "ls-files").splitlines():
            if not path.startswith(".ci"):
                source.add(checkout / path, f"vapoursynth_iconvsr-1.2.3/{path}")
        source.addfile(tarfile.TarInfo("vapoursynth_iconvsr-1.2.3/PKG-INFO"), io.BytesIO())
    return folder


def replaced(name: str, old: str, new: str) -> Change:
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new))


def written(name: str, data: bytes = b"\xff\xfe\x00") -> Change:
    return lambda root: (root / name).write_bytes(data)


def test_a_checkout_in_order_can_be_released(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["source"], root=checkout) == 0
    assert capsys.readouterr().out == "release: source: 1.2.3 can be released\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("pyproject.toml", "1.2.3", "1.2"), "expected a version like 1.2.3, got '1.2'"),
        (
            replaced("vs_iconvsr/plan.py", "30", "'1.2.3'"),
            "plan.py: expected the version in pyproject.toml only",
        ),
        (
            replaced("vs_iconvsr/plugin/native/CMakeLists.txt", "${SKBUILD_PROJECT_VERSION}", "1.0"),
            "CMakeLists.txt: expected project(… VERSION ${SKBUILD_PROJECT_VERSION})",
        ),
        (
            replaced("CHANGELOG.md", "(2026-12-01)", "(unreleased)"),
            "expected '## 1.2.3 (YYYY-MM-DD)' as the newest",
        ),
        (replaced("CHANGELOG.md", "- It is\n  faster.\n", ""), "expected what is new in 1.2.3, got an empty section"),
        (
            replaced("vs_iconvsr/weights/bundled/small.md", "Apache-2.0", "MIT"),
            "small.safetensors: expected a card with 'License: Apache-2.0' as in the file, got MIT",
        ),
        (lambda root: (root / "vs_iconvsr/weights/bundled/small.md").unlink(), "as in the file, got none"),
        (written("picture.png"), "picture.png: expected its origin and terms in docs/licenses.md, got none"),
        (
            replaced("docs/licenses.md", "bundled/*", "elsewhere/*"),
            "expected files for `vs_iconvsr/weights/elsewhere",
        ),
    ],
    ids=lambda value: None if callable(value) else value[:30],
)
def test_what_keeps_it_from_being_released_is_named(
    checkout: Path, change: Change, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(checkout)
    commit(checkout)
    assert release.main(["source"], root=checkout) == 1
    assert message in capsys.readouterr().err


def test_another_branch_a_change_and_an_old_version_are_named(checkout: Path) -> None:
    git(checkout, "tag", "v1.10.0")
    git(checkout, "switch", "--quiet", "--create", "other")
    (checkout / "new").touch()
    assert [re.sub(";.*", "", problem) for problem in release.source_problems(checkout)] == [
        "git: expected a clean tree, got changes",
        "git: expected main, got other",
        "pyproject.toml: expected a version above the tag v1.10.0, got 1.2.3",
    ]


def test_a_pushed_tag_must_be_the_version(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.3")
    assert release.source_problems(checkout, pushed="v1.2.3") == []
    assert release.source_problems(checkout, pushed="v1.2.4") == [
        "git: expected the tag v1.2.3, as pyproject.toml states, got v1.2.4"
    ]


def test_the_tag_is_annotated_with_the_changes(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_NAME", "A")
        monkeypatch.setenv(f"GIT_{kind}_EMAIL", "a@localhost")
    assert release.main(["tag"], root=checkout) == 0
    assert "made v1.2.3; to publish it: git push origin v1.2.3" in capsys.readouterr().out
    assert git(checkout, "cat-file", "-t", "v1.2.3") == "tag"
    message = git(checkout, "for-each-ref", "--format=%(contents)", "refs/tags/v1.2.3")
    assert message == "vapoursynth-iconvsr 1.2.3\n\n- It is\n  faster."
    assert release.main(["tag"], root=checkout) == 1  # once
    assert "expected a version above the tag v1.2.3" in capsys.readouterr().err


def test_no_tag_is_made_of_what_is_not_in_order(checkout: Path) -> None:
    (checkout / "new").touch()
    assert release.main(["tag"], root=checkout) == 1
    assert git(checkout, "tag") == ""


def test_built_files_that_hold_what_git_holds_are_in_order(checkout: Path, built: Path) -> None:
    assert release.file_problems(checkout, built) == []


def test_built_files_that_hold_more_less_or_else_are_named(checkout: Path, built: Path) -> None:
    (checkout / "vs_iconvsr" / "plan.py").write_text("SEGMENT = 31\n")
    (checkout / "training" / "fit.py").rename(checkout / "training" / "train.py")
    commit(checkout)
    source = "vapoursynth_iconvsr-1.2.3.tar.gz"
    assert release.file_problems(checkout, built) == [
        f"{WHEEL}: expected vs_iconvsr/training/train.py, got none",
        f"{WHEEL}: expected nothing but what git holds, got vs_iconvsr/training/fit.py",
        f"{WHEEL}: vs_iconvsr/plan.py: expected the bytes of vs_iconvsr/plan.py, got others; build again",
        f"{source}: expected training/train.py, got none",
        f"{source}: expected nothing but what git holds, got training/fit.py",
        f"{source}: vs_iconvsr/plan.py: expected the bytes of vs_iconvsr/plan.py, got others; build again",
    ]


def test_a_wheel_without_the_plugin_and_of_another_version_is_named(checkout: Path, built: Path) -> None:
    kept = zipfile.ZipFile(built / WHEEL)
    with kept, zipfile.ZipFile(built / WHEEL.replace("1.2.3", "1.2.2"), "w") as wheel:
        for name in kept.namelist():
            if not name.endswith(".so"):
                wheel.writestr(name, kept.read(name))
    first, second = release.file_problems(checkout, built)
    assert first.startswith(
        "vapoursynth_iconvsr-1.2.2-cp312-abi3-linux_x86_64.whl: expected vapoursynth_iconvsr-1.2.3…"
    )
    assert second.endswith("expected one compiled plugin in vapoursynth/plugins/iconvsr/, got none")


def test_an_empty_folder_is_named(checkout: Path, tmp_path: Path) -> None:
    (problem,) = release.file_problems(checkout, tmp_path)
    assert problem.endswith("expected one source distribution and wheels, got 0 and 0")


def test_our_own_version_terms_and_weights_are_in_order() -> None:
    found = [*release.version_problems(ROOT), *release.weight_problems(ROOT), *release.term_problems(ROOT)]
    assert found == []
