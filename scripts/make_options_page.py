"""make_options_page.py [FILE]: the reference of options, from their definitions; docs/options.md by default."""

import argparse
import sys
from pathlib import Path

from ffmpeg_filter import cli
from vs_iconvsr import options

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
COMMANDS = ("upscale", "serve", "pipe", "compare", "vpy", "scenes", "bench", "doctor")
HEAD = """# Options

Written by `PYTHONPATH=. .venv/bin/python scripts/make_options_page.py` from the definitions in the code.
`iconvsr COMMAND --help` prints the same. Training has options of its own: `iconvsr train COMMAND --help`.

## `core.iconvsr.Upscale`

The first argument is the clip. `core.iconvsr.Plan` takes the same arguments.

"""


def page() -> str:
    parts = [HEAD, options.filter_table()]
    for name in COMMANDS:
        command = parser_of(name)
        parts.append(f"\n## `iconvsr {name}`\n\n{one_line(command.description or '')}\n")
        known = {"help"} if name == "upscale" else {"help"} | shared_with_upscale(command)
        for group in command._action_groups:
            actions = [action for action in group._group_actions if action.dest not in known]
            if actions:
                title = (group.title or "").capitalize()
                parts.append(f"\n**{title}**\n\n| argument | meaning |\n|---|---|\n")
                parts.extend(f"| {flag_cell(action)} | {one_line(help_of(command, action))} |\n" for action in actions)
        if len(known) > 1:
            parts.append(f"\n{shared_line(name, command, known)}\n")
    return "".join(parts)


def shared_with_upscale(command: argparse.ArgumentParser) -> set[str]:
    """The arguments that say the same of both commands."""
    of_upscale = parser_of("upscale")
    theirs = {action.dest: help_of(of_upscale, action) for action in of_upscale._actions}
    return {action.dest for action in command._actions if theirs.get(action.dest) == help_of(command, action)}


def shared_line(name: str, command: argparse.ArgumentParser, shared: set[str]) -> str:
    if name == "serve":
        return "And all arguments of `iconvsr upscale` but `--progress` and `--dry-run`."
    flags = [f"`{a.option_strings[-1]}`" for a in command._actions if a.dest in shared - {"help"} and a.option_strings]
    return f"As of `iconvsr upscale`: {', '.join(flags)}."


def parser_of(name: str) -> argparse.ArgumentParser:
    top = cli.parser(name)
    commands = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    found = commands.choices[name]
    assert isinstance(found, argparse.ArgumentParser)
    return found


def flag_cell(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {value_of(action)}"
    if not action.option_strings:
        return f"`{value.strip()}`"
    return f"`{action.option_strings[-1]}{value}`".replace("|", "\\|")


def value_of(action: argparse.Action) -> str:
    if action.metavar:
        return str(action.metavar)
    return f"{{{', '.join(map(str, action.choices))}}}" if action.choices else action.dest.upper()


def help_of(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = command._get_formatter()
    return formatter._expand_help(action) if action.help else ""


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page(), encoding="utf-8")
