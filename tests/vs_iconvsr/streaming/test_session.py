"""The stream: hr frame n is a function of n, frames are asked for once, segments computed once, stores bounded."""

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from vs_iconvsr.stream import RANGE_EVERY, HrFrame, Stream

from vs_iconvsr import colorspace as color
from vs_iconvsr.colorspace import Format, Planes
from vs_iconvsr.engine import MemoryStrategy, Propagation, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings

WIDTH, HEIGHT, NUM_FRAMES, CUT = 32, 24, 43, 17
YUV420P8 = Format("YUV", "integer", 8, 1, 1)
PROPERTIES = {"_Matrix": 6, "_Range": 0}


def make_clip(seed: int = 0) -> list[Planes]:
    """Grain over two still pictures, with one cut between them."""
    generator = torch.Generator().manual_seed(seed)

    def plane(n: int, size: tuple[int, int]) -> torch.Tensor:
        width, height = size
        scene = torch.Generator().manual_seed(100 + (n >= CUT))
        blocks = 30 + 190 * torch.rand(height // 2, width // 2, generator=scene)
        grain = 8 * torch.rand(height, width, generator=generator)
        return (blocks.repeat_interleave(2, 0).repeat_interleave(2, 1) + grain).to(torch.uint8)

    return [tuple(plane(n, size) for size in YUV420P8.plane_sizes(WIDTH, HEIGHT)) for n in range(NUM_FRAMES)]


CLIP = make_clip()


@dataclass
class Door:
    """What a door does, with a record of the source frames that it fetched."""

    stream: Stream
    clip: list[Planes] = field(default_factory=lambda: CLIP)
    properties: dict[int, dict[str, int]] = field(default_factory=dict)
    fetched: list[int] = field(default_factory=list)

    def fetch(self, numbers: Iterable[int]) -> None:
        for k in numbers:
            self.fetched.append(k)
            self.stream.put(k, self.clip[k], PROPERTIES | self.properties.get(k, {}), user_data=k)

    def __getitem__(self, n: int) -> HrFrame:
        while wanted := self.stream.missing(n):
            self.fetch(wanted)
        self.fetch(self.stream.ahead(n))
        return self.stream.frame(n)


def open_stream(
    network: VideoNetwork,
    num_frames: int = NUM_FRAMES,
    in_flight: int = 1,
    **settings: object,
) -> Stream:
    return Stream(
        network,
        Settings(**({"segment": 10, "context": 2, "threads": 1} | settings)),  # type: ignore[arg-type]
        source=YUV420P8,
        width=WIDTH,
        height=HEIGHT,
        num_frames=num_frames,
        target=YUV420P8,
        in_flight=in_flight,
    )


def equal(one: HrFrame, other: HrFrame) -> bool:
    same_planes = all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
    return same_planes and one.properties == other.properties and one.user_data == other.user_data


@pytest.fixture(scope="module")
def reference(tiny_network: VideoNetwork) -> list[HrFrame]:
    """Every hr frame, asked for in order."""
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        return [door[n] for n in range(NUM_FRAMES)]


def test_in_order_each_frame_is_fetched_once_and_each_segment_computed_once(tiny_network: VideoNetwork) -> None:
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        for n in range(NUM_FRAMES):
            assert door[n].user_data == n
        assert door.fetched == list(range(NUM_FRAMES))
        assert stream.counts.segments_begun == 6  # five cells, one of them cut in two
        assert stream.counts.hr_frames == NUM_FRAMES


@pytest.mark.parametrize("segment", [1, 2, 3, 4])
def test_short_segments_too_are_computed_once(tiny_network: VideoNetwork, segment: int) -> None:
    with open_stream(tiny_network, segment=segment, in_flight=8) as stream:
        door = Door(stream)
        for n in range(NUM_FRAMES):
            door[n]
        cells = {n - n % segment for n in range(NUM_FRAMES)} | {CUT}
        assert stream.counts.segments_begun == len(cells)
        assert stream.counts.hr_frames == NUM_FRAMES
        assert door.fetched == list(range(NUM_FRAMES))


def test_reversed_order_gives_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame]) -> None:
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        assert all(equal(door[n], reference[n]) for n in reversed(range(NUM_FRAMES)))


@pytest.mark.parametrize("seed", range(6))
def test_random_order_gives_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame], seed: int) -> None:
    order = random.Random(seed).sample(range(NUM_FRAMES), 12)
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        assert all(equal(door[n], reference[n]) for n in order)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200))
def test_200_random_orders_give_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame], seed: int) -> None:
    order = random.Random(1000 + seed).sample(range(NUM_FRAMES), NUM_FRAMES)
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        assert all(equal(door[n], reference[n]) for n in order)


