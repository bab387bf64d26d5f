"""The training loop: set up, resume, step, log, evaluate, save."""

from pathlib import Path

from vs_iconvsr.networks.propagation import VideoNetwork

from ..data.sequences import BatchSource, Sequences
from .recipe import Recipe
from .run import TrainingRun
from .run_options import RunOptions, load_batches, stop_requests


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
    gain) and metrics.jsonl. Returns whether all steps are done: False if it was asked to stop, after saving.
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
    with stop_requests(options) as stop_requested:
        run.resume()
        if run.step == 0:
            run.measure_start(held_out_set)
        while run.step < total:
            for batch in run.clock.count_waiting(load_batches(source, range(run.step, total), options)):
                if not run.learn(batch):
                    break  # rolled back: batches continue from an earlier step
                stop = run.any_process(stop_requested())
                done = run.step == total
                if run.step % watch.log == 0 or done:
                    run.log()
                if run.step % watch.evaluate == 0 or done:
                    run.evaluate(held_out_set)
                if run.step % watch.save == 0 or done or stop:
                    run.save()
                if stop:
                    return done
    return True
