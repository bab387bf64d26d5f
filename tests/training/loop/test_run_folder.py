"""What is in a run's folder is never lost, and can be used as it is."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.training.loop.tiny_runs import recipe, run, weights_of
from training.data.synthesise import Generator, synthesise
from training.loop import checkpoint
from training.loop.run_options import TrainingError
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
