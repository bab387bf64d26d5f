"""The planner alone: any order of requests ends well, nothing needed is evicted, stores stay within bounds."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vs_iconvsr.streaming.simulation import STRATEGIES, Simulation
from vs_iconvsr.streaming import actions as do
from vs_iconvsr.streaming.ranges import ROUND_FRAMES


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    num_frames = draw(st.integers(1, 60))
    endless = draw(st.booleans())
    in_flight = draw(st.integers(1, 4))
    return Simulation(
        num_frames,
        draw(st.integers(1 if endless else 0, 12)),
        draw(st.integers(0, 5)),
        cuts=frozenset(draw(st.sets(st.integers(1, 59), max_size=5))),
        marked=frozenset(range(num_frames)) if draw(st.booleans()) else frozenset(),
        devices=draw(st.integers(1, 3)),
        in_flight=in_flight,
        hr_frames=in_flight + draw(st.integers(2, 8)),
        detects=draw(st.booleans()),
        endless=endless,
    )


@settings(max_examples=400, deadline=None)
@given(simulation=simulations(), data=st.data())
def test_any_order_of_requests_abandonment_and_memory_failures_ends(
    simulation: Simulation, data: st.DataObject
) -> None:
    """They overlap, some are abandoned, steps run out of memory, devices work ahead in between."""
    open_: list[int] = []
    last = simulation.num_frames - 1
    for _ in range(data.draw(st.integers(1, 25))):
        kind = data.draw(st.sampled_from(("request", "request", "wait", "abandon", "idle", "fail")))
        if kind == "request" and len(open_) < simulation.in_flight:
            n = data.draw(st.integers(0, last))
            if n not in open_:
                simulation.request(n)
                open_.append(n)
        elif kind == "wait" and open_:
            simulation.wait(open_.pop(data.draw(st.integers(0, len(open_) - 1))))
        elif kind == "abandon" and open_:
            simulation.planner.withdraw(open_.pop())
            simulation.carry_out()
        elif kind == "idle":
            simulation.idle()
        elif kind == "fail":
            simulation.out_of_memory = data.draw(st.integers(0, 2))
        simulation.check_bounds()
    simulation.out_of_memory = 0
    for n in open_:
        simulation.wait(n)
    simulation.check_bounds()
    n = data.draw(st.integers(0, last))
    simulation.request(n)
    assert simulation.wait(n), "what failed earlier is tried again"


@settings(max_examples=200, deadline=None)
@given(simulation=simulations())
def test_sequential_access_begins_each_segment_and_fetches_each_frame_once(simulation: Simulation) -> None:
    n = 0
    while n < simulation.num_frames or simulation.endless:
        if not simulation.play(n):
            break
        n += 1
        if n % 3 == 0:
            simulation.idle()
        simulation.check_bounds()
    assert n == simulation.num_frames
    assert simulation.fetched == list(range(simulation.num_frames))
    assert len(simulation.begun) == len(set(simulation.begun))
    cells = range(0, simulation.num_frames, simulation.segment or simulation.num_frames)
    assert set(simulation.begun) == {*cells} | simulation.cuts_found


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_segment_of_a_frame_does_not_depend_on_the_order_of_requests(seed: int) -> None:
    chosen = random.Random(seed)
    clip = {"num_frames": 40, "segment": 7, "context": 3, "cuts": frozenset({5, 21, 22})}
    in_order = Simulation(**clip)  # type: ignore[arg-type]
    for n in range(40):
        in_order.play(n)
    jumping = Simulation(**clip, in_flight=3)  # type: ignore[arg-type]
    for n in chosen.sample(range(40), 15):
        jumping.play(n)
    assert set(jumping.begun) <= set(in_order.begun)


def test_three_devices_that_run_out_of_memory_together_each_take_the_next_strategy() -> None:
    simulation = Simulation(30, 5, 0, detects=False, devices=3, in_flight=3)
    for n in (0, 5, 10):
        simulation.request(n)
    steps = [simulation.planner.segments.next_step(device) for device in range(3)]
    for step in steps:
        assert step is not None
        simulation.planner.step_ended(step.start, do.NoMemory())
    simulation.carry_out()
    assert simulation.changes == [1, 1, 1]
    assert not simulation.failed
    assert [simulation.wait(n) for n in (0, 5, 10)] == [True] * 3


def test_work_ahead_is_dropped_before_a_strategy_changes() -> None:
    simulation = Simulation(20, 5, 0, detects=False)
    for n in range(3):
        simulation.play(n)
    assert set(simulation.jobs) == {0, 5}
    simulation.request(3)
    simulation.out_of_memory = 1
    assert simulation.wait(3)
    assert simulation.changes == [0], "the segment began again by the strategy it had"
    assert 5 not in simulation.jobs
    assert simulation.planner.segments.strategy == 1, "segments from now on begin with the next"


def test_a_failure_ahead_of_requests_is_nobodys_and_the_segment_begins_again_on_request() -> None:
    simulation = Simulation(20, 5, 0, detects=False)
    for n in range(5):
        simulation.play(n)
    assert set(simulation.jobs) == {5}
    step = simulation.planner.segments.next_step(0)
    assert step == do.Step(5, rewind=False)
    simulation.planner.step_ended(5, do.Failed())
    simulation.carry_out()
    assert not simulation.jobs
    assert simulation.play(5)
    assert simulation.begun == [0, 5, 5]


def test_a_failure_stays_until_all_who_wait_have_got_it() -> None:
    simulation = Simulation(10, 5, 0, detects=False, in_flight=2)
    for n in (0, 1):
        simulation.request(n)
    assert simulation.planner.segments.next_step(0) is not None
    simulation.planner.step_ended(0, do.Failed())
    simulation.planner.withdraw(0)
    simulation.carry_out()
    assert set(simulation.jobs) == {0}
    simulation.planner.withdraw(1)
    simulation.carry_out()
    assert not simulation.jobs
    assert simulation.play(0)


def test_a_segment_that_ends_stays_for_a_frame_that_was_evicted_and_is_requested_again() -> None:
    simulation = Simulation(8, 8, 0, detects=False, in_flight=2, hr_frames=4)
    simulation.request(7)
    while 4 not in simulation.hr:
        simulation.step(0)
    assert 0 not in simulation.hr
    simulation.request(0)
    assert simulation.wait(7)
    assert simulation.wait(0)
    assert simulation.begun == [0]


def test_the_next_segment_begins_with_the_last_cut_that_it_waits_for() -> None:
    simulation = Simulation(30, 5, 0)
    for n in range(3):  # the third brings the last of the frames that the cut after frame 9 is judged by
        assert simulation.begun == [0] * (n > 0)
        simulation.play(n)
    assert simulation.begun == [0, 5]


def test_the_last_strategy_fails_for_those_who_wait() -> None:
    simulation = Simulation(10, 5, 0, detects=False)
    simulation.request(0)
    simulation.out_of_memory = STRATEGIES
    assert not simulation.wait(0)
    assert simulation.changes == [1, 2]


def test_the_end_of_a_clip_may_become_known_late() -> None:
    simulation = Simulation(23, 5, 2, cuts=frozenset({9}), endless=True)
    assert [n for n in range(40) if simulation.play(n)] == list(range(23))
    assert simulation.begun == [0, 5, 9, 10, 15, 20]


def test_no_segment_begins_ahead_beyond_the_stated_end() -> None:
    simulation = Simulation(30, 5, 0, detects=False)
    simulation.planner.stop_at(10)
    for n in range(10):
        simulation.play(n)
    simulation.idle()
    assert simulation.begun == [0, 5]


def rounds(simulation: Simulation, n: int) -> Iterator[tuple[int, ...]]:
    simulation.planner.request(n)
    while isinstance(need := simulation.planner.need(n), do.Fetch):
        yield need.frames
        for k in need.frames:
            simulation.put(k)


def test_a_request_in_the_middle_fetches_its_cell_context_and_what_cuts_are_judged_by() -> None:
    simulation = Simulation(100, 10, 2)
    asked = list(rounds(simulation, 25))
    assert all(len(frames) <= ROUND_FRAMES for frames in asked)
    assert [k for frames in asked for k in frames] == list(range(20 - 4, 30 + 4))


@pytest.mark.parametrize(("detects", "expected"), [(True, range(12)), (False, range(8, 12))])
def test_whole_scenes_are_fetched_outwards_from_the_frame(detects: bool, expected: range) -> None:
    simulation = Simulation(12, 0, 0, detects=detects)
    fetched = [k for frames in rounds(simulation, 9) for k in frames]
    assert sorted(fetched) == list(range(12))
    assert set(expected) <= set(fetched)


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("marked", [True, False])
def test_whole_scenes_are_held_one_after_the_other_however_long_the_clip_is(in_flight: int, marked: bool) -> None:
    scenes = frozenset(range(10, 300, 10))
    simulation = Simulation(
        300, 0, 0, cuts=scenes, marked=frozenset(range(300)) if marked else frozenset(), in_flight=in_flight
    )
    held = []
    for n in range(300):
        assert simulation.play(n)
        held.append(len(simulation.held))
    assert max(held) <= 2 * 10 + 2 * ROUND_FRAMES
    assert simulation.fetched == list(range(300))


def test_whole_scenes_that_are_asked_for_anywhere_do_not_pile_up() -> None:
    simulation = Simulation(300, 0, 0, cuts=frozenset(range(10, 300, 10)))
    for n in random.Random(0).sample(range(300), 60):
        assert simulation.play(n)
        assert len(simulation.held) <= 2 * (10 + 2 * ROUND_FRAMES)
