"""The training loop: set up, resume, step, log, evaluate, save."""

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.data.sequences import Batch, BatchSource, Sequences
from training.loop import checkpoint, held_out
from training.loop.config import as_json, differences, parse
from training.loop.recipe import Optimiser, Recipe
from training.loop.run_options import Means, TrainingError, batches, stop_requests
from training.loop.steps import stepwise
from vs_iconvsr.networks.propagation import VideoNetwork

logger = logging.getLogger(__name__)

FLOW_PARTS = ("flow_network.", "spynet.")  # parameters that learn at flow_share of the rate
REFILL_PARTS = ("edvr.",)
MAX_ROLLBACKS = 3
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def train(
    recipe: Recipe, folder: Path, *, train_set: Sequences, held_out_set: Sequences, start: VideoNetwork, means: Means
) -> bool:
    """Train `start` (which is changed) by the recipe, going on from the checkpoint in `folder` if there is one.

    Writes last.pt and previous.pt (checkpoints), average.safetensors (the averaged weights where held-out gain was
    best) and metrics.jsonl. Returns whether all steps are done: False where it was stopped, having saved.
    On a CPU with one process a run that was killed and resumed gives the same bits as one that was not.
    """
    run = _Run(recipe, folder, start, means)
    run.resume()
    if run.step == 0:
        run.measure_start(held_out_set)
    source = BatchSource(
        train_set,
        recipe.patches,
        degradations=recipe.degradations,
        scale=start.scale,
        seed=recipe.seed,
        rank=run.rank,
        world=run.world,
    )
    with stop_requests(means) as stopped:
        while run.step < recipe.optimiser.steps:
            for batch in run.timed(batches(source, range(run.step, recipe.optimiser.steps), means)):
                if not run.learn(batch):
                    break  # rolled back: the batches go on from an earlier step
                stop = run.any_process(stopped())
                done = run.step == recipe.optimiser.steps
                if run.step % recipe.watch.log == 0 or done:
                    run.log()
                if run.step % recipe.watch.evaluate == 0 or done:
                    run.evaluate(held_out_set)
                if run.step % recipe.watch.save == 0 or done or stop:
                    run.save()
                if stop:
                    return done
    return True


