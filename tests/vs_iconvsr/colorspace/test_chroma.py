"""Frames enlarged with the kernel that chroma is: the reference is VapourSynth's resize (zimg)."""

import numpy as np
import pytest
import torch
import vapoursynth as vs

from tests.vs_iconvsr.colorspace.samples import RGBS, random_planes
from tests.vs_iconvsr.colorspace.test_convert import frame_clip, planes_of
from vs_iconvsr import colorspace
from vs_iconvsr.colorspace import enlarge_bicubic


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (17, 9), (40, 26)])
def test_enlarging_matches_zimg(width: int, height: int, scale: int) -> None:
    planes = random_planes(RGBS, width, height)
    clip = frame_clip(planes, RGBS, _Matrix=0)
    kernel = {"filter_param_a": colorspace.CUBIC_B, "filter_param_b": colorspace.CUBIC_C}
    expected = planes_of(vs.core.resize.Bicubic(clip, width=scale * width, height=scale * height, **kernel))
    enlarged = enlarge_bicubic(torch.stack(planes), scale)
    assert enlarged.shape == (3, scale * height, scale * width)
    np.testing.assert_allclose(enlarged, np.stack(expected), atol=2e-6)


def test_a_scale_of_one_is_the_frame_itself() -> None:
    rgb = torch.rand(3, 4, 5)
    assert enlarge_bicubic(rgb, 1) is rgb
