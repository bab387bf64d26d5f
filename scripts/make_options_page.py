"""make_options_page.py [FILE]: the reference of options, from their definitions; docs/options.md by default."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ffmpeg_filter import cli
from training import cli as training_cli
from vs_iconvsr import options

type Commands = dict[str, tuple[argparse.ArgumentParser, str]]

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
HEAD = """# Options

Written by `PYTHONPATH=. .venv/bin/python scripts/make_options_page.py` from the definitions in the code.
`iconvsr COMMAND --help` prints the same. Which values to choose: [scenes.md](scenes.md), [speed.md](speed.md),
[formats.md](formats.md).

## `core.iconvsr.Upscale`

The first argument is the clip. `core.iconvsr.Plan` takes the same arguments, `core.iconvsr.SceneDetect` only
`sc_threshold`; `core.iconvsr.Models()` and `core.iconvsr.Version()` take none.

"""
ENVIRONMENT = """
## Environment variables

| variable | meaning |
|---|---|
| `ICONVSR_FFMPEG` | the ffmpeg to encode with; otherwise the one on PATH, otherwise the bundled one |
| `ICONVSR_MODELS` | the folder for downloaded models |
| `OMP_NUM_THREADS` | CPU threads for each operation, where `--threads` is not given |
| `TMPDIR` | the folder in which a machine of a cluster makes its parts |
"""
UNNAMED_GROUPS = ("positional arguments", "options")


def page() -> str:
    top = cli.parser()
    parts = [
        HEAD,
        options.filter_table(),
        "\n## `iconvsr`\n\nBefore the name of the command:\n\n",
        *table(top._actions),
    ]
    of_upscale = set(rows(command_of("upscale")[0]._actions))
    for name in cli._COMMANDS:
        parser, text = command_of(name)
        parts += section(f"iconvsr {name}", parser, text, known=set() if name == "upscale" else of_upscale)
    parts.append(
        "\n## `iconvsr train`\n\nIn a checkout also `python -m training`; [training guide](../training/README.md).\n"
    )
    for name, (parser, text) in subcommands(training_cli._parser()).items():
        parts += section(f"iconvsr train {name}", parser, text, known=set(), level=3)
    return "".join([*parts, ENVIRONMENT])


def command_of(name: str) -> tuple[argparse.ArgumentParser, str]:
    return subcommands(cli.parser(name))[name]


def subcommands(parser: argparse.ArgumentParser) -> Commands:
    """The commands of a parser by name, each with its one-line help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (command, texts.get(name, "")) for name, command in action.choices.items()}
    return {}


def section(
    title: str, parser: argparse.ArgumentParser, text: str, *, known: set[str], level: int = 2
) -> Iterator[str]:
    """The arguments of a command, and of its own commands. known: rows of `upscale`, which are only named."""
    yield f"\n{'#' * level} `{title}`\n\n{sentence(parser.description or text)}\n"
    unnamed = [
        action for group in parser._action_groups if group.title in UNNAMED_GROUPS for action in group._group_actions
    ]
    groups = [("", unnamed)]
    groups += [(str(g.title), g._group_actions) for g in parser._action_groups if g.title not in UNNAMED_GROUPS]
    for name, actions in groups:
        own = [action for action in actions if not known.intersection(rows([action]))]
        if list(rows(own)):
            yield f"\n**{name.capitalize()}**\n\n" if name else "\n"
            yield from table(own)
    shared = [action for _, actions in groups for action in actions if known.intersection(rows([action]))]
    if shared:
        flags = ", ".join(f"`{action.option_strings[-1]}`" for action in shared if action.option_strings)
        yield f"\nAs in [`iconvsr upscale`](#iconvsr-upscale): {flags}.\n"
    for name, (command, help_text) in subcommands(parser).items():
        yield from section(f"{title} {name}", command, help_text, known=set(), level=level + 1)


def table(actions: list[argparse.Action]) -> Iterator[str]:
    yield "| argument | default | meaning |\n|---|---|---|\n"
    yield from rows(actions)


def rows(actions: list[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            default, meaning = default_and_meaning(action)
            yield f"| {flag(action)} | {default} | {meaning} |\n"


def flag(action: argparse.Action) -> str:
    value = (
        "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or [action.dest.upper()])))
    )
    return f"`{' '.join([*action.option_strings[-1:], value]).strip()}`".replace("|", "\\|")


def default_and_meaning(action: argparse.Action) -> tuple[str, str]:
    """The default that the help ends with, or argparse's own, and the rest of the help."""
    text = " ".join(((action.help or "") % {"default": action.default, "prog": "iconvsr"}).split())
    found = re.fullmatch(r"(.*?)[ (]*default: (.*?)\)?", text)
    if found:
        return prose(found[2]), prose(found[1].rstrip(";") or action.dest)
    if action.required:
        return "required", prose(text)
    default = "" if action.nargs == 0 or not action.default or action.default == argparse.SUPPRESS else action.default
    return prose(str(default)), prose(text)


def sentence(text: str) -> str:
    text = prose(" ".join(text.rstrip(".").split()))
    return f"{text[:1].upper()}{text[1:]}."


def prose(text: str) -> str:
    """For Markdown: what would be markup is escaped, names of options are code; code in the text stays as it is."""
    pieces = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else _plain(piece) for piece in pieces)


def _plain(text: str) -> str:
    text = re.sub(r"(?<![\w`-])(--[a-z][a-z-]*|[A-Z]+_[A-Z_]+|[a-z]+_%05d\.\w+|https?://\S+)", r"`\1`", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([*<>_])", r"\\\1", piece)
        for piece in re.split(r"(`[^`]*`)", text)
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page(), encoding="utf-8")
