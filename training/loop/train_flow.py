"""Flow first: a network's flow part learns exact flow of generated clips, and must pass a gate."""

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

from training.data.sequences import GeneratedSet, choose
from training.data.synthesise import FLOW_SCALE
from training.degrade.degradation import Degradation, degrade
from training.loop import checkpoint
from training.loop.config import fingerprint
from training.loop.recipe import FlowPretraining, Recipe
from training.loop.run_options import Means, Stopped, batches, stop_requests
from vs_iconvsr.networks.light import LightFlow
from vs_iconvsr.networks.spynet import SPyNet

logger = logging.getLogger(__name__)

FlowNetwork = LightFlow | SPyNet

CHECKPOINTS = "flow"  # folder below the run's for what is not done yet
EVERY_STEPS = 250  # it is looked at and saved
FASTEST_PX = 12.0  # lr px; what moves faster is not learned from: nothing of it is found again
_SAMPLE = 0xF1  # keeps these random streams apart from others of the recipe's seed


@dataclass(frozen=True)
class Pairs:
    """frame, neighbour (n, 3, h, w) in [0, 1] and the flow (n, 2, h, w) from one to the other in px."""

    frame: Tensor
    neighbour: Tensor
    flow: Tensor

    def to(self, device: str) -> "Pairs":
        return Pairs(self.frame.to(device), self.neighbour.to(device), self.flow.to(device))


class FlowGateError(RuntimeError):
    """The flow network did not learn: what would be trained on it is not worth the time."""


def pretrain_flow(
    network: FlowNetwork, recipe: Recipe, train: GeneratedSet, held_out: GeneratedSet, folder: Path, *, means: Means
) -> float:
    """Train the flow network in place; returns its end-point error over that of zero flow on held-out pairs.

    Goes on from where it was stopped, to the same bits on a CPU; raises Stopped where it is again, having saved.
    Raises FlowGateError where the error is not below the recipe's gate.
    """
    settings = recipe.flow
    if settings is None:
        raise ValueError("flow: expected settings for flow pretraining in the recipe, got none")
    saved = folder / CHECKPOINTS
    network.to(means.device)
    tame(network)
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    step = _resumed(saved, recipe, network, optimiser)
    with stop_requests(means) as stopped:
        for pairs in batches(PairSource(train, recipe), range(step, settings.steps), means):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
            here = pairs.to(means.device)
            loss = flow_loss(levels(network, here.frame, here.neighbour), here.flow)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            stop = stopped()
            if step % EVERY_STEPS == 0:
                share = error_share(network, held_out, recipe.degradations)
                logger.info("flow: step %d of %d, error %.3f of zero flow's", step, settings.steps, share)
            if step % EVERY_STEPS == 0 or stop:
                checkpoint.save(_state(recipe, network, optimiser, step), saved)
            if stop:
                raise Stopped(f"flow: step {step} of {settings.steps}")
    share = passed_gate(network, settings, held_out, recipe.degradations)
    shutil.rmtree(saved, ignore_errors=True)
    return share


def levels(network: FlowNetwork, frame: Tensor, neighbour: Tensor) -> list[Tensor]:
    """The flows from coarse to fine, each in px of its own level."""
    if isinstance(network, SPyNet):
        return network.refinements(frame, neighbour)
    flows: list[Tensor] = network(frame, neighbour)
    return flows


def tame(network: FlowNetwork) -> None:
    """Let every level of a fresh SPyNet (which is changed) begin near adding nothing; a light one does so by itself."""
    if isinstance(network, SPyNet):
        for name, parameter in network.named_parameters():
            if name.endswith("basic_module.4.conv.weight"):
                parameter.data.mul_(0.1)
            if name.endswith("basic_module.4.conv.bias"):
                parameter.data.zero_()


def passed_gate(
    network: FlowNetwork, settings: FlowPretraining, held_out: GeneratedSet, degradations: tuple[Degradation, ...]
) -> float:
    """The share of zero flow's error that is left, below the gate."""
    share = error_share(network, held_out, degradations)
    if share >= settings.gate:
        raise FlowGateError(
            f"flow: expected an end-point error below {settings.gate} of zero flow's, got {share:.3f}; "
            "train longer: --set flow.steps=…"
        )
    return share


