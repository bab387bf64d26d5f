"""Where the passes of a network go in a segment: eight frames read, of which frames 3 and 4 are kept."""

import pytest

from vs_iconvsr.engine.passes import Span, flows_are_shared, flows_wanted, spans_of
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import Pass, VideoNetwork

KEPT, T = range(3, 5), 8


def spans(network: type[VideoNetwork]) -> dict[str, Span]:
    found = spans_of(network.passes, KEPT, T)
    return {at.name: span for at, span in zip(network.passes, found, strict=True)}


@pytest.mark.parametrize("network", [BasicVSR, IconVSR, LightVSR, BasicVSRPlusPlus])
def test_the_last_pass_walks_through_the_context_to_the_last_frame_kept(network: type[VideoNetwork]) -> None:
    assert spans(network)[network.passes[-1].name] == Span(range(5), KEPT)


def test_a_backward_pass_that_is_only_upsampled_stops_at_the_first_frame_kept() -> None:
    assert spans(BasicVSR)["backward"] == Span(range(3, 8), KEPT)


def test_a_backward_pass_that_the_forward_one_reads_goes_through_all_frames() -> None:
    assert spans(IconVSR)["backward"] == Span(range(8), range(5))


def test_four_passes_that_read_each_other_go_through_what_the_later_ones_read() -> None:
    assert spans(BasicVSRPlusPlus) == {
        "spatial": Span(range(8), range(8)),
        "backward_1": Span(range(8), range(8)),
        "forward_1": Span(range(8), range(8)),
        "backward_2": Span(range(8), range(5)),
        "forward_2": Span(range(5), KEPT),
    }


def test_a_pass_without_order_runs_over_what_is_needed_alone() -> None:
    passes = (Pass("extracted", order=0), Pass("forward", reads=()))
    found = spans_of(passes, KEPT, T)
    assert found == [Span(KEPT, KEPT), Span(range(5), KEPT)]


@pytest.mark.parametrize(
    ("at", "visits", "before"),
    [
        (Pass("a", backward=True), [3, 2, 1, 0], {3: (), 2: (3,), 0: (1,)}),
        (Pass("a"), [0, 1, 2, 3], {0: (), 1: (0,), 3: (2,)}),
        (Pass("a", backward=True, order=2), [3, 2, 1, 0], {3: (), 2: (3,), 1: (2, 3), 0: (1, 2)}),
        (Pass("a", order=2), [0, 1, 2, 3], {0: (), 1: (0,), 2: (1, 0), 3: (2, 1)}),
        (Pass("a", order=0), [0, 1, 2, 3], {0: (), 3: ()}),
    ],
)
def test_a_step_takes_the_features_of_the_frames_visited_before(
    at: Pass, visits: list[int], before: dict[int, tuple[int, ...]]
) -> None:
    assert list(at.visits(range(4))) == visits
    assert {i: at.visited_before(i, 4) for i in before} == before


@pytest.mark.parametrize(
    ("network", "to_next", "to_prev"),
    [(IconVSR, range(7), range(1, 5)), (BasicVSR, range(3, 7), range(1, 5)), (BasicVSRPlusPlus, range(7), range(1, 8))],
)
def test_flows_are_wanted_where_a_walk_comes_from(network: type[VideoNetwork], to_next: range, to_prev: range) -> None:
    """Backward from frame i + 1 to i, forward from i - 1 to i: BasicVSR wants one of the two in the context."""
    passes, found = network.passes, spans(network)
    assert [flows_wanted(passes, found, T, towards=towards) for towards in (1, -1)] == [to_next, to_prev]
    assert len(flows_wanted((Pass("e", order=0),), {}, T, towards=1)) == 0


def test_flows_are_worth_holding_where_two_steps_take_the_same_one() -> None:
    assert not flows_are_shared(BasicVSR.passes)
    assert flows_are_shared(BasicVSRPlusPlus.passes)
    assert flows_are_shared((Pass("a", order=2),))
    assert flows_are_shared((Pass("a"), Pass("b")))
    assert not flows_are_shared((Pass("e", order=0), Pass("a", backward=True), Pass("b")))
