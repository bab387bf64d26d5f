"""scripts/train_gpu on a CPU: interrupted sessions add up to one run, and damaged files are detected."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
train_gpu = pytest.importorskip("train_gpu")

RECIPE = """
network: {architecture: BasicVSR, arguments: {mid_channels: 8, num_blocks: 1, flow_channels: 4}}
data:
  train: train
  held_out: held_out
  train_generator: {seed: 1, clips: 2, frames: 3, size: 128, canvases: 1, canvas_px: 320}
  held_out_generator: {seed: 2, clips: 1, frames: 2, size: 128, canvases: 1, canvas_px: 320}
patches: {batch: 1, frames: 2, patch_px: 8}
flow: {steps: 5, batch: 1, gate: 100.0}
optimiser: {steps: 40, learning_rate: 2.0e-3, warm_up: 2, average: 0.5}
watch: {log: 10, evaluate: 40, save: 5}
"""


def session(folder: Path, name: str, *more: str, minutes: float = 5.0) -> list[str]:
    (folder / "tiny.yaml").write_text(RECIPE)
    return [
        sys.executable, str(ROOT / "scripts" / "train_gpu.py"), str(folder / "tiny.yaml"), "--device", "cpu",
        "--data", str(folder / "data"), "--run", str(folder / name), "--workers", "0", "--minutes", str(minutes), *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def state(run: Path) -> dict[str, torch.Tensor]:
    network: dict[str, torch.Tensor] = torch.load(run / "last.pt", weights_only=True)["network"]
    return network


@pytest.mark.long
def test_a_killed_session_resumed_on_another_machine_gives_what_one_session_gives(tmp_path: Path) -> None:
    assert (
        subprocess.run(session(tmp_path, "straight", "--set", "seed=1"), env=environment(), check=False).returncode == 0
    )
    assert (tmp_path / "straight" / "tiny.safetensors").exists()

    shards = ["--shards", str(tmp_path / "shards"), "--shard-mib", "0.1"]
    first = subprocess.Popen(session(tmp_path, "here", "--set", "seed=1", *shards), env=environment())
    while not (tmp_path / "here" / "last.pt").exists() and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=60) == 3
    pieces = sorted((tmp_path / "shards").glob("shard.*"))
    assert len(pieces) > 1
    assert max(path.stat().st_size for path in pieces) <= 0.1 * 2**20

    second = subprocess.run(
        session(tmp_path, "there", "--set", "seed=1", *shards),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 0, second.stderr
    assert "resuming from step" in second.stderr
    report = json.loads(second.stdout.splitlines()[-1])
    assert report["step"] == 40
    straight, there = state(tmp_path / "straight"), state(tmp_path / "there")
    assert all(torch.equal(straight[name], there[name]) for name in straight)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "last.pt").write_bytes(bytes(3000))
    train_gpu.split(run, tmp_path / "shards", limit_bytes=4000)
    train_gpu.join(tmp_path / "shards", tmp_path / "again")
    assert (tmp_path / "again" / "last.pt").read_bytes() == bytes(3000)
    (tmp_path / "shards" / "shard.001").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"expected the checksums in index\.json, got others for shard\.001"):
        train_gpu.join(tmp_path / "shards", tmp_path / "again")


@pytest.mark.long
def test_without_pyav_only_recipes_with_encoders_are_refused(tmp_path: Path) -> None:
    """As on a machine without PyAV: the training package is imported all the same."""
    program = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'av' else find(name, *rest)\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'scripts')!r}]; import train_gpu; sys.exit(train_gpu.main())"
    )

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program, *session(tmp_path, "run", *more)[2:]]
        return subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)

    refused = run("--set", "degradations=[{kind: video}]")
    assert refused.returncode == 1
    assert "expected only bi, bd, bd-pfnl, blur without PyAV, got {'video'}" in refused.stdout
    few = run("--set", "optimiser.steps=2", "--set", "flow.steps=1")
    assert few.returncode in (0, 1), few.stderr  # after two steps it may be worse than bicubic and is then not exported
    assert "step 2 of 2" in few.stderr
