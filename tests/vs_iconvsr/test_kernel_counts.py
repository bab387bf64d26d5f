"""How many kernels a GPU is asked for: at small frames they, and not what they compute, are the time of a frame."""

from collections import Counter

import pytest

from tests.vs_iconvsr.fake_gpu import fake_gpu, upscaled_on_a_gpu
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

YUV420P10 = Format("YUV", "integer", 10, 1, 1)


def kernels(network: VideoNetwork, width: int, height: int, frames: int) -> Counter[str]:
    with fake_gpu() as gpu:
        upscaled_on_a_gpu(gpu, network, width, height, frames, source=YUV420P10, target=YUV420P10)
        return gpu.kernels


@pytest.mark.parametrize(
    ("network", "width", "height", "period", "most"),
    [
        pytest.param(LightVSR(), 960, 540, 1, 409, id="light-540p"),
        pytest.param(IconVSR(), 320, 180, 5, 855, id="IconVSR-180p", marks=pytest.mark.long),  # one keyframe in five
    ],
)
def test_a_frame_takes_no_more_kernels(network: VideoNetwork, width: int, height: int, period: int, most: int) -> None:
    """In the middle of a segment: what a longer one takes beyond a shorter one."""
    few, more = (kernels(network, width, height, frames) for frames in (period, 2 * period))
    assert (more.total() - few.total()) / period <= most, (more - few).most_common(8)
