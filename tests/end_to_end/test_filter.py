"""core.iconvsr in a real VapourSynth core: the same bytes for any order of requests, the source asked once."""

import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import vapoursynth as vs

from tests.end_to_end.noisy_clip import ARGUMENTS, HEIGHT, NUM_FRAMES, WIDTH, core, digest, make_source
from vs_iconvsr.streaming.ranges import ROUND_FRAMES

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.usefixtures("two_threads")]


def test_the_namespace_exists_and_creating_a_core_does_not_import_torch() -> None:
    program = "import sys, vapoursynth as vs; vs.core.iconvsr.Upscale; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_result_is_four_times_as_large_and_otherwise_like_the_source(tiny_model: Path) -> None:
    source = make_source()
    clip = core.iconvsr.Upscale(source, model=str(tiny_model), **ARGUMENTS)
    assert (clip.width, clip.height, clip.num_frames) == (4 * WIDTH, 4 * HEIGHT, NUM_FRAMES)
    assert clip.format.id == source.format.id
    assert clip.fps == source.fps


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_any_number_of_threads_gives_the_same_bytes(tiny_model: Path, reference: list[str], threads: int) -> None:
    core.num_threads = threads
    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    assert [digest(frame) for frame in clip.frames(close=True)] == reference


def test_reversed_and_random_orders_give_the_same_bytes(tiny_model: Path, reference: list[str]) -> None:
    for seed in range(3):
        clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
        order = random.Random(seed).sample(range(NUM_FRAMES), 15) if seed else list(reversed(range(NUM_FRAMES)))
        assert [digest(clip.get_frame(n)) for n in order] == [reference[n] for n in order]


def test_cleared_and_tiny_caches_give_the_same_bytes(tiny_model: Path, reference: list[str]) -> None:
    usual = core.max_cache_size
    try:
        core.max_cache_size = 1
        clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
        for n in (*range(20), 3, 30, 2):
            assert digest(clip.get_frame(n)) == reference[n]
            core.clear_cache()
    finally:
        core.max_cache_size = usual


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("segment", [1, 2, 3, 4, 8])
def test_sequential_playback_asks_the_source_for_each_frame_once(tiny_model: Path, segment: int, threads: int) -> None:
    core.num_threads = threads
    calls: Counter[int] = Counter()
    clip = core.iconvsr.Upscale(make_source(calls), model=str(tiny_model), segment=segment, context=2)
    for _ in clip.frames(prefetch=8, backlog=16, close=True):
        pass
    assert calls == Counter(range(NUM_FRAMES))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_sequential_playback_asks_a_source_that_cannot_seek_for_its_frames_nearly_in_order(
    tiny_model: Path, threads: int
) -> None:
    """Several threads may swap the frames of a round; a player keeps a few frames for that."""
    core.num_threads = threads
    asked: list[int] = []

    def noted(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        asked.append(n)
        return f

    source = make_source()
    clip = core.iconvsr.Upscale(core.std.ModifyFrame(source, source, noted), model=str(tiny_model), **ARGUMENTS)
    for _ in clip.frames(prefetch=threads, close=True):
        pass
    furthest = list(itertools.accumulate(asked, max))
    assert max(far - n for far, n in zip(furthest, asked, strict=True)) <= (
        0 if threads == 1 else ROUND_FRAMES + threads
    )


def test_two_instances_in_one_script_do_not_disturb_each_other(tiny_model: Path, reference: list[str]) -> None:
    one = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    other = core.iconvsr.Upscale(make_source(), model=str(tiny_model), segment=3, context=0)
    both = core.std.Interleave([one, other], modify_duration=False)
    frames = [digest(frame) for frame in both.frames(close=True)]
    assert frames[::2] == reference
    assert frames[1::2] != reference


def test_an_upscaled_clip_can_be_upscaled_again(tiny_model: Path) -> None:
    once = core.iconvsr.Upscale(make_source(num_frames=5), model=str(tiny_model), **ARGUMENTS)
    twice = core.iconvsr.Upscale(once, model=str(tiny_model), **ARGUMENTS)
    assert (twice.get_frame(3).width, twice.get_frame(3).height) == (16 * WIDTH, 16 * HEIGHT)


def test_clips_of_one_frame_and_shorter_than_a_segment_work(tiny_model: Path) -> None:
    single = core.iconvsr.Upscale(make_source(num_frames=1), model=str(tiny_model), **ARGUMENTS)
    assert single.get_frame(0).width == 4 * WIDTH
    short = core.iconvsr.Upscale(make_source(num_frames=5), model=str(tiny_model), **ARGUMENTS)
    assert len([*short.frames(close=True)]) == 5