class _Run:
    """The state of a run: everything that a checkpoint holds."""

    def __init__(self, recipe: Recipe, folder: Path, network: VideoNetwork, means: Means) -> None:
        self.recipe, self.folder, self.device = recipe, folder, means.device
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        # Weights in this order suit the vector units, of CPUs as of GPUs.
        self.network = network.to(means.device).to(memory_format=torch.channels_last).train().requires_grad_(True)
        self.forward: nn.Module = stepwise(self.network, recompute=means.recompute, compiled=recipe.optimiser.compiled)
        if self.world > 1:
            self.forward = DistributedDataParallel(self.forward, find_unused_parameters=True)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimiser = torch.optim.Adam(_parameter_groups(self.network), betas=recipe.optimiser.betas)
        self.scaler = _scaler(recipe.optimiser, means)
        self.step = 0
        self.rollbacks = 0
        self.best_gain = -math.inf
        self.start_gains: dict[str, float] = {}  # of the weights that were given, by degradation; none for fresh ones
        self.loss = 0.0  # moving average, for the log
        self.since = (time.monotonic(), 0)  # moment and step of the last log line
        self.waited_s = 0.0  # for data, since then
        self.board = _tensorboard(folder) if means.tensorboard and self.rank == 0 else None

    def learn(self, batch: Batch) -> bool:
        """One step; False after a rollback because the loss was not finite."""
        settings = self.recipe.optimiser
        rate = learning_rate(settings, self.step) * 0.5**self.rollbacks
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (settings.flow_share if group["flow"] else 1.0)
        lr, gt = batch.on(self.device)
        with self._precision():
            hr = self.forward(lr)
        loss = charbonnier(hr, gt, epsilon=settings.epsilon)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm or math.inf)
        # Gradients too large for float16 are the scaler's to pass over: it lowers its scale and keeps the weights.
        finite = torch.isfinite(loss.detach()) & (torch.isfinite(norm) | self.scaler.is_enabled())
        if self.any_process(not bool(finite)):
            self._roll_back()
            return False
        if self.step < settings.frozen:
            _forget_gradients(self.network, FLOW_PARTS + REFILL_PARTS)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._move_average(settings.average)
        self.step += 1
        value = float(loss.detach())
        self.loss = value if self.loss == 0.0 else 0.98 * self.loss + 0.02 * value
        return True

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; counts the time that they are waited for."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited_s += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def log(self) -> None:
        moment, step = self.since
        now = time.monotonic()
        seconds = (now - moment) / max(1, self.step - step)
        left = (self.recipe.optimiser.steps - self.step) * seconds / 60.0
        waited = self.waited_s / max(1e-9, now - moment)
        self.since, self.waited_s = (now, self.step), 0.0
        self._write(loss=self.loss, seconds_per_step=round(seconds, 4), data_wait_share=round(waited, 4))
        if self.rank == 0:
            total = self.recipe.optimiser.steps
            logger.info(
                "step %d of %d, loss %.5f, %.2f s a step, %.0f min left", self.step, total, self.loss, seconds, left
            )

    def measure_start(self, sequences: Sequences) -> None:
        """Held-out gain of weights that were given: what training must be better than."""
        if self.rank == 0 and self.recipe.start.weights is not None:
            self.start_gains = self._gains(sequences)
            logger.info("held out, over bicubic, before training: %s", _told(self.start_gains))

    def evaluate(self, sequences: Sequences) -> None:
        """Held-out gain of the averaged weights; the best are kept as average.safetensors."""
        if self.rank:
            return
        raw = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        gains = self._gains(sequences)
        if self.board is not None:
            pictures = held_out.pictures(self.network, sequences, self.recipe.degradations, device=self.device)
            for kind, picture in pictures.items():
                self.board.add_image(f"bicubic, hr, gt/{kind}", picture, self.step)
        self.network.load_state_dict(raw)
        mean = held_out.mean(gains, self.recipe.degradations)
        over_start = {kind: gain - self.start_gains[kind] for kind, gain in gains.items() if self.start_gains}
        self._write(
            **{f"gain_{kind}_db": round(gain, 4) for kind, gain in gains.items()},
            gain_db=round(mean, 4),
            **(
                {"gain_over_start_db": round(held_out.mean(over_start, self.recipe.degradations), 4)}
                if over_start
                else {}
            ),
        )
        beside = f"; over the start: {_told(over_start)}" if over_start else ""
        logger.info("step %d, held out, over bicubic: %s%s", self.step, _told(gains), beside)
        if mean > self.best_gain:
            self.best_gain = mean
            _write_whole(self.folder / "average.safetensors", safetensors.torch.save(self._contiguous_average()))

    def save(self) -> None:
        if self.rank == 0:
            checkpoint.save(self._state(), self.folder)

    def resume(self) -> None:
        """Take over the checkpoint in the folder; TrainingError if it is another recipe's."""
        state = checkpoint.load(self.folder)
        if state is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.rank == 0:
                (self.folder / "recipe.json").write_text(as_json(self.recipe) + "\n")
            return
        # Read as a recipe: keys that came later have there the values that they have here by default.
        theirs = parse(state["recipe"], Recipe, path=self.folder / "recipe.json")
        if found := differences(self.recipe, theirs):
            raise TrainingError(
                f"{self.folder}: expected a run of this recipe, got one of another ({'; '.join(found)}); "
                "go on with that recipe or choose another --out"
            )
        self._take(state)
        self._forget_later_metrics()
        logger.info("going on from step %d", self.step)

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": as_json(self.recipe),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "rollbacks": self.rollbacks,
            "best_gain": self.best_gain,
            "start_gains": self.start_gains,
            "scaler": self.scaler.state_dict(),
            "loss": self.loss,
        }

    def _gains(self, sequences: Sequences) -> dict[str, float]:
        return held_out.gains(
            self.network, sequences, self.recipe.degradations, watch=self.recipe.watch, device=self.device
        )

    def _precision(self) -> torch.autocast:
        precision = self.recipe.optimiser.precision
        kind = torch.device(self.device).type
        return torch.autocast(kind, HALVES.get(precision), enabled=precision in HALVES)

    def _take(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.step, self.rollbacks = state["step"], state["rollbacks"]
        self.best_gain, self.loss, self.start_gains = state["best_gain"], state["loss"], state["start_gains"]
        self.scaler.load_state_dict(state["scaler"])
        self.since = (time.monotonic(), self.step)

    def _roll_back(self) -> None:
        """To the last checkpoint, at half the learning rate from there on."""
        failed, rollbacks = self.step, self.rollbacks + 1
        state = checkpoint.load(self.folder)
        if state is None or rollbacks > MAX_ROLLBACKS:
            raise TrainingError(
                f"step {failed}: expected a finite loss and gradient, got none after {rollbacks - 1} rollbacks; "
                "lower the learning rate: --set optimiser.learning_rate=…"
            )
        self._take(state)
        self.rollbacks = rollbacks
        self.save()
        logger.warning(
            "step %d: the loss or its gradient was not finite; back to step %d at half the rate", failed, self.step
        )
        self._write(rolled_back_from=failed)

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all must agree, or those that go on wait for ever."""
        if self.world == 1:
            return flag
        count = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(count)
        return float(count) > 0.0

    def _move_average(self, decay: float) -> None:
        # The average begins as the plain mean of the first steps: fresh weights would stay in it for long.
        weight = 1.0 - min(decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, weight)

    def _contiguous_average(self) -> dict[str, Tensor]:
        return {name: value.cpu().contiguous() for name, value in self.average.items()}

    def _write(self, **values: float) -> None:
        if self.rank == 0:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.step, "time": round(time.time(), 1), **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, self.step)

    def _forget_later_metrics(self) -> None:
        """Lines written after the checkpoint will be written again."""
        path = self.folder / "metrics.jsonl"
        if self.rank == 0 and path.exists():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            _write_whole(path, "".join(f"{line}\n" for line in kept).encode())


def learning_rate(settings: Optimiser, step: int) -> float:
    """Warm-up, then a cosine from learning_rate to last_learning_rate."""
    warm = min(1.0, (step + 1) / max(1, settings.warm_up))
    wave = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
    return warm * (settings.last_learning_rate + wave * (settings.learning_rate - settings.last_learning_rate))


def charbonnier(hr: Tensor, gt: Tensor, *, epsilon: float) -> Tensor:
    """Mean of sqrt(d² + epsilon²)."""
    return ((hr - gt).square() + epsilon**2).sqrt().mean()


def _scaler(settings: Optimiser, means: Means) -> torch.amp.GradScaler:
    """Keeps gradients within float16's range; passes everything through for the other precisions."""
    kind = torch.device(means.device).type
    if settings.precision == "float16" and kind != "cuda":
        raise TrainingError(
            f"precision: expected a CUDA device for float16, got {means.device}; "
            "--device cuda, or --set optimiser.precision=bfloat16"
        )
    return torch.amp.GradScaler(kind, enabled=settings.precision == "float16")


def _told(gains: dict[str, float]) -> str:
    return ", ".join(f"{kind} {gain:+.2f} dB" for kind, gain in gains.items())


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError("tensorboard: expected the package, found none; pip install 'vs-iconvsr[train]'") from error
    return SummaryWriter(str(folder / "tensorboard"))


def _parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    flow = [value for name, value in network.named_parameters() if name.startswith(FLOW_PARTS)]
    rest = [value for name, value in network.named_parameters() if not name.startswith(FLOW_PARTS)]
    groups: list[dict[str, Any]] = [{"params": rest, "flow": False}]
    return [*groups, {"params": flow, "flow": True}] if flow else groups


def _forget_gradients(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Adam passes over parameters without a gradient: they stay as they are, to the bit."""
    for name, parameter in network.named_parameters():
        if name.startswith(parts):
            parameter.grad = None


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
