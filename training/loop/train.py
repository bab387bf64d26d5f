"""The training loop: set up, resume, step, log, evaluate, save."""

import logging
import time
from pathlib import Path

from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import BatchSource, Sequences
from . import held_out
from .recipe import Recipe
from .run import TrainingRun
from .run_options import RunOptions, load_batches, stop_requests

logger = logging.getLogger(__name__)

FORECAST_STEPS = 10  # measured before the time of the run is estimated


def train(
    recipe: Recipe,
    folder: Path,
    *,
    train_set: Sequences,
    held_out_set: Sequences,
    start: VideoNetwork,
    options: RunOptions,
) -> bool:
    """Train `start` (which is changed) by the recipe, resuming from the checkpoint in `folder` if there is one.

    Writes last.pt and previous.pt (checkpoints), average.safetensors (the averaged weights at their best held-out
    gain), metrics.jsonl and run.html. Returns whether all steps are done: False if it was asked to stop, after saving.
    On a CPU with one process, a run that was killed and resumed gives the same bits as one that was not.
    """
    run = TrainingRun(recipe, folder, start, options)
    source = BatchSource(
        train_set,
        recipe.patches,
        degradations=recipe.degradations,
        scale=start.scale,
        seed=recipe.seed,
        rank=run.rank,
        world=run.world,
    )
    total, watch = recipe.optimiser.steps, recipe.watch
    held_out.check(held_out_set, watch=watch, scale=start.scale)
    with stop_requests(options) as stop_requested:
        run.resume()
        if run.step == 0:
            run.measure_start(held_out_set)
        forecast = Forecast(run.step)
        done = run.step == total or run.exhausted
        while not done:
            for batch in run.clock.count_waiting(load_batches(source, range(run.step, total), options)):
                if not run.learn(batch):
                    break  # rolled back: batches continue from an earlier step
                stop = run.any_process(stop_requested())
                done = run.step == total
                if run.step % watch.log == 0 or done:
                    run.log()
                forecast.after_step(run)
                if run.step % watch.evaluate == 0 or done:
                    run.evaluate(held_out_set)
                    done = done or run.any_process(run.exhausted)
                if run.step % watch.save == 0 or done or stop:
                    run.save()
                if stop:
                    return done
                if done:
                    break
    if run.step < total:
        logger.info(
            "no better held-out gain in %d evaluations: ended at step %d of %d, the best weights are kept",
            run.evaluations_since_best,
            run.step,
            total,
        )
    return True


class Forecast:
    """Measures the first steps after a start, then logs once how long the rest will take."""

    def __init__(self, first_step: int) -> None:
        self.measure_from, self.until = first_step + 1, first_step + 1 + FORECAST_STEPS
        self.since = 0.0

    def after_step(self, run: TrainingRun) -> None:
        """The first step is left out: it waits for workers and for memory."""
        if run.step == self.measure_from:
            self.since = time.monotonic()
        elif run.step == self.until and run.rank == 0:
            seconds = (time.monotonic() - self.since) / FORECAST_STEPS
            left = run.recipe.optimiser.steps - run.step
            evaluations = left // run.recipe.watch.evaluate + 1
            minutes = (left * seconds + evaluations * run.evaluation_s) / 60.0
            clock = time.strftime("%a %H:%M", time.localtime(time.time() + 60.0 * minutes))
            logger.info("%.2f s per step: %d more steps take about %.0f min, until %s", seconds, left, minutes, clock)
