"""A run's weights as one file that the filter and the command load, with a model card next to it."""

import importlib.metadata
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from vs_iconvsr import system, weights
from vs_iconvsr.atomic import write_atomically
from vs_iconvsr.networks.propagation import VideoNetwork

from .data.sequences import Sequences
from .loop import held_out
from .loop.config import as_json, differences, fingerprint, parse
from .loop.recipe import Recipe
from .loop.start import build

logger = logging.getLogger(__name__)

LICENSE = "Apache-2.0"  # of what was trained from fresh or bundled weights
CARD_MARK = "recipe sha256: "  # in every card that export ever wrote


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card of a model states. figures: Markdown, such as a table. command: how the model was trained.

    license: None means LICENSE where the run began with fresh or bundled weights, and none is stated otherwise.
    """

    name: str
    command: str
    figures: str = ""
    license: str | None = None


@dataclass(frozen=True)
class StartingWeights:
    """A file that a run began with. model: as the recipe names it. stated: the license in its metadata, if any."""

    model: str
    sha256: str
    bundled: bool
    stated: str = ""

    def __str__(self) -> str:
        license_ = f", license: {self.stated}" if self.stated else ""
        return f"{Path(self.model).name} (sha256 {self.sha256[:16]}{license_})"


class NoImprovementError(ValueError):
    """The trained network is no better than the one it started from."""


def export(
    recipe: Recipe,
    folder: Path,
    path: Path,
    *,
    card: ModelCard,
    held_out_set: Sequences,
    start: VideoNetwork,
    half: bool = False,
    force: bool = False,
) -> dict[str, float]:
    """Write the run's best averaged weights to `path` and its card to the .md beside it.

    Returns the held-out gains over bicubic in dB, by degradation. Raises NoImprovementError if they are not above those
    of `start` (the network that the run began with), unless force is set. half: round the weights to float16; the
    gains are then those of the rounded weights.
    """
    _check_recipe(recipe, folder)
    check_destination(path, recipe)
    began_with = starting_weights(recipe)
    network = load_trained(recipe, folder)
    if half:
        network = network.half().float()
    logger.info("measuring the new weights, then those before training, on the held-out data")
    gains = held_out.gains(network, held_out_set, recipe.degradations, watch=recipe.watch, device="cpu")
    before = held_out.gains(start, held_out_set, recipe.degradations, watch=recipe.watch, device="cpu")
    if not force:
        _refuse_no_improvement(
            folder, *(held_out.weighted_mean(found, recipe.degradations) for found in (gains, before))
        )
    provenance = _provenance(recipe, folder, card=card, began_with=began_with, gains=gains)
    weights.save(network, path, provenance=provenance, half=half)
    text = card_text(card, network, recipe, gains, provenance, began_with)
    write_atomically(path.with_suffix(".md"), text.encode())
    return gains


def _refuse_no_improvement(folder: Path, trained_db: float, before_db: float) -> None:
    if trained_db <= before_db:
        raise NoImprovementError(
            f"{folder}: expected held-out gains above those before training ({before_db:+.3f} dB), "
            f"got {trained_db:+.3f} dB; nothing was written; train on more high-quality scenes of the kind that it is "
            "for, or pass --force to export it anyway"
        )


def _provenance(
    recipe: Recipe,
    folder: Path,
    *,
    card: ModelCard,
    began_with: list[StartingWeights],
    gains: dict[str, float],
) -> dict[str, str]:
    """The metadata of the file: how it was made, and from what."""
    return {
        "name": card.name,
        "licence": card.license or default_license(began_with),
        "began_with": json.dumps({start.model: start.sha256 for start in began_with}),
        "command": card.command,
        "recipe": as_json(recipe),
        "recipe_sha256": fingerprint(recipe),
        "steps": f"{best_step(folder)} of {recipe.optimiser.steps}",
        "held_out_gain_over_bicubic_db": json.dumps({kind: round(gain, 3) for kind, gain in gains.items()}),
        "torch": torch.__version__,
        "vs_iconvsr": _version(),
    }


def check_destination(path: Path, recipe: Recipe) -> None:
    """Raise ValueError, before anything is measured, if the file cannot be written or would replace something else."""
    if path.suffix != ".safetensors":
        raise ValueError(f"--file: expected a name that ends in .safetensors, got {path}")
    if not path.parent.is_dir():
        remedy = system.remedy_for_missing_folder(path.parent)
        raise ValueError(f"--file: expected a folder that exists, got {path.parent}; make it: {remedy}")
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise ValueError(f"--file: expected a place to write a file, got {path}")
    card = path.with_suffix(".md")
    if card.exists() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{card}: expected no file or an earlier model card, got your own text; choose another --file")
    if path.exists() and not _is_export(path):
        raise ValueError(f"{path}: expected no file or an earlier export, got something else; choose another --file")
    given = [recipe.start.weights, recipe.start.flow, recipe.start.refill]
    if any(path.resolve() == Path(model).resolve() for model in given if model):
        raise ValueError(f"{path}: expected another file than the run began with, got the same; choose another --file")


def starting_weights(recipe: Recipe) -> list[StartingWeights]:
    """The files that a run of this recipe begins with."""
    bundled = {model.sha256 for model in weights.available() if model.origin == "bundled"}
    models = [model for model in (recipe.start.weights, recipe.start.flow, recipe.start.refill) if model]
    found = []
    for model in models:
        sha256 = weights.fingerprint(Path(model) if Path(model).is_file() else model)
        found.append(StartingWeights(model, sha256, sha256 in bundled, _stated_license(model)))
    return found


def default_license(began_with: list[StartingWeights]) -> str:
    """Ours where all weights are ours; what others' weights allow is for their owners to say."""
    foreign = [start for start in began_with if not start.bundled]
    if not foreign:
        return LICENSE
    return f"not stated: that of {' and '.join(map(str, foreign))} applies"


