"""`iconvsr compare`: several models side by side on an HTML page."""

import argparse
import sys
from pathlib import Path

from ffmpeg_filter.commands.arguments import add_upscaling_arguments, help_with_default, settings_from
from ffmpeg_filter.job.report import progress_for
from vs_iconvsr import options as upscaling


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "compare",
        help="compare models on difficult moments of a video: an HTML page with sliders",
        description="Picks moments with motion, detail and darkness, upscales them with each model and writes one "
        "HTML page.",
    )
    command.add_argument("input", type=Path, metavar="INPUT", help="a video")
    command.add_argument(
        "page", type=Path, nargs="?", metavar="PAGE.html", help=help_with_default("the page", "INPUT.compare.html")
    )
    add_upscaling_arguments(command)
    group = command.add_argument_group("comparison")
    group.add_argument(
        "--models",
        metavar="A,B,…",
        help=help_with_default("models to compare: names, weight files, bicubic", "bicubic and --model"),
    )
    group.add_argument("--frames", metavar="N,N,…", help=help_with_default("frames to show", "picked by content"))
    group.add_argument("--overwrite", action="store_true", help=help_with_default("replace PAGE if it exists", "no"))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from ffmpeg_filter.compare.page import BICUBIC, compare
    from ffmpeg_filter.media.probe import probe
    from vs_iconvsr.atomic import write_atomically

    page = options.page or options.input.with_name(options.input.name + ".compare.html")
    if page.exists() and not options.overwrite:
        raise ValueError(f"page: expected a new file, got one that exists: {page}; pass --overwrite to replace it")
    source = probe(options.input)
    models = options.models.split(",") if options.models else [BICUBIC, options.model or upscaling.MODEL.default]
    moments = _frame_numbers(options.frames, source.num_frames) if options.frames else None
    text = compare(source, models, settings_from(options), progress_for("auto", sys.stderr), moments=moments)
    write_atomically(page, text.encode())
    options.print_line(str(page))
    return 0


def _frame_numbers(text: str, num_frames: int) -> list[int]:
    words = text.split(",")
    if not all(word.isdigit() and int(word) < num_frames for word in words):
        raise ValueError(f"frames: expected numbers from 0 to {num_frames - 1} separated by commas, got {text}")
    return [int(word) for word in words]
