"""How many kernels a GPU is asked for: at small frames they, and not what they compute, are the time of a frame."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from tests.vs_iconvsr.fake_gpu import CUDA, fake_gpu
from vs_iconvsr.colorspace import Colorimetry, Format, from_rgb, to_rgb
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment

YUV420P10 = Format("YUV", "integer", 10, 1, 1)
BT709 = Colorimetry(matrix=1, full_range=False)


def kernels(network: VideoNetwork, width: int, height: int, frames: int) -> Counter[str]:
    """Of one segment without context in float16, from planes to planes."""

    def lr_frame(n: int) -> Tensor:
        del n
        sizes = YUV420P10.plane_sizes(width, height)
        return to_rgb(tuple(torch.empty(h, w, dtype=torch.uint16, device=CUDA) for w, h in sizes), YUV420P10, BT709)

    with fake_gpu() as gpu:
        segment = Segment(range(frames), range(frames))
        upscaler = Upscaler(network, CUDA, Shape(width, height, precision="float16"))
        propagation = upscaler.propagate(segment, lr_frame, strategy=MemoryStrategy.KEEP)
        while not propagation.finished:
            if (hr := propagation.step()) is not None:
                from_rgb(hr, YUV420P10, BT709)
        return gpu.kernels


@pytest.mark.parametrize(
    ("network", "width", "height", "period", "most"),
    [
        pytest.param(LightVSR(), 960, 540, 1, 605, id="light-540p"),
        pytest.param(IconVSR(), 320, 180, 5, 1117, id="IconVSR-180p", marks=pytest.mark.long),  # one keyframe in five
    ],
)
def test_a_frame_takes_no_more_kernels(network: VideoNetwork, width: int, height: int, period: int, most: int) -> None:
    """In the middle of a segment: what a longer one takes beyond a shorter one."""
    few, more = (kernels(network, width, height, frames) for frames in (period, 2 * period))
    assert (more.total() - few.total()) / period <= most, (more - few).most_common(8)
