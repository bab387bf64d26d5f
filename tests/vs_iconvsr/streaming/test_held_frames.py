"""Held frames upscaled once: repetitions are left out of the propagation, whatever the order of requests."""

from dataclasses import replace

import pytest
import torch

from tests.vs_iconvsr.streaming.clip import CLIP, NUM_FRAMES, PROPERTIES, YUV420P8, Clip, equal, open_session
from vs_iconvsr import colorspace
from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment
from vs_iconvsr.streaming import HrFrame
from vs_iconvsr.streaming.frames import SourceFrame
from vs_iconvsr.streaming.held import HeldPropagation

# Which frame of CLIP each frame shows: on twos and threes, and across the cells of ten frames.
SHOWN = [0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5, 6, 6, 7, 7, 17, 17, 18, 18, 18, 19, 19, 20, 20, 20, 20]
SHOWN += [20 + (n + 1) // 2 for n in range(NUM_FRAMES - len(SHOWN))]
HELD = [CLIP[n] for n in SHOWN]
WHOLE = {"segment": 0, "context": 0, "scene_detect": False}


def played(network: VideoNetwork, clip: Clip, *order: int, **settings: object) -> list[HrFrame]:
    with open_session(network, len(clip.frames), **settings) as session:
        return clip.play(session, *(order or range(len(clip.frames))))


def same_planes(one: HrFrame, other: HrFrame) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def test_a_drawing_is_upscaled_as_if_it_had_been_shown_once(tiny_network: VideoNetwork) -> None:
    drawings = sorted(set(SHOWN))
    once = played(tiny_network, Clip([CLIP[n] for n in drawings]), **WHOLE)
    held = played(tiny_network, Clip(HELD), held_frames="once", **WHOLE)
    assert all(same_planes(hr, once[drawings.index(n)]) for hr, n in zip(held, SHOWN, strict=True))
    each = played(tiny_network, Clip(HELD), **WHOLE)
    assert not all(same_planes(one, other) for one, other in zip(held, each, strict=True))


@pytest.mark.parametrize("order", [range(NUM_FRAMES - 1, -1, -1), (31, 3, 11, 10, 9, 40, 17, 16, 0)])
def test_the_order_of_requests_changes_nothing(tiny_network: VideoNetwork, order: range) -> None:
    forwards = played(tiny_network, Clip(HELD), held_frames="once")
    asked = played(tiny_network, Clip(HELD), *order, held_frames="once")
    assert all(equal(hr, forwards[n]) for hr, n in zip(asked, order, strict=True))
    assert [hr.user_data for hr in forwards] == list(range(NUM_FRAMES))


def test_a_clip_without_repetitions_keeps_its_bytes(tiny_network: VideoNetwork) -> None:
    pairs = zip(played(tiny_network, Clip()), played(tiny_network, Clip(), held_frames="once"), strict=True)
    assert all(equal(one, other) for one, other in pairs)


def test_repetitions_take_no_steps_of_the_network(tiny_network: VideoNetwork) -> None:
    steps = {}
    for how in ("each", "once"):
        with open_session(tiny_network, held_frames=how, **WHOLE) as session:
            Clip(HELD).play(session)
            steps[how] = session.counts.steps
    assert steps["each"] - steps["once"] == NUM_FRAMES - len(set(SHOWN))  # of the backward branch


def held_propagation(network: VideoNetwork, frames: dict[int, SourceFrame]) -> HeldPropagation:
    upscaler = Upscaler(network, torch.device("cpu"), Shape(32, 24))

    def lr_frame(n: int) -> torch.Tensor:
        return colorspace.to_rgb(frames[n].planes, YUV420P8, frames[n].color)

    return HeldPropagation(upscaler, Segment(range(2, 9), range(10)), frames, lr_frame, MemoryStrategy.KEEP)


def source_frames() -> dict[int, SourceFrame]:
    color, _ = colorspace.colorimetry_of(PROPERTIES, YUV420P8, 32, 24, matrix=None)
    return {n: SourceFrame(HELD[n], YUV420P8, PROPERTIES, color, None) for n in range(10)}


def test_rewinding_repeats_the_frames(tiny_network: VideoNetwork) -> None:
    propagation = held_propagation(tiny_network, source_frames())
    found: dict[int, list[torch.Tensor]] = {}
    for stop in (3, 4, 7, 9):  # in the middle of what is held, and at its ends
        while propagation.next_kept < stop:
            n = propagation.next_kept
            if (hr := propagation.step()) is not None:
                found.setdefault(n, []).append(hr.clone())
        propagation.rewind()
    assert sorted(found) == list(range(2, 9))
    assert all(torch.equal(hr, frames[0]) for frames in found.values() for hr in frames)
    assert torch.equal(found[2][0], found[4][0])


def test_equal_planes_of_another_color_are_another_drawing(tiny_network: VideoNetwork) -> None:
    frames = source_frames()
    frames[3].color = replace(frames[3].color, full_range=True)
    propagation = held_propagation(tiny_network, frames)
    shown = []
    while len(shown) < 3:
        if (hr := propagation.step()) is not None:
            shown.append(hr.clone())
    assert not torch.equal(shown[0], shown[1])
