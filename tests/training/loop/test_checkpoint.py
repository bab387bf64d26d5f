"""Checkpoints when the disk is full."""

from pathlib import Path

import pytest
import torch

from training.loop import checkpoint
from training.loop.run_options import TrainingError


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save({"step": 3}, tmp_path)
    before = (tmp_path / checkpoint.LAST).read_bytes()

    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"last\.pt: expected room for the checkpoint on the disk"):
        checkpoint.save({"step": 4}, tmp_path)
    assert (tmp_path / checkpoint.LAST).read_bytes() == before
