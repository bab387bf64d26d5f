"""`iconvsr train` is the training package itself: what it is sent, arrives there."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

IN_PLACE = "import sys; from ffmpeg_filter.cli import main; sys.exit(main(sys.argv[1:]))"
RECIPE = """
network: {arguments: {mid_channels: 8, num_blocks: 1, flow_channels: 8}}
data:
  train: clips
  held_out: clips
  train_generator: {seed: 1, clips: 1, frames: 2, size: 32, canvases: 1, canvas_px: 80}
patches: {batch: 1, frames: 2, patch_px: 8}
optimiser: {steps: 1000000}
watch: {log: 1, evaluate: 1000000, save: 1}
"""


def test_ctrl_c_saves_and_ends_with_trainings_code(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    common = [sys.executable, "-c", IN_PLACE, "train"]
    data = [str(tmp_path / "tiny.yaml"), "--data", str(tmp_path)]
    subprocess.run([*common, "synthesise", *data], check=True, cwd=Path(__file__).parents[3])
    run = tmp_path / "run"
    training = subprocess.Popen([*common, "train", *data, "--out", str(run)], cwd=Path(__file__).parents[3])
    while not (run / "last.pt").exists() and training.poll() is None:
        time.sleep(0.02)
    training.send_signal(signal.SIGINT)
    assert training.wait(timeout=60) == 3
    assert (run / "last.pt").exists()


def test_the_help_of_training_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    subprocess.run([sys.executable, "-c", IN_PLACE, "train", "--help"], check=True, cwd=Path(__file__).parents[3])
    assert "synthesise" in capfd.readouterr().out
