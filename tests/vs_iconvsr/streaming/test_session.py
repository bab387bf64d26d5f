"""A session: hr frame n is a function of n, frames are fetched once, segments computed once, stores stay bounded."""

import gc
import random
import threading
import weakref
from typing import Any

import pytest
import torch

from tests.vs_iconvsr.streaming.clip import (
    CLIP,
    CUT,
    HEIGHT,
    NUM_FRAMES,
    PROPERTIES,
    WIDTH,
    YUV420P8,
    Clip,
    equal,
    open_session,
    wait_until,
)
from vs_iconvsr import colorspace, scenes
from vs_iconvsr.colorspace import Format
from vs_iconvsr.engine import Propagation, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.streaming import HrFrame
from vs_iconvsr.streaming.frames import CHECK_RANGE_EVERY

ROOM_FOR_3 = 10**6
"""So many sessions would share the memory that an hr store holds no more than it must: three frames."""


def test_in_order_each_frame_is_fetched_once_and_each_segment_computed_once(tiny_network: VideoNetwork) -> None:
    clip = Clip()
    with open_session(tiny_network) as session:
        assert [hr.user_data for hr in clip.play(session)] == list(range(NUM_FRAMES))
        assert clip.fetched == list(range(NUM_FRAMES))
        assert session.counts.segments_begun == 6  # five cells, one of them cut in two
        assert session.counts.hr_frames == NUM_FRAMES


@pytest.mark.parametrize("segment", [1, 2, 3, 4])
def test_short_segments_too_are_computed_once(tiny_network: VideoNetwork, segment: int) -> None:
    clip = Clip()
    with open_session(tiny_network, segment=segment, in_flight=8) as session:
        clip.play(session)
        cells = {n - n % segment for n in range(NUM_FRAMES)} | {CUT}
        assert session.counts.segments_begun == len(cells)
        assert session.counts.hr_frames == NUM_FRAMES
    assert clip.fetched == list(range(NUM_FRAMES))


def test_reversed_order_gives_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame]) -> None:
    with open_session(tiny_network) as session:
        played = Clip().play(session, *reversed(range(NUM_FRAMES)))
    assert all(equal(hr, expected) for hr, expected in zip(reversed(played), reference, strict=True))


def check_random_order(network: VideoNetwork, reference: list[HrFrame], seed: int, count: int) -> None:
    order = random.Random(seed).sample(range(NUM_FRAMES), count)
    with open_session(network) as session:
        played = Clip().play(session, *order)
    assert all(equal(hr, reference[n]) for n, hr in zip(order, played, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_random_order_gives_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame], seed: int) -> None:
    check_random_order(tiny_network, reference, seed, 12)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200))
def test_200_random_orders_give_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame], seed: int) -> None:
    check_random_order(tiny_network, reference, 1000 + seed, NUM_FRAMES)


