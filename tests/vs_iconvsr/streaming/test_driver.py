"""The loop over hr frames: a source frame that cannot be had costs the hr frames that need it, and no others."""

import random

import pytest

from tests.vs_iconvsr.streaming.clip import CLIP, NUM_FRAMES, Clip, equal, open_session
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.streaming import Fetched, HrFrame, Session, iterate

BROKEN = 34
"""The cell 30–39 reads it, and the cell 20–29 neither reads it nor looks for a cut there."""


class BrokenClip(Clip):
    """A clip with a frame that cannot be had, or that cannot be upscaled."""

    def fetch(self, n: int) -> Fetched | None:
        if n == BROKEN:
            self.fetched.append(n)
            raise OSError(f"frame {n} is broken")
        return super().fetch(n)


class InterlacedFrame(Clip):
    def __init__(self) -> None:
        super().__init__(CLIP, {BROKEN: {"_FieldBased": 1}})


def had(session: Session, clip: Clip, order: list[int]) -> dict[int, HrFrame | str]:
    """Each hr frame of an order, or the error in its place."""
    got: dict[int, HrFrame | str] = {}
    while order:
        try:
            for n, hr in iterate(session, clip.fetch, order):
                got[n] = hr
        except (OSError, ValueError) as error:
            got[order[len([n for n in order if n in got])]] = str(error)
        order = [n for n in order if n not in got]
    return got


@pytest.mark.parametrize("clip", [BrokenClip, InterlacedFrame])
def test_hr_frames_before_the_first_one_that_needs_a_broken_frame_are_had(
    tiny_network: VideoNetwork, reference: list[HrFrame], clip: type[Clip]
) -> None:
    made: list[HrFrame] = []
    with open_session(tiny_network) as session:
        frames = iterate(session, clip().fetch)
        made += [next(frames)[1] for _ in range(30)]
        with pytest.raises((OSError, ValueError), match="frame 34"):
            next(frames)
    assert all(equal(hr, expected) for hr, expected in zip(made, reference[:30], strict=True))


@pytest.mark.parametrize("clip", [BrokenClip, InterlacedFrame])
@pytest.mark.parametrize("seed", range(4))
def test_which_hr_frames_can_be_had_does_not_depend_on_the_order(
    tiny_network: VideoNetwork, reference: list[HrFrame], clip: type[Clip], seed: int
) -> None:
    order = list(range(18, NUM_FRAMES))
    if seed:
        random.Random(seed).shuffle(order)
    with open_session(tiny_network) as session:
        got = had(session, clip(), order)
    assert {n for n, hr in got.items() if isinstance(hr, str)} == set(range(30, 40))
    assert all(equal(hr, reference[n]) for n, hr in got.items() if isinstance(hr, HrFrame))


def test_a_broken_frame_is_fetched_once_and_nothing_after_it_ahead_of_need(tiny_network: VideoNetwork) -> None:
    clip = BrokenClip()
    with open_session(tiny_network) as session, pytest.raises(OSError, match="frame 34 is broken"):
        list(iterate(session, clip.fetch))
    assert clip.fetched == list(range(BROKEN + 1))
