"""The loop: learns, resumes to the bit, survives kill and NaN, stops when told to, in two processes as in one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from training import checkpoint
from training.degrade import Degradation
from training.recipe import Data, Network, Optimiser, Recipe, Watch
from training.sequences import Batch, GeneratedSet, Patches
from training.start import build
from training.synthesise import Generator, synthesise
from training.train import Means, TrainingError, charbonnier, learning_rate, train

ARGUMENTS = {"mid_channels": 8, "num_blocks": 1, "flow_channels": 8, "scale": 4}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synthesise(Generator(seed=3, clips=3, frames=4, size=64, canvases=2, canvas_px=160), folder)
    return folder


def recipe(*, steps: int = 12, evaluate: int = 6, save: int = 3, rate: float = 1e-3) -> Recipe:
    return Recipe(
        network=Network(arguments=ARGUMENTS),
        data=Data(train="", held_out=""),
        patches=Patches(batch=2, frames=3, patch_px=8),
        degradations=(Degradation(), Degradation(kind="video")),
        optimiser=Optimiser(steps=steps, learning_rate=rate, warm_up=2),
        watch=Watch(log=3, evaluate=evaluate, save=save, held_out_sequences=1),
    )


def run(settings: Recipe, clips: Path, folder: Path) -> bool:
    torch.manual_seed(settings.seed)
    sequences = GeneratedSet(clips)
    return train(settings, folder, train_set=sequences, held_out_set=sequences, start=build(settings), means=Means())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder)
    assert state is not None
    return {**state["network"], **{f"average.{name}": value for name, value in state["average"].items()}}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def command(settings: Recipe, clips: Path, folder: Path) -> list[str]:
    """The same run in a process of its own."""
    program = textwrap.dedent(
        f"""
        import sys, torch
        from pathlib import Path
        from training.config import read
        from training.recipe import Recipe
        from training.sequences import GeneratedSet
        from training.start import build
        from training.train import Means, train
        torch.set_num_threads(1)
        settings = read(Path(sys.argv[1]), Recipe)
        torch.manual_seed(settings.seed)
        sequences = GeneratedSet(Path({str(clips)!r}))
        done = train(settings, Path({str(folder)!r}), train_set=sequences, held_out_set=sequences,
                     start=build(settings), means=Means())
        sys.exit(0 if done else 3)
        """
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(dataclasses.asdict(settings)))  # JSON is YAML
    return [sys.executable, "-c", program, str(file)]


def test_a_run_that_was_killed_and_resumed_gives_the_same_bits(clips: Path, tmp_path: Path) -> None:
    killed_and_straight(recipe(), clips, tmp_path, kill_after=[5])


@pytest.mark.long
def test_twenty_kills_at_random_steps_change_no_bit(clips: Path, tmp_path: Path) -> None:
    steps = torch.randperm(58, generator=torch.Generator().manual_seed(0))[:20].sort().values
    killed_and_straight(recipe(steps=60, evaluate=20, save=2), clips, tmp_path, kill_after=steps.tolist())


def killed_and_straight(settings: Recipe, clips: Path, tmp_path: Path, *, kill_after: list[int]) -> None:
    """Run once straight through, once with SIGKILL as soon as a checkpoint is at or after each of these steps."""
    torch.set_num_threads(1)
    run(settings, clips, tmp_path / "straight")
    folder, root = tmp_path / "killed", Path(__file__).parents[2]
    again = command(settings, clips, folder)
    for step in kill_after:
        process = subprocess.Popen(again, cwd=root)
        while _step(folder) < step and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
    assert 0 < kill_after[-1] <= _step(folder)
    assert subprocess.run(again, cwd=root, check=False).returncode == 0
    assert_same(weights_of(tmp_path / "straight"), weights_of(folder))
    ours, theirs = (safetensors.torch.load_file(at / "average.safetensors") for at in (tmp_path / "straight", folder))
    assert_same(ours, theirs)


def _step(folder: Path) -> int:
    return int((checkpoint.load(folder) or {"step": 0})["step"])


def test_a_damaged_checkpoint_gives_way_to_the_one_before(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=6), clips, tmp_path)
    newest = tmp_path / "last.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert _step(tmp_path) == 3


def test_sigterm_saves_and_ends(clips: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(command(recipe(steps=100_000), clips, tmp_path), cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (tmp_path / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    before = _step(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 3
    assert _step(tmp_path) >= before > 0


def test_metrics_say_how_long_data_was_waited_for(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=3), clips, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "data_wait_share" in line]
    assert len(logged) == 1
    assert 0.0 < logged[0]["data_wait_share"] < 1.0


def test_another_recipe_does_not_go_on_from_this_checkpoint(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=3), clips, tmp_path)
    with pytest.raises(TrainingError, match="wanted a run of this recipe, got one of another"):
        run(recipe(steps=4), clips, tmp_path)


def test_a_loss_that_is_not_finite_rolls_back_at_half_the_rate(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import train as module

    calls = []

    def once_broken(hr: torch.Tensor, gt: torch.Tensor, *, epsilon: float) -> torch.Tensor:
        calls.append(1)
        loss = charbonnier(hr, gt, epsilon=epsilon)
        return loss * float("nan") if len(calls) == 5 else loss

    monkeypatch.setattr(module, "charbonnier", once_broken)
    assert run(recipe(), clips, tmp_path)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert (state["step"], state["rollbacks"]) == (12, 1)
    assert len(calls) == 12 + 2  # the broken step and the one before it, learned twice
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["rolled_back_from"] for line in lines if "rolled_back_from" in line] == [4]


def test_a_loss_that_stays_broken_ends_the_run_with_its_remedy(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import train as module

    monkeypatch.setattr(module, "charbonnier", lambda hr, gt, *, epsilon: (hr - gt).mean() * float("inf") + epsilon)
    with pytest.raises(
        TrainingError, match=r"wanted a finite loss, got none after 0 rollbacks; lower the learning rate"
    ):
        run(recipe(), clips, tmp_path)


def test_the_loop_learns_one_batch_by_heart(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import train as module

    class Same(module.BatchSource):
        def __getitem__(self, step: int) -> Batch:
            del step
            return super().__getitem__(0)

    monkeypatch.setattr(module, "BatchSource", Same)
    losses: list[float] = []

    def kept(hr: torch.Tensor, gt: torch.Tensor, *, epsilon: float) -> torch.Tensor:
        loss = charbonnier(hr, gt, epsilon=epsilon)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(module, "charbonnier", kept)
    run(recipe(steps=100, evaluate=100, save=100, rate=4e-3), clips, tmp_path)
    assert losses[-1] < 0.65 * losses[0]


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    settings = Optimiser(steps=100, learning_rate=1.0, last_learning_rate=0.0, warm_up=4)
    assert [learning_rate(settings, step) for step in (0, 50, 100)] == pytest.approx([0.25, 0.5, 0.0])


def test_two_processes_learn_what_one_learns(clips: Path, tmp_path: Path) -> None:
    """Gradients are averaged over the parts of a batch: the same up to rounding."""
    settings = recipe(steps=4, evaluate=4, save=4)
    run(settings, clips, tmp_path / "one")
    program = command(settings, clips, tmp_path / "two")
    joined = "import torch.distributed as dist; dist.init_process_group('gloo')\n" + program[2]
    script = tmp_path / "joined.py"
    script.write_text(joined)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29617"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*launch, str(script), program[3]], cwd=tmp_path, env=environment, check=True, timeout=120)
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    assert float((one["tail_last.weight"]).abs().max()) > 1e-3
