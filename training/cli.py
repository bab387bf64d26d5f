"""The training command: python -m training synthesise|prepare|from_sample|train|evaluate|export."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from vs_iconvsr import weights

from . import PROGRAM, commands
from .data.frames import LAYOUTS
from .data.prepare import Preparation
from .evaluate import CHANNELS, CONVENTIONS
from .loop.run_options import TrainingError
from .loop.train_flow import FlowGateError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns 0 when done, 1 after an error (reported on one line), 3 if stopped after saving, 130 if interrupted before
    there was anything to save.
    """
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if parsed.threads:
        torch.set_num_threads(parsed.threads)
    try:
        code: int = parsed.run(parsed)
    except (ValueError, TrainingError, FlowGateError, weights.WeightsError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError as error:
        print(
            f"training: out of memory: {str(error).splitlines()[0]}; pass --recompute, or less: --set patches.batch=…",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("training: interrupted", file=sys.stderr)
        return 130
    return code


def device(text: str) -> str:
    """A device that is there, for argparse."""
    try:
        kind = torch.device(text).type
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}") from error
    if kind not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("expected a CUDA device that torch can use, found none; leave --device out")
    if kind == "cuda" and (torch.device(text).index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"expected one of {torch.cuda.device_count()} CUDA devices, got {text!r}")
    return text


def count(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def gibibytes(text: str) -> float:
    """A finite number above 0, for argparse."""
    value = minutes(text)
    if value == 0.0:
        raise argparse.ArgumentTypeError(f"expected more than 0 GiB, got {text!r}")
    return value


def minutes(text: str) -> float:
    """A finite number of at least 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Training, evaluation and export of networks.")
    subparsers = parser.add_subparsers(required=True)

    def command(name: str, description: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=description, description=description)
        added.add_argument("--device", type=device, default="cpu", help="cpu or cuda (default: cpu)")
        added.add_argument(
            "--threads", type=count, default=0, help="number of CPU threads for torch; 0: torch's choice"
        )
        return added

    _add_prepare(command("prepare", "turn your own videos into training sequences"))
    _add_from_sample(command("from_sample", "measure degraded footage and write a recipe that learns to restore it"))
    _add_synthesise(command("synthesise", "render the generated clips that a recipe trains on"))
    _add_train(command("train", "train by a recipe; run the same command again to resume"))
    _add_evaluate(command("evaluate", "measure PSNR and SSIM of a model on folders of frames, next to bicubic"))
    _add_export(command("export", "write a run's weights as one file for the filter, with a model card"))
    return parser


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="name of a recipe in training/configs, or your own YAML file")
    parser.add_argument("--data", type=Path, required=True, help="folder that contains the recipe's data folders")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY.KEY=VALUE", help="override a value of the recipe; repeatable"
    )


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=Path, nargs="+", help="video files, or folders that contain them")
    parser.add_argument("--out", type=Path, required=True, help="data folder to create, or to add to")
    parser.add_argument("--frames", type=int, default=Preparation.frames, help="frames per sequence")
    parser.add_argument("--window", type=int, default=Preparation.window_px, metavar="PX", help="size of these frames")
    parser.add_argument(
        "--downscale", type=int, default=1, metavar="N", help="shrink N times first, for footage that is soft"
    )
    parser.add_argument("--held-out", type=float, default=Preparation.held_out, help="share of scenes for validation")
    parser.add_argument(
        "--most-gib", type=float, default=Preparation.most_gib, metavar="GIB", help="room for all sequences on the disk"
    )
    parser.set_defaults(run=commands.run_prepare)


def _add_from_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("footage", type=Path, help="degraded footage: a video file or a folder of frames")
    parser.add_argument("--out", type=Path, required=True, help="recipe to write, with a comparison image next to it")
    parser.add_argument(
        "--recipe", default="finetune", help="recipe to base it on: a name or a YAML file (default: finetune)"
    )
    parser.set_defaults(run=commands.run_from_sample)


def _add_synthesise(parser: argparse.ArgumentParser) -> None:
    _add_recipe(parser)
    parser.set_defaults(run=commands.run_synthesise)


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_recipe(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--workers", type=count, default=0, help="number of processes that prepare batches")
    parser.add_argument(
        "--recompute", action="store_true", help="use a fraction of the memory, for half as much time again"
    )
    parser.add_argument("--minutes", type=minutes, default=0.0, metavar="N", help="save and stop after N minutes")
    parser.add_argument(
        "--fit", type=gibibytes, metavar="GIB", help="choose batch, frames and patch size for this much memory"
    )
    parser.add_argument(
        "--extend", action="store_true", help="go on with a finished run, up to more steps: --set optimiser.steps=…"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write scalars and images for TensorBoard")
    parser.set_defaults(run=commands.run_train)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a bundled or official model name, or a weight file")
    parser.add_argument("clips", type=Path, help="folder of ground-truth frames")
    parser.add_argument("--layout", default="any", choices=LAYOUTS, help="layout of the folder (default: any)")
    parser.add_argument("--degradation", default="bi", help="bi, bd, bd-pfnl, or x264:CRF for BI followed by x264")
    parser.add_argument("--convention", default="basicsr", choices=CONVENTIONS, help="rounding (default: basicsr)")
    parser.add_argument("--channels", choices=CHANNELS, help="default: rgb for REDS, y (luma) for everything else")
    parser.add_argument("--crop", type=count, default=0, metavar="PX", help="border to exclude")
    parser.add_argument("--frames", type=count, default=0, metavar="N", help="first N frames of each clip; 0: all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--pictures", type=Path, help="write side-by-side images to this folder")
    parser.set_defaults(run=commands.run_evaluate)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_recipe(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--file", type=Path, required=True, help=".safetensors file to write")
    parser.add_argument("--figures", type=Path, help="Markdown file to include in the model card")
    parser.add_argument(
        "--license",
        metavar="TEXT",
        help="to state; default: Apache-2.0 if the run began with fresh or bundled weights",
    )
    parser.add_argument("--half", action="store_true", help="store float16 weights: half the file size")
    parser.add_argument("--force", action="store_true", help="export even if the weights are no better than the start")
    parser.set_defaults(run=commands.run_export)
