"""A frame into overlapping tiles and back: the rectangles only."""

from collections.abc import Iterator
from dataclasses import dataclass

MIN_TILE_PX = 64  # below this the flow network's coarsest levels see nothing but the halo


@dataclass(frozen=True)
class Tile:
    """One tile of a frame, half-open ranges in lr px: what it reads (halo included) and the part of it that is kept."""

    read_rows: range
    read_columns: range
    kept_rows: range
    kept_columns: range


def tiles_of(width: int, height: int, tile: tuple[int, int], halo: int) -> list[Tile]:
    """The tiles of a width x height frame, row by row; kept parts cover it exactly once.

    tile: (width, height) of the kept part in lr px, 0 for the whole frame. halo: px read round it, inside the frame.
    Raises ValueError for a tile that is smaller than MIN_TILE_PX, or a negative halo.
    """
    if any(0 < side < MIN_TILE_PX or side < 0 for side in tile):
        raise ValueError(
            f"tile: expected [width, height], each 0 (whole frame) or at least {MIN_TILE_PX} px, got {tile}"
        )
    if halo < 0:
        raise ValueError(f"halo: expected at least 0 px, got {halo}")
    columns = list(_spans(width, tile[0] or width))
    return [
        Tile(_widened(rows, halo, height), _widened(cols, halo, width), rows, cols)
        for rows in _spans(height, tile[1] or height)
        for cols in columns
    ]


def _spans(size: int, length: int) -> Iterator[range]:
    """As few spans of at most `length` as cover range(size), all of nearly the same length."""
    count = -(-size // length)
    for i in range(count):
        yield range(size * i // count, size * (i + 1) // count)


def _widened(span: range, halo: int, size: int) -> range:
    return range(max(span.start - halo, 0), min(span.stop + halo, size))
