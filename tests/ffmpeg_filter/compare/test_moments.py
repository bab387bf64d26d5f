from collections.abc import Callable
from pathlib import Path

import pytest

from ffmpeg_filter.compare.moments import FrameMeasures, Moment, measure, pick
from ffmpeg_filter.media.probe import probe

Make = Callable[..., Path]


def test_hard_moments_are_moving_detailed_or_dark() -> None:
    measured = [
        FrameMeasures(0, motion=1, detail=1, brightness=120),
        FrameMeasures(10, motion=9, detail=1, brightness=120),
        FrameMeasures(20, motion=1, detail=9, brightness=120),
        FrameMeasures(30, motion=0, detail=2, brightness=40),
        FrameMeasures(40, motion=50, detail=50, brightness=5),
    ]
    assert pick(measured, count=1) == [Moment(10, "motion"), Moment(20, "detail"), Moment(30, "darkness")]


def test_neighbors_are_not_shown_twice() -> None:
    measured = [FrameMeasures(n, motion=n, detail=n, brightness=120) for n in range(121)]
    assert pick(measured) == [
        Moment(90, "detail"),
        Moment(100, "detail"),
        Moment(110, "motion"),
        Moment(120, "motion"),
    ]


def test_a_black_video_still_has_moments() -> None:
    assert pick([FrameMeasures(0, 0, 0, 0), FrameMeasures(5, 0, 0, 0)])


@pytest.mark.needs_ffmpeg
def test_motion_is_measured(ffmpeg: Make) -> None:
    still = ffmpeg("still.mkv", "-f", "lavfi", "-i", "color=gray:s=32x32:d=0.4", "-c:v", "ffv1")
    moving = ffmpeg("moving.mkv", "-f", "lavfi", "-i", "testsrc2=s=96x64:d=0.4", "-c:v", "ffv1")
    assert max(m.motion for m in measure(probe(still))) == 0
    assert min(m.motion for m in measure(probe(moving))[:-1]) > 0
