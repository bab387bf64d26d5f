"""Memory that runs out: recognized in every form, and before anything is computed."""

from collections.abc import Callable

import pytest
import torch

from tests.vs_iconvsr.fake_gpu import CUDA, fake_gpu
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler, memory
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.segments import Segment

MIB = 2**20
FRAMES = 3
W, H = 64, 48


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError("pinned host memory"),
        getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"),  # torch 2.6 has none
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 1 bytes"),
    ],
)
def test_every_form_of_running_out_of_memory_is_recognized(error: Exception) -> None:
    assert memory.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("out of memory")]
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not memory.is_out_of_memory(error)


@pytest.mark.parametrize(("feature", "each"), [(1 * MIB, 512), (253 * MIB, 2), (300 * MIB, 1), (600 * MIB, 1)])
def test_a_pinned_piece_has_at_most_512_mib_unless_one_feature_has_more(feature: int, each: int) -> None:
    assert memory.pinned_piece(feature) == each


def test_pinned_memory_is_counted_in_powers_of_two() -> None:
    assert memory.pinned_bytes(5, 253 * MIB) == (512 + 512 + 256) * MIB
    assert memory.pinned_bytes(0, 253 * MIB) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="memory can be pinned here")
def test_memory_that_cannot_be_pinned_is_memory_that_has_run_out() -> None:
    with pytest.raises(MemoryError, match=r"^pinned host memory: expected .* got "):
        memory.empty_pinned((4,), torch.float32)


def upscale(
    strategy: MemoryStrategy, *, working_bytes: int = 0, pinned_bytes: int | None = None, t: int = FRAMES
) -> None:
    """A segment on the fake GPU, float16."""
    network = LightVSR(mid_channels=8, num_blocks=1, flow_channels=4)
    shape = Shape(W, H, precision="float16", working_bytes=working_bytes, pinned_bytes=pinned_bytes)
    propagation = Upscaler(network, CUDA, shape).propagate(
        Segment(range(t), range(t)), lambda _: torch.empty(3, H, W, device=CUDA), strategy=strategy
    )
    while not propagation.finished:
        propagation.step()


@pytest.mark.parametrize("strategy", [MemoryStrategy.KEEP, MemoryStrategy.RECOMPUTE])
def test_memory_runs_out_before_the_first_convolution(strategy: MemoryStrategy) -> None:
    with fake_gpu() as whole:
        upscale(strategy)
    with fake_gpu(0.8 * whole.peak_bytes) as small:
        with pytest.raises(torch.OutOfMemoryError):
            upscale(strategy, working_bytes=whole.peak_bytes)
        assert small.kernels["convolution"] == 0


def test_the_features_of_a_segment_are_there_before_the_first_convolution() -> None:
    """Of a segment that is so long that its features need more than a step does."""
    frame_bytes, feature_bytes = 3 * 4 * W * H, 8 * 2 * W * H
    with fake_gpu(400 * frame_bytes + 350 * feature_bytes) as small:
        with pytest.raises(torch.OutOfMemoryError):
            upscale(MemoryStrategy.KEEP, t=400)
        assert small.kernels["convolution"] == 0


def test_the_working_memory_is_given_back_before_the_first_step() -> None:
    with fake_gpu() as gpu:
        upscale(MemoryStrategy.KEEP, working_bytes=100 * MIB, t=2)
        assert gpu.peak_bytes > 100 * MIB
        assert gpu.live_bytes < 10 * MIB


@pytest.mark.parametrize(
    "refuse",
    [
        lambda patch: patch.setattr(memory, "empty_pinned", refuses_to_pin),
        lambda _: None,  # the plan's limit alone
    ],
)
def test_host_memory_that_is_not_there_is_found_out_before_the_first_convolution(
    monkeypatch: pytest.MonkeyPatch, refuse: Callable[[pytest.MonkeyPatch], None]
) -> None:
    refuse(monkeypatch)
    with fake_gpu() as gpu:
        with pytest.raises(MemoryError, match=r"^pinned host memory: expected"):
            upscale(MemoryStrategy.OFFLOAD, pinned_bytes=None if memory.empty_pinned is refuses_to_pin else 1000)
        assert gpu.kernels["convolution"] == 0


def refuses_to_pin(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    raise MemoryError(f"pinned host memory: expected {shape} of {dtype}, got OS call failed")
