"""A finished run as a weight file that the filter and the command take, with a card beside it that says what it is."""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from training.data.sequences import Sequences
from training.loop import held_out
from training.loop.config import as_json, differences, fingerprint, parse
from training.loop.recipe import Recipe
from training.loop.start import build
from vs_iconvsr import weights
from vs_iconvsr.networks.propagation import VideoNetwork

LICENCE = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is told of a model. figures: lines of Markdown, a table say; command: what made it."""

    name: str
    command: str
    figures: str = ""
    licence: str = LICENCE


class WorseError(ValueError):
    """The trained network is worse than what it started from."""


def export(
    recipe: Recipe,
    folder: Path,
    path: Path,
    *,
    card: Card,
    held_out_set: Sequences,
    start: VideoNetwork,
    half: bool = False,
    force: bool = False,
) -> dict[str, float]:
    """Write the run's best averaged weights to `path` and its card to the .md beside it.

    Returns the held-out gains over bicubic in dB, by degradation. Raises WorseError where they are not above the
    gains of `start` (the network that the run began with), unless force. half: weights are rounded to float16, and
    what is measured is what they are then.
    """
    _check_recipe(recipe, folder)
    network = trained(recipe, folder)
    if half:
        network = network.half().float()
    gains = held_out.gains(network, held_out_set, recipe.degradations, watch=recipe.watch, device="cpu")
    before = held_out.gains(start, held_out_set, recipe.degradations, watch=recipe.watch, device="cpu")
    ours, theirs = (held_out.mean(found, recipe.degradations) for found in (gains, before))
    if not force and ours <= theirs:
        raise WorseError(
            f"{folder}: expected held-out gains above those before training ({theirs:+.3f} dB), "
            f"got {ours:+.3f} dB; nothing was written (--force writes it all the same); "
            "train on more scenes of the kind that it is for, in good quality"
        )
    provenance = {
        "name": card.name,
        "licence": card.licence,
        "command": card.command,
        "recipe": as_json(recipe),
        "recipe_sha256": fingerprint(recipe),
        "steps": f"{steps_done(folder)} of {recipe.optimiser.steps}",
        "held_out_gain_over_bicubic_db": json.dumps({kind: round(gain, 3) for kind, gain in gains.items()}),
        "torch": torch.__version__,
        "vs_iconvsr": _version(),
    }
    weights.save(network, path, provenance=provenance, half=half)
    path.with_suffix(".md").write_text(card_text(card, network, recipe, gains, provenance))
    return gains


def trained(recipe: Recipe, folder: Path) -> VideoNetwork:
    """The best averaged weights of a run."""
    path = folder / "average.safetensors"
    if not path.exists():
        raise ValueError(f"{folder}: expected the folder of a run that was evaluated once, found no {path.name}")
    network = build(recipe)
    network.load_state_dict(safetensors.torch.load_file(path))
    return network.eval().requires_grad_(False)


def steps_done(folder: Path) -> int:
    """The step whose weights are in average.safetensors: the one with the best held-out gain."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "gain_db" in line]
    return int(max(evaluated, key=lambda line: line["gain_db"])["step"])


def card_text(
    card: Card, network: VideoNetwork, recipe: Recipe, gains: dict[str, float], provenance: dict[str, str]
) -> str:
    """The card in Markdown."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    learned = ", ".join(f"{d.kind} ({d.share:g})" for d in recipe.degradations)
    lines = [
        f"# {card.name}",
        "",
        f"{type(network).__name__}, x{network.scale}, {parameters:,} parameters. Licence: {card.licence}.",
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
    """The card must not tell of another recipe than the run's own."""
    path = folder / "recipe.json"
    if path.exists() and (found := differences(recipe, parse(path.read_text(), Recipe, path=path))):
        raise ValueError(
            f"{folder}: expected the recipe that it was trained by, got another ({'; '.join(found)}); "
            "give export the recipe and every --set that train was given"
        )


def _version() -> str:
    try:
        return importlib.metadata.version("vs-iconvsr")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
