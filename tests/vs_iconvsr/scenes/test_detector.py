"""The detector finds hard cuts and nothing else, on generated clips and on real ones where they are at hand."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.vs_iconvsr.scenes.labeled_clips import (
    DAMAGE,
    FRAMES,
    HEIGHT,
    WIDTH,
    LabeledClip,
    Studio,
    fading,
    generated,
    joined,
    real_clips,
    weights,
)
from vs_iconvsr import scenes
from vs_iconvsr.colorspace import Format, Planes
from vs_iconvsr.scenes import cut_from_properties, detector, is_cut, signature

GRAY8 = Format("GRAY", "integer", 8)


def planes_of(frame: Tensor) -> Planes:
    return (frame.clamp(0, 255).round().byte(),)


def cuts_found(frames: Tensor, **options: float) -> tuple[int, ...]:
    signatures = [signature(planes_of(frame), GRAY8) for frame in frames]
    starts = [max(n - scenes.BEFORE, 0) for n in range(len(signatures))]
    return tuple(
        n for n, start in enumerate(starts) if is_cut(signatures[start : n + scenes.AFTER + 1], n - start, **options)
    )


def recall_and_precision(clips: Iterator[LabeledClip]) -> tuple[float, float, list[str]]:
    """And the mistakes, one line for each clip."""
    right = expected = found = 0
    wrong = []
    for clip in clips:
        cuts = cuts_found(clip.frames)
        right += len({*cuts} & {*clip.cuts})
        expected, found = expected + len(clip.cuts), found + len(cuts)
        if cuts != clip.cuts:
            wrong.append(f"{clip.kind}: expected {clip.cuts}, got {cuts}")
    return right / expected, right / max(found, 1), wrong


# --- what is found


def test_cuts_are_found_and_nothing_else_is() -> None:
    recall, precision, wrong = recall_and_precision(generated(seed=7, each=2))
    assert recall >= 0.95, wrong
    assert precision >= 0.95, wrong


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_cuts_are_found_and_nothing_else_is_on_a_large_set() -> None:
    recall, precision, wrong = recall_and_precision(generated(seed=11, each=20))
    assert recall >= 0.95, wrong
    assert precision >= 0.95, wrong


@pytest.mark.needs_shared
def test_cuts_between_real_and_generated_clips_are_found_and_nothing_else_is() -> None:
    studio = Studio(np.random.default_rng(5))
    real = list(real_clips())

    def clips() -> Iterator[LabeledClip]:
        for i, clip in enumerate(real):
            for kind in list(DAMAGE)[i % 2 :: 2]:
                start = int(studio.random.integers(0, len(clip) - FRAMES))
                other = real[i - 1 - int(studio.random.integers(0, len(real) - 1))]
                yield joined(studio, kind, clip[start : start + FRAMES], other[-FRAMES:])
                yield joined(studio, kind, studio.scene(), clip[start : start + FRAMES])
                yield LabeledClip(f"real, {kind}", DAMAGE[kind](studio, clip[start : start + FRAMES]), ())
            flash = clip[:FRAMES] + weights(0, 0, 0, 0, 200, 120, 0)
            yield from (LabeledClip("real", clip[::step], ()) for step in (1, 2))
            yield from (LabeledClip(f"real {i}, changed", frames, ()) for frames in (flash, clip[:FRAMES] * fading()))
            yield LabeledClip("real dissolve", torch.lerp(clip[:FRAMES], real[i - 1][:FRAMES], 1 - fading()), ())

    recall, precision, wrong = recall_and_precision(clips())
    assert recall >= 0.95, wrong
    assert precision >= 0.95, wrong


@pytest.mark.parametrize("at", [1, 2, 10, 11])
def test_a_cut_next_to_the_ends_of_the_clip_is_found(at: int) -> None:
    studio = Studio(np.random.default_rng(1))
    one, other = studio.scene(), studio.scene()
    assert cuts_found(torch.cat([one[:at], other[at:]])) == (at,)


def test_cuts_two_frames_apart_are_both_found() -> None:
    studio = Studio(np.random.default_rng(2))
    one, other, third = studio.scene(), studio.scene(), studio.scene()
    assert cuts_found(torch.cat([one[:5], other[5:7], third[7:]])) == (5, 7)


@pytest.mark.parametrize("length", [1, 2])
def test_one_or_two_odd_frames_are_not_a_scene(length: int) -> None:
    studio = Studio(np.random.default_rng(3))
    one, other = studio.scene(), studio.scene()
    assert cuts_found(torch.cat([one[:5], other[5 : 5 + length], one[5 + length :]])) == ()


def test_a_light_going_out_is_not_a_cut() -> None:
    assert cuts_found(Studio(np.random.default_rng(13)).scene() * weights(1, 1, 1, 1, 0.22)) == ()


def test_a_cut_from_a_scene_of_little_but_noise_is_found() -> None:
    studio = Studio(np.random.default_rng(14))
    misty = 120 + 0.05 * studio.scene()
    assert cuts_found(studio.noise(torch.cat([misty[:6], studio.scene()[6:]]), 8)) == (6,)


def test_repeated_noisy_frames_are_not_a_series_of_cuts() -> None:
    studio = Studio(np.random.default_rng(15))
    assert cuts_found(studio.noise(120 + 0.05 * studio.scene(), 15).repeat_interleave(2, dim=0)) == ()


def test_cuts_to_black_and_from_black_are_found() -> None:
    one = Studio(np.random.default_rng(4)).scene()
    black = torch.zeros_like(one)
    assert cuts_found(torch.cat([one[:4], black[:4], one[8:]])) == (4, 8)


def test_the_first_frame_is_never_a_cut() -> None:
    assert cuts_found(torch.rand(1, HEIGHT, WIDTH) * 255) == ()


def test_a_lower_threshold_finds_more_cuts() -> None:
    studio = Studio(np.random.default_rng(6))
    mixed = torch.lerp(studio.scene(), studio.scene(), weights(0, 0, 0, 0, 0, 0.55))
    assert cuts_found(mixed, threshold=1.0) == ()
    assert cuts_found(mixed, threshold=0.3) == (5,)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="sc_threshold: expected a share above 0 and at most 1, got"):
        is_cut([torch.zeros(4, 4, dtype=torch.int16)] * 3, 1, threshold=threshold)


# --- signatures


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (3, 1), (1, 7), (16, 16), (33, 17), (5000, 1), (64, 36), (65, 37)]
)
def test_frames_of_any_size_have_a_small_signature_that_can_be_compared(width: int, height: int) -> None:
    made = [signature(planes_of(torch.rand(height, width) * 255), GRAY8) for _ in range(6)]
    assert made[0].numel() <= 2 * detector.THUMBNAIL_CELLS
    assert min(made[0].shape) >= 1
    assert is_cut(made, 3) in (True, False)


@pytest.mark.parametrize(
    "format",
    [
        *(Format("YUV", "integer", bits, 1, 1) for bits in (10, 16)),
        Format("YUV", "float", 16),
        Format("YUV", "float", 32),
    ],
)
def test_bit_depth_hardly_changes_the_signature(format: Format) -> None:
    codes = Studio(np.random.default_rng(8)).scene()[0].round()
    scaled = codes / 255 if format.sample == "float" else codes * 2 ** (format.bits - 8)
    made = signature((scaled.to(format.dtype),), format)
    assert (made - signature(planes_of(codes), GRAY8)).abs().max() <= 3


def test_rgb_is_compared_by_its_luma() -> None:
    studio = Studio(np.random.default_rng(9))
    gray = studio.scene()[0].round().byte()
    assert torch.equal(signature((gray,) * 3, Format("RGB", "integer", 8)), signature((gray,), GRAY8))
    green = signature((gray * 0, gray, gray * 0), Format("RGB", "integer", 8)).float().abs().mean()
    blue = signature((gray * 0, gray * 0, gray), Format("RGB", "integer", 8)).float().abs().mean()
    assert green > 3 * blue


def test_nan_and_infinity_do_no_harm() -> None:
    plane = torch.rand(HEIGHT, WIDTH)
    plane[3, 3:6] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert signature((plane,), Format("GRAY", "float", 32)).abs().max() <= detector.DETAIL_MAX


def test_the_number_of_torch_threads_changes_no_signature() -> None:
    frames = Studio(np.random.default_rng(10)).scene()
    large = F.interpolate(frames[:6, None], (900, 1600))[:, 0]
    before, made, decided = torch.get_num_threads(), [], []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append([signature(planes_of(frame), GRAY8) for frame in large])
            decided.append(detector.SignaturePair(made[-1][0], made[-1][5]).missing)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    assert decided[0] == decided[1]


@pytest.mark.needs_cuda
def test_a_gpu_decides_the_same() -> None:
    studio = Studio(np.random.default_rng(12))
    here = [planes_of(frame) for frame in torch.cat([studio.scene()[:3], studio.scene()[:3]])]
    made = [signature(planes, GRAY8) for planes in here]
    there = [signature((planes[0].cuda(),), GRAY8) for planes in here]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(made, there, strict=True))
    assert detector.SignaturePair(made[0], made[5]).missing == detector.SignaturePair(there[0], there[5]).missing


# --- frame properties


@pytest.mark.parametrize(
    ("before", "here", "expected"),
    [
        ({}, {}, None),
        (None, {}, None),
        ({"_SceneChangePrev": 1}, {"_SceneChangeNext": 1}, None),
        ({}, {"_SceneChangePrev": 1}, True),
        ({}, {"_SceneChangePrev": 0}, False),
        ({"_SceneChangeNext": 1}, {}, True),
        ({"_SceneChangeNext": 0}, {}, False),
        ({"_SceneChangeNext": 1}, {"_SceneChangePrev": 0}, True),
        ({"_SceneChangeNext": 0}, {"_SceneChangePrev": 1}, True),
        (None, {"_SceneChangePrev": 1}, True),
    ],
)
def test_either_property_decides_and_no_other_does(
    before: dict[str, int] | None, here: dict[str, int], expected: bool | None
) -> None:
    assert cut_from_properties(before, here) is expected
