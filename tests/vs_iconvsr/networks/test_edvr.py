import subprocess
import sys

import pytest
import torch

from tests.vs_iconvsr.networks.deterministic import filled
from tests.vs_iconvsr.networks.goldens import UNIT, as_input, difference, golden, shared_golden
from vs_iconvsr.networks.edvr import DeformableConv, EDVRFeatureExtractor


@pytest.fixture(scope="module")
def edvr() -> EDVRFeatureExtractor:
    return filled(EDVRFeatureExtractor(), prefix="edvr.")


def test_features_are_the_authors(edvr: EDVRFeatureExtractor) -> None:
    theirs = golden("unit_edvr5_40x48")
    features = edvr(as_input(theirs["in_frames_u8"])[None])
    assert difference(features[..., ::2, ::2], theirs["feat"]) <= UNIT
    assert difference(features[..., -2:], theirs["feat_right"]) <= UNIT


def test_deformable_convolution_is_the_authors(edvr: EDVRFeatureExtractor) -> None:
    theirs = golden("unit_dcnpack_l1_13x17")
    moved = edvr.pcd_alignment.dcn_pack["l1"](as_input(theirs["in_x"]), as_input(theirs["in_extra"]))
    assert difference(moved, theirs["out"]) <= UNIT


def test_fusion_is_the_authors(edvr: EDVRFeatureExtractor) -> None:
    theirs = golden("unit_tsa5_16x20")
    assert difference(edvr.fusion(as_input(theirs["in_x"])), theirs["out"]) <= UNIT


@pytest.mark.needs_shared
def test_alignment_is_the_authors(edvr: EDVRFeatureExtractor) -> None:
    theirs = shared_golden("unit_pcd_32x40")
    neighbour, middle = ([as_input(theirs[f"in_{which}{i}"]) for i in range(3)] for which in ("nbr", "ref"))
    assert difference(edvr.pcd_alignment(neighbour, middle), theirs["aligned"]) <= UNIT


def test_a_window_has_the_same_features_alone_and_in_a_batch(edvr: EDVRFeatureExtractor) -> None:
    windows = torch.rand(2, 5, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(edvr(windows)[1:], edvr(windows[1:]), atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_wild_offsets_do_not_crash(value: float) -> None:
    conv = filled(DeformableConv(8))
    guide = torch.zeros(1, 8, 6, 6)
    guide[0, :, 2, 2] = value
    assert conv(torch.ones(1, 8, 6, 6), guide).shape == (1, 8, 6, 6)


def test_a_nan_offset_counts_as_no_offset() -> None:
    conv = filled(DeformableConv(8))
    torch.nn.init.zeros_(conv.conv_offset.weight)
    torch.nn.init.zeros_(conv.conv_offset.bias)
    features = torch.rand(1, 8, 6, 6)
    assert torch.equal(conv(features, torch.full((1, 8, 6, 6), float("nan"))), conv(features, torch.zeros(1, 8, 6, 6)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_move_wide_frames(dtype: torch.dtype) -> None:
    conv = DeformableConv(8)
    torch.nn.init.dirac_(conv.weight)
    features = (torch.arange(1280) % 2 * 2.0).expand(1, 8, 3, 1280)
    halved = conv(features, features)  # masks are a half as long as conv_offset is untrained
    moved = conv.to(dtype)(features.to(dtype), features.to(dtype))
    assert moved.dtype == dtype
    assert torch.allclose(moved.float(), halved, atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 4}, "num_frames of EDVR: expected an odd number, 1 or more, got 4"),
        ({"channels": 12}, "channels of EDVR: expected a multiple of 8, got 12"),
        ({"num_blocks": 0}, "num_blocks of EDVR: expected 1 or more, got 0"),
    ],
)
def test_impossible_widths_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EDVRFeatureExtractor(**arguments)


def test_a_start_on_the_cpu_does_not_wait_for_torchvision() -> None:
    program = "import sys, vs_iconvsr.plugin; print([name for name in sys.modules if name.startswith('torchvision')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "[]\n"