def test_8_threads_give_the_same_bytes_and_compute_each_segment_once(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    with open_session(tiny_network, in_flight=8) as session:
        got: dict[int, HrFrame] = {}
        numbers = iter(range(NUM_FRAMES))
        lock = threading.Lock()

        def play() -> None:
            clip = Clip()
            while True:
                with lock:
                    n = next(numbers, None)
                if n is None:
                    return
                (got[n],) = clip.play(session, n)

        threads = [threading.Thread(target=play) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert all(equal(got[n], reference[n]) for n in range(NUM_FRAMES))
        assert session.counts.segments_begun == 6


@pytest.mark.parametrize("seed", range(3))
def test_frames_that_were_evicted_are_made_again_for_those_who_wait(
    tiny_network: VideoNetwork, reference: list[HrFrame], seed: int
) -> None:
    """Four threads play forwards, backwards and at random with room for three hr frames: nobody waits for ever."""
    with open_session(tiny_network, in_flight=1, sharers=ROOM_FOR_3) as session:
        got: dict[int, HrFrame] = {}

        def play(i: int) -> None:
            order = list(range(i, NUM_FRAMES, 4))
            if i == 1:
                order.reverse()
            elif i > 1:
                random.Random(10 * seed + i).shuffle(order)
            clip = Clip()
            for n in order:
                (got[n],) = clip.play(session, n)

        threads = [threading.Thread(target=play, args=(i,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=100)
            assert not thread.is_alive()
        assert session.status.hr_frames <= 3
        assert all(equal(got[n], reference[n]) for n in range(NUM_FRAMES))


def test_two_devices_give_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame]) -> None:
    with open_session(tiny_network, device="cpu,cpu") as session:
        played = Clip().play(session)
    assert all(equal(hr, expected) for hr, expected in zip(played, reference, strict=True))


def test_a_clip_whose_length_is_not_known_gives_the_same_bytes(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    clip = Clip()
    with open_session(tiny_network, num_frames=None) as session:
        from vs_iconvsr.streaming import iterate

        played = dict(iterate(session, clip.fetch))
        assert session.num_frames == NUM_FRAMES
        with pytest.raises(ValueError, match="frame: expected one of 43 frames, got 43"):
            session.frame(NUM_FRAMES)
    assert list(played) == list(range(NUM_FRAMES))
    assert clip.fetched == list(range(NUM_FRAMES))
    assert all(equal(hr, reference[n]) for n, hr in played.items())


def test_frames_of_a_scene_do_not_depend_on_the_next_scene(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    with open_session(tiny_network, num_frames=CUT) as session:
        for n, alone in enumerate(Clip().play(session, *range(CUT))):
            assert all(torch.equal(a, b) for a, b in zip(alone.planes, reference[n].planes, strict=True))


def test_cuts_we_found_are_marked_on_both_sides(reference: list[HrFrame]) -> None:
    assert reference[CUT - 1].properties["_SceneChangeNext"] == 1
    assert reference[CUT].properties["_SceneChangePrev"] == 1
    others = [hr.properties["_SceneChangePrev"] for n, hr in enumerate(reference) if n != CUT]
    assert others == [0] * (NUM_FRAMES - 1)


def test_cuts_that_frames_mark_are_taken_and_nothing_is_measured(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = {n: {"_SceneChangePrev": int(n == 5), "_SceneChangeNext": int(n == 4)} for n in range(NUM_FRAMES)}
    with open_session(tiny_network, num_frames=5) as first_scene:
        alone = Clip().play(first_scene, *range(5))
    monkeypatch.setattr(scenes, "signature", lambda *_: pytest.fail("a marked frame is measured"))
    with open_session(tiny_network) as session:
        for hr, expected in zip(Clip(properties=marked).play(session, *range(5)), alone, strict=True):
            assert "_SceneChangePrev" not in hr.properties
            assert all(torch.equal(a, b) for a, b in zip(hr.planes, expected.planes, strict=True))


def test_without_scene_detection_propagation_goes_through_cuts(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    with open_session(tiny_network, scene_detect=False) as session:
        (hr,) = Clip().play(session, CUT)
        assert "_SceneChangePrev" not in hr.properties
        assert not torch.equal(hr.planes[0], reference[CUT].planes[0])


def test_segment_0_without_context_and_scenes_is_forward_over_the_whole_clip(tiny_network: VideoNetwork) -> None:
    tagged, _ = colorspace.colorimetry_of(PROPERTIES, YUV420P8, WIDTH, HEIGHT)
    lr = torch.stack([colorspace.to_rgb(planes, YUV420P8, tagged) for planes in CLIP])
    with torch.inference_mode():
        expected = colorspace.from_rgb(tiny_network(lr[None])[0, 20], YUV420P8, tagged)
    with open_session(tiny_network, segment=0, context=0, scene_detect=False) as session:
        (hr,) = Clip().play(session, 20)
    for got, plane in zip(hr.planes, expected, strict=True):
        assert (got.int() - plane.int()).abs().max() <= 1  # float sums of another batch size, then dither


def test_a_seek_costs_at_most_one_segment(tiny_network: VideoNetwork) -> None:
    with open_session(tiny_network) as session:
        Clip().play(session, 25)
        assert session.counts.segments_begun == 1
        assert session.counts.steps <= (10 + 2 * 2) + (10 + 2)


def test_the_next_backward_branch_is_done_while_this_cell_is_delivered(tiny_network: VideoNetwork) -> None:
    clip = Clip()
    with open_session(tiny_network) as session:
        clip.play(session, *range(6))
        assert set(range(20)) <= set(clip.fetched)  # at half time all of the next cell has come
        # this segment reads 12 frames; the next one reads 8 to 16, where a cut ends it
        assert wait_until(lambda: session.counts.steps >= 12 + 6 + 9)
        assert session.counts.segments_begun == 2
        assert session.counts.hr_frames <= 10 + 2  # what nobody has asked for does not pile up


def test_a_jump_is_not_followed_by_look_ahead(tiny_network: VideoNetwork) -> None:
    with open_session(tiny_network) as session:
        Clip().play(session, 22)
        steps = session.counts.steps
        assert session.look_ahead(22) == []
        assert not wait_until(lambda: session.counts.steps != steps, seconds=0.3)


def test_no_frame_is_made_ahead_beyond_the_stated_end(tiny_network: VideoNetwork) -> None:
    with open_session(tiny_network) as session:
        session.stop_at(20)
        Clip().play(session, *range(10, 20))
        assert session.counts.segments_begun == 2  # the cell is cut in two
        assert session.counts.hr_frames == 10


def test_a_segments_features_go_with_its_last_frame_not_with_the_next_garbage_collection(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Propagation]] = []
    propagate = Upscaler.propagate

    def recorded(self: Upscaler, *arguments: Any, **options: Any) -> Propagation:
        propagation = propagate(self, *arguments, **options)
        made.append(weakref.ref(propagation))
        return propagation

    monkeypatch.setattr(Upscaler, "propagate", recorded)
    gc.collect()
    gc.disable()
    try:
        with open_session(tiny_network) as session:
            Clip().play(session)
            assert len(made) == 6
            assert wait_until(lambda: all(propagation() is None for propagation in made))
    finally:
        gc.enable()


def test_starting_over_looks_ahead_from_the_start(tiny_network: VideoNetwork) -> None:
    with open_session(tiny_network) as session:
        Clip().play(session, 0, 1, 33, 34, 0, 1)
        assert wait_until(lambda: session.status.segments == 2 or session.counts.segments_begun > 3)


def test_stores_stay_bounded_over_a_long_clip(tiny_network: VideoNetwork) -> None:
    clip = Clip(frames=CLIP * 12)
    frame_bytes = sum(plane.numel() for plane in CLIP[0])
    with open_session(tiny_network, num_frames=len(clip.frames)) as session:
        for n in range(len(clip.frames)):
            clip.play(session, n)
            status = session.status
            assert status.source_frames <= 2 * (10 + 2 * 5) + 2 * 8
            assert status.hr_frames <= 10 + 1
            assert status.segments <= 3
            assert status.size_bytes == frame_bytes * (status.source_frames + 16 * status.hr_frames)
    assert clip.fetched == list(range(len(clip.frames)))


def warned_of(network: VideoNetwork, clip: list[Any], properties: dict[str, int]) -> list[str]:
    """What each warning of a clip whose frames all come is about."""
    warnings: list[str] = []
    with open_session(network, len(clip), segment=4, context=0, warn=warnings.append) as session:
        for n, planes in enumerate(clip):
            session.put(n, planes, properties)
    return [text.split(":")[0] for text in warnings]


def test_an_untagged_clip_is_warned_of_once(tiny_network: VideoNetwork) -> None:
    assert warned_of(tiny_network, CLIP[:8], {}) == ["matrix"]


def test_a_clip_whose_highlights_are_clipped_is_warned_of_once(tiny_network: VideoNetwork) -> None:
    bright = tuple(torch.full_like(plane, 250) for plane in CLIP[0])
    assert warned_of(tiny_network, [bright] * (2 * CHECK_RANGE_EVERY + 1), {"_Matrix": 1}) == ["range"]


def test_the_target_format_is_delivered(tiny_network: VideoNetwork) -> None:
    target = Format("YUV", "integer", 10, 0, 0)
    with open_session(tiny_network, 1, segment=4, context=0, target=target) as session:
        (hr,) = Clip().play(session, 0)
    assert [tuple(plane.shape) for plane in hr.planes] == [(4 * HEIGHT, 4 * WIDTH)] * 3
    assert hr.planes[0].dtype == torch.uint16
    assert int(hr.planes[0].int().max()) > 255
    assert hr.properties["_Matrix"] == 6
