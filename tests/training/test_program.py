"""Messages name the program as the user started it: a wheel has no `python -m training`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import training

ROOT = Path(training.__file__).parent.parent
SOURCES = sorted(
    path for package in ("training", "vs_iconvsr", "ffmpeg_filter") for path in (ROOT / package).rglob("*.py")
)


def messages(path: Path) -> Iterator[str]:
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_spells_the_program_out(path: Path) -> None:
    allowed = {training.PROGRAM} if path == Path(training.__file__) else set()
    assert not [text for text in messages(path) if "python -m training" in text and text not in allowed]
