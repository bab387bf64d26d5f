"""The state of a training run, all of which a checkpoint holds, and what changes it."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vs_iconvsr import weights
from vs_iconvsr.atomic import write_atomically
from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import Batch, Sequences
from . import checkpoint, held_out
from .config import as_json, differences, parse
from .metrics_log import MetricsLog, StepClock
from .optimization import (
    FLOW_PARTS,
    REFILL_PARTS,
    autocast,
    charbonnier,
    clear_gradients,
    gradient_scaler,
    learning_rate,
    parameter_groups,
)
from .recipe import Recipe
from .run_options import RunOptions, TrainingError
from .run_page import RunPage
from .steps import wrap_steps

logger = logging.getLogger(__name__)

MAX_ROLLBACKS = 3
BEST = "average.safetensors"


class TrainingRun:
    """The network that is trained (it is changed), its moving average, the optimizer, and the position in the run."""

    def __init__(self, recipe: Recipe, folder: Path, network: VideoNetwork, options: RunOptions) -> None:
        self.recipe, self.folder, self.device, self.extend = recipe, folder, options.device, options.extend
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        # This memory layout suits the vector units of CPUs and GPUs alike.
        self.network = network.to(options.device).to(memory_format=torch.channels_last).train().requires_grad_(True)
        self.forward: nn.Module = wrap_steps(
            self.network, recompute=options.recompute, compiled=recipe.optimiser.compiled
        )
        if self.world > 1:
            self.forward = DistributedDataParallel(self.forward, find_unused_parameters=True)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.Adam(parameter_groups(self.network), betas=recipe.optimiser.betas)
        self.scaler = gradient_scaler(recipe.optimiser, options.device)
        self.step = 0
        self.rollbacks = 0
        self.best_gain = -math.inf
        self.evaluations_since_best = 0
        self.evaluation_s = 0.0  # how long the last one took
        self.start_gains: dict[str, float] = {}  # of the given weights, by degradation; empty for fresh ones
        self.loss = 0.0  # moving average, for the log
        self.clock = StepClock()
        self.page = RunPage(folder, total=recipe.optimiser.steps, active=self.rank == 0)
        self.metrics = MetricsLog(folder, active=self.rank == 0, tensorboard=options.tensorboard)

    def learn(self, batch: Batch) -> bool:
        """Take one step; returns False after a rollback because the loss or its gradient was not finite."""
        settings = self.recipe.optimiser
        rate = learning_rate(settings, self.step) * 0.5**self.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (settings.flow_share if group["flow"] else 1.0)
        lr, gt = batch.as_floats(self.device)
        with autocast(settings.precision, self.device):
            hr = self.forward(lr)
        loss = charbonnier(hr, gt, epsilon=settings.epsilon, luma_share=settings.luma_share)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm or math.inf)
        # Gradients that overflow float16 are the scaler's to handle: it lowers its scale and skips the step.
        finite = torch.isfinite(loss.detach()) & (torch.isfinite(norm) | self.scaler.is_enabled())
        if self.any_process(not bool(finite)):
            self._roll_back()
            return False
        if self.step < settings.frozen:
            clear_gradients(self.network, FLOW_PARTS + REFILL_PARTS)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._update_average(settings.average)
        self.step += 1
        value = float(loss.detach())
        self.loss = value if self.loss == 0.0 else 0.98 * self.loss + 0.02 * value
        return True

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all must agree, or those that continue wait forever."""
        if self.world == 1:
            return flag
        count = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(count)
        return float(count) > 0.0

    def log(self) -> None:
        seconds, waited = self.clock.read(self.step)
        total = self.recipe.optimiser.steps
        self.metrics.write(
            self.step, loss=self.loss, seconds_per_step=round(seconds, 4), data_wait_share=round(waited, 4)
        )
        self.page.renew()
        if self.rank == 0:
            left = (total - self.step) * seconds / 60.0
            logger.info(
                "step %d of %d, loss %.5f, %.2f s per step, %.0f min left", self.step, total, self.loss, seconds, left
            )

    def measure_start(self, sequences: Sequences) -> None:
        """Record the held-out gain of the weights that were given: what training has to improve on."""
        if self.rank == 0 and self.recipe.start.weights is not None:
            began = time.monotonic()
            self.start_gains = self._gains(sequences)
            self.evaluation_s = time.monotonic() - began
            logger.info("held out, over bicubic, before training: %s", _format_gains(self.start_gains))

    def evaluate(self, sequences: Sequences) -> None:
        """Record the held-out gain of the averaged weights; the best ones are saved as average.safetensors."""
        if self.rank:
            return
        began = time.monotonic()
        with self._averaged_weights():
            gains = self._gains(sequences)
            images = held_out.comparison_images(self.network, sequences, self.recipe.degradations, device=self.device)
        self.metrics.write_images(self.step, {f"bicubic, hr, gt/{kind}": image for kind, image in images.items()})
        self.page.add_images(self.step, images)
        mean = _record_gains(self.metrics, self.step, gains, self.start_gains, self.recipe)
        self.evaluations_since_best += 1
        if mean > self.best_gain:
            self.best_gain, self.evaluations_since_best = mean, 0
            provenance = {"training": f"step {self.step}, {mean:+.3f} dB over bicubic, not exported"}
            with self._averaged_weights():
                weights.save(self.network, self.folder / BEST, provenance=provenance)
        self.page.write()
        self.evaluation_s = time.monotonic() - began

    @property
    def exhausted(self) -> bool:
        """Whether the held-out gain has not improved for as long as the recipe allows."""
        return 0 < self.recipe.watch.patience <= self.evaluations_since_best

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The network has its averaged weights in this block."""
        raw = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        yield
        self.network.load_state_dict(raw)

    def save(self) -> None:
        if self.rank == 0:
            checkpoint.save(self._state(), self.folder)

    def resume(self) -> None:
        """Restore the checkpoint in the folder; TrainingError if it belongs to another recipe."""
        state = checkpoint.load(self.folder)
        if state is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.rank == 0:
                _set_aside_best(self.folder)
                self.metrics.discard_after(-1)
                self.page.discard_after(-1)
                _write_recipe(self.recipe, self.folder)
            return
        # Parsed as a recipe, so that keys which did not exist yet have their default values.
        theirs = parse(state["recipe"], Recipe, path=self.folder / "recipe.json")
        longer = self.extend and state["step"] >= theirs.optimiser.steps < self.recipe.optimiser.steps
        if longer:
            theirs = replace(theirs, optimiser=replace(theirs.optimiser, steps=self.recipe.optimiser.steps))
        if found := differences(self.recipe, theirs):
            raise TrainingError(
                f"{self.folder}: expected a run of this recipe, got one of another ({'; '.join(found)}); "
                "continue with that recipe, choose another --out, or pass --extend to go on with a finished run "
                "for more steps"
            )
        self._restore(state)
        self.metrics.discard_after(self.step)
        self.page.discard_after(self.step)
        if longer:
            self._begin_extension()
        logger.info("resuming from step %d", self.step)

    def _state(self) -> dict[str, Any]:
        """Everything that the run needs to continue; the keys are the file format of checkpoints."""
        return {
            "recipe": as_json(self.recipe),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "rollbacks": self.rollbacks,
            "best_gain": self.best_gain,
            "evaluations_since_best": self.evaluations_since_best,
            "start_gains": self.start_gains,
            "scaler": self.scaler.state_dict(),
            "loss": self.loss,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimizer.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.step, self.rollbacks = state["step"], state["rollbacks"]
        self.best_gain, self.loss, self.start_gains = state["best_gain"], state["loss"], state["start_gains"]
        self.evaluations_since_best = state.get("evaluations_since_best", 0)
        self.scaler.load_state_dict(state["scaler"])
        self.clock.restart(self.step)

    def _roll_back(self) -> None:
        """Return to the last checkpoint, with half the learning rate from there on."""
        failed, rollbacks = self.step, self.rollbacks + 1
        state = checkpoint.load(self.folder)
        if state is None or rollbacks > MAX_ROLLBACKS:
            raise TrainingError(
                f"step {failed}: expected a finite loss and gradient, got none after {rollbacks - 1} rollbacks; "
                "lower the learning rate: --set optimiser.learning_rate=…"
            )
        self._restore(state)
        self.rollbacks = rollbacks
        self.save()
        logger.warning(
            "step %d: the loss or its gradient was not finite; back to step %d at half the learning rate",
            failed,
            self.step,
        )
        self.metrics.write(self.step, rolled_back_from=failed)

    def _begin_extension(self) -> None:
        """The schedule now ends at the recipe's steps: the rate rises to what it prescribes at this step."""
        self.evaluations_since_best = 0
        if self.rank == 0:
            _write_recipe(self.recipe, self.folder)
        rate = learning_rate(self.recipe.optimiser, self.step)
        logger.info("going on to step %d, at a learning rate of %.2g", self.recipe.optimiser.steps, rate)

    def _gains(self, sequences: Sequences) -> dict[str, float]:
        return held_out.gains(
            self.network, sequences, self.recipe.degradations, watch=self.recipe.watch, device=self.device
        )

    def _update_average(self, decay: float) -> None:
        # The average starts as the plain mean of the first steps: otherwise fresh weights would linger in it.
        weight = 1.0 - min(decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, weight)


