"""The batch of a step is a function of the seed and the step: no order, no process count, no loader changes it."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.sequences import BatchSource, Patches, PreparedSet
from training.degrade.degradation import Degradation
from training.loop.run_options import PREFETCH, RunOptions, load_batches

REAL = Degradation(kind="real", resize=(0.5, 1.2), chroma=(1.0, 3.0), interlace=0.5, second_pass=0.5)
MIX = (Degradation(), Degradation(kind="blur"), Degradation(kind="video"), REAL)


class Ramps:
    """Three sequences whose pixels say which sequence, frame and place they are."""

    def __len__(self) -> int:
        return 3

    def name(self, i: int) -> str:
        return f"ramp {i}"

    def shape(self, i: int) -> tuple[int, int, int]:
        return 5 + i, 64, 96

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> torch.Tensor:
        y = torch.arange(64)[rows].view(1, 1, -1, 1)
        x = torch.arange(96)[columns].view(1, 1, 1, -1)
        t = torch.arange(frames.start, frames.stop).view(-1, 1, 1, 1)
        return ((2 * y + x + 9 * t + 30 * i) % 256).expand(-1, 3, -1, -1).to(torch.uint8)


def source(*, seed: int = 1, batch: int = 4, rank: int = 0, world: int = 1, frames: int = 3) -> BatchSource:
    patches = Patches(batch=batch, frames=frames, patch_px=8)
    return BatchSource(Ramps(), patches, degradations=MIX, scale=4, seed=seed, rank=rank, world=world)


def test_any_order_gives_the_same_batches() -> None:
    forward, backward = source(), source()
    wanted = [forward[step].lr for step in range(5)]
    for step in reversed(range(5)):
        assert torch.equal(backward[step].lr, wanted[step])


def test_steps_and_seeds_give_other_batches() -> None:
    assert not torch.equal(source()[0].gt, source()[1].gt)
    assert not torch.equal(source()[0].gt, source(seed=2)[0].gt)


def test_processes_split_the_batch_of_a_single_process() -> None:
    parts = [source(rank=rank, world=2)[7] for rank in range(2)]
    assert torch.equal(torch.cat([part.lr for part in parts]), source()[7].lr)
    assert torch.equal(torch.cat([part.gt for part in parts]), source()[7].gt)


def test_worker_processes_change_nothing() -> None:
    made = load_batches(source(), range(3, 6), RunOptions(workers=2))
    for step, batch in zip(range(3, 6), made, strict=True):
        assert torch.equal(batch.gt, source()[step].gt)


class Noted:
    """Batches that leave a file behind when they have been made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, step: int) -> int:
        (self.folder / str(step)).touch()
        return step


@pytest.mark.parametrize("workers", [1, 2])
def test_the_next_batches_are_made_while_a_step_computes(tmp_path: Path, workers: int) -> None:
    """Without being asked for: a step that takes longer than they do never waits."""
    wanted = {str(step) for step in range(1 + PREFETCH * workers)}
    made = load_batches(Noted(tmp_path), range(100), RunOptions(workers=workers))
    assert next(made) == 0
    computing_until = time.monotonic() + 120.0
    while not wanted <= {path.name for path in tmp_path.iterdir()} and time.monotonic() < computing_until:
        torch.ones(200, 200) @ torch.ones(200, 200)
    assert wanted <= {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) <= 1 + (PREFETCH + 1) * workers  # and memory is bounded


def test_batches_have_the_stated_sizes_and_range() -> None:
    batch = source()[0]
    assert batch.lr.shape == (4, 3, 3, 8, 8)
    assert batch.gt.shape == (4, 3, 3, 32, 32)
    lr, gt = batch.as_floats("cpu")
    assert batch.gt.dtype == torch.uint8
    assert torch.equal((255.0 * gt).round().to(torch.uint8), batch.gt)
    assert 0.0 <= float(lr.min()) <= float(gt.max()) <= 1.0


