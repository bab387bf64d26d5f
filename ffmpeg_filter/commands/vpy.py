"""`iconvsr vpy`: a video as a ready VapourSynth script."""

import argparse
from pathlib import Path


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "vpy",
        help="write a ready VapourSynth script for a video, and show how to encode it",
        description="Writes a script and prints the vspipe | ffmpeg line that keeps color, timestamps and tracks.",
    )
    command.add_argument("input", type=Path, metavar="INPUT")
    command.add_argument("script", type=Path, nargs="?", metavar="SCRIPT.vpy", help="(default: INPUT.vpy)")
    command.add_argument("--output", type=Path, metavar="OUT.mkv", help="what the printed line writes")
    command.add_argument("--model", help="a name from `iconvsr models list`, or a weight file")
    command.add_argument("--ffmpeg", metavar="PATH", help="the ffmpeg to encode with")
    command.add_argument("--overwrite", action="store_true", help="replace SCRIPT if it exists")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the script and prints the line on standard output."""
    from ffmpeg_filter.media.ffmpeg import find_executable
    from ffmpeg_filter.media.probe import probe
    from ffmpeg_filter.vpy import generate_script
    from vs_iconvsr import weights
    from vs_iconvsr.atomic import write_atomically

    script = options.script or options.input.with_name(options.input.name + ".vpy")
    if script.exists() and not options.overwrite:
        raise ValueError(f"script: it exists already: {script}; pass --overwrite to replace it")
    scale = weights.scale_of(options.model or weights.DEFAULT_MODEL)
    output = options.output or options.input.with_name(f"{options.input.stem}.x{scale}.mkv")
    executable = find_executable(options.ffmpeg)
    generated = generate_script(probe(options.input), executable, script, output, model=options.model)
    write_atomically(script, generated.text.encode())
    options.say(generated.command)
    return 0