def _set_aside_best(folder: Path) -> None:
    """A run without a checkpoint begins again; weights that an earlier one left are renamed, not written over."""
    best, before = folder / BEST, folder / "average.before.safetensors"
    if best.exists():
        best.replace(before)
        logger.warning("%s: expected a checkpoint beside the best weights, got none; kept as %s", best, before.name)


def _record_gains(
    metrics: MetricsLog, step: int, gains: dict[str, float], start_gains: dict[str, float], recipe: Recipe
) -> float:
    """Write the gains to metrics and log; returns their mean."""
    mean = held_out.weighted_mean(gains, recipe.degradations)
    over_start = {kind: gain - start_gains[kind] for kind, gain in gains.items() if start_gains}
    values = {f"gain_{kind}_db": round(gain, 4) for kind, gain in gains.items()} | {"gain_db": round(mean, 4)}
    if over_start:
        values["gain_over_start_db"] = round(held_out.weighted_mean(over_start, recipe.degradations), 4)
    metrics.write(step, **values)
    improvement = f"; over the start: {_format_gains(over_start)}" if over_start else ""
    logger.info("step %d, held out, over bicubic: %s%s", step, _format_gains(gains), improvement)
    return mean


def _write_recipe(recipe: Recipe, folder: Path) -> None:
    write_atomically(folder / "recipe.json", (as_json(recipe) + "\n").encode())


def _format_gains(gains: dict[str, float]) -> str:
    return ", ".join(f"{kind} {gain:+.2f} dB" for kind, gain in gains.items())
