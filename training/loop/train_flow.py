"""Flow pretraining: a network's flow part learns the exact flow of generated clips, and must pass a gate."""

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vs_iconvsr.networks.light import LightFlow
from vs_iconvsr.networks.spynet import SPyNet

from ..data.sequences import GeneratedSet, choose_degradation
from ..data.synthesise import FLOW_SCALE
from ..degrade.degradation import Degradation, degrade
from . import checkpoint
from .config import fingerprint
from .recipe import FlowPretraining, Recipe
from .run_options import RunOptions, RunStopped, load_batches, stop_requests

logger = logging.getLogger(__name__)

FlowNetwork = LightFlow | SPyNet

CHECKPOINTS = "flow"  # subfolder of the run's folder for unfinished pretraining
SAVE_STEPS = 250  # interval of measuring and saving
FASTEST_PX = 12.0  # lr px; faster motion is excluded from training: its content cannot be matched
_SAMPLE = 0xF1  # keeps these random streams apart from others of the recipe's seed


@dataclass(frozen=True)
class Pairs:
    """frame, neighbour (n, 3, h, w) in [0, 1] and the flow (n, 2, h, w) from the first to the second, in px."""

    frame: Tensor
    neighbour: Tensor
    flow: Tensor

    def to(self, device: str) -> "Pairs":
        return Pairs(self.frame.to(device), self.neighbour.to(device), self.flow.to(device))


class FlowGateError(RuntimeError):
    """The flow network did not learn; training a network on top of it would waste the time."""


def pretrain_flow(
    network: FlowNetwork,
    recipe: Recipe,
    train: GeneratedSet,
    held_out: GeneratedSet,
    folder: Path,
    *,
    options: RunOptions,
) -> float:
    """Train the flow network in place; returns its end-point error on held-out pairs, relative to zero flow's.

    Resumes where it was stopped, to the same bits on a CPU; raises RunStopped, after saving, if stopped again.
    Raises FlowGateError if the error is not below the recipe's gate.
    """
    settings = _settings(recipe)
    saved = folder / CHECKPOINTS
    network.to(options.device)
    damp_initial_flow(network)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    step = _resume(saved, recipe, network, optimizer)
    with stop_requests(options) as stop_requested:
        for pairs in load_batches(FlowPairSource(train, recipe), range(step, settings.steps), options):
            _learn(network, optimizer, pairs.to(options.device), settings, step)
            step += 1
            stop = stop_requested()
            if step % SAVE_STEPS == 0:
                share = error_share(network, held_out, recipe.degradations)
                logger.info("flow: step %d of %d, error %.3f of zero flow's", step, settings.steps, share)
            if step % SAVE_STEPS == 0 or stop:
                checkpoint.save(_state(recipe, network, optimizer, step), saved)
            if stop:
                raise RunStopped(f"flow: step {step} of {settings.steps}")
    share = check_gate(network, settings, held_out, recipe.degradations)
    shutil.rmtree(saved, ignore_errors=True)
    return share


def flow_levels(network: FlowNetwork, frame: Tensor, neighbour: Tensor) -> list[Tensor]:
    """The flows from coarse to fine, each in px of its own level."""
    if isinstance(network, SPyNet):
        return network.refinements(frame, neighbour)
    flows: list[Tensor] = network(frame, neighbour)
    return flows


def damp_initial_flow(network: FlowNetwork) -> None:
    """Make every level of a fresh SPyNet (which is changed) add almost nothing at first; LightFlow starts that way."""
    if isinstance(network, SPyNet):
        for name, parameter in network.named_parameters():
            if name.endswith("basic_module.4.conv.weight"):
                parameter.data.mul_(0.1)
            if name.endswith("basic_module.4.conv.bias"):
                parameter.data.zero_()


def check_gate(
    network: FlowNetwork, settings: FlowPretraining, held_out: GeneratedSet, degradations: tuple[Degradation, ...]
) -> float:
    """The error relative to zero flow's; FlowGateError if it is not below the gate."""
    share = error_share(network, held_out, degradations)
    if share >= settings.gate:
        raise FlowGateError(
            f"flow: expected an end-point error below {settings.gate} of zero flow's, got {share:.3f}; "
            "train longer: --set flow.steps=…"
        )
    return share


