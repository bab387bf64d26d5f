"""What must hold of a checkout and of built files before a release, and its tag; ./scripts/release runs all of it.

release.py source [--pushed TAG]   one version, its section in CHANGELOG.md, terms of all that is shipped, a clean main
release.py files FOLDER            the wheels and the source distribution hold what git holds, and nothing else
release.py tag                     checks the source again and makes the annotated tag; it pushes nothing

Needs git and Python's standard library only: the release workflow calls it, too.
"""

import argparse
import fnmatch
import json
import re
import struct
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NAME = "vapoursynth_iconvsr"
TERMS = "docs/licenses.md"
PLUGIN = "vapoursynth/plugins/iconvsr/"
LIBRARIES = ("iconvsr.so", "iconvsr.abi3.so", "iconvsr.dylib", "iconvsr.dll")  # by CMake and system


def main(arguments: list[str] | None = None, *, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="release.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("source").add_argument(
        "--pushed", metavar="TAG", help="this tag was pushed: it must fit the version"
    )
    steps.add_parser("files").add_argument("folder", type=Path)
    steps.add_parser("tag")
    chosen = parser.parse_args(arguments)
    problems = (
        file_problems(root, chosen.folder)
        if chosen.step == "files"
        else source_problems(root, pushed=getattr(chosen, "pushed", None))
    )
    for problem in problems:
        print(f"release: {problem}", file=sys.stderr)
    if problems:
        return 1
    if chosen.step == "tag":
        print(f"release: made {make_tag(root)}; to publish it: git push origin {make_tag_name(root)}")
    else:
        print(f"release: {chosen.step}: {project(root)['version']} can be released")
    return 0


def source_problems(root: Path, *, pushed: str | None = None) -> list[str]:
    """What is wrong with the checkout. pushed: the tag that started the release workflow; None before there is one."""
    return [
        *version_problems(root),
        *changelog_problems(root),
        *weight_problems(root),
        *term_problems(root),
        *(repository_problems(root) if pushed is None else pushed_problems(root, pushed)),
    ]


# The version, and what it brings


def settings(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def project(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = settings(root)["project"]
    return found


def version_problems(root: Path) -> list[str]:
    version = project(root)["version"]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return [f"pyproject.toml: expected a version like 1.2.3, got {version!r}"]
    literal = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])")
    problems = [
        f"{path}: expected the version in pyproject.toml only, got {version} here as well; read it from the metadata"
        for path in tracked(root, *packages(root).values())
        if is_text(root / path) and literal.search((root / path).read_text(encoding="utf-8"))
    ]
    cmake = f"{settings(root)['tool']['scikit-build']['cmake']['source-dir']}/CMakeLists.txt"
    if "VERSION ${SKBUILD_PROJECT_VERSION}" not in (root / cmake).read_text(encoding="utf-8"):
        problems.append(f"{cmake}: expected project(… VERSION ${{SKBUILD_PROJECT_VERSION}}), got another version")
    return problems


def changelog_problems(root: Path) -> list[str]:
    version = project(root)["version"]
    heading = changelog_section(root)[0]
    if not re.fullmatch(rf"## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", heading):
        return [f"CHANGELOG.md: expected '## {version} (YYYY-MM-DD)' as the newest section, got {heading!r}"]
    if not any(line.startswith("- ") for line in changelog_section(root)):
        return [f"CHANGELOG.md: expected what is new in {version}, got an empty section"]
    return []


