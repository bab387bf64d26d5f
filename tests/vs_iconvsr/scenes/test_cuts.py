"""What is known of where scenes start: answers for any frame of a clip of any length, in little memory."""

import tracemalloc

from vs_iconvsr.scenes.cuts import SceneStarts

ENDLESS = 2**31 - 1
"""As many frames as a clip of VapourSynth can have: a looped still."""


def test_answers_are_kept_for_frames_anywhere() -> None:
    starts = SceneStarts(ENDLESS)
    learnt = {n: n % 3 == 0 for n in (1, 4095, 4096, 4097, 10**9, ENDLESS - 1)}
    for n, answer in learnt.items():
        starts.learn(n, answer)
    assert {n: starts[n] for n in learnt} == learnt
    assert [starts[n] for n in (2, 4098, 10**9 + 1)] == [None] * 3
    assert [starts[n] for n in (0, -5, ENDLESS)] == [False] * 3


def test_a_seek_to_the_end_of_an_endless_clip_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        starts = SceneStarts(ENDLESS)
        for n in range(ENDLESS - 100, ENDLESS):
            starts.learn(n, False)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
