"""Tiles: kept parts cover the frame exactly once, halos stay inside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vs_iconvsr.engine.tiles import MIN_TILE_PX, Tile, tiles_of


def test_tile_0_is_the_whole_frame() -> None:
    assert tiles_of(300, 200, (0, 0), 32) == [Tile(range(200), range(300), range(200), range(300))]


def test_a_halo_is_read_round_a_tile_but_not_outside_the_frame() -> None:
    left, right = tiles_of(200, 100, (100, 0), 16)
    assert (left.kept_columns, left.read_columns) == (range(100), range(116))
    assert (right.kept_columns, right.read_columns) == (range(100, 200), range(84, 200))


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    tile=st.tuples(*[st.sampled_from([0, MIN_TILE_PX, 100, 333])] * 2),
    halo=st.integers(0, 40),
)
def test_kept_parts_cover_the_frame_exactly_once(width: int, height: int, tile: tuple[int, int], halo: int) -> None:
    tiles = tiles_of(width, height, tile, halo)
    assert sum(len(t.kept_rows) * len(t.kept_columns) for t in tiles) == width * height
    assert sorted({n for t in tiles for n in t.kept_rows}) == list(range(height))
    assert sorted({n for t in tiles for n in t.kept_columns}) == list(range(width))
    assert all(t.read_rows.start <= t.kept_rows.start and t.kept_rows.stop <= t.read_rows.stop for t in tiles)


@pytest.mark.parametrize(("tile", "halo"), [((63, 0), 0), ((0, -1), 0), ((0, 0), -1)])
def test_impossible_tiles_are_refused(tile: tuple[int, int], halo: int) -> None:
    with pytest.raises(ValueError, match=r"^(tile|halo): expected .* got"):
        tiles_of(640, 480, tile, halo)