def changelog_section(root: Path) -> list[str]:
    """The lines of the newest section, its heading first."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(r"^## .*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return section.group().strip().splitlines() if section else [""]


# Terms


def weight_problems(root: Path) -> list[str]:
    """Each bundled weight file has a card beside it that states the license which is in the file."""
    problems = []
    for path in tracked(root, "vs_iconvsr/weights/bundled"):
        if not path.endswith(".safetensors"):
            continue
        card = (root / path).with_suffix(".md")
        stated = re.search(r"License: ([\w.-]*\w)", card.read_text(encoding="utf-8")) if card.exists() else None
        inside = safetensors_metadata(root / path).get("licence")
        if stated is None or stated.group(1) != inside:
            got = stated.group(1) if stated else "none"
            problems.append(
                f"{path}: expected a card with 'License: {inside}' as in the file, got {got}; mend {card.name}"
            )
    return problems


def safetensors_metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found: dict[str, str] = json.loads(file.read(length)).get("__metadata__", {})
    return found


def term_problems(root: Path) -> list[str]:
    """Whatever git holds and is not text has a line in the table of TERMS, and no line is left over."""
    table = (root / TERMS).read_text(encoding="utf-8") if (root / TERMS).exists() else ""
    patterns = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    files = tracked(root)
    problems = [
        f"{path}: expected its origin and terms in {TERMS}, got none; add a line to the table"
        for path in files
        if not is_text(root / path) and not any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
    ]
    problems += [
        f"{TERMS}: expected files for `{pattern}`, got none; remove the line"
        for pattern in patterns
        if not fnmatch.filter(files, pattern)
    ]
    return problems


def is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


# The repository and the tag


def git(root: Path, *words: str, given: str | None = None) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], input=given, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tracked(root: Path, *under: str) -> list[str]:
    """What git holds, relative to the checkout."""
    return git(root, "ls-files", "-z", "--", *under).rstrip("\0").split("\0")


def make_tag_name(root: Path) -> str:
    return f"v{project(root)['version']}"


def repository_problems(root: Path) -> list[str]:
    problems = []
    if git(root, "status", "--porcelain"):
        problems.append("git: expected a clean tree, got changes; commit or stash them")
    branch = git(root, "branch", "--show-current") or "no branch"
    if branch != "main":
        problems.append(f"git: expected main, got {branch}; git switch main")
    mine = numbers(make_tag_name(root))
    tags = [tag for tag in git(root, "tag", "--list", "v*").split() if numbers(tag)]
    if tags and mine <= max(map(numbers, tags)):
        newest = max(tags, key=numbers)
        problems.append(f"pyproject.toml: expected a version above the tag {newest}, got {project(root)['version']}")
    return problems


def pushed_problems(root: Path, tag: str) -> list[str]:
    if tag != make_tag_name(root):
        return [f"git: expected the tag {make_tag_name(root)}, as pyproject.toml states, got {tag}"]
    return []


def numbers(tag: str) -> tuple[int, ...]:
    """(1, 2, 3) of v1.2.3; () of any other tag."""
    found = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", tag)
    return tuple(map(int, found.groups())) if found else ()


def make_tag(root: Path) -> str:
    """The name of the annotated tag that was made; its message is the section of CHANGELOG.md."""
    name = make_tag_name(root)
    message = "\n".join([f"vapoursynth-iconvsr {project(root)['version']}", "", *changelog_section(root)[1:]]).strip()
    git(root, "tag", "--annotate", "--cleanup=whitespace", "--file=-", name, given=message)
    return name


# What was built


def file_problems(root: Path, folder: Path) -> list[str]:
    """What the files in folder hold besides what git holds, lack, or hold otherwise."""
    version = project(root)["version"]
    wheels, sources = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    problems = [
        f"{path.name}: expected {NAME}-{version}…, got another name or version; empty {folder} and build again"
        for path in [*wheels, *sources]
        if not path.name.startswith((f"{NAME}-{version}-", f"{NAME}-{version}.tar"))
    ]
    if len(sources) != 1 or not wheels:
        problems.append(f"{folder}: expected one source distribution and wheels, got {len(sources)} and {len(wheels)}")
    for wheel in wheels:
        problems += wheel_problems(root, wheel)
    for source in sources:
        problems += sdist_problems(root, source)
    return problems


def packages(root: Path) -> dict[str, str]:
    """Folder in the wheel: folder in the checkout."""
    found: dict[str, str] = settings(root)["tool"]["scikit-build"]["wheel"]["packages"]
    return found


def wheel_problems(root: Path, wheel: Path) -> list[str]:
    excluded = settings(root)["tool"]["scikit-build"]["wheel"].get("exclude", [])
    expected = {
        f"{shipped}/{path.removeprefix(folder + '/')}": path
        for shipped, folder in packages(root).items()
        for path in tracked(root, folder)
        if not is_under(path, excluded)
    }
    information = f"{NAME}-{project(root)['version']}.dist-info"
    expected[f"{information}/licenses/LICENSE"] = "LICENSE"
    native = settings(root)["tool"]["scikit-build"]["cmake"]["source-dir"]
    expected[f"{PLUGIN}manifest.vs"] = f"{native}/manifest.vs"
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    made = {f"{information}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    libraries = {name for name in found if name.removeprefix(PLUGIN) in LIBRARIES and name.startswith(PLUGIN)}
    problems = compared(root, wheel.name, expected, {n: b for n, b in found.items() if n not in made | libraries})
    if len(libraries) != 1:
        problems.append(f"{wheel.name}: expected one compiled plugin in {PLUGIN}, got {sorted(libraries) or 'none'}")
    if f"License-Expression: {project(root)['license']}" not in found[f"{information}/METADATA"].decode():
        problems.append(
            f"{wheel.name}: expected 'License-Expression: {project(root)['license']}' in its metadata, got none"
        )
    return problems


def sdist_problems(root: Path, source: Path) -> list[str]:
    excluded = settings(root)["tool"]["scikit-build"]["sdist"].get("exclude", [])
    expected = {path: path for path in tracked(root) if not is_under(path, excluded)}
    found = {}
    with tarfile.open(source) as archive:
        for member in archive:
            data = archive.extractfile(member)
            if data is not None:
                found[member.name.partition("/")[2]] = data.read()
    found.pop("PKG-INFO", None)
    return compared(root, source.name, expected, found)


def is_under(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def compared(root: Path, archive: str, expected: dict[str, str], found: dict[str, bytes]) -> list[str]:
    """expected: name in the archive → path in the checkout."""
    return [
        *(f"{archive}: expected {name}, got none" for name in sorted(expected.keys() - found.keys())),
        *(
            f"{archive}: expected nothing but what git holds, got {name}"
            for name in sorted(found.keys() - expected.keys())
        ),
        *(
            f"{archive}: {name}: expected the bytes of {expected[name]}, got others; build again"
            for name in sorted(expected.keys() & found.keys())
            if (root / expected[name]).read_bytes() != found[name]
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
