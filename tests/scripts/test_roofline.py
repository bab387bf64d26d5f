"""scripts/benchmark --predict: the arithmetic of the prediction, on figures small enough to check by hand."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
benchmark = pytest.importorskip("benchmark")
from benchmarking import roofline  # noqa: E402
from benchmarking.cases import Case  # noqa: E402
from benchmarking.roofline import Card, Work, kernel_s, predicted  # noqa: E402

from tests.vs_iconvsr.fake_gpu import BIAS, CUDA, Launch, fake_gpu  # noqa: E402

CARD = Card(memory=1e9, half=1e12, single=1e11, bus=1e10)


def test_a_launch_knows_what_it_moves_and_computes() -> None:
    with fake_gpu() as gpu, torch.device(CUDA):
        a = torch.empty(2, 3, 10, 10, dtype=torch.float16)
        torch.nn.functional.conv2d(
            a, torch.empty(5, 3, 3, 3, dtype=torch.float16), torch.empty(5, dtype=torch.float16), padding=1
        )
        a.add_(torch.empty(3, 1, 1, dtype=torch.float16).expand(3, 10, 10))
        a[0].copy_(torch.empty(3, 10, 10))
    conv, bias, added, copied = gpu.launches
    assert (conv.operation, conv.flop) == ("convolution", 2 * 1000 * 27)
    assert conv.layout_bytes == 2 * (600 + 1000) * 2
    assert (bias.operation, bias.moved_bytes) == (BIAS, 2 * 1000 * 2)
    assert added.moved_bytes == 2 * 600 * 2 + 3 * 2  # what is repeated lies in memory once
    assert copied.moved_bytes == 300 * 4 + 300 * 2


def test_a_kernel_takes_the_longest_of_memory_arithmetic_and_the_least() -> None:
    assert kernel_s(CARD, Launch("add", 8000)) == pytest.approx(1e-5)
    assert kernel_s(CARD, Launch("convolution", 8000, layout_bytes=8000)) == pytest.approx(2e-5)
    assert kernel_s(CARD, Launch("convolution", 8000, flop=16_000_000)) == pytest.approx(4e-5)
    assert kernel_s(CARD, Launch("deform_conv2d", 8000, flop=16_000_000)) == pytest.approx(4e-4)  # float32
    assert kernel_s(CARD, Launch("add", 8)) == roofline.KERNEL_S


def test_a_frame_is_what_a_longer_segment_takes_beyond_a_shorter_one() -> None:
    """40 kernels of 10 us for 5 frames: 80 us of the device, 40 us to launch; 2 ms for 12 MB over the bus."""
    fewer = Work([Launch("add", 8000)] * 7, 1e6)
    more = Work([Launch("add", 8000)] * 47, 61e6)
    p = predicted(CARD, more, fewer, 5)
    assert (p.kernels, p.limit) == (8, "the bus")
    assert [p.launching_s, p.device_s, p.bus_s] == pytest.approx([4e-5, 8e-5, 2e-3])
    assert p.frame_s == pytest.approx(2.08e-3)
    beside = predicted(CARD, roofline.with_planes_beside(more), roofline.with_planes_beside(fewer), 5)
    assert beside.frame_s == pytest.approx(12e6 / 8e9)


def test_levers_take_away_the_kernels_that_they_replace() -> None:
    names = ("nan_to_num", "convolution", BIAS, "relu_", "convolution", BIAS, "leaky_relu_", "relu")
    launches = [Launch(name, 100, layout_bytes=50, part="network") for name in names]
    work = Work([*launches, Launch("mul", 10, part="conversion")], 640)
    fused = roofline.with_fused_convolutions(work).launches
    assert [launch.operation for launch in fused] == [
        "nan_to_num", "convolution", "convolution", "leaky_relu_", "relu", "mul"
    ]  # fmt: skip
    assert all(launch.layout_bytes == 0 for launch in roofline.in_channels_last(work).launches)
    converted = roofline.with_conversions_as_one_kernel(work).launches
    assert converted[len(names) :] == [Launch("conversion", 640)] * 2
    assert roofline.as_cuda_graphs(work).launch_s == 0


@pytest.mark.long
def test_the_table_says_that_it_is_a_prediction() -> None:
    """Of a tiny network: where the engine prepares frames, and what travels, is counted for each frame."""
    lines = list(roofline.prediction("RTX 3060", [Case("IconVSR-8x1", 32, 16, 5)]))
    assert lines[0] == "PREDICTION for RTX 3060, not a measurement: published peaks, kernels counted without a GPU."
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert [row[2] for row in rows] == [*roofline.LEVERS, "all of these"]
    assert rows[0][8:] == ["launches", "1.00"]  # a tiny frame waits for the processor
    kernels = {row[2]: int(row[3]) for row in rows}
    assert kernels["all of these"] < kernels["bias and ReLU in the convolution"] < kernels["as it is"]


def test_a_card_that_is_not_in_the_table_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--predict", "GTX 970"])
    assert "RTX 4090" in capsys.readouterr().err
