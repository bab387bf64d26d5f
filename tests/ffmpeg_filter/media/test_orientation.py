import math

import pytest
import torch

from ffmpeg_filter.media.orientation import of_matrix, upright
from ffmpeg_filter.media.source import Orientation, SourceError

ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), Orientation()),
        ((0, -1, 1, 0), Orientation(90)),
        ((-1, 0, 0, -1), Orientation(180)),
        ((0, 1, -1, 0), Orientation(270)),
        ((-1, 0, 0, 1), Orientation(0, mirrored=True)),
        ((0, -1, -1, 0), Orientation(90, mirrored=True)),
        ((1, 0, 0, -1), Orientation(180, mirrored=True)),
        ((0, 1, 1, 0), Orientation(270, mirrored=True)),
        ((2, 0, 0, 1), Orientation()),  # the shape of pixels, not an orientation
        ((0, -3, 1, 0), Orientation(90)),
        ((math.cos(0.5), -math.sin(0.5), math.sin(0.5), math.cos(0.5)), Orientation(28.648)),
    ],
)
def test_every_matrix_is_an_orientation(matrix: tuple[float, ...], expected: Orientation) -> None:
    a, b, c, d = (round(value * ONE) for value in matrix)
    assert of_matrix((a, b, 0, c, d, 0, 5 * ONE, 7 * ONE, 1 << 30)) == expected


@pytest.mark.parametrize("matrix", [(1, 0, 1, 1), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_a_sheared_picture_is_refused(matrix: tuple[int, ...]) -> None:
    a, b, c, d = (value * ONE for value in matrix)
    with pytest.raises(SourceError, match="expected a video that is rotated or mirrored at most, got one that is sh"):
        of_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))


def test_a_picture_is_turned_first_and_then_mirrored() -> None:
    plane = torch.tensor([[1, 2], [3, 4]])
    assert upright((plane,), Orientation(90))[0].tolist() == [[2, 4], [1, 3]]
    assert upright((plane,), Orientation(90, mirrored=True))[0].tolist() == [[4, 2], [3, 1]]
