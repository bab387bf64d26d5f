"""What each training command does with its parsed arguments. Each function returns the exit code."""

import argparse
import contextlib
import math
import sys
import time
from pathlib import Path

from vs_iconvsr import system, weights

from . import PROGRAM, folders
from .data.frames import FrameFolders, open_frames
from .data.prepare import Preparation, find_videos, prepare
from .data.sequences import open_sequences
from .data.synthesise import contact_sheet, synthesise
from .degrade import from_sample
from .degrade.degradation import Degradation
from .evaluate import (
    BICUBIC,
    EvaluationProtocol,
    Upscaler,
    bicubic_upscaler,
    evaluate,
    gt_and_lr,
    markdown_table,
    network_upscaler,
    results_as_json,
    save_side_by_side,
)
from .export import ModelCard, check_destination, export
from .loop.fit import MemoryEstimate, as_overrides, fitting_patches
from .loop.processes import first_process_first, is_first_process, join_processes, leave_processes
from .loop.recipe import Data, Recipe, read_recipe
from .loop.run_options import RunOptions, RunStopped
from .loop.start import build, starting_network
from .loop.train import train

CONFIGS = Path(__file__).parent / "configs"
FEW_SCENES = 10  # fine-tuning on two clips of another kind than the one measured gained nothing: see README.md
RGB_LAYOUTS = ("reds", "reds4")  # measured in RGB; all others on luma


def run_synthesise(arguments: argparse.Namespace) -> int:
    data = _recipe(arguments).data
    with folders.writing(arguments.data):
        _synthesise(data, arguments)
    print(f"next: {_command(arguments, 'train')} --out run")
    return 0


def _synthesise(data: Data, arguments: argparse.Namespace) -> None:
    for name, generator in ((data.train, data.train_generator), (data.held_out, data.held_out_generator)):
        if generator is not None:
            folder, image = arguments.data / name, arguments.data / f"{name}.png"
            synthesise(generator, folder, device=arguments.device)
            contact_sheet(folder, image)
            print(f"{folder}: {generator.clips} clips; for a preview, open {image}")


def run_prepare(arguments: argparse.Namespace) -> int:
    preparation = Preparation(
        frames=arguments.frames,
        window_px=arguments.window,
        downscale=arguments.downscale,
        held_out=arguments.held_out,
        most_gib=arguments.most_gib,
    )
    with folders.writing(arguments.out):
        scenes = prepare(find_videos(arguments.videos), arguments.out, preparation)
    for scene in scenes:
        print(f"{scene.video}: frames {scene.start} to {scene.stop - 1}: {scene.verdict}")
    kept = sum(scene.verdict == "kept" for scene in scenes)
    sequences = sum(scene.sequences for scene in scenes)
    print(f"{kept} of {len(scenes)} scenes kept, {sequences} sequences; see {arguments.out / 'report.html'}")
    if kept < FEW_SCENES:
        print(f"{kept} scenes are few: training on them helps footage of the same kind at most")
    if not any(scene.held_out for scene in scenes):
        print("no scene is held out: add footage, or validate on the training data: train … --set data.held_out=train")
    print(f"next: {PROGRAM} train finetune --data {_quoted(arguments.out)} --out run")
    return 0


def run_from_sample(arguments: argparse.Namespace) -> int:
    from_sample.check_destination(arguments.out)
    base = recipe_path(arguments.recipe)
    scale = build(read_recipe(base)).scale
    print("measuring, and simulating degradations to compare with: takes a few minutes", flush=True)
    estimated = from_sample.estimate(arguments.footage, scale=scale)
    text = from_sample.recipe_text(base.read_text(encoding="utf-8"), estimated, arguments.footage.name)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    read_recipe(arguments.out)
    image = arguments.out.with_suffix(".png")
    from_sample.write_comparison_image(arguments.footage, estimated, image)
    print("\n".join(from_sample.report_lines(estimated)))
    print(f"compare in {image}: your footage on the left, generated clips degraded the same way on the right")
    print(f"next: {PROGRAM} train {arguments.out} --data DATA --out RUN")
    return 0


def run_train(arguments: argparse.Namespace) -> int:
    if arguments.fit:
        _fit(arguments)
    recipe = _recipe(arguments)
    options = RunOptions(
        device=join_processes(arguments.device),
        workers=arguments.workers,
        recompute=arguments.recompute,
        until=time.monotonic() + 60.0 * arguments.minutes if arguments.minutes else math.inf,
        tensorboard=arguments.tensorboard,
        extend=arguments.extend,
    )
    is_first = is_first_process()
    only_run = folders.writing(arguments.out) if is_first else contextlib.nullcontext()
    with only_run, folders.reading(arguments.data):
        done = _train(recipe, arguments, options)
    leave_processes()
    if not done:
        print("stopped and saved; run the same command again to resume", file=sys.stderr)
        return 3
    if is_first:
        print(f"next: {_command(arguments, 'export')} --out {_quoted(arguments.out)} --file mine.safetensors")
    return 0


def _fit(arguments: argparse.Namespace) -> None:
    """Add the patches that fit to the options --set (which are changed); a run that exists keeps its own."""
    recipe, written = _recipe(arguments), arguments.out / "recipe.json"
    if written.exists():
        patches = read_recipe(written).patches
    else:
        network = build(recipe).requires_grad_(True)
        train_set = open_sequences(arguments.data / recipe.data.train, recipe.data.layout)
        estimate = MemoryEstimate(recipe, network, recompute=arguments.recompute)
        patches = fitting_patches(estimate, recipe.patches, train_set, gib=arguments.fit, scale=network.scale)
    overrides = as_overrides(patches)
    print(f"--fit: {', '.join(overrides)}", flush=True)
    arguments.set = [*arguments.set, *overrides]


