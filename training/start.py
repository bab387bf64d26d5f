"""Where a run starts: fresh weights, given weight files, and flow pretraining."""

import logging
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from training.recipe import Recipe
from training.sequences import GeneratedSet
from training.train_flow import passed_gate, pretrain_flow
from vs_iconvsr.networks.light import LightFlow, LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

logger = logging.getLogger(__name__)

FLOW_FILE = "flow.safetensors"


def starting_network(recipe: Recipe, folder: Path, data: Path) -> VideoNetwork:
    """The network before its first step: a function of the recipe, its data and the files it names.

    A flow network that was pretrained for this run is kept in `folder` and taken from there the next time.
    """
    torch.manual_seed(recipe.seed)
    network = recipe.network.build()
    if recipe.start.weights:
        _load(network, Path(recipe.start.weights), part="")
    for part, name, attributes in (
        ("flow", recipe.start.flow, ("flow_network", "spynet")),
        ("refill", recipe.start.refill, ("edvr",)),
    ):
        if name:
            _load(_part(network, part, attributes), Path(name), part=attributes[0])
    if recipe.flow and not recipe.start.flow and not recipe.start.weights:
        _pretrained(network, recipe, folder, data)
    return network


def _pretrained(network: VideoNetwork, recipe: Recipe, folder: Path, data: Path) -> None:
    """Give the network (which is changed) a flow network that passed the gate."""
    if not isinstance(network, LightVSR) or recipe.flow is None:
        raise ValueError(f"flow: wanted pretraining for LightVSR only, got {type(network).__name__}; take out the key")
    held_out = GeneratedSet(data / recipe.data.held_out)
    kept = folder / FLOW_FILE
    if kept.exists():
        _load(network.flow_network, kept, part="flow_network")
        share = passed_gate(network.flow_network, recipe.flow, held_out, recipe.degradations)
    else:
        share = pretrain_flow(network.flow_network, recipe, GeneratedSet(data / recipe.data.train), held_out)
        save_flow(network.flow_network, kept)
    logger.info("flow: end-point error %.3f of zero flow's on held-out clips", share)


def save_flow(network: LightFlow, path: Path) -> None:
    """The flow network alone, for `start.flow` of other recipes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    safetensors.torch.save_file({key: value.contiguous() for key, value in network.state_dict().items()}, part)
    part.replace(path)


def _part(network: VideoNetwork, part: str, attributes: tuple[str, ...]) -> nn.Module:
    for attribute in attributes:
        module = getattr(network, attribute, None)
        if isinstance(module, nn.Module):
            return module
    raise ValueError(f"start.{part}: wanted a network with one, got {type(network).__name__}")


def _load(module: nn.Module, path: Path, *, part: str) -> None:
    """Weights of the module from a file of it alone or of a whole network that has it under `part`."""
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    prefix = f"{part}."
    if part and any(key.startswith(prefix) for key in tensors):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    wanted = set(module.state_dict())
    if wanted != set(tensors):
        raise ValueError(
            f"{path}: wanted the weights of {type(module).__name__}, "
            f"missing {sorted(wanted - set(tensors))[:5]}, unexpected {sorted(set(tensors) - wanted)[:5]}"
        )
    module.load_state_dict(tensors)
