"""What the planner knows of source frames: what is held, which cuts can be judged, what may be forgotten."""

from collections.abc import Iterator

from vs_iconvsr.streaming.actions import Judge
from vs_iconvsr.streaming.source_frames import CutMarks, SourceFrames

NOTHING = CutMarks()


def arrive(source: SourceFrames, *numbers: int) -> list[Judge]:
    return [judge for n in numbers for judge in source.arrive(n, NOTHING)]


def test_a_cut_is_judged_as_soon_as_the_frames_around_it_are_held() -> None:
    source = SourceFrames(10, detects=True)
    assert arrive(source, 0, 1, 2) == []
    assert arrive(source, 3) == [Judge(1, range(4))]
    assert arrive(source, 4) == [Judge(2, range(5))]
    assert arrive(source, 5) == [Judge(3, range(6))]
    assert arrive(source, 6) == [Judge(4, range(1, 7))]


def test_a_cut_known_or_being_compared_is_not_compared_again() -> None:
    source = SourceFrames(10, detects=True)
    arrive(source, *range(4))
    assert source.evict(4, []) == [0, 1, 2, 3]
    assert arrive(source, *range(4)) == []
    source.learn(1, True)
    source.evict(4, [])
    assert arrive(source, *range(4)) == []
    assert source.starts_scene(1) is True


def test_cuts_that_frames_mark_are_not_compared() -> None:
    source = SourceFrames(10, detects=True)
    for n in range(5):
        assert source.arrive(n, CutMarks(starts=n == 2, ends=n == 1)) == []
    assert [source.starts_scene(n) for n in range(5)] == [False, False, True, False, False]
    assert source.starts_scene(5) is None


def test_the_end_of_the_clip_lets_the_last_cuts_be_judged() -> None:
    source = SourceFrames(None, detects=True)
    arrive(source, *range(8))
    assert source.starts_scene(6) is None
    assert source.end(8) == [Judge(6, range(3, 8)), Judge(7, range(4, 8))]
    assert source.starts_scene(8) is False


def test_without_scene_detection_nothing_is_judged_and_no_frame_starts_a_scene() -> None:
    source = SourceFrames(10, detects=False)
    assert arrive(source, *range(10)) == []
    assert source.starts_scene(5) is False


def test_the_least_recently_needed_frames_outside_protected_ranges_go_first() -> None:
    source = SourceFrames(20, detects=False)
    arrive(source, *range(6))
    assert source.missing([0, 1, 9], at_most=8) == [9]
    assert source.evict(3, [range(3, 4)]) == [2, 4, 5]
    assert [n for n in range(6) if n in source] == [0, 1, 3]


def test_no_more_frames_are_looked_through_than_are_asked_for() -> None:
    """A cell may have a million of them."""

    def numbers() -> Iterator[int]:
        yield from range(10)
        raise AssertionError("asked for more")

    source = SourceFrames(None, detects=False)
    arrive(source, *range(4))
    assert source.missing(numbers(), at_most=5) == [4, 5, 6, 7, 8]
