"""make_messages_page.py [FILE]: the error messages of the code, with cause and remedy; docs/messages.md by default."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from message_groups import GROUPS, Group

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "messages.md"
PACKAGES = ("vs_iconvsr", "ffmpeg_filter", "training")
GAP = "…"
WRAPPED = ("OSError", "ConnectionError", "BlockingIOError")  # caught on the way, and put into other words

HEAD = """# Error messages

Every message with which the filter, the command and training refuse something or give up, collected from the code by
`PYTHONPATH=. .venv/bin/python scripts/make_messages_page.py`. Search this page for the first words of yours: a message
begins with what is wrong (an option, a file), and … stands for a value. In VapourSynth it follows `Upscale:`, in a
terminal `iconvsr:` or `training:`. [troubleshooting.md](troubleshooting.md) begins with what you see instead.
"""


@dataclass(frozen=True, order=True)
class Message:
    """text: with … for every value. subject: what stands before the first colon; empty where that is a value, too."""

    text: str
    path: str

    @property
    def subject(self) -> str:
        before, colon, _ = self.text.partition(":")
        return before if colon and GAP not in before else ""


def messages() -> list[Message]:
    """Those of every error that is made with a text, each once."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources()}
    helpers = {
        node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    found = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call) or name_of(call) in WRAPPED:
                continue
            if call is not node or name_of(call).endswith("Error"):
                found |= {Message(text, str(path.relative_to(ROOT))) for text in texts(call, helpers)}
    return sorted(found)


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def texts(raised: ast.Call, helpers: dict[str, ast.FunctionDef]) -> list[str]:
    """What the error says: its text, or what the function says that makes it."""
    arguments = [*raised.args, *(keyword.value for keyword in raised.keywords)]
    own = [text for argument in arguments if (text := literal(argument)) is not None][:1]
    if own and isinstance(raised.func, ast.Name) and name_of(raised) not in helpers:
        return own
    calls = [raised] if own else [raised, *(argument for argument in arguments if isinstance(argument, ast.Call))]
    made = [text for call in calls if name_of(call) in helpers for text in returned(helpers[name_of(call)])]
    return made or [f"{GAP}: {text}" for text in own]  # the function puts the file or the key before it


def returned(helper: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(helper):
        if isinstance(node, ast.Return) and node.value is not None:
            values = node.value.args if isinstance(node.value, ast.Call) else [node.value]
            yield from [text for value in values if (text := literal(value)) is not None][:1]


def literal(node: ast.expr) -> str | None:
    """A string in the code with … for its values; None for anything else, and for texts that are nothing but values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values]
        text = "".join(parts)
        return text if text.strip(f"{GAP}:; ") else None
    if isinstance(node, ast.BinOp):
        left, right = literal(node.left), literal(node.right)
        return None if left is None and right is None else f"{left or GAP}{right or GAP}"
    return None


def group_of(message: Message) -> Group | None:
    """The first group that takes it."""
    return next((group for group in GROUPS if group.takes(message.path, message.subject)), None)


def page() -> str:
    """Raises ValueError for messages that no group takes: their cause and remedy are still to be written."""
    found: dict[str, list[Message]] = {group.title: [] for group in GROUPS}
    for message in messages():
        group = group_of(message)
        if group is None:
            raise ValueError(f"messages: expected a group for {message} in scripts/message_groups.py, got none")
        found[group.title].append(message)
    parts = [HEAD]
    for group in sorted(
        GROUPS, key=lambda group: (group is GROUPS[-1], group.title.startswith("Training"), group.title)
    ):
        lines = dict.fromkeys(f"- `{code(message.text)}`\n" for message in found[group.title])
        if not lines:
            raise ValueError(f"messages: expected some in the group {group.title}, got none; remove it")
        parts.append(f"\n## {group.title}\n\n{group.note}\n\n{''.join(lines)}")
    return "".join(parts)


def code(text: str) -> str:
    """For a span of code on one line."""
    return re.sub(f"{GAP}+", GAP, " ".join(text.replace("`", "'").split()))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page(), encoding="utf-8")
