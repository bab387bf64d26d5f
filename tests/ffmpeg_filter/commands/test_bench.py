"""iconvsr bench: one line a choice, in words that a user can act on."""

from pathlib import Path

import pytest
import torch

from ffmpeg_filter import cli
from ffmpeg_filter.commands import bench as bench_command
from vs_iconvsr.plan import Settings, plan_for


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_bench_prints_fps_and_hours(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--model", str(tiny_model), "--size", "32x24", "--device", "cpu", "--threads", "1"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "32x24: " in printed
    assert " fps, a film of 100 minutes at 24 fps in " in printed
    assert "plan: segments of 30 frames" in printed


def test_an_invalid_size_is_refused(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--model", str(tiny_model), "--size", "720"]) == 1
    assert "size: expected WIDTHxHEIGHT, got 720" in capsys.readouterr().err


def test_the_context_counts_for_the_frames_that_are_kept(tiny_network) -> None:
    settled = plan_for(Settings(segment=10, context=5, device="cpu"), tiny_network, 64, 64)
    speed = bench_command.Speed(earlier_s=1.0, context_s=2.0, kept_s=3.0)
    # 20 frames backward, 5 forward as context, 10 kept, for 10 frames
    assert speed.frame_s(settled) == pytest.approx(2.0 + 1.0 + 3.0)


def test_half_a_second_per_frame_is_two_fps() -> None:
    assert bench_command.describe_speed(0.5) == "2.00 fps, a film of 100 minutes at 24 fps in 20.0 hours"