def _stated_license(model: str) -> str:
    try:
        return weights.info(model).metadata.get("licence", "")
    except weights.WeightsError:
        return ""  # a flow network alone


def _is_export(path: Path) -> bool:
    try:
        return "recipe_sha256" in weights.info(path).metadata
    except weights.WeightsError:
        return False


def load_trained(recipe: Recipe, folder: Path) -> VideoNetwork:
    """The best averaged weights of a run."""
    path = folder / "average.safetensors"
    if not path.exists():
        raise ValueError(
            f"{folder}: expected the folder of a run that was evaluated at least once, found no {path.name}"
        )
    network = build(recipe)
    network.load_state_dict(safetensors.torch.load_file(path))
    return network.eval().requires_grad_(False)


def best_step(folder: Path) -> int:
    """The step whose averaged weights were saved: the one with the best held-out gain."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluated = [line for line in lines if "gain_db" in line]
    return int(max(evaluated, key=lambda line: line["gain_db"])["step"])


def card_text(
    card: ModelCard,
    network: VideoNetwork,
    recipe: Recipe,
    gains: dict[str, float],
    provenance: dict[str, str],
    began_with: list[StartingWeights],
) -> str:
    """The model card in Markdown."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    learned = ", ".join(f"{d.kind} ({d.share:g})" for d in recipe.degradations)
    lines = [
        f"# {card.name}",
        "",
        f"{type(network).__name__}, x{network.scale}, {parameters:,} parameters. License: {provenance['licence']}.",
        "",
        f"- Made by: `{card.command}`",
        f"- Began with: {', '.join(map(str, began_with)) or 'fresh weights'}",
        f"- Training data: {_data_line(recipe)}",
        f"- Degradations (share): {learned}",
        f"- Steps: {provenance['steps']}; {CARD_MARK}{provenance['recipe_sha256'][:16]}",
        "- Held-out gain over bicubic, PSNR-Y: " + ", ".join(f"{kind} {gain:+.2f} dB" for kind, gain in gains.items()),
        "",
    ]
    return "\n".join(lines) + (f"\n{card.figures.strip()}\n" if card.figures else "")


def _data_line(recipe: Recipe) -> str:
    generator = recipe.data.train_generator
    if generator is None:
        return f"`{recipe.data.train}`"
    real = f"free photographs on {generator.photographs:.0%} of the canvases, " if generator.photographs else ""
    return (
        f"{generator.clips} clips of {generator.frames} frames, generated by `synthesise` "
        f"(seed {generator.seed}); {real}no real footage"
    )


def _check_recipe(recipe: Recipe, folder: Path) -> None:
    """Raise ValueError if the run was trained by another recipe: the card must state the run's own."""
    path = folder / "recipe.json"
    if path.exists() and (found := differences(recipe, parse(path.read_text(encoding="utf-8"), Recipe, path=path))):
        raise ValueError(
            f"{folder}: expected the recipe that the run was trained by, got another ({'; '.join(found)}); "
            "pass the recipe and every --set that were passed to train"
        )


def _version() -> str:
    try:
        return importlib.metadata.version("vapoursynth-iconvsr")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
