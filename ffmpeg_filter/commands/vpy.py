"""`iconvsr vpy`: a VapourSynth script for a video."""

import argparse
from pathlib import Path

from ffmpeg_filter.commands.arguments import add_option, add_size_arguments, help_with_default, target_size_from
from vs_iconvsr import options as upscaling


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "vpy",
        help="write a VapourSynth script for a video and print the command that encodes it",
        description="Writes a script and prints the vspipe | ffmpeg command that encodes it, keeping color, "
        "timestamps and tracks.",
    )
    command.add_argument("input", type=Path, metavar="INPUT", help="a video")
    command.add_argument(
        "script", type=Path, nargs="?", metavar="SCRIPT.vpy", help=help_with_default("the script", "INPUT.vpy")
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="OUT.mkv",
        help=help_with_default(
            "the file that the printed command writes", "INPUT with .xSCALE.mkv in place of its suffix"
        ),
    )
    add_option(command, upscaling.MODEL)
    add_size_arguments(command)
    command.add_argument(
        "--ffmpeg",
        metavar="PATH",
        help=help_with_default("the ffmpeg to encode with", "ICONVSR_FFMPEG, else on PATH, else the bundled one"),
    )
    command.add_argument(
        "--overwrite", action="store_true", help=help_with_default("replace SCRIPT if it exists", "no")
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the script and prints the command."""
    from ffmpeg_filter.media.ffmpeg import find_executable
    from ffmpeg_filter.media.probe import probe
    from ffmpeg_filter.vpy import generate_script
    from vs_iconvsr import weights
    from vs_iconvsr.atomic import write_atomically

    script = options.script or options.input.with_name(options.input.name + ".vpy")
    if script.exists() and not options.overwrite:
        raise ValueError(f"script: expected a new file, got one that exists: {script}; pass --overwrite to replace it")
    scale = weights.scale_of(options.model or upscaling.MODEL.default)
    output = options.output or options.input.with_name(f"{options.input.stem}.x{scale}.mkv")
    executable = find_executable(options.ffmpeg)
    source, size = probe(options.input), target_size_from(options)
    generated = generate_script(source, executable, script, output, model=options.model, target_size=size)
    write_atomically(script, generated.text.encode())
    options.print_line(generated.command)
    return 0
