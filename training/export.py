"""A run's weights as one file that the filter and the command load, with a model card next to it."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from vs_iconvsr import weights
from vs_iconvsr.networks.propagation import VideoNetwork

from .data.sequences import Sequences
from .loop import held_out
from .loop.config import as_json, differences, fingerprint, parse
from .loop.recipe import Recipe
from .loop.start import build

LICENSE = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card of a model states. figures: Markdown, such as a table. command: how the model was trained."""

    name: str
    command: str
    figures: str = ""
    license: str = LICENSE


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
    network = load_trained(recipe, folder)
    if half:
        network = network.half().float()
    gains = held_out.gains(network, held_out_set, recipe.degradations, watch=recipe.watch, device="cpu")
    before = held_out.gains(start, held_out_set, recipe.degradations, watch=recipe.watch, device="cpu")
    ours, theirs = (held_out.weighted_mean(found, recipe.degradations) for found in (gains, before))
    if not force and ours <= theirs:
        raise NoImprovementError(
            f"{folder}: expected held-out gains above those before training ({theirs:+.3f} dB), "
            f"got {ours:+.3f} dB; nothing was written; train on more high-quality scenes of the kind that it is for, "
            "or pass --force to export it anyway"
        )
    provenance = _provenance(card, recipe, folder, gains)
    weights.save(network, path, provenance=provenance, half=half)
    path.with_suffix(".md").write_text(card_text(card, network, recipe, gains, provenance))
    return gains


def _provenance(card: ModelCard, recipe: Recipe, folder: Path, gains: Mapping[str, float]) -> dict[str, str]:
    """The metadata of the weight file."""
    return {
        "name": card.name,
        "licence": card.license,  # the spelling of the bundled files
        "command": card.command,
        "recipe": as_json(recipe),
        "recipe_sha256": fingerprint(recipe),
        "steps": f"{best_step(folder)} of {recipe.optimiser.steps}",
        "held_out_gain_over_bicubic_db": json.dumps({kind: round(gain, 3) for kind, gain in gains.items()}),
        "torch": torch.__version__,
        "vs_iconvsr": _version(),
    }


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
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "gain_db" in line]
    return int(max(evaluated, key=lambda line: line["gain_db"])["step"])


def card_text(
    card: ModelCard, network: VideoNetwork, recipe: Recipe, gains: dict[str, float], provenance: dict[str, str]
) -> str:
    """The model card in Markdown."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    learned = ", ".join(f"{d.kind} ({d.share:g})" for d in recipe.degradations)
    lines = [
        f"# {card.name}",
        "",
        f"{type(network).__name__}, x{network.scale}, {parameters:,} parameters. License: {card.license}.",
        "",
        f"- Made by: `{card.command}`",
        f"- Training data: {_data_line(recipe)}",
        f"- Degradations (share): {learned}",
        f"- Steps: {provenance['steps']}; recipe sha256: {provenance['recipe_sha256'][:16]}",
        "- Held-out gain over bicubic, PSNR-Y: " + ", ".join(f"{kind} {gain:+.2f} dB" for kind, gain in gains.items()),
        "",
    ]
    return "\n".join(lines) + (f"\n{card.figures.strip()}\n" if card.figures else "")


def _data_line(recipe: Recipe) -> str:
    generator = recipe.data.train_generator
    if generator is None:
        return f"`{recipe.data.train}`"
    return (
        f"{generator.clips} clips of {generator.frames} frames, drawn and filmed by `synthesise` "
        f"(seed {generator.seed}); no footage of anybody"
    )


def _check_recipe(recipe: Recipe, folder: Path) -> None:
    """Raise ValueError if the run was trained by another recipe: the card must state the run's own."""
    path = folder / "recipe.json"
    if path.exists() and (found := differences(recipe, parse(path.read_text(), Recipe, path=path))):
        raise ValueError(
            f"{folder}: expected the recipe that the run was trained by, got another ({'; '.join(found)}); "
            "pass the recipe and every --set that were passed to train"
        )


def _version() -> str:
    try:
        return importlib.metadata.version("vapoursynth-iconvsr")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