class PairSource(torch.utils.data.Dataset[Pairs]):
    """The pairs of a step, for any step."""

    def __init__(self, clips: GeneratedSet, recipe: Recipe) -> None:
        if recipe.flow is None:
            raise ValueError("flow: expected settings for flow pretraining in the recipe, got none")
        self.clips, self.degradations, self.batch, self.seed = (
            clips,
            recipe.degradations,
            recipe.flow.batch,
            recipe.seed,
        )

    def __getitem__(self, step: int) -> Pairs:
        return sample(self.clips, self.degradations, self.batch, seed=self.seed, step=step)


def sample(clips: GeneratedSet, degradations: tuple[Degradation, ...], batch: int, *, seed: int, step: int) -> Pairs:
    """A function of seed and step alone. Both frames of a pair went through one draw of a degradation."""
    frames, neighbours, flows = [], [], []
    for i in range(batch):
        random = np.random.default_rng(np.random.SeedSequence([seed, _SAMPLE, step, i]))
        clip = int(random.integers(len(clips)))
        length, h, w = clips.shape(clip)
        start = int(random.integers(length - 1))
        gt = clips.read(clip, range(start, start + 2), slice(0, h), slice(0, w))
        lr = degrade(gt, choose(degradations, random), FLOW_SCALE, random=random).float() / 255.0
        flow = clips.read_flow(clip, start)
        lr, flow = _augmented(lr, flow, random)
        frames.append(lr[0])
        neighbours.append(lr[1])
        flows.append(flow)
    return Pairs(torch.stack(frames), torch.stack(neighbours), torch.stack(flows))


def flow_loss(flows: list[Tensor], truth: Tensor) -> Tensor:
    """Robust end-point error summed over the levels, where things move at a speed that can be followed."""
    total = truth.new_zeros(())
    for flow in flows:
        pooled = truth.shape[-1] // flow.shape[-1]
        wanted = F.avg_pool2d(truth, pooled) / pooled
        followed = F.avg_pool2d((truth.norm(dim=1, keepdim=True) < FASTEST_PX).float(), pooled)
        error = ((flow - wanted).square().sum(dim=1, keepdim=True) + 1e-4).sqrt()
        total = total + (followed * error).mean()
    return total


def error_share(network: FlowNetwork, clips: GeneratedSet, degradations: tuple[Degradation, ...]) -> float:
    """End-point error on fixed pairs over that of zero flow."""
    error = zero = 0.0
    for step in range(6):
        pairs = sample(clips, degradations, 8, seed=0, step=step).to(str(next(network.parameters()).device))
        with torch.inference_mode():
            flow = levels(network, pairs.frame, pairs.neighbour)[-1]
        followed = pairs.flow.norm(dim=1) < FASTEST_PX
        error += float((flow - pairs.flow).norm(dim=1)[followed].sum())
        zero += float(pairs.flow.norm(dim=1)[followed].sum())
    return error / zero


def _resumed(saved: Path, recipe: Recipe, network: FlowNetwork, optimiser: torch.optim.Adam) -> int:
    """The step to go on from; network and optimiser are changed to what they were there."""
    state = checkpoint.load(saved)
    if state is None or state["recipe"] != fingerprint(recipe):
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    logger.info("flow: going on from step %d", state["step"])
    return int(state["step"])


def _state(recipe: Recipe, network: FlowNetwork, optimiser: torch.optim.Adam, step: int) -> dict[str, Any]:
    return {
        "recipe": fingerprint(recipe),
        "step": step,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
    }


def _augmented(lr: Tensor, flow: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    for dim, signs in ((-1, (-1.0, 1.0)), (-2, (1.0, -1.0))):
        if random.random() < 0.5:
            lr, flow = lr.flip(dim), flow.flip(dim) * torch.tensor(signs).view(2, 1, 1)
    if random.random() < 0.5:
        lr, flow = lr.transpose(-1, -2), flow.transpose(-1, -2).flip(0)
    return lr, flow
