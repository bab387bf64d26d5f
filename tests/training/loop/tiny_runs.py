"""Runs of a few steps of a network of a few thousand weights."""

from pathlib import Path

import torch

from training.data.sequences import GeneratedSet, Patches
from training.degrade.degradation import Degradation
from training.loop import checkpoint
from training.loop.recipe import Data, Network, Optimiser, Recipe, Watch
from training.loop.run_options import RunOptions
from training.loop.start import build
from training.loop.train import train

ARGUMENTS = {"mid_channels": 8, "num_blocks": 1, "flow_channels": 8, "scale": 4}


def recipe(*, steps: int = 12, evaluate: int = 6, save: int = 3, rate: float = 1e-3) -> Recipe:
    return Recipe(
        network=Network(arguments=ARGUMENTS),
        data=Data(train="", held_out=""),
        patches=Patches(batch=2, frames=3, patch_px=8),
        degradations=(Degradation(), Degradation(kind="video")),
        optimiser=Optimiser(steps=steps, learning_rate=rate, warm_up=2),
        watch=Watch(log=3, evaluate=evaluate, save=save, held_out_sequences=1),
    )


def run(settings: Recipe, clips: Path, folder: Path, *, options: RunOptions = RunOptions()) -> bool:  # noqa: B008 (frozen)
    torch.manual_seed(settings.seed)
    sequences = GeneratedSet(clips)
    return train(settings, folder, train_set=sequences, held_out_set=sequences, start=build(settings), options=options)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder)
    assert state is not None
    return {**state["network"], **{f"average.{name}": value for name, value in state["average"].items()}}
