"""Less than full strength: the network's hr frames blended with the source enlarged by bicubic interpolation."""

import pytest
import torch
from torch import Tensor

from tests.vs_iconvsr.streaming.clip import CLIP, PROPERTIES, YUV420P8, Clip, equal, open_session
from vs_iconvsr import colorspace
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import HrFrame, Session

RGBS = Format("RGB", "float", 32)
FRAMES = (3, 16, 17)  # in a segment, and on both sides of the cut


def played(network: VideoNetwork, target: Format = RGBS, **settings: object) -> list[HrFrame]:
    with open_session(network, target=target, **settings) as session:
        return Clip().play(session, *FRAMES)


def rgb(network: VideoNetwork, **settings: object) -> list[Tensor]:
    return [torch.stack(hr.planes) for hr in played(network, **settings)]


def bicubic(n: int, scale: int) -> Tensor:
    """Not limited to [0, 1] yet."""
    color, _ = colorspace.colorimetry_of(PROPERTIES, YUV420P8, *CLIP[n][0].shape[::-1], matrix=None)
    return colorspace.enlarge_bicubic(colorspace.to_rgb(CLIP[n], YUV420P8, color), scale)


def test_full_strength_changes_no_byte(tiny_network: VideoNetwork) -> None:
    pairs = zip(played(tiny_network, YUV420P8), played(tiny_network, YUV420P8, strength=1.0), strict=True)
    assert all(equal(one, other) for one, other in pairs)


def test_no_strength_is_bicubic_interpolation_of_the_source(tiny_network: VideoNetwork) -> None:
    for n, hr in zip(FRAMES, rgb(tiny_network, strength=0.0), strict=True):
        assert torch.equal(hr, bicubic(n, 4).clamp(0, 1))


def test_each_frame_has_the_strength_of_its_scene_and_nothing_of_the_other(tiny_network: VideoNetwork) -> None:
    """The cut is at frame 17; frame 14 is in a segment that keeps frames of one scene alone."""
    whole, half = played(tiny_network, YUV420P8), played(tiny_network, YUV420P8, strength=0.5)
    for strengths, expected in {
        ((17, 0.5),): [whole[0], whole[1], half[2]],
        ((0, 0.5), (17, 1.0)): [half[0], half[1], whole[2]],
    }.items():
        with open_session(tiny_network, target=YUV420P8, strengths=strengths) as session:
            backwards = Clip().play(session, *reversed(FRAMES))
        for one, hr in zip(expected, reversed(backwards), strict=True):
            assert equal(one, hr)


@pytest.mark.parametrize("strength", [0.25, 0.75])
def test_strength_is_the_share_of_the_network(tiny_network: VideoNetwork, strength: float) -> None:
    whole = rgb(tiny_network)
    for n, network, hr in zip(FRAMES, whole, rgb(tiny_network, strength=strength), strict=True):
        expected = strength * network + (1 - strength) * bicubic(n, 4)
        inside = (network > 0) & (network < 1)  # a limited value does not show what was blended
        torch.testing.assert_close(hr[inside], expected.clamp(0, 1)[inside], atol=1e-6, rtol=0)
        assert (hr - network)[inside].abs().max() > 0.01


def test_a_network_that_keeps_the_size_is_blended_with_the_source_itself() -> None:
    torch.manual_seed(0)
    network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=1).eval().requires_grad_(False)
    network.tail_last.weight.normal_(std=0.5)
    whole = rgb(network)
    for n, changed, hr in zip(FRAMES, whole, rgb(network, strength=0.5), strict=True):
        inside = (changed > 0) & (changed < 1)
        torch.testing.assert_close(hr[inside], (0.5 * changed + 0.5 * bicubic(n, 1))[inside], atol=1e-6, rtol=0)
        assert (changed - bicubic(n, 1))[inside].abs().max() > 0.01


def test_a_network_whose_values_overflow_leaves_no_trace_at_no_strength(tiny_network: VideoNetwork) -> None:
    broken = LightVSR(**tiny_network.hyper_parameters).eval().requires_grad_(False)
    broken.load_state_dict(tiny_network.state_dict())
    assert broken.tail_last.bias is not None
    broken.tail_last.bias.fill_(float("inf"))
    for n, hr in zip(FRAMES, rgb(broken, strength=0.0), strict=True):
        assert torch.equal(hr, bicubic(n, 4).clamp(0, 1))


def test_blending_does_not_depend_on_the_order_of_requests(tiny_network: VideoNetwork) -> None:
    forward = played(tiny_network, YUV420P8, strength=0.5)
    with open_session(tiny_network, strength=0.5) as session:
        backward = Clip().play(session, *reversed(FRAMES))
    assert all(equal(one, other) for one, other in zip(forward, reversed(backward), strict=True))


def test_wild_values_of_a_float_source_are_blended_as_the_network_takes_them(tiny_network: VideoNetwork) -> None:
    planes = torch.full((3, 24, 32), 0.5)
    planes[:, 5, 6] = float("nan")
    settings = Settings(segment=1, context=0, threads=1, strength=0.0, scene_detect=False)
    with Session(
        tiny_network, settings, source=RGBS, width=32, height=24, num_frames=1, target=RGBS, warn=print
    ) as session:
        while session.needs(0):
            session.put(0, tuple(planes), {})
        hr = torch.stack(session.frame(0).planes)
    assert hr.isfinite().all()
    assert 0.0 <= hr.min() < 0.1  # NaN is black, and grey all round
    torch.testing.assert_close(hr[..., 60:], torch.full_like(hr[..., 60:], 0.5))
