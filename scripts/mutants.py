"""Changes one operator, number or condition of a module at a time and lists the changes that its tests do not notice.

    .venv/bin/python scripts/mutants.py ffmpeg_filter/job/journal.py tests/ffmpeg_filter/job/test_journal.py

Works in a copy of the checkout. Not every survivor is a fault: some changes give an equal program.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".venv", ".git", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__")
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}
# An editable installation finds our packages where they were installed from, whatever the working directory.
_OUR_PYTEST = (
    "import sys; sys.meta_path = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]; "
    "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
)


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """(line, the module with one thing changed on it)."""
    count = sum(1 for _ in ast.walk(ast.parse(source)))
    for number in range(count):
        tree = ast.parse(source)
        node = list(ast.walk(tree))[number]
        if _change(node):
            yield getattr(node, "lineno", 0), ast.unparse(tree)


def _change(node: ast.AST) -> bool:
    """Changes the node in place; False where there is nothing to change."""
    match node:
        case ast.Compare(ops=[operator, *others]) if type(operator) in SWAPPED:
            node.ops = [SWAPPED[type(operator)](), *others]  # type: ignore[list-item]
        case ast.BoolOp(op=operator) | ast.BinOp(op=operator) if type(operator) in SWAPPED:
            node.op = SWAPPED[type(operator)]()  # type: ignore[assignment]
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + 1
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            node.test = ast.UnaryOp(ast.Not(), test)
            ast.fix_missing_locations(node)
        case ast.Expr(value=ast.Call()):
            node.value = ast.copy_location(ast.Constant(None), node.value)
        case _:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--limit-s", type=float, default=120, help="a mutant that takes longer is noticed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        source = (ROOT / options.module).read_text()
        survivors, total = [], 0
        (copy / options.module).write_text("raise ImportError('tests of a mutant see the mutant')\n")
        assert not passes(copy, options.tests, options.limit_s), "the tests do not see the copy"
        for line, changed in mutants(source):
            (copy / options.module).write_text(changed)
            total += 1
            if passes(copy, options.tests, options.limit_s):
                survivors.append(describe(source, changed, line))
                print(survivors[-1], flush=True)
        print(f"{options.module}: {len(survivors)} of {total} changes survive")


def passes(copy: Path, tests: list[str], limit_s: float) -> bool:
    command = [sys.executable, "-c", _OUR_PYTEST, "-x", "-q", "-m", "not long", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def describe(source: str, changed: str, line: int) -> str:
    """The changed line, as it is after the change."""
    before, after = ast.unparse(ast.parse(source)).splitlines(), changed.splitlines()
    new = next((text.strip() for text, old in zip(after, before, strict=False) if text != old), "")
    return f"line {line}: {new}"


if __name__ == "__main__":
    main()
