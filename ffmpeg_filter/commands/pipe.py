"""`iconvsr pipe`: upscaling between two ffmpeg processes."""

import argparse
import sys

from ffmpeg_filter.commands.arguments import add_upscaling_arguments, help_with_default, settings_from
from vs_iconvsr import options as upscaling


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "pipe",
        help="upscale standard input to standard output, between two ffmpeg processes",
        description="Reads NUT, Matroska, MPEG-TS or y4m and writes NUT: the upscaled frames with their timestamps and "
        "the audio.",
        epilog="Example: "
        "ffmpeg -i IN -c copy -f nut - | iconvsr pipe | ffmpeg -f nut -i - -c:a copy -c:v libx265 OUT.mkv",
    )
    add_upscaling_arguments(command)
    command.add_argument(
        "--bits", type=int, metavar="N", help=help_with_default("bit depth", "10, or the source's if that is higher")
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once the whole input has been upscaled."""
    from ffmpeg_filter.pipe import upscale_pipe
    from vs_iconvsr import weights

    for name, end in (("input", sys.stdin), ("output", sys.stdout)):
        if end.isatty():
            raise ValueError(f"pipe: expected a pipe on standard {name}, got a terminal; see iconvsr pipe --help")
    network = weights.load(options.model or upscaling.MODEL.default)
    done = upscale_pipe(
        network, settings_from(options), sys.stdin.buffer, lambda _: sys.stdout.buffer, bits=options.bits
    )
    sys.stderr.write(
        f"{done.frames} frames; NUT carries no color tags, so pass to the next ffmpeg: {done.next_options()}\n"
    )
    return 0
