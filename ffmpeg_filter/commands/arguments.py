"""The options of upscaling, defined in `vs_iconvsr.options`, as arguments of a command."""

import argparse
import textwrap
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffmpeg_filter.media.target_size import DEFAULT_KERNEL, KERNELS, TargetSize
from vs_iconvsr import options
from vs_iconvsr.options import Option

if TYPE_CHECKING:
    from vs_iconvsr.plan import Settings

type ArgumentTarget = argparse.ArgumentParser | argparse._ArgumentGroup

NETWORK_SIZE = "the network's own"

PATHS = "paths"
"""The positional argument that takes any number of paths."""


class _HelpFormatter(argparse.HelpFormatter):
    """Names such as dnxhr-hqx stay on one line: they are there to be copied."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class CommandParser(argparse.ArgumentParser):
    """The parser of one command. Its PATHS, if it has them, may stand before, between and after options."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"formatter_class": _HelpFormatter, **given})

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        for word in args or ():
            if word.startswith("--") and word.endswith("=--"):  # argparse takes that for an empty list
                self.error(f"argument {word[:-3]}: expected one argument, got --")
        parsed, rest = super().parse_known_args(args, namespace)
        if hasattr(parsed, PATHS):  # argparse takes those in front of the next option, and leaves the others over
            paths = [word for word in rest if word == "-" or not word.startswith("-")]
            rest = [word for word in rest if word not in paths]
            setattr(parsed, PATHS, [*getattr(parsed, PATHS), *map(Path, paths)])
        return parsed, rest


def add_upscaling_arguments(command: argparse.ArgumentParser) -> None:
    """A group with --model and everything that `settings_from` reads."""
    group = command.add_argument_group("upscaling")
    for option in options.COMMAND:
        add_option(group, option)


def add_size_arguments(command: argparse.ArgumentParser) -> None:
    """A group with all that `target_size_from` reads."""
    group = command.add_argument_group("size")
    group.add_argument(
        "--size", type=_size, metavar="WxH", help=help_with_default("resize to WxH, such as 1440x1080", NETWORK_SIZE)
    )
    group.add_argument(
        "--height",
        type=int,
        metavar="PX",
        help=help_with_default("resize to PX lines, keeping the shape", NETWORK_SIZE),
    )
    group.add_argument(
        "--scale", type=_positive, metavar="N", help=help_with_default("resize to N times the source", NETWORK_SIZE)
    )
    group.add_argument(
        "--kernel",
        choices=tuple(KERNELS),
        metavar="NAME",
        help=help_with_default(f"zimg's kernel for that: {', '.join(KERNELS)}", DEFAULT_KERNEL),
    )
    group.add_argument(
        "--square-pixels",
        action="store_true",
        help=help_with_default("resize so that pixels are square", "keep the source's pixel aspect ratio"),
    )
    group.add_argument(
        "--linear-light",
        action="store_true",
        help=help_with_default("resize in linear light: thin bright lines keep their brightness", "as coded"),
    )


def target_size_from(namespace: argparse.Namespace) -> TargetSize | None:
    """The size that the user asks for, None for the network's own. Raises ValueError, naming the option."""
    target = TargetSize(
        size=namespace.size,
        height=namespace.height,
        scale=namespace.scale,
        kernel=namespace.kernel or DEFAULT_KERNEL,
        square_pixels=namespace.square_pixels,
        linear_light=namespace.linear_light,
    )
    if target == TargetSize(kernel=target.kernel, linear_light=target.linear_light):
        for name in ("kernel", "linear_light"):
            if getattr(namespace, name):
                option = name.replace("_", "-")
                raise ValueError(f"{option}: expected with a size only; pass --size, --height or --scale")
        return None
    return target


def add_option(target: ArgumentTarget, option: Option[Any], **overrides: Any) -> None:
    """One option. If the user leaves it out, the namespace has None: the default is applied later, in one place.

    overrides: for `add_argument`, such as action="append".
    """
    flag = option.name.replace("_", "-")
    if option.kind == "bool":
        target.add_argument(
            f"--no-{flag}",
            dest=option.name,
            action="store_const",
            const=False,
            help=help_with_default(option.off, option.help),
        )
        return
    keywords: dict[str, Any] = {
        "type": {"int": int, "float": float, "size": _size}.get(option.kind),
        "metavar": option.metavar or None,
        "help": help_with_default(option.help, option.default_text()),
    }
    if option.choices and not option.short_names:
        keywords["choices"] = option.choices
    target.add_argument(f"--{flag}", **(keywords | overrides))


def words_from(namespace: argparse.Namespace) -> list[str]:
    """The upscaling arguments that the user has given, as words again: for a command that starts another one."""
    words = []
    for option in options.COMMAND:
        value, flag = getattr(namespace, option.name, None), option.name.replace("_", "-")
        if value is not None and option.kind == "bool":
            words.append(f"--no-{flag}")
        elif value is not None:
            words.append(f"--{flag}={'x'.join(map(str, value)) if option.kind == 'size' else value}")
    return words


def help_with_default(text: str, default: object) -> str:
    """The help of an argument, for argparse."""
    return f"{text} (default: {default})".replace("%", "%%")


def settings_from(namespace: argparse.Namespace) -> "Settings":
    """The user's settings. Raises ValueError, naming the option, for a value outside its limits."""
    from vs_iconvsr.plan import Settings

    return Settings.from_options(given_options(namespace, options.COMMAND))


def given_options(namespace: argparse.Namespace, chosen: Sequence[Option[Any]]) -> dict[str, object]:
    """The values of those chosen options that the command has and the user has given."""
    values = {option.name: getattr(namespace, option.name, None) for option in chosen}
    return {name: value for name, value in values.items() if value is not None}


def _positive(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"expected a number, such as 2 or 1.5, got {text}") from error


def _size(text: str) -> tuple[int, int]:
    """'640x360' → (640, 360); '0' → (0, 0)."""
    parts = ["0", "0"] if text == "0" else text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT or 0, got {text}")
    return int(parts[0]), int(parts[1])
