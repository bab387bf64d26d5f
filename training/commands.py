"""The training command: python -m training synthesise|prepare|from_sample|train|evaluate|export."""

import argparse
import contextlib
import datetime
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from training.data.frames import LAYOUTS, FrameFolders, open_frames
from training.data.prepare import Preparation, find_videos, prepare
from training.data.sequences import open_sequences
from training.data.synthesise import contact_sheet, synthesise
from training.degrade import from_sample
from training.degrade.degradation import Degradation
from training.evaluate import (
    BICUBIC,
    CHANNELS,
    CONVENTIONS,
    Protocol,
    Upscaler,
    as_json,
    by_bicubic,
    by_network,
    degraded,
    evaluate,
    markdown,
    side_by_side,
)
from training.export import Card, export
from training.loop.recipe import Recipe, read_recipe
from training.loop.run_options import Means, Stopped, TrainingError
from training.loop.start import build, starting_network
from training.loop.train import train
from training.loop.train_flow import FlowGateError
from vs_iconvsr import weights

CONFIGS = Path(__file__).parent / "configs"
FEW_SCENES = 10  # two clips of other kinds than the one measured on gained nothing: see README.md
RGB_LAYOUTS = ("reds", "reds4")  # measured in RGB; all others on luma


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 an error that is named in one line, 3 stopped by a signal after saving."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        code: int = options.run(options)
    except (ValueError, TrainingError, FlowGateError, weights.WeightsError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    return code


def _synthesise(options: argparse.Namespace) -> int:
    data = _recipe(options).data
    for name, generator in ((data.train, data.train_generator), (data.held_out, data.held_out_generator)):
        if generator is not None:
            synthesise(generator, options.data / name, device=options.device)
            contact_sheet(options.data / name, options.data / f"{name}.png")
            print(f"{options.data / name}: {generator.clips} clips, to look at: {options.data / name}.png")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    preparation = Preparation(
        frames=options.frames, window_px=options.window, downscale=options.downscale, held_out=options.held_out
    )
    found = prepare(find_videos(options.videos), options.out, preparation)
    for scene in found:
        print(f"{scene.video}: frames {scene.start} to {scene.stop - 1}: {scene.verdict}")
    kept = sum(scene.verdict == "kept" for scene in found)
    written = sum(scene.sequences for scene in found)
    print(f"{kept} of {len(found)} scenes kept, {written} sequences; to look at: {options.out / 'report.html'}")
    if kept < FEW_SCENES:
        print(f"{kept} scenes are few: what is trained on them will be better for footage of their kind, if for any")
    if not any(scene.held_out for scene in found):
        print("none is held out: add footage, or validate on what is trained on: train … --set data.held_out=train")
    return 0


def _from_sample(options: argparse.Namespace) -> int:
    base = recipe_path(options.recipe)
    scale = build(read_recipe(base)).scale
    print("measuring, and simulating to compare with: some minutes", flush=True)
    suffered = from_sample.estimate(options.footage, scale=scale)
    text = from_sample.recipe_text(base.read_text(), suffered, options.footage.name)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    read_recipe(options.out)
    from_sample.sheet(options.footage, suffered, options.out.with_suffix(".png"))
    print("\n".join(from_sample.told(suffered)))
    print(f"to look at: {options.out.with_suffix('.png')}: left your footage, right clips of ours degraded alike")
    print(f"next: python -m training train {options.out} --data DATA --out RUN")
    return 0


def _train(options: argparse.Namespace) -> int:
    recipe = _recipe(options)
    means = Means(
        device=_join_processes(options.device),
        workers=options.workers,
        recompute=options.recompute,
        until=time.monotonic() + 60.0 * options.minutes if options.minutes else math.inf,
        tensorboard=options.tensorboard,
    )
    try:
        with _first_process_first():
            start = starting_network(recipe, options.out, options.data, means=means)
        done = train(
            recipe,
            options.out,
            train_set=open_sequences(options.data / recipe.data.train, recipe.data.layout),
            held_out_set=open_sequences(options.data / recipe.data.held_out, recipe.data.held_out_layout),
            start=start,
            means=means,
        )
    except Stopped:
        done = False
    if dist.is_initialized():
        dist.destroy_process_group()
    if not done:
        print("stopped and saved; the same command goes on", file=sys.stderr)
    return 0 if done else 3


def _evaluate(options: argparse.Namespace) -> int:
    network = weights.load(options.model)
    clips = open_frames(options.clips, layout=options.layout)
    protocol = Protocol(
        convention=options.convention,
        channels=options.channels or ("rgb" if options.layout in RGB_LAYOUTS else "y"),
        crop_px=options.crop,
        mirrored=options.layout == "vimeo90k-test",
        frames=options.frames,
    )
    upscalers: dict[str, Upscaler] = {BICUBIC: by_bicubic(network.scale)}
    upscalers[str(options.model)] = by_network(network, device=options.device)
    results = evaluate(upscalers, clips, _degradation(options), protocol, scale=network.scale)
    print(markdown(results))
    if options.json:
        options.json.write_text(as_json(results))
    if options.pictures:
        _save_pictures(options, upscalers, clips, network.scale)
    return 0


def _degradation(options: argparse.Namespace) -> Degradation:
    """ "bi", "bd" …, or "x264:25": BI, then that encoder at that quality, without noise."""
    if not options.degradation.startswith("x264:"):
        return Degradation(kind=options.degradation)
    return Degradation(kind="x264", crf=(float(options.degradation[5:]),) * 2)


def _save_pictures(
    options: argparse.Namespace, upscalers: dict[str, Upscaler], clips: FrameFolders, scale: int
) -> None:
    """The middle frame of each clip: each upscaler's, then the truth."""
    options.pictures.mkdir(parents=True, exist_ok=True)
    for i, sequence in enumerate(clips.sequences):
        gt, lr = degraded(clips, i, _degradation(options), scale=scale, frames=options.frames)
        middle = len(gt) // 2
        shown = [upscale(lr)[middle] for upscale in upscalers.values()]
        path = options.pictures / f"{sequence.name.replace('/', '_')}.png"
        side_by_side([*shown, gt[middle].double()], path)
        print(f"{path}: {', '.join(upscalers)}, truth")


def _export(options: argparse.Namespace) -> int:
    recipe = _recipe(options)
    gains = export(
        recipe,
        options.out,
        options.file,
        card=Card(name=options.file.stem, command=_training_command(options), figures=_text_of(options.figures)),
        held_out_set=open_sequences(options.data / recipe.data.held_out, recipe.data.held_out_layout),
        start=starting_network(recipe, options.out, options.data),
        half=options.half,
        force=options.force,
    )
    print(f"{options.file}: held out, against bicubic: " + ", ".join(f"{k} {v:+.2f} dB" for k, v in gains.items()))
    return 0


def _training_command(options: argparse.Namespace) -> str:
    """What made the run, without this machine's folders."""
    overrides = "".join(f" --set {override}" for override in options.set)
    return f"python -m training train {options.recipe} --data DATA --out RUN{overrides}"


def _text_of(path: Path | None) -> str:
    return path.read_text() if path else ""


def _join_processes(device: str) -> str:
    """Under torchrun: join the other processes; each takes its own GPU."""
    if "WORLD_SIZE" not in os.environ:
        return device
    # They wait for the first one while it evaluates or pretrains flow: longer than torch finds natural.
    wait = datetime.timedelta(hours=12)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=wait)
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device