def test_lr_and_gt_show_the_same_place() -> None:
    """With BI alone, the mean of a patch of a ramp is that of its lr patch."""
    plain = BatchSource(
        Ramps(),
        Patches(batch=8, frames=2, patch_px=8, reverse_time=0.0),
        degradations=(Degradation(),),
        scale=4,
        seed=5,
    )
    lr, gt = plain[0].as_floats("cpu")
    smooth = (gt.diff(dim=-1).abs().amax((1, 2, 3, 4)) < 0.1) & (gt.diff(dim=-2).abs().amax((1, 2, 3, 4)) < 0.1)
    assert smooth.sum() >= 2  # the others have the place in them where the ramp starts anew
    difference = lr.mean((1, 2, 3, 4)) - gt.mean((1, 2, 3, 4))
    # lr rounds halves up, so that its mean may lie up to half a code value above; a shift of 1 px would be 1 and more.
    assert difference[smooth].abs().max() < 0.6 / 255


def test_the_first_prepared_sequences_are_of_many_scenes(tmp_path: Path) -> None:
    """A run looks at a few held-out sequences: pieces of one scene alone would tell little."""
    for scene in "abcdef":
        for piece in range(10):
            np.save(tmp_path / f"{scene}_{15 * piece:06d}_0_0.npy", np.zeros((1, 3, 8, 8), dtype=np.uint8))
    names = [file.name for file in PreparedSet(tmp_path).files]
    assert len({name[0] for name in names[:12]}) >= 5
    assert names == [file.name for file in PreparedSet(tmp_path).files]


def test_sequences_that_are_too_short_are_left_out_with_their_names(caplog: pytest.LogCaptureFixture) -> None:
    """Before the first step, not when one is drawn after hours."""
    some = source(frames=7)
    assert "2 of 3 sequences are left out: expected at least 7 frames of 32 px, got ramp 0 (5 frames" in caplog.text
    assert some.usable == [2]
    assert some[0].gt.shape[1] == 7


def test_too_short_sequences_alone_are_an_error_that_names_them() -> None:
    with pytest.raises(ValueError, match=r"at least 9 frames of 32 px, got ramp 0 \(5 frames of 96x64\), ramp 1"):
        source(frames=9)


def test_a_file_that_is_no_prepared_sequence_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.zeros((4, 8, 8)))
    with pytest.raises(ValueError, match=r"b\.npy: expected \(frames, 3, height, width\) of uint8, got \(4, 8, 8\)"):
        PreparedSet(tmp_path).shape(0)
    (tmp_path / "b.npy").write_bytes(b"version https://git-lfs")
    with pytest.raises(ValueError, match=r"b\.npy: expected a prepared sequence, got"):
        PreparedSet(tmp_path).shape(0)


def test_what_macs_leave_beside_sequences_is_passed_over(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 8, 8), dtype=np.uint8))
    (tmp_path / "._a.npy").write_bytes(b"Mac OS X")
    assert [file.name for file in PreparedSet(tmp_path).files] == ["a.npy"]


class Slow:
    """Batches that take a moment each, so that workers are always at one."""

    def __getitem__(self, step: int) -> int:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass
        return step


@pytest.fixture(params=[False, True])
def forkserver(request: pytest.FixtureRequest) -> None:
    """Whether the server that starts workers runs already, as after other work of the same process."""
    server = multiprocessing.forkserver._forkserver
    server._stop()  # type: ignore[attr-defined]
    if request.param:
        server.ensure_running()


@pytest.mark.usefixtures("forkserver")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_process_group_stop_no_worker(number: signal.Signals) -> None:
    """Ctrl-C in a terminal, or a service manager, reaches workers, too."""
    batches = load_batches(Slow(), range(20), RunOptions(workers=2))
    assert [next(batches), next(batches)] == [0, 1]  # then both workers have begun
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, number)
    assert list(batches) == list(range(2, 20))


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match="batch: expected a multiple of the 3 processes, got 4"):
        source(world=3)
