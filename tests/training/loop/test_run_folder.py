"""What is in a run's folder is never lost, and can be used as it is."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.training.loop.tiny_runs import recipe, run, weights_of
from training.data.synthesise import Generator, synthesise
from training.loop import checkpoint, held_out
from training.loop.run_options import RunOptions, TrainingError
from vs_iconvsr import weights


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synthesise(Generator(seed=3, clips=3, frames=4, size=64, canvases=2, canvas_px=160), folder)
    return folder


def test_a_run_whose_checkpoints_are_damaged_stops_and_keeps_its_best_weights(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=6), clips, tmp_path)
    best = (tmp_path / "average.safetensors").read_bytes()
    for name in (checkpoint.LAST, checkpoint.PREVIOUS):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:500])
    with pytest.raises(
        TrainingError, match=r"expected a checkpoint that can be read, got damaged ones: last\.pt, prev"
    ):
        run(recipe(steps=6), clips, tmp_path)
    assert (tmp_path / "average.safetensors").read_bytes() == best


def test_the_best_weights_of_a_run_load_as_a_model_and_a_checkpoint_is_named(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=1), clips, tmp_path)
    loaded, average = weights.load(tmp_path / "average.safetensors").state_dict(), weights_of(tmp_path)
    assert all(torch.equal(value, average[f"average.{name}"]) for name, value in loaded.items())
    with pytest.raises(weights.WeightsError, match=r"got the checkpoint of a training run; give average\.safetensors"):
        weights.load(tmp_path / "last.pt")
    older = tmp_path / "older.safetensors"
    safetensors.torch.save_file(loaded, older)
    with pytest.raises(weights.WeightsError, match="looks like LightVSR without its settings, as runs used to leave"):
        weights.load(older)


def test_best_weights_without_a_checkpoint_are_kept_under_another_name(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "average.safetensors").write_bytes(b"of an earlier run")
    run(recipe(steps=1), clips, tmp_path)
    assert (tmp_path / "average.before.safetensors").read_bytes() == b"of an earlier run"


def test_a_run_that_no_longer_improves_ends_and_keeps_its_best(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter(range(100, 0, -1))
    monkeypatch.setattr(held_out, "gains", lambda *_, **__: {"bi": float(next(falling)), "video": 0.0})
    settings = recipe(steps=12, evaluate=2)
    settings = replace(settings, watch=replace(settings.watch, patience=2))
    assert run(settings, clips, tmp_path)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert (state["step"], state["best_gain"], state["evaluations_since_best"]) == (6, 50.0, 2)
    assert weights.info(tmp_path / "average.safetensors").metadata["training"].startswith("step 2, +50.000 dB")
    assert run(settings, clips, tmp_path)  # the same command again finds it ended
    assert (checkpoint.load(tmp_path) or {})["step"] == 6


def test_a_finished_run_goes_on_for_longer_when_told(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=3), clips, tmp_path)
    with pytest.raises(TrainingError, match=r"optimiser\.steps: 5, 3 there.*or pass --extend"):
        run(recipe(steps=5), clips, tmp_path)
    assert run(recipe(steps=5), clips, tmp_path, options=RunOptions(extend=True))
    assert (checkpoint.load(tmp_path) or {})["step"] == 5
    assert json.loads((tmp_path / "recipe.json").read_text())["optimiser"]["steps"] == 5
    assert run(recipe(steps=5), clips, tmp_path)


def test_extending_excuses_no_other_difference(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=3), clips, tmp_path)
    for settings in (recipe(steps=5, rate=2e-3), recipe(steps=2)):
        with pytest.raises(TrainingError, match="got one of another"):
            run(settings, clips, tmp_path, options=RunOptions(extend=True))


def test_the_time_that_a_run_takes_is_estimated_after_ten_steps(
    clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run(recipe(steps=12, evaluate=12), clips, tmp_path)
    assert re.search(r"s per step: 1 more steps take about \d+ min, until \w+ \d\d:\d\d", caplog.text)
