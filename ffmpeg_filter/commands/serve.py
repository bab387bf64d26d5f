"""`iconvsr serve`: the queue of `iconvsr upscale --output-dir`, watched and steered in a browser on this machine."""

import argparse
import threading
from typing import TYPE_CHECKING

from ffmpeg_filter.commands import upscale
from ffmpeg_filter.commands.arguments import help_with_default, words_from

if TYPE_CHECKING:
    from ffmpeg_filter.serve.control import Control

DEFAULT_PORT = 8765
_LAST_WAIT_S = 10.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "serve",
        help="steer a queue of videos from a browser on this machine",
        usage="iconvsr serve [options] INPUT... --output-dir DIR [-- FFMPEG-OPTIONS]",
        description="Shows the queue of `iconvsr upscale` with the same arguments as a web page of this machine: "
        "progress, start and stop, comparisons. The address that it prints holds a token; without it nobody gets in.",
    )
    upscale.add_arguments(command)
    _add_own_arguments(command)
    command.set_defaults(run=run, refuse=command.error)


def _add_own_arguments(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("page")
    group.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        metavar="N",
        help="port on 127.0.0.1, 0 for any (default: %(default)s)",
    )
    group.add_argument(
        "--now", action="store_true", help=help_with_default("start the queue at once", "wait for the button")
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C. Exit code 0, or 1 when the queue cannot be."""
    from ffmpeg_filter.serve.board import Board
    from ffmpeg_filter.serve.control import Control
    from ffmpeg_filter.serve.server import QueueServer

    if options.output_dir is None:
        options.refuse("the following arguments are required: --output-dir")
    for name, default in (("progress", "auto"), ("dry_run", False)):
        if getattr(options, name) != default:
            options.refuse(
                f"argument --{name.replace('_', '-')}: not allowed, the page shows the progress and the plan"
            )
    board = Board(str(options.output_dir))
    control = Control(board, _words_of_upscale(options.given), words_from(options))
    stop = options.stop()
    try:
        server = QueueServer(board, control, options.port)
    except OSError as error:
        raise ValueError(f"port: expected one that is free, got {options.port} ({error.strerror}); --port 0") from error
    with server:
        control.list_files()  # raises for arguments that cannot be: before anything is promised
        thread = threading.Thread(target=server.serve_forever, name="serve")
        thread.start()
        try:
            if options.now:
                control.start()
            options.print_line(server.address)
            options.print_line("Open this address in a browser on this machine; Ctrl-C ends the queue and its page.")
            stop.wait()
        finally:
            try:
                _close(control)
            finally:  # also after a second Ctrl-C, or the server's thread would keep the program alive
                server.shutdown()
                thread.join()
    return 0


def _close(control: "Control") -> None:
    """After the first Ctrl-C what runs may finish its step, after the second it ends at once."""
    try:
        control.close()
    except KeyboardInterrupt:
        control.close(_LAST_WAIT_S)
        raise


def _words_of_upscale(given: list[str]) -> list[str]:
    """The words that follow `serve`, without those that are ours."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_own_arguments(own)
    after = given[given.index("serve") + 1 :]
    at = after.index("--") if "--" in after else len(after)
    return own.parse_known_args(after[:at])[1] + after[at:]