class FlowPairSource(torch.utils.data.Dataset[Pairs]):
    """The pairs of any step."""

    def __init__(self, clips: GeneratedSet, recipe: Recipe) -> None:
        self.clips, self.degradations = clips, recipe.degradations
        self.batch, self.seed = _settings(recipe).batch, recipe.seed

    def __getitem__(self, step: int) -> Pairs:
        return sample_pairs(self.clips, self.degradations, self.batch, seed=self.seed, step=step)


def sample_pairs(
    clips: GeneratedSet, degradations: tuple[Degradation, ...], batch: int, *, seed: int, step: int
) -> Pairs:
    """A function of seed and step alone. Both frames of a pair are degraded by the same draw."""
    frames, neighbours, flows = [], [], []
    for i in range(batch):
        random = np.random.default_rng(np.random.SeedSequence([seed, _SAMPLE, step, i]))
        clip = int(random.integers(len(clips)))
        length, h, w = clips.shape(clip)
        start = int(random.integers(length - 1))
        gt = clips.read(clip, range(start, start + 2), slice(0, h), slice(0, w))
        lr = degrade(gt, choose_degradation(degradations, random), FLOW_SCALE, random=random).float() / 255.0
        flow = clips.read_flow(clip, start)
        lr, flow = _augment(lr, flow, random)
        frames.append(lr[0])
        neighbours.append(lr[1])
        flows.append(flow)
    return Pairs(torch.stack(frames), torch.stack(neighbours), torch.stack(flows))


def flow_loss(flows: list[Tensor], truth: Tensor) -> Tensor:
    """Robust end-point error summed over the levels, where motion is slower than FASTEST_PX."""
    total = truth.new_zeros(())
    for flow in flows:
        pooled = truth.shape[-1] // flow.shape[-1]
        target = F.avg_pool2d(truth, pooled) / pooled
        trackable = F.avg_pool2d((truth.norm(dim=1, keepdim=True) < FASTEST_PX).float(), pooled)
        error = ((flow - target).square().sum(dim=1, keepdim=True) + 1e-4).sqrt()
        total = total + (trackable * error).mean()
    return total


def error_share(network: FlowNetwork, clips: GeneratedSet, degradations: tuple[Degradation, ...]) -> float:
    """End-point error on fixed pairs, relative to that of zero flow."""
    error = zero = 0.0
    for step in range(6):
        pairs = sample_pairs(clips, degradations, 8, seed=0, step=step).to(str(next(network.parameters()).device))
        with torch.inference_mode():
            flow = flow_levels(network, pairs.frame, pairs.neighbour)[-1]
        trackable = pairs.flow.norm(dim=1) < FASTEST_PX
        error += float((flow - pairs.flow).norm(dim=1)[trackable].sum())
        zero += float(pairs.flow.norm(dim=1)[trackable].sum())
    return error / zero


def _learn(
    network: FlowNetwork, optimizer: torch.optim.Adam, pairs: Pairs, settings: FlowPretraining, step: int
) -> None:
    """Take one step (network and optimizer are changed) at the cosine schedule's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
    loss = flow_loss(flow_levels(network, pairs.frame, pairs.neighbour), pairs.flow)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _settings(recipe: Recipe) -> FlowPretraining:
    if recipe.flow is None:
        raise ValueError("flow: expected settings for flow pretraining in the recipe, got none; add the key flow")
    return recipe.flow


def _resume(saved: Path, recipe: Recipe, network: FlowNetwork, optimizer: torch.optim.Adam) -> int:
    """The step to resume from; network and optimizer (which are changed) get the state that they had there."""
    state = checkpoint.load(saved)
    if state is None or state["recipe"] != fingerprint(recipe):
        return 0
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimiser"])
    logger.info("flow: resuming from step %d", state["step"])
    return int(state["step"])


def _state(recipe: Recipe, network: FlowNetwork, optimizer: torch.optim.Adam, step: int) -> dict[str, Any]:
    return {
        "recipe": fingerprint(recipe),
        "step": step,
        "network": network.state_dict(),
        "optimiser": optimizer.state_dict(),
    }


def _augment(lr: Tensor, flow: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    for dim, signs in ((-1, (-1.0, 1.0)), (-2, (1.0, -1.0))):
        if random.random() < 0.5:
            lr, flow = lr.flip(dim), flow.flip(dim) * torch.tensor(signs).view(2, 1, 1)
    if random.random() < 0.5:
        lr, flow = lr.transpose(-1, -2), flow.transpose(-1, -2).flip(0)
    return lr, flow