def test_8_threads_give_the_same_bytes_and_compute_each_segment_once(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    with open_stream(tiny_network, in_flight=8) as stream:
        got: dict[int, HrFrame] = {}
        numbers = iter(range(NUM_FRAMES))
        lock = threading.Lock()

        def fetch() -> None:
            door = Door(stream)
            while True:
                with lock:
                    n = next(numbers, None)
                if n is None:
                    return
                got[n] = door[n]

        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert all(equal(got[n], reference[n]) for n in range(NUM_FRAMES))
        assert stream.counts.segments_begun == 6


@pytest.mark.parametrize("seed", range(3))
def test_frames_that_were_made_and_evicted_are_made_again_for_who_waits(
    tiny_network: VideoNetwork, reference: list[HrFrame], seed: int
) -> None:
    """Four threads play forwards, backwards and at random with room for two hr frames: nobody waits for ever."""
    with open_stream(tiny_network, in_flight=4) as stream:
        stream._hr_capacity = 2
        got: dict[int, HrFrame] = {}

        def play(i: int) -> None:
            order = list(range(i, NUM_FRAMES, 4))
            if i == 1:
                order.reverse()
            elif i > 1:
                random.Random(10 * seed + i).shuffle(order)
            door = Door(stream)
            for n in order:
                got[n] = door[n]

        threads = [threading.Thread(target=play, args=(i,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=100)
            assert not thread.is_alive()
        assert all(equal(got[n], reference[n]) for n in range(NUM_FRAMES))


def test_two_devices_give_the_same_bytes(tiny_network: VideoNetwork, reference: list[HrFrame]) -> None:
    with open_stream(tiny_network, device="cpu,cpu") as stream:
        door = Door(stream)
        assert all(equal(door[n], reference[n]) for n in range(NUM_FRAMES))
        assert len(set(stream._workers)) == 2


def test_frames_of_a_scene_do_not_depend_on_the_next_scene(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    with open_stream(tiny_network, num_frames=CUT) as stream:
        door = Door(stream)
        for n in range(CUT):
            alone = door[n]
            assert all(torch.equal(a, b) for a, b in zip(alone.planes, reference[n].planes, strict=True))


def test_cuts_we_found_are_told_on_both_sides(reference: list[HrFrame]) -> None:
    assert reference[CUT - 1].properties["_SceneChangeNext"] == 1
    assert reference[CUT].properties["_SceneChangePrev"] == 1
    others = [hr.properties["_SceneChangePrev"] for n, hr in enumerate(reference) if n != CUT]
    assert others == [0] * (NUM_FRAMES - 1)


def test_cuts_that_frames_tell_of_are_taken_and_nothing_is_measured(tiny_network: VideoNetwork) -> None:
    told = {n: {"_SceneChangePrev": int(n == 5), "_SceneChangeNext": int(n == 4)} for n in range(NUM_FRAMES)}
    with open_stream(tiny_network) as stream, open_stream(tiny_network, num_frames=5) as first_scene:
        door, alone = Door(stream, properties=told), Door(first_scene)
        for n in range(5):
            hr = door[n]
            assert "_SceneChangePrev" not in hr.properties
            assert all(torch.equal(a, b) for a, b in zip(hr.planes, alone[n].planes, strict=True))
        assert not any(frame._signature is not None for frame in stream._frames.values())


def test_without_scene_detection_propagation_goes_through_cuts(
    tiny_network: VideoNetwork, reference: list[HrFrame]
) -> None:
    with open_stream(tiny_network, scene_detect=False) as stream:
        hr = Door(stream)[CUT]
        assert "_SceneChangePrev" not in hr.properties
        assert not torch.equal(hr.planes[0], reference[CUT].planes[0])


def test_segment_0_without_context_and_scenes_is_forward_over_the_whole_clip(tiny_network: VideoNetwork) -> None:
    tagged, _ = color.colorimetry_of(PROPERTIES, YUV420P8, WIDTH, HEIGHT)
    lr = torch.stack([color.to_rgb(planes, YUV420P8, tagged) for planes in CLIP])
    with torch.inference_mode():
        expected = color.from_rgb(tiny_network(lr[None])[0, 20], YUV420P8, tagged)
    with open_stream(tiny_network, segment=0, context=0, scene_detect=False) as stream:
        hr = Door(stream)[20]
    for got, wanted in zip(hr.planes, expected, strict=True):
        assert (got.int() - wanted.int()).abs().max() <= 1  # float sums of another batch size, then dither


def test_a_seek_costs_at_most_one_segment(tiny_network: VideoNetwork) -> None:
    with open_stream(tiny_network) as stream:
        Door(stream)[25]
        assert stream.counts.segments_begun == 1
        assert stream.counts.steps <= (10 + 2 * 2) + (10 + 2)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_the_next_backward_branch_is_done_while_this_cell_is_delivered(tiny_network: VideoNetwork) -> None:
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        for n in range(6):
            door[n]
        assert set(range(20)) <= set(stream._frames)  # at half time all of the next cell has come

        def next_is_ready() -> bool:
            job = stream._jobs.get(10)
            return job is not None and job.propagation is not None and job.propagation.backward_done

        assert wait_until(next_is_ready)
        assert stream.counts.hr_frames <= 10 + 2  # what nobody has asked for does not pile up


def test_a_jump_is_not_followed_by_look_ahead(tiny_network: VideoNetwork) -> None:
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        door[22]
        steps = stream.counts.steps
        assert stream.ahead(22) == []
        assert not wait_until(lambda: stream.counts.steps != steps, seconds=0.3)


def test_nothing_is_made_ahead_of_frames_that_nobody_will_ask_for(tiny_network: VideoNetwork) -> None:
    with open_stream(tiny_network) as stream:
        stream.until = 20
        door = Door(stream)
        for n in range(10, 20):
            door[n]
        assert stream.counts.segments_begun == 2  # the cell is cut in two
        assert stream.counts.hr_frames == 10


def test_a_segments_features_go_with_its_last_frame_not_with_the_next_garbage_collection(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Propagation]] = []
    propagate = Upscaler.propagate

    def noted(self: Upscaler, *arguments: Any, **options: Any) -> Propagation:
        propagation = propagate(self, *arguments, **options)
        made.append(weakref.ref(propagation))
        return propagation

    monkeypatch.setattr(Upscaler, "propagate", noted)
    gc.collect()
    gc.disable()
    try:
        with open_stream(tiny_network) as stream:
            door = Door(stream)
            for n in range(NUM_FRAMES):
                door[n]
            assert len(made) == 6
            assert wait_until(lambda: all(propagation() is None for propagation in made))
    finally:
        gc.enable()


def test_starting_over_looks_ahead_from_the_start(tiny_network: VideoNetwork) -> None:
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        for n in (0, 1, 33, 34, 0, 1):
            door[n]
        assert stream._front == 1


def test_stores_stay_bounded_over_a_long_clip(tiny_network: VideoNetwork) -> None:
    clip = CLIP * 12
    with open_stream(tiny_network, num_frames=len(clip)) as stream:
        door = Door(stream, clip=clip)
        most_frames = most_hr = most_jobs = 0
        for n in range(len(clip)):
            door[n]
            most_frames = max(most_frames, len(stream._frames))
            most_hr = max(most_hr, len(stream._hr))
            most_jobs = max(most_jobs, len(stream._jobs))
        assert door.fetched == list(range(len(clip)))
        assert most_frames <= 2 * (10 + 2 * 5) + 2 * 8
        assert most_hr <= 10 + 1
        assert most_jobs <= 3


@pytest.mark.parametrize(("failures", "means"), [(1, MemoryStrategy.OFFLOAD), (2, MemoryStrategy.RECOMPUTE)])
def test_out_of_memory_changes_the_means_and_not_the_bytes(
    tiny_network: VideoNetwork,
    reference: list[HrFrame],
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    means: MemoryStrategy,
) -> None:
    left = failures
    step = Propagation.step

    def failing(self: Propagation) -> torch.Tensor | None:
        nonlocal left
        if left and self.backward_done:
            left -= 1
            raise torch.OutOfMemoryError("injected")
        return step(self)

    monkeypatch.setattr(Propagation, "step", failing)
    with open_stream(tiny_network) as stream:
        door = Door(stream)
        assert all(equal(door[n], reference[n]) for n in range(NUM_FRAMES))
        assert stream._means is means
        assert stream.counts.means_changed == failures


def test_out_of_memory_by_every_means_names_the_arguments_to_pass(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Propagation) -> None:
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(Propagation, "step", failing)
    with open_stream(tiny_network) as stream, pytest.raises(MemoryError, match=r"^memory: .*tile=.*segment=.*memory="):
        Door(stream)[0]


def test_a_failure_reaches_everybody_who_waits_and_the_next_request_tries_again(
    tiny_network: VideoNetwork, reference: list[HrFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Propagation.step
    with open_stream(tiny_network, in_flight=3) as stream:
        door = Door(stream)
        with monkeypatch.context() as patch:
            patch.setattr(Propagation, "step", lambda _: (_ for _ in ()).throw(RuntimeError("no such kernel")))
            for n in (0, 1, 2):
                while wanted := stream.missing(n):
                    door.fetch(wanted)
            for n in (0, 1, 2):
                with pytest.raises(RuntimeError, match="no such kernel"):
                    stream.frame(n)
        assert Propagation.step is step
        assert equal(door[1], reference[1])


def test_closing_wakes_who_waits(tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open_stream(tiny_network)
    begun, go_on = threading.Event(), threading.Event()
    step = Propagation.step

    def slow(self: Propagation) -> torch.Tensor | None:
        begun.set()
        go_on.wait(10)
        return step(self)

    monkeypatch.setattr(Propagation, "step", slow)
    raised: list[Exception] = []

    def wait() -> None:
        try:
            Door(stream)[3]
        except ValueError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(10)
    closing = threading.Thread(target=stream.close)
    closing.start()
    waiting.join(timeout=10)
    assert "closed" in str(raised[0])
    go_on.set()
    closing.join(timeout=10)
    assert not closing.is_alive()
    assert stream.counts.steps == 1  # the one that was running


def warned_of(network: VideoNetwork, clip: list[Planes], properties: dict[str, int]) -> list[str]:
    """What each warning of a clip whose frames all come is about."""
    warnings: list[str] = []
    with Stream(
        network,
        Settings(segment=4, context=0, threads=1),
        source=YUV420P8,
        width=WIDTH,
        height=HEIGHT,
        num_frames=len(clip),
        target=YUV420P8,
        warn=warnings.append,
    ) as stream:
        for n, planes in enumerate(clip):
            stream.put(n, planes, properties)
    return [text.split(":")[0] for text in warnings]


def test_an_untagged_clip_is_warned_of_once(tiny_network: VideoNetwork) -> None:
    assert warned_of(tiny_network, CLIP[:8], {}) == ["matrix"]


def test_a_clip_whose_highlights_are_clipped_is_warned_of_once(tiny_network: VideoNetwork) -> None:
    bright = tuple(torch.full_like(plane, 250) for plane in CLIP[0])
    assert warned_of(tiny_network, [bright] * (2 * RANGE_EVERY + 1), {"_Matrix": 1}) == ["range"]


def test_the_target_format_is_delivered(tiny_network: VideoNetwork) -> None:
    target = Format("YUV", "integer", 10, 0, 0)
    with Stream(
        tiny_network,
        Settings(segment=4, context=0, threads=1),
        source=YUV420P8,
        width=WIDTH,
        height=HEIGHT,
        num_frames=1,
        target=target,
    ) as stream:
        hr = Door(stream)[0]
    assert [tuple(plane.shape) for plane in hr.planes] == [(4 * HEIGHT, 4 * WIDTH)] * 3
    assert hr.planes[0].dtype == torch.uint16
    assert int(hr.planes[0].int().max()) > 255
    assert hr.properties["_Matrix"] == 6


def test_a_frame_asked_for_while_its_segment_ends_is_made_again(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_end, go_on = threading.Event(), threading.Event()
    delivered = Stream._delivered

    def slow_at_the_end(stream: Stream, job: object, n: int, rgb: torch.Tensor) -> HrFrame:
        if n == 3 and not at_the_end.is_set():
            at_the_end.set()
            assert go_on.wait(60)
        return delivered(stream, job, n, rgb)

    monkeypatch.setattr(Stream, "_delivered", slow_at_the_end)
    with open_stream(tiny_network, 4, segment=4, context=0) as stream:
        stream._hr_capacity = 1
        door = Door(stream)
        last = threading.Thread(target=lambda: door[3], daemon=True)
        last.start()
        assert at_the_end.wait(60)
        assert stream.missing(0) == []  # made long ago, thrown away; its segment is still there
        go_on.set()
        found: list[HrFrame] = []
        first = threading.Thread(target=lambda: found.append(stream.frame(0)), daemon=True)
        first.start()
        first.join(60)
        last.join(60)
    assert len(found) == 1
