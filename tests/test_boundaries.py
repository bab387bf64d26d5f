"""The structure: nothing is imported against the arrows or in a circle, the planner only decides, files stay short."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vs_iconvsr", "ffmpeg_filter", "training")
PLANNER = tuple(
    f"vs_iconvsr.streaming.{name}"
    for name in ("actions", "demand", "planner", "ranges", "segment_queue", "source_frames")
)

# Module or package: what of ours it may import. The longest matching name counts.
ARROWS = {
    "vs_iconvsr": (),
    "vs_iconvsr.system": (),
    "vs_iconvsr.atomic": ("vs_iconvsr.system",),
    "vs_iconvsr.locks": ("vs_iconvsr.system",),
    "vs_iconvsr.extras": (),
    "vs_iconvsr.openmp": (),
    "vs_iconvsr.options": (),
    "vs_iconvsr.segments": (),
    "vs_iconvsr.networks": ("vs_iconvsr.networks",),
    "vs_iconvsr.colorspace": ("vs_iconvsr.colorspace",),
    "vs_iconvsr.scenes": ("vs_iconvsr.colorspace", "vs_iconvsr.scenes"),
    "vs_iconvsr.weights": (
        "vs_iconvsr.networks",
        "vs_iconvsr.weights",
        "vs_iconvsr.atomic",
        "vs_iconvsr.locks",
        "vs_iconvsr.system",
    ),
    "vs_iconvsr.engine": ("vs_iconvsr.networks", "vs_iconvsr.segments", "vs_iconvsr.engine"),
    "vs_iconvsr.plan": (
        "vs_iconvsr.networks",
        "vs_iconvsr.segments",
        "vs_iconvsr.engine",
        "vs_iconvsr.scenes",
        "vs_iconvsr.colorspace",
        "vs_iconvsr.options",
        "vs_iconvsr.system",
    ),
    **dict.fromkeys(PLANNER, ("vs_iconvsr.segments", "vs_iconvsr.scenes", *PLANNER)),
    "vs_iconvsr.streaming": (
        "vs_iconvsr.networks",
        "vs_iconvsr.segments",
        "vs_iconvsr.engine",
        "vs_iconvsr.scenes",
        "vs_iconvsr.colorspace",
        "vs_iconvsr.plan",
        "vs_iconvsr.streaming",
    ),
    "vs_iconvsr.plugin": ("vs_iconvsr",),
    "vs_iconvsr.doctor": ("vs_iconvsr",),
    "ffmpeg_filter": ("vs_iconvsr", "ffmpeg_filter"),
    "ffmpeg_filter.media": ("vs_iconvsr", "ffmpeg_filter.media"),
    "ffmpeg_filter.job": ("vs_iconvsr", "ffmpeg_filter.media", "ffmpeg_filter.job"),
    "ffmpeg_filter.compare": ("vs_iconvsr", "ffmpeg_filter.media", "ffmpeg_filter.job", "ffmpeg_filter.compare"),
    "ffmpeg_filter.serve": ("ffmpeg_filter.serve", "vs_iconvsr.system"),
    "training": (
        "vs_iconvsr.networks",
        "vs_iconvsr.weights",
        "vs_iconvsr.scenes",
        "vs_iconvsr.colorspace",
        "vs_iconvsr.atomic",
        "vs_iconvsr.locks",
        "vs_iconvsr.system",
        "vs_iconvsr.extras",
        "training",
    ),
}

# What is used in these places only.
RESERVED = {
    "vapoursynth": ("vs_iconvsr.doctor", "ffmpeg_filter.media.zimg"),
    "subprocess": ("ffmpeg_filter", "vs_iconvsr.system"),
    "ffmpeg": ("ffmpeg_filter",),
    "ray": ("ffmpeg_filter",),
    "vs_iconvsr.plugin": ("vs_iconvsr.plugin",),
}
DECIDES_WITHOUT = ("torch", "threading", "time", "queue", "concurrent", "asyncio", "random")
MOST_LINES, MOST_METHODS = 400, 15
NETWORKS_MAY_USE = (
    "torch",
    "torchvision",
    "abc",
    "collections",
    "concurrent",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "threading",
    "typing",
)


def modules() -> list[str]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def imports(module: str) -> Iterator[str]:
    """Full names: `from a import b` counts as a.b where that is a module of ours, else as a."""
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    ours = set(modules())
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = within(module, ("training",))  # it is installed as vs_iconvsr.training
            assert relative or node.level == 0, f"{module}: imports by full name only"
            origin = absolute(node, module, is_package=path.is_dir())
            assert not relative or node.level or not within(origin, ("training",)), f"{module}: relative imports only"
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if full in ours else origin


def absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """The full name of what `node` imports from."""
    if node.level == 0:
        assert node.module is not None
        return node.module
    parts = module.split(".")
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("module", modules())
def test_imports_follow_the_arrows(module: str) -> None:
    room = max((name for name in ARROWS if within(module, (name,))), key=len)
    for name in imports(module):
        if within(name, PACKAGES):
            assert name == "vs_iconvsr" or within(name, ARROWS[room]), f"{module} must not import {name}"
        for thing, users in RESERVED.items():
            if within(name, (thing,)):
                assert within(module, users), f"{module} must not import {thing}"


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("vs_iconvsr.networks")])
def test_networks_import_torch_only(module: str) -> None:
    for name in imports(module):
        assert within(name, (*NETWORKS_MAY_USE, "vs_iconvsr.networks")), f"{module} must not import {name}"


@pytest.mark.parametrize("module", PLANNER)
def test_the_planner_has_no_tensor_thread_or_clock(module: str) -> None:
    for name in imports(module):
        assert not within(name, DECIDES_WITHOUT), f"{module} must not import {name}"


def test_nothing_is_imported_in_a_circle() -> None:
    """Imports inside functions count, too: they only hide a circle."""
    ours = set(modules())
    graph = {module: sorted({name for name in imports(module) if name in ours} - {module}) for module in ours}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def sources() -> list[Path]:
    return [path for folder in (*PACKAGES, "scripts", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_classes_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES, f"more than {MOST_LINES} lines: it is two files"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            methods = [d.name for d in node.body if isinstance(d, ast.FunctionDef) and not d.name.startswith("__")]
            assert len(methods) <= MOST_METHODS, f"{node.name} has {len(methods)} methods: it is two classes"


def test_a_class_name_has_one_meaning() -> None:
    found: dict[str, list[str]] = {}
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
