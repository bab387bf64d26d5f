"""The grid: kept and read ranges as functions of the frame number and the cuts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vs_iconvsr.segments import Grid, Segment, Undecided


def with_cuts(*cuts: int):
    return lambda k: k in cuts


def test_a_cell_is_read_with_its_context_on_both_sides() -> None:
    assert Grid(100, 10, 3).segment_with(25, with_cuts()) == Segment(range(20, 30), range(17, 33))


def test_cell_and_context_end_with_the_clip() -> None:
    assert Grid(24, 10, 3).segment_with(2, with_cuts()) == Segment(range(10), range(13))
    assert Grid(24, 10, 3).segment_with(23, with_cuts()) == Segment(range(20, 24), range(17, 24))


def test_a_cut_inside_the_cell_shortens_the_segment() -> None:
    grid = Grid(100, 10, 3)
    assert grid.segment_with(24, with_cuts(25)) == Segment(range(20, 25), range(17, 25))
    assert grid.segment_with(25, with_cuts(25)) == Segment(range(25, 30), range(25, 33))


def test_context_never_crosses_a_cut() -> None:
    assert Grid(100, 10, 5).segment_with(25, with_cuts(18, 32)) == Segment(range(20, 30), range(18, 32))


def test_a_cut_on_the_cell_boundary_leaves_no_context_there() -> None:
    assert Grid(100, 10, 5).segment_with(25, with_cuts(20, 30)) == Segment(range(20, 30), range(20, 30))


def test_segment_0_keeps_the_whole_scene() -> None:
    assert Grid(100, 0, 0).segment_with(50, with_cuts(13, 80)) == Segment(range(13, 80), range(13, 80))


def test_a_cut_that_is_not_known_is_named_outwards_from_the_frame() -> None:
    known: dict[int, bool] = {}
    grid = Grid(100, 4, 1)
    asked = []
    while isinstance(found := grid.segment_with(26, known.get), Undecided):
        asked.append(found.frame)
        known[found.frame] = False
    assert asked == [26, 25, 27, 24, 28]
    assert found == Segment(range(24, 28), range(23, 29))


def test_a_clip_without_a_known_end_has_whole_cells() -> None:
    assert Grid(None, 10, 3).segment_with(25, with_cuts()) == Segment(range(20, 30), range(17, 33))
    with pytest.raises(ValueError, match="segment: expected at least 1"):
        Grid(None, 0, 3)


@pytest.mark.parametrize("grid", [(0, 10, 3), (10, -1, 3), (10, 10, -1)])
def test_impossible_grids_are_refused(grid: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Grid(*grid)


@given(
    num_frames=st.integers(1, 60),
    segment=st.integers(0, 12),
    context=st.integers(0, 6),
    cuts=st.sets(st.integers(1, 59), max_size=6),
)
def test_segments_partition_the_clip_and_hold_one_scene_each(
    num_frames: int, segment: int, context: int, cuts: set[int]
) -> None:
    grid = Grid(num_frames, segment, context)
    segments = [grid.segment_with(n, lambda k: k in cuts) for n in range(num_frames)]
    for n, found in enumerate(segments):
        assert n in found.kept
        assert all(segments[k] == found for k in found.kept)
        assert found.read.start <= found.kept.start
        assert found.kept.stop <= found.read.stop
        assert not cuts & set(range(found.read.start + 1, found.read.stop))
        assert len(found.read) <= len(found.kept) + 2 * context
