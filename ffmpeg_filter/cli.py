"""The `iconvsr` command. The only file that prints; every error ends here, as one line and an exit code."""

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from ffmpeg_filter.commands import train as train_command
from ffmpeg_filter.commands.arguments import CommandParser
from vs_iconvsr import system
from vs_iconvsr.extras import with_extra_named
from vs_iconvsr.openmp import let_threads_sleep

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    let_threads_sleep()
    system.write_utf8()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:  # argparse would take the options of training for ours
        train_command.become(given[1:])
    ours, extra = _split_at_dashes(given)
    try:
        options = parser(next((word for word in ours if word in _COMMANDS), "")).parse_args(ours)
    except ImportError as error:
        print(f"iconvsr: {_one_line(error)}", file=sys.stderr)
        return EXIT_FAILED
    if extra and options.command not in ("upscale", "serve"):
        print(f"iconvsr: {options.command}: expected nothing after --, got {' '.join(extra)}", file=sys.stderr)
        return EXIT_FAILED
    options.given, options.extra = given, extra
    options.print_line, options.stop = print, stop_on_interrupt
    try:
        logging.basicConfig(level=_level(options), format="%(levelname)s %(name)s: %(message)s")
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        if getattr(options, "traceback", False):
            raise
        print(f"iconvsr: {_one_line(error)}", file=sys.stderr)
        return EXIT_FAILED


def parser(requested: str = "") -> argparse.ArgumentParser:
    """Every command by name; only the requested one has its arguments.

    A command is a module with `add_parser(commands)`, which sets `run`, a function from the options to an exit code.
    Options also hold `print_line` (print), `stop` (see `stop_on_interrupt`), `extra` (the words after `--`) and `given`
    (all words).
    """
    import vs_iconvsr

    description = "Upscales video with IconVSR, BasicVSR and relatives."
    top: argparse.ArgumentParser = CommandParser(prog="iconvsr", description=description)
    top.add_argument("--version", action="version", version=f"iconvsr {vs_iconvsr.__version__}")
    top.add_argument(
        "--log", choices=("debug", "info", "warning"), default="warning", help="how much to log (default: %(default)s)"
    )
    top.add_argument("--traceback", action="store_true", help="print the traceback of an error, for bug reports")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_commands(commands, requested)
    commands.add_parser("train", help="train, fine-tune and evaluate models")
    return top


_COMMANDS = {
    "upscale": "upscale video files, with their sound, subtitles, chapters and timestamps",
    "serve": "steer a queue of videos from a browser on this machine",
    "pipe": "upscale standard input to standard output, between two ffmpeg processes",
    "compare": "compare models on difficult moments of a video: an HTML page with sliders",
    "vpy": "write a VapourSynth script for a video and print the command that encodes it",
    "scenes": "list where the scenes of a video start",
    "models": "list, download, verify, convert and describe weight files",
    "bench": "measure how fast this machine upscales, and with which settings",
    "doctor": "check this machine and print a remedy for what does not work",
}


def _add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", requested: str) -> None:
    """Only the requested command is imported: most of them bring torch, which takes seconds."""
    for name, text in _COMMANDS.items():
        if name != requested:
            commands.add_parser(name, help=text)
            continue
        module = importlib.import_module(f"ffmpeg_filter.commands.{name}")
        module.add_parser(commands)
        commands.choices[name].set_defaults(run=module.run)


def _split_at_dashes(given: list[str]) -> tuple[list[str], list[str]]:
    """What is before the first lone `--`, and the ffmpeg options after it."""
    if "--" not in given:
        return given, []
    at = given.index("--")
    return given[:at], given[at + 1 :]


def _level(options: argparse.Namespace) -> int:
    return {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}[options.log]


def _one_line(error: Exception) -> str:
    error = with_extra_named(error) if isinstance(error, ImportError) else error
    text = " ".join(str(error).split()) or type(error).__name__
    expected = (ValueError, OSError, MemoryError)
    named = type(error).__module__.startswith(("ffmpeg_filter", "vs_iconvsr"))
    return text if named or isinstance(error, expected) else f"unexpected {type(error).__name__}: {text} (--traceback)"


def stop_on_interrupt() -> threading.Event:
    """An event that the first Ctrl-C or SIGTERM sets; the second one raises KeyboardInterrupt."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        name = signal.Signals(number).name
        text = f"iconvsr: {name}: stopping after this step; send it again to stop at once\n"
        # Not print: the signal may come while this thread is printing, and Python's streams refuse to be reentered.
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    for number in system.STOP_SIGNALS:
        signal.signal(number, handle)
    return stop


if __name__ == "__main__":
    sys.exit(main())
