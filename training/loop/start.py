"""The starting point of a run: fresh weights, given weight files, and flow pretraining."""

import logging
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from vs_iconvsr import weights
from vs_iconvsr.atomic import write_atomically
from vs_iconvsr.networks.basicvsr import FlowAlignedNetwork
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import GeneratedSet
from .recipe import Recipe
from .run_options import RunOptions
from .train_flow import FlowNetwork, check_gate, pretrain_flow

logger = logging.getLogger(__name__)

FLOW_FILE = "flow.safetensors"


def build(recipe: Recipe) -> VideoNetwork:
    """The recipe's network: with fresh weights from its seed, or with those of start.weights."""
    if recipe.network is None:
        assert recipe.start.weights is not None
        return weights.load(recipe.start.weights)
    torch.manual_seed(recipe.seed)
    return recipe.network.build()


def starting_network(recipe: Recipe, folder: Path, data: Path, *, options: RunOptions | None = None) -> VideoNetwork:
    """The network before its first step, on the CPU: a function of the recipe, its data and the files it names.

    A flow network pretrained for this run is saved in `folder` and reused from there. Raises RunStopped if
    pretraining was asked to stop; the next call resumes it.
    """
    network = build(recipe)
    if recipe.start.flow and isinstance(network, LightVSR):
        _load_flow(network.flow_network, Path(recipe.start.flow))
    elif recipe.start.flow:
        _load_part(network, "spynet", recipe.start.flow)
    if recipe.start.refill:
        _load_part(network, "edvr", recipe.start.refill)
    if recipe.flow and not recipe.start.flow:
        _pretrain(network, recipe, folder, data, options or RunOptions())
    return network.cpu()


def save_flow(network: FlowNetwork, path: Path) -> None:
    """Write the flow network alone, for `start.flow` of other recipes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save({k: v.contiguous() for k, v in network.state_dict().items()}))


def _pretrain(network: VideoNetwork, recipe: Recipe, folder: Path, data: Path, options: RunOptions) -> None:
    """Give the network (which is changed) pretrained flow that passes the gate."""
    assert recipe.flow is not None
    flow = _flow_part(network)
    held_out = GeneratedSet(data / recipe.data.held_out)
    saved = folder / FLOW_FILE
    if saved.exists():
        _load_flow(flow, saved)
        share = check_gate(flow, recipe.flow, held_out, recipe.degradations)
    else:
        share = pretrain_flow(flow, recipe, GeneratedSet(data / recipe.data.train), held_out, folder, options=options)
        save_flow(flow, saved)
    logger.info("flow: end-point error on held-out clips is %.3f of zero flow's", share)


def _flow_part(network: VideoNetwork) -> FlowNetwork:
    if isinstance(network, LightVSR):
        return network.flow_network
    if isinstance(network, FlowAlignedNetwork):
        return network.spynet
    raise ValueError(f"flow: expected a network with a flow network, got {type(network).__name__}; remove the key")


def _load_flow(network: FlowNetwork, path: Path) -> None:
    """Load a file written by `save_flow` into the network (which is changed)."""
    if not path.exists():
        raise ValueError(f"{path}: expected the weights of a flow network, found no file; check start.flow")
    tensors = safetensors.torch.load_file(path)
    expected = network.state_dict()
    if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in tensors.items()}:
        raise ValueError(f"{path}: expected the weights of this recipe's flow network, got other keys or shapes")
    network.load_state_dict(tensors)


def _load_part(network: VideoNetwork, attribute: str, model: str) -> None:
    """Load SPyNet or EDVR-M (which is changed) from a file of that part alone or of a whole network containing it."""
    module = getattr(network, attribute, None)
    if module is None:
        raise ValueError(f"start: expected a network with {attribute}, got {type(network).__name__}; remove {model}")
    assert isinstance(module, nn.Module)
    part = weights.load_part(model)
    if type(part) is not type(module):
        raise ValueError(f"{model}: expected {type(module).__name__}, got {type(part).__name__}")
    module.load_state_dict(part.state_dict())
