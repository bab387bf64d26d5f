"""`iconvsr pipe`: the filter between two ffmpegs."""

import argparse
import sys

from ffmpeg_filter.commands.upscale import add_model_arguments, settings_from


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "pipe",
        help="upscale what comes on standard input to standard output, between two ffmpegs",
        description="Reads NUT, Matroska, MPEG-TS or y4m, writes NUT: large pictures, same timestamps, same sound.",
        epilog="ffmpeg -i IN -c copy -f nut - | iconvsr pipe | ffmpeg -f nut -i - -c:a copy -c:v libx265 OUT.mkv",
    )
    add_model_arguments(command)
    command.add_argument("--bits", type=int, help="depth (default: 10, or the source's own if higher)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when the whole input has gone through."""
    from ffmpeg_filter.pipe import upscale_pipe
    from vs_iconvsr import weights

    for name, end in (("input", sys.stdin), ("output", sys.stdout)):
        if end.isatty():
            raise ValueError(f"pipe: expected a pipe on standard {name}, got a terminal; see iconvsr pipe --help")
    network = weights.load(options.model or weights.DEFAULT_MODEL)
    done = upscale_pipe(
        network, settings_from(options), sys.stdin.buffer, lambda _: sys.stdout.buffer, bits=options.bits
    )
    sys.stderr.write(
        f"{done.frames} frames; NUT carries no color tags, so give the next ffmpeg {done.next_options()}\n"
    )
    return 0