def _train(recipe: Recipe, arguments: argparse.Namespace, options: RunOptions) -> bool:
    try:
        with first_process_first():
            start = starting_network(recipe, arguments.out, arguments.data, options=options)
        return train(
            recipe,
            arguments.out,
            train_set=open_sequences(arguments.data / recipe.data.train, recipe.data.layout),
            held_out_set=open_sequences(arguments.data / recipe.data.held_out, recipe.data.held_out_layout),
            start=start,
            options=options,
        )
    except RunStopped:
        return False


def run_evaluate(arguments: argparse.Namespace) -> int:
    _check_outputs(arguments)
    degradation = _degradation(arguments)
    network = weights.load(arguments.model)
    clips = open_frames(arguments.clips, layout=arguments.layout)
    protocol = EvaluationProtocol(
        convention=arguments.convention,
        channels=arguments.channels or ("rgb" if arguments.layout in RGB_LAYOUTS else "y"),
        crop_px=arguments.crop,
        mirrored=arguments.layout == "vimeo90k-test",
        frames=arguments.frames,
    )
    upscalers: dict[str, Upscaler] = {BICUBIC: bicubic_upscaler(network.scale)}
    upscalers[str(arguments.model)] = network_upscaler(network, device=arguments.device)
    results = evaluate(upscalers, clips, degradation, protocol, scale=network.scale)
    print(markdown_table(results))
    if arguments.json:
        arguments.json.write_text(results_as_json(results), encoding="utf-8")
    if arguments.pictures:
        _save_images(arguments, upscalers, clips, network.scale)
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raise ValueError for what could not be written after the work, or would be measured as a clip next time."""
    if arguments.json:
        if arguments.json.is_dir():
            raise ValueError(f"--json: expected a file, got a folder: {arguments.json}")
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    if arguments.pictures:
        if arguments.pictures.resolve().is_relative_to(arguments.clips.resolve()):
            raise ValueError(f"--pictures: expected a folder outside of the clips, got {arguments.pictures}")
        arguments.pictures.mkdir(parents=True, exist_ok=True)


def run_export(arguments: argparse.Namespace) -> int:
    recipe = _recipe(arguments)
    check_destination(arguments.file, recipe)
    card = ModelCard(
        name=arguments.file.stem,
        command=_training_command(arguments),
        figures=arguments.figures.read_text(encoding="utf-8") if arguments.figures else "",
        license=arguments.license,
    )
    gains = export(
        recipe,
        arguments.out,
        arguments.file,
        card=card,
        held_out_set=open_sequences(arguments.data / recipe.data.held_out, recipe.data.held_out_layout),
        start=starting_network(recipe, arguments.out, arguments.data),
        half=arguments.half,
        force=arguments.force,
    )
    print(f"{arguments.file}: held-out gain over bicubic: " + ", ".join(f"{k} {v:+.2f} dB" for k, v in gains.items()))
    print(f"next: iconvsr upscale IN OUT --model {_quoted(arguments.file)}")
    return 0


def recipe_path(given: str) -> Path:
    """The file of a recipe, given by its path or by the name of one of ours."""
    path, ours = Path(given), CONFIGS / f"{given}.yaml"
    if path.is_file():
        return path
    if not ours.exists():
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise ValueError(f"{given}: expected a recipe's file or one of {names}; found neither")
    return ours


def _recipe(arguments: argparse.Namespace) -> Recipe:
    return read_recipe(recipe_path(arguments.recipe), overrides=tuple(arguments.set))


def _degradation(arguments: argparse.Namespace) -> Degradation:
    """From "bi", "bd" …, or "x264:25": BI, then x264 at that CRF, without noise."""
    kind, colon, crf = arguments.degradation.partition(":")
    if not colon:
        return Degradation(kind=kind)
    try:
        value = float(crf if kind == "x264" else "none but x264 has one")
    except ValueError as error:
        raise ValueError(f"degradation: expected x264:CRF, such as x264:25, got {arguments.degradation!r}") from error
    return Degradation(kind=kind, crf=(value, value))


def _save_images(
    arguments: argparse.Namespace, upscalers: dict[str, Upscaler], clips: FrameFolders, scale: int
) -> None:
    """Write the middle frame of each clip: from each upscaler, then the ground truth."""
    for i, sequence in enumerate(clips.sequences):
        gt, lr = gt_and_lr(clips, i, _degradation(arguments), scale=scale, frames=arguments.frames)
        middle = len(gt) // 2
        hr = [upscale(lr)[middle] for upscale in upscalers.values()]
        path = arguments.pictures / f"{sequence.name.replace('/', '_')}.png"
        save_side_by_side([*hr, gt[middle].double()], path)
        print(f"{path}: {', '.join(upscalers)}, ground truth")


def _command(arguments: argparse.Namespace, name: str) -> str:
    """Another command on the same recipe and data."""
    overrides = "".join(f" --set {_quoted(override)}" for override in arguments.set)
    return f"{PROGRAM} {name} {_quoted(arguments.recipe)} --data {_quoted(arguments.data)}{overrides}"


def _quoted(value: object) -> str:
    return system.command_line([str(value)])


def _training_command(arguments: argparse.Namespace) -> str:
    """The command that trains this run, without the folders of this machine."""
    overrides = "".join(f" --set {override}" for override in arguments.set)
    return f"{PROGRAM} train {arguments.recipe} --data DATA --out RUN{overrides}"
