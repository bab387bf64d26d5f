"""The loop learns, resumes to the bit, survives kills and NaN, stops on request; two processes learn what one does."""

import contextlib
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

from tests.training.loop.tiny_runs import recipe, run, weights_of
from training.data.sequences import Batch, GeneratedSet
from training.data.synthesise import Generator, synthesise
from training.loop import checkpoint, held_out
from training.loop import run as run_module
from training.loop import train as train_module
from training.loop.optimization import charbonnier, learning_rate
from training.loop.recipe import Optimiser, Recipe, Start
from training.loop.run_options import RunOptions, TrainingError
from training.loop.start import build
from vs_iconvsr import weights


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synthesise(Generator(seed=3, clips=3, frames=4, size=64, canvases=2, canvas_px=160), folder)
    return folder


def stopping_after(checks: int, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    """Options of a run that is asked to stop once it has checked for requests this often; it checks once per step."""
    left = iter(range(checks))
    requests = contextlib.nullcontext(lambda: next(left, None) is None)
    monkeypatch.setattr(train_module, "stop_requests", lambda _: requests)
    return RunOptions()


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def command(settings: Recipe, clips: Path, folder: Path, *, options: str = "") -> list[str]:
    """The same run as a separate process; options: arguments of RunOptions."""
    program = textwrap.dedent(
        f"""
        import sys, torch
        from pathlib import Path
        from training.loop.config import read
        from training.loop.recipe import Recipe
        from training.data.sequences import GeneratedSet
        from training.loop.start import build
        from training.loop.run_options import RunOptions
        from training.loop.train import train
        torch.set_num_threads(1)
        settings = read(Path(sys.argv[1]), Recipe)
        torch.manual_seed(settings.seed)
        sequences = GeneratedSet(Path({str(clips)!r}))
        done = train(settings, Path({str(folder)!r}), train_set=sequences, held_out_set=sequences,
                     start=build(settings), options=RunOptions({options}))
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
    folder, root = tmp_path / "killed", Path(__file__).parents[3]
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


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=6), clips, tmp_path)
    newest = tmp_path / "last.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert _step(tmp_path) == 3


def test_sigterm_saves_and_stops(clips: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(command(recipe(steps=100_000), clips, tmp_path), cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 60
    while not (tmp_path / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    before = _step(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 3
    assert _step(tmp_path) >= before > 0


def test_metrics_record_the_share_of_time_spent_waiting_for_data(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=3), clips, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "data_wait_share" in line]
    assert len(logged) == 1
    assert 0.0 < logged[0]["data_wait_share"] < 1.0


def test_another_recipe_cannot_resume_this_checkpoint_and_the_error_names_the_differences(
    clips: Path, tmp_path: Path
) -> None:
    run(recipe(steps=3), clips, tmp_path)
    with pytest.raises(TrainingError, match=r"got one of another \(optimiser\.steps: 4, 3 there\)"):
        run(recipe(steps=4), clips, tmp_path)


def test_a_run_from_before_a_key_existed_can_be_resumed(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=3), clips, tmp_path)
    state = checkpoint.load(tmp_path)
    assert state is not None
    older = json.loads(state["recipe"])
    del older["optimiser"]["compiled"]
    checkpoint.save({**state, "recipe": json.dumps(older)}, tmp_path)
    assert run(recipe(steps=3), clips, tmp_path)


def test_a_loss_that_is_not_finite_rolls_back_at_half_the_rate(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def nan_once(hr: torch.Tensor, gt: torch.Tensor, **shape: float) -> torch.Tensor:
        calls.append(1)
        loss = charbonnier(hr, gt, **shape)
        return loss * float("nan") if len(calls) == 5 else loss

    monkeypatch.setattr(run_module, "charbonnier", nan_once)
    assert run(recipe(), clips, tmp_path)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert (state["step"], state["rollbacks"]) == (12, 1)
    assert len(calls) == 12 + 2  # the failed step, and the one before it, which ran twice
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["rolled_back_from"] for line in lines if "rolled_back_from" in line] == [4]


def test_a_loss_that_never_is_finite_ends_the_run_with_a_remedy(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "charbonnier", lambda hr, gt, **_: (hr - gt).mean() * float("inf"))
    with pytest.raises(
        TrainingError, match=r"expected a finite loss and gradient, got none after 0 rollbacks; lower the learning rate"
    ):
        run(recipe(), clips, tmp_path)


def test_the_loop_overfits_a_single_batch(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Same(train_module.BatchSource):
        def __getitem__(self, step: int) -> Batch:
            del step
            return super().__getitem__(0)

    monkeypatch.setattr(train_module, "BatchSource", Same)
    losses: list[float] = []

    def kept(hr: torch.Tensor, gt: torch.Tensor, **shape: float) -> torch.Tensor:
        loss = charbonnier(hr, gt, **shape)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(run_module, "charbonnier", kept)
    run(recipe(steps=100, evaluate=100, save=100, rate=4e-3), clips, tmp_path)
    assert losses[-1] < 0.65 * losses[0]


def test_the_loss_weighs_luma_by_its_share() -> None:
    gt = torch.rand(1, 2, 3, 4, 4)
    gray, colored = torch.full((3, 1, 1), 0.1), torch.tensor([0.1, 0.1, -0.1 * 0.886 / 0.114]).view(3, 1, 1)

    def loss(error: torch.Tensor, share: float) -> float:
        return float(charbonnier(gt + error, gt, epsilon=1e-6, luma_share=share))

    assert [loss(gray, share) for share in (0.0, 1.0)] == pytest.approx([0.1, 0.1], rel=1e-4)
    in_rgb = float(colored.abs().mean())  # and no luma at all
    assert [loss(colored, share) for share in (0.0, 0.5, 1.0)] == pytest.approx([in_rgb, in_rgb / 2, 0.0], abs=1e-4)


def test_the_learning_rate_warms_up_and_then_follows_a_cosine() -> None:
    settings = Optimiser(steps=100, learning_rate=1.0, last_learning_rate=0.0, warm_up=4)
    assert [learning_rate(settings, step) for step in (0, 50, 100)] == pytest.approx([0.25, 0.5, 0.0])


@pytest.mark.parametrize("options", ["", pytest.param("recompute=True", marks=pytest.mark.long)])
def test_two_processes_learn_what_one_learns(clips: Path, tmp_path: Path, options: str) -> None:
    """Gradients are averaged over the parts of a batch: equal up to rounding."""
    settings = recipe(steps=4, evaluate=4, save=4)
    run(settings, clips, tmp_path / "one")
    program = command(settings, clips, tmp_path / "two", options=options)
    # Gloo's threads may abort an interpreter that shuts down beside them: the work is done, so it ends without.
    ending = "import os\ndist.barrier()\nos._exit(0 if done else 3)\n"
    joined = "import torch.distributed as dist; dist.init_process_group('gloo')\n"
    joined += program[2].replace("sys.exit(0 if done else 3)\n", ending)
    assert joined.endswith(ending)
    script = tmp_path / "joined.py"
    script.write_text(joined)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([*launch, str(script), program[3]], cwd=tmp_path, env=environment, check=True, timeout=120)
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    assert float((one["tail_last.weight"]).abs().max()) > 1e-3


def test_recomputing_changes_no_bit_of_the_weights(clips: Path, tmp_path: Path) -> None:
    run(recipe(steps=4), clips, tmp_path / "kept")
    run(recipe(steps=4), clips, tmp_path / "again", options=RunOptions(recompute=True))
    assert_same(weights_of(tmp_path / "kept"), weights_of(tmp_path / "again"))


def test_a_run_whose_time_is_up_saves_and_resumes_to_the_same_bits(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe(steps=6), clips, tmp_path / "straight")
    assert not run(recipe(steps=6), clips, tmp_path / "stopped", options=RunOptions(until=time.monotonic()))
    assert _step(tmp_path / "stopped") == 1
    with monkeypatch.context() as patch:
        assert not run(recipe(steps=6), clips, tmp_path / "stopped", options=stopping_after(2, patch))
    assert _step(tmp_path / "stopped") == 4
    assert run(recipe(steps=6), clips, tmp_path / "stopped")
    assert_same(weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped"))


def test_float16_without_a_gpu_is_refused(clips: Path, tmp_path: Path) -> None:
    settings = with_precision("float16", steps=1)
    with pytest.raises(TrainingError, match=r"expected a CUDA device for float16, got cpu; .*precision=bfloat16"):
        run(settings, clips, tmp_path)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_resumes_to_the_bit_including_the_loss_scale(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """float16 is emulated with a loss scaler that grows every second step, as on a GPU."""
    enabled = precision == "float16"
    monkeypatch.setattr(
        run_module,
        "gradient_scaler",
        lambda *_: torch.amp.GradScaler("cpu", growth_interval=2, enabled=enabled, init_scale=64.0),
    )
    settings = with_precision(precision, steps=6)
    run(settings, clips, tmp_path / "straight")
    with monkeypatch.context() as patch:
        assert not run(settings, clips, tmp_path / "stopped", options=stopping_after(2, patch))
    run(settings, clips, tmp_path / "stopped")
    assert_same(weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped"))
    states = [checkpoint.load(tmp_path / name) or {} for name in ("straight", "stopped")]
    assert states[0]["scaler"] == states[1]["scaler"]
    assert states[0]["scaler"].get("scale") == (512.0 if enabled else None)


def test_gradients_that_overflow_float16_lower_the_scale_and_leave_the_weights(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "gradient_scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=2.0**60))
    settings = with_precision("float16", steps=1)
    run(settings, clips, tmp_path)
    fresh = build(settings).state_dict()
    assert_same({name: weights_of(tmp_path)[name] for name in fresh}, fresh)
    assert (checkpoint.load(tmp_path) or {})["scaler"]["scale"] == 2.0**59


def with_precision(precision: str, *, steps: int) -> Recipe:
    settings = recipe(steps=steps)
    return dataclasses.replace(settings, optimiser=dataclasses.replace(settings.optimiser, precision=precision))


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_rolls_back(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_norm: float
) -> None:
    calls = []

    def nan_once(hr: torch.Tensor, gt: torch.Tensor, **shape: float) -> torch.Tensor:
        calls.append(1)
        loss = charbonnier(hr, gt, **shape)
        if len(calls) == 5:
            hr.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    monkeypatch.setattr(run_module, "charbonnier", nan_once)
    settings = recipe()
    settings = dataclasses.replace(settings, optimiser=dataclasses.replace(settings.optimiser, clip_norm=clip_norm))
    assert run(settings, clips, tmp_path)
    assert (checkpoint.load(tmp_path) or {})["rollbacks"] == 1
    assert all(bool(torch.isfinite(value).all()) for value in weights_of(tmp_path).values())


def test_the_gain_over_given_weights_is_recorded(clips: Path, tmp_path: Path) -> None:
    settings = recipe(steps=4, evaluate=2)
    given = build(settings)
    torch.nn.init.normal_(given.get_parameter("tail_last.weight"), std=0.02)
    weights.save(given, tmp_path / "given.safetensors", provenance={})
    settings = dataclasses.replace(settings, network=None, start=Start(weights=str(tmp_path / "given.safetensors")))
    run(settings, clips, tmp_path / "run")
    before = held_out.gains(given, GeneratedSet(clips), settings.degradations, watch=settings.watch, device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "gain_db" in line]
    assert len(evaluated) == 2
    for line in evaluated:
        assert line["gain_over_start_db"] == pytest.approx(
            line["gain_db"] - held_out.weighted_mean(before, settings.degradations), abs=2e-4
        )


def test_tensorboard_shows_bicubic_hr_and_gt_side_by_side(clips: Path, tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(recipe(steps=2, evaluate=1), clips, tmp_path, options=RunOptions(tensorboard=True))
    events = reading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["bicubic, hr, gt/bi", "bicubic, hr, gt/video"]
    shown = events.Images("bicubic, hr, gt/bi")
    assert [(event.step, event.width, event.height) for event in shown] == [(1, 3 * 64, 64), (2, 3 * 64, 64)]
    assert "gain_db" in events.Tags()["scalars"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_compiled_steps_resume_to_the_bit(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recipe(steps=4)
    settings = dataclasses.replace(settings, optimiser=dataclasses.replace(settings.optimiser, compiled=True))
    run(settings, clips, tmp_path / "straight")
    torch.compiler.reset()
    with monkeypatch.context() as patch:
        assert not run(settings, clips, tmp_path / "stopped", options=stopping_after(1, patch))
    torch.compiler.reset()
    assert run(settings, clips, tmp_path / "stopped")
    assert_same(weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped"))