@contextlib.contextmanager
def _first_process_first() -> Iterator[None]:
    """What the first process writes, the others find."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    if not first:
        dist.barrier()
    yield
    if first and dist.is_initialized():
        dist.barrier()


def _recipe(options: argparse.Namespace) -> Recipe:
    return read_recipe(recipe_path(options.recipe), overrides=tuple(options.set))


def recipe_path(given: str) -> Path:
    """A recipe's file, or one of ours by its name."""
    path, ours = Path(given), CONFIGS / f"{given}.yaml"
    if path.is_file():
        return path
    if not ours.exists():
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise ValueError(f"{given}: expected a recipe's file or one of {names}; found neither")
    return ours


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, description: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=description, description=description)
        made.add_argument("--device", default="cpu", help="cpu or cuda")
        made.add_argument("--threads", type=int, default=0, help="torch's CPU threads; 0: as torch chooses")
        return made

    def with_recipe(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("recipe", help="a recipe's name (see training/configs), or your own YAML file")
        made.add_argument("--data", type=Path, required=True, help="the folder that the recipe's data lies in")
        made.add_argument("--set", action="append", default=[], metavar="KEY.KEY=VALUE", help="instead of the recipe's")
        return made

    synthesising = with_recipe(command("synthesise", "make the clips that a recipe trains on"))
    synthesising.set_defaults(run=_synthesise)
    sampling = command("from_sample", "a recipe that learns to undo what your own bad footage has suffered")
    sampling.add_argument("footage", type=Path, help="a video file, or a folder of frames, in the bad state")
    sampling.add_argument("--out", type=Path, required=True, help="the recipe to write; a picture comes beside it")
    sampling.add_argument(
        "--recipe", default="finetune", help="the recipe to take the rest from: a name or a YAML file"
    )
    sampling.set_defaults(run=_from_sample)
    preparing = command("prepare", "your own videos into sequences to train on")
    preparing.add_argument("videos", type=Path, nargs="+", help="video files, or folders of them")
    preparing.add_argument("--out", type=Path, required=True, help="the data folder to make")
    preparing.add_argument("--frames", type=int, default=Preparation.frames, help="frames of a sequence")
    preparing.add_argument("--window", type=int, default=Preparation.window_px, metavar="PX", help="its frames' size")
    preparing.add_argument("--downscale", type=int, default=1, metavar="N", help="for footage that is soft at its size")
    preparing.add_argument(
        "--held-out", type=float, default=Preparation.held_out, help="share of scenes to validate on"
    )
    preparing.set_defaults(run=_prepare)
    training = with_recipe(command("train", "train by a recipe; the same command again goes on after a stop"))
    training.add_argument("--out", type=Path, required=True, help="the run's folder")
    training.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    training.add_argument("--recompute", action="store_true", help="half the speed, a fraction of the memory")
    training.add_argument("--minutes", type=float, default=0.0, metavar="N", help="save and end after so long")
    training.add_argument("--tensorboard", action="store_true", help="write scalars and pictures for TensorBoard")
    training.set_defaults(run=_train)
    _add_evaluate(command("evaluate", "PSNR and SSIM of a model on folders of frames, beside bicubic"))
    exporting = with_recipe(command("export", "a run as a weight file for the filter, with a card beside it"))
    exporting.add_argument("--out", type=Path, required=True, help="the run's folder")
    exporting.add_argument("--file", type=Path, required=True, help="the .safetensors file to write")
    exporting.add_argument("--figures", type=Path, help="a Markdown file to add to the card")
    exporting.add_argument("--half", action="store_true", help="weights in float16: a file of half the size")
    exporting.add_argument("--force", action="store_true", help="even where it is worse than what it started from")
    exporting.set_defaults(run=_export)
    return parser


def _add_evaluate(evaluating: argparse.ArgumentParser) -> None:
    evaluating.add_argument("model", help="a bundled or official name, or a weight file")
    evaluating.add_argument("clips", type=Path, help="a folder of ground truth")
    evaluating.add_argument("--layout", default="any", choices=LAYOUTS, help="how the folder is laid out")
    evaluating.add_argument("--degradation", default="bi", help="bi, bd, bd-pfnl, or x264:CRF for BI and that encoder")
    evaluating.add_argument("--convention", default="basicsr", choices=CONVENTIONS, help="whose rounding")
    evaluating.add_argument("--channels", choices=CHANNELS, help="default: rgb for REDS, y (luma) for all others")
    evaluating.add_argument("--crop", type=int, default=0, metavar="PX", help="border that does not count")
    evaluating.add_argument("--frames", type=int, default=0, metavar="N", help="the first N of each clip; 0: all")
    evaluating.add_argument("--json", type=Path, help="write the figures here, too")
    evaluating.add_argument("--pictures", type=Path, help="write side-by-side pictures into this folder")
    evaluating.set_defaults(run=_evaluate)
