"""`iconvsr compare`: several models side by side on one page."""

import argparse
import sys
from pathlib import Path

from ffmpeg_filter.commands.upscale import add_model_arguments, settings_from
from ffmpeg_filter.job.report import progress_for


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "compare",
        help="hard moments of a video by several models, on one HTML page with sliders",
        description="Picks moments with motion, detail and darkness, upscales them, and writes one page to look at.",
    )
    command.add_argument("input", type=Path, metavar="INPUT")
    command.add_argument("page", type=Path, nargs="?", metavar="PAGE.html", help="(default: INPUT.compare.html)")
    add_model_arguments(command)
    command.add_argument("--models", metavar="A,B,…", help="names, files, and bicubic (default: bicubic and --model)")
    command.add_argument("--frames", metavar="N,N,…", help="these frames instead of picked ones")
    command.add_argument("--overwrite", action="store_true", help="replace PAGE if it exists")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the page and says its name on standard output."""
    from ffmpeg_filter.compare.page import BICUBIC, compare
    from ffmpeg_filter.media.probe import probe
    from vs_iconvsr import weights
    from vs_iconvsr.atomic import write_atomically

    target = options.page or options.input.with_name(options.input.name + ".compare.html")
    if target.exists() and not options.overwrite:
        raise ValueError(f"page: it exists already: {target}; pass --overwrite to replace it")
    source = probe(options.input)
    models = options.models.split(",") if options.models else [BICUBIC, options.model or weights.DEFAULT_MODEL]
    moments = _frames(options.frames, source.num_frames) if options.frames else None
    text = compare(source, models, settings_from(options), progress_for("auto", sys.stderr), moments=moments)
    write_atomically(target, text.encode())
    options.say(str(target))
    return 0


def _frames(text: str, num_frames: int) -> list[int]:
    words = text.split(",")
    if not all(word.isdigit() and int(word) < num_frames for word in words):
        raise ValueError(f"frames: expected numbers from 0 to {num_frames - 1} with commas between, got {text}")
    return [int(word) for word in words]
