"""Flow first: LightVSR's flow network learns exact flow of generated clips, and must pass a gate."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.degrade import Degradation, degrade
from training.recipe import FlowPretraining, Recipe
from training.sequences import GeneratedSet, choose
from training.synthesise import FLOW_SCALE
from vs_iconvsr.networks.light import LightFlow

logger = logging.getLogger(__name__)

FASTEST_PX = 12.0  # lr px; what moves faster is not learned from: nothing of it is found again
_SAMPLE = 0xF1  # keeps these random streams apart from others of the recipe's seed


@dataclass(frozen=True)
class Pairs:
    """frame, neighbour (n, 3, h, w) in [0, 1] and the flow (n, 2, h, w) from one to the other in px."""

    frame: Tensor
    neighbour: Tensor
    flow: Tensor


class FlowGateError(RuntimeError):
    """The flow network did not learn: what would be trained on it is not worth the time."""


def pretrain_flow(network: LightFlow, recipe: Recipe, train: GeneratedSet, held_out: GeneratedSet) -> float:
    """Train the flow network in place; returns its end-point error over that of zero flow on held-out pairs.

    Raises FlowGateError where that is not below the recipe's gate.
    """
    settings = recipe.flow
    if settings is None:
        raise ValueError("flow: wanted settings for flow pretraining in the recipe, got none")
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
        pairs = sample(train, recipe.degradations, settings.batch, seed=recipe.seed, step=step)
        loss = flow_loss(network(pairs.frame, pairs.neighbour), pairs.flow)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 250 == 0:
            share = error_share(network, held_out, recipe.degradations)
            logger.info("flow: step %d of %d, error %.3f of zero flow's", step + 1, settings.steps, share)
    return passed_gate(network, settings, held_out, recipe.degradations)


def passed_gate(
    network: LightFlow, settings: FlowPretraining, held_out: GeneratedSet, degradations: tuple[Degradation, ...]
) -> float:
    """The share of zero flow's error that is left, below the gate."""
    share = error_share(network, held_out, degradations)
    if share >= settings.gate:
        raise FlowGateError(
            f"flow: wanted an end-point error below {settings.gate} of zero flow's, got {share:.3f}; "
            "train longer: --set flow.steps=…"
        )
    return share


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


def error_share(network: LightFlow, clips: GeneratedSet, degradations: tuple[Degradation, ...]) -> float:
    """End-point error on fixed pairs over that of zero flow."""
    error = zero = 0.0
    for step in range(6):
        pairs = sample(clips, degradations, 8, seed=0, step=step)
        with torch.inference_mode():
            flow = network(pairs.frame, pairs.neighbour)[-1]
        followed = pairs.flow.norm(dim=1) < FASTEST_PX
        error += float((flow - pairs.flow).norm(dim=1)[followed].sum())
        zero += float(pairs.flow.norm(dim=1)[followed].sum())
    return error / zero


def _augmented(lr: Tensor, flow: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    for dim, signs in ((-1, (-1.0, 1.0)), (-2, (1.0, -1.0))):
        if random.random() < 0.5:
            lr, flow = lr.flip(dim), flow.flip(dim) * torch.tensor(signs).view(2, 1, 1)
    if random.random() < 0.5:
        lr, flow = lr.transpose(-1, -2), flow.transpose(-1, -2).flip(0)
    return lr, flow
