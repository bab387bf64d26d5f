"""Scenes: hard cuts are found, and nothing else is; on clips made here, and on real ones where they are at hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vs_iconvsr import scenes
from vs_iconvsr.colorspace import Format, Planes
from vs_iconvsr.scenes import cut_from_properties, is_cut, signature

WIDTH, HEIGHT, FRAMES = 160, 96, 12
GRAY8 = Format("GRAY", "integer", 8)
SHARED = Path(__file__).parents[3].parent / "shared"


# --- clips: frames are (t, h, w) float, 0 to 255


@dataclass
class Studio:
    """Makes scenes that have nothing to do with each other: textures, shapes, a moving camera, moving things."""

    random: np.random.Generator

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def texture(self, height: int, width: int) -> Tensor:
        """Noise at every size, mean 0, deviation 1."""
        total, rough, size = torch.zeros(height, width), self.uniform(0.5, 1.2), 2
        while size < width:
            grid = torch.from_numpy(self.random.standard_normal((1, 1, size, size))).float()
            total += F.interpolate(grid, (height, width), mode="bicubic")[0, 0] * size**-rough
            size *= 2
        return total / total.std()

    def world(self) -> Tensor:
        """A place, three frames wide and high."""
        height, width = 3 * HEIGHT, 3 * WIDTH
        place = self.uniform(50, 190) + self.texture(height, width) * self.uniform(12, 40)
        down, across = torch.arange(height)[:, None], torch.arange(width)[None, :]
        for _ in range(self.random.integers(0, 40)):
            x, y = self.uniform(0, width), self.uniform(0, height)
            inside = (across - x).abs() / self.uniform(4, 50), (down - y).abs() / self.uniform(4, 50)
            shape = torch.maximum(*inside) < 1 if self.random.random() < 0.5 else inside[0] ** 2 + inside[1] ** 2 < 1
            place[shape] = self.uniform(0, 255) + 0.3 * (place[shape] - place.mean())
        return place.clamp(0, 255)

    def filmed(self, speed_px: float, *, zoom: float = 0.0, frames: int = FRAMES) -> Tensor:
        place, angle = self.world(), self.uniform(0, 2 * np.pi)
        height, width = place.shape
        speed_px = min(speed_px, (height - HEIGHT) / frames) if abs(np.sin(angle)) > 0.5 else speed_px
        seen = []
        for i in range(frames):
            along, scale = (i - frames / 2) * speed_px, (1 + zoom) ** (i - frames / 2)
            x = width / 2 + along * np.cos(angle) + (torch.arange(WIDTH) - WIDTH / 2 + 0.5) * scale
            y = height / 2 + along * np.sin(angle) + (torch.arange(HEIGHT) - HEIGHT / 2 + 0.5) * scale
            at = torch.stack(torch.meshgrid(x / width * 2 - 1, y / height * 2 - 1, indexing="xy"), dim=-1)
            seen.append(
                F.grid_sample(place[None, None], at[None].float(), padding_mode="reflection", align_corners=False)
            )
        return torch.cat(seen)[:, 0]

    def scene(self) -> Tensor:
        frames = self.filmed(self.uniform(0, 4), zoom=self.uniform(-0.01, 0.01))
        return self.crossed(frames, radius_px=self.uniform(5, 25), speed_px=self.uniform(0, 6))

    def crossed(self, frames: Tensor, *, radius_px: float, speed_px: float) -> Tensor:
        """Something round with a pattern of its own goes through the picture."""
        pattern, x, y = self.texture(HEIGHT, 2 * WIDTH) * 30 + self.uniform(30, 220), self.uniform(0, WIDTH), 48
        down, across = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)[None, :]
        frames = frames.clone()
        for i, frame in enumerate(frames):
            disc = (across - x - i * speed_px) ** 2 + (down - y) ** 2 < radius_px**2
            frame[disc] = pattern.roll(int(i * speed_px), 1)[:, :WIDTH][disc]
        return frames

    def noise(self, frames: Tensor, deviation: float) -> Tensor:
        return frames + torch.from_numpy(self.random.standard_normal(frames.shape)).float() * deviation


def weights(*values: float) -> Tensor:
    """Frame by frame; the last value lasts until the end."""
    return torch.tensor([*values, *[values[-1]] * (FRAMES - len(values))])[:, None, None]


def compressed(frames: Tensor) -> Tensor:
    """Through MPEG-4 at a starving bit rate."""
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.bit_rate = Fraction(1, 24), Fraction(24), 60_000
    encoder.options = {"qmin": "12", "qmax": "31"}
    decoder = av.CodecContext.create("mpeg4", "r")
    packets = []
    for i, luma in enumerate(frames.clamp(0, 255).byte().numpy()):
        grey = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
        frame = av.VideoFrame.from_ndarray(np.concatenate([luma, grey]), format="yuv420p")
        frame.pts = i
        packets += encoder.encode(frame)
    decoder.extradata = encoder.extradata
    packets += encoder.encode(None)
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return torch.stack([torch.from_numpy(frame.to_ndarray()[:HEIGHT].copy()).float() for frame in decoded])


DAMAGE: dict[str, Callable[[Studio, Tensor], Tensor]] = {
    "clean": lambda _, frames: frames,
    "noise": lambda studio, frames: studio.noise(frames, 15),
    "dark": lambda studio, frames: studio.noise(frames * 0.12, 1) + 8,
    "compressed": lambda _, frames: compressed(frames),
    "flicker": lambda studio, frames: frames * torch.from_numpy(studio.random.uniform(0.8, 1.2, (len(frames), 1, 1))),
    "held for two": lambda _, frames: frames.repeat_interleave(2, dim=0),
    "held for three": lambda _, frames: frames.repeat_interleave(3, dim=0),
}
HELD = {"held for two": 2, "held for three": 3}

NOT_CUTS: dict[str, Callable[[Studio], Tensor]] = {
    "one scene": lambda studio: studio.scene(),
    "still": lambda studio: studio.scene()[:1].expand(FRAMES, -1, -1),
    "flash of one frame": lambda studio: studio.scene() * weights(1, 1, 1, 1, 1, 4, 1),
    "flash of two frames": lambda studio: studio.scene() + weights(0, 0, 0, 0, 200, 120, 0),
    "flash to white": lambda studio: studio.scene() + weights(0, 0, 0, 0, 0, 255, 255, 0),
    "strobe": lambda studio: studio.scene() * weights(*[1, 0.4] * (FRAMES // 2)),
    "fade out": lambda studio: studio.scene() * weights(1, 1, 0.83, 0.67, 0.5, 0.33, 0.17, 0),
    "fade in": lambda studio: studio.scene() * weights(0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1),
    "fade to white": lambda studio: torch.lerp(
        studio.scene(), torch.tensor(255.0), weights(0, 0, 0.14, 0.3, 0.43, 0.57, 0.7, 0.86, 1)
    ),
    "dissolve": lambda studio: torch.lerp(
        studio.scene(), studio.scene(), weights(0, 0, 0.14, 0.29, 0.43, 0.57, 0.71, 0.86, 1)
    ),
    "short dissolve": lambda studio: torch.lerp(
        studio.scene(), studio.scene(), weights(0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1)
    ),
    "fast pan": lambda studio: studio.filmed(studio.uniform(8, 20)),
    "fast zoom": lambda studio: studio.filmed(1, zoom=studio.uniform(0.03, 0.08)),
    "something large passes": lambda studio: studio.crossed(studio.scene(), radius_px=55, speed_px=20),
}  # fmt: skip


@dataclass
class Labelled:
    kind: str
    frames: Tensor
    cuts: tuple[int, ...]


def joined(studio: Studio, kind: str, one: Tensor, other: Tensor) -> Labelled:
    """Two scenes, cut somewhere, so that each shows from three frames to all of its own."""
    left, right = (int(studio.random.integers(3, FRAMES + 1)) for _ in range(2))
    frames = DAMAGE[kind](studio, torch.cat([one[-left:], other[:right]]))
    return Labelled(f"cut, {kind}", frames, (left * HELD.get(kind, 1),))


def generated(seed: int, each: int) -> Iterator[Labelled]:
    studio = Studio(np.random.default_rng(seed))
    for _ in range(each):
        for kind in DAMAGE:
            yield joined(studio, kind, studio.scene(), studio.scene())
            yield Labelled(f"one scene, {kind}", DAMAGE[kind](studio, studio.scene()), ())
        for kind, made in NOT_CUTS.items():
            yield Labelled(kind, made(studio), ())


def planes_of(frame: Tensor) -> Planes:
    return (frame.clamp(0, 255).round().byte(),)


def cuts_found(frames: Tensor, **options: float) -> tuple[int, ...]:
    signatures = [signature(planes_of(frame), GRAY8) for frame in frames]
    starts = [max(n - scenes.BEFORE, 0) for n in range(len(signatures))]
    return tuple(
        n for n, start in enumerate(starts) if is_cut(signatures[start : n + scenes.AFTER + 1], n - start, **options)
    )


def recall_and_precision(clips: Iterator[Labelled]) -> tuple[float, float, list[str]]:
    """And what went wrong, one line a clip."""
    right = wanted = found = 0
    wrong = []
    for clip in clips:
        cuts = cuts_found(clip.frames)
        right += len({*cuts} & {*clip.cuts})
        wanted, found = wanted + len(clip.cuts), found + len(cuts)
        if cuts != clip.cuts:
            wrong.append(f"{clip.kind}: expected {clip.cuts}, got {cuts}")
    return right / wanted, right / max(found, 1), wrong


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
def test_cuts_between_real_clips_and_made_ones_are_found_and_nothing_else_is() -> None:
    studio = Studio(np.random.default_rng(5))
    real = list(real_clips())

    def clips() -> Iterator[Labelled]:
        for i, clip in enumerate(real):
            for kind in list(DAMAGE)[i % 2 :: 2]:
                start = int(studio.random.integers(0, len(clip) - FRAMES))
                other = real[i - 1 - int(studio.random.integers(0, len(real) - 1))]
                yield joined(studio, kind, clip[start : start + FRAMES], other[-FRAMES:])
                yield joined(studio, kind, studio.scene(), clip[start : start + FRAMES])
                yield Labelled(f"real, {kind}", DAMAGE[kind](studio, clip[start : start + FRAMES]), ())
            flash = clip[:FRAMES] + weights(0, 0, 0, 0, 200, 120, 0)
            yield from (Labelled("real", clip[::step], ()) for step in (1, 2))
            yield from (Labelled(f"real {i}, changed", frames, ()) for frames in (flash, clip[:FRAMES] * fading()))
            yield Labelled("real dissolve", torch.lerp(clip[:FRAMES], real[i - 1][:FRAMES], 1 - fading()), ())

    recall, precision, wrong = recall_and_precision(clips())
    assert recall >= 0.95, wrong
    assert precision >= 0.95, wrong


def fading() -> Tensor:
    return weights(1, 1, 0.86, 0.71, 0.57, 0.43, 0.29, 0.14, 0)


def real_clips() -> Iterator[Tensor]:
    """Luma of the clips at hand, at the size of the made ones."""
    for folder in ("walk", "street_320x180", "degraded_640x360", "phone.mp4"):
        path = SHARED / "clips" / folder
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        frames = [frame.to_ndarray(format="gray") for file in files for frame in av.open(str(file)).decode(video=0)]
        luma = torch.from_numpy(np.stack(frames))[:, None].float()
        yield F.interpolate(luma, (HEIGHT, WIDTH), mode="bilinear", antialias=True)[:, 0]


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
def test_what_is_over_after_one_or_two_frames_is_not_a_scene(length: int) -> None:
    studio = Studio(np.random.default_rng(3))
    one, other = studio.scene(), studio.scene()
    assert cuts_found(torch.cat([one[:5], other[5 : 5 + length], one[5 + length :]])) == ()


def test_a_light_that_goes_out_is_not_a_cut() -> None:
    assert cuts_found(Studio(np.random.default_rng(13)).scene() * weights(1, 1, 1, 1, 0.22)) == ()


def test_a_cut_out_of_a_scene_with_little_but_noise_is_found() -> None:
    studio = Studio(np.random.default_rng(14))
    misty = 120 + 0.05 * studio.scene()
    assert cuts_found(studio.noise(torch.cat([misty[:6], studio.scene()[6:]]), 8)) == (6,)


def test_noise_that_is_shown_twice_is_no_series_of_cuts() -> None:
    studio = Studio(np.random.default_rng(15))
    assert cuts_found(studio.noise(120 + 0.05 * studio.scene(), 15).repeat_interleave(2, dim=0)) == ()


def test_a_cut_to_black_and_from_black_is_found() -> None:
    one = Studio(np.random.default_rng(4)).scene()
    black = torch.zeros_like(one)
    assert cuts_found(torch.cat([one[:4], black[:4], one[8:]])) == (4, 8)


def test_the_first_frame_and_clips_of_one_frame_have_no_cut() -> None:
    assert cuts_found(torch.rand(1, HEIGHT, WIDTH) * 255) == ()


def test_a_lower_threshold_finds_more_cuts() -> None:
    studio = Studio(np.random.default_rng(6))
    mixed = torch.lerp(studio.scene(), studio.scene(), weights(0, 0, 0, 0, 0, 0.55))
    assert cuts_found(mixed, threshold=1.0) == ()
    assert cuts_found(mixed, threshold=0.3) == (5,)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="sc_threshold: expected a share above 0 and up to 1, got"):
        is_cut([torch.zeros(4, 4, dtype=torch.int16)] * 3, 1, threshold=threshold)


# --- signatures


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (3, 1), (1, 7), (16, 16), (33, 17), (5000, 1), (64, 36), (65, 37)]
)
def test_any_size_has_a_small_signature_and_can_be_judged(width: int, height: int) -> None:
    made = [signature(planes_of(torch.rand(height, width) * 255), GRAY8) for _ in range(6)]
    assert made[0].numel() <= 2 * scenes.THUMBNAIL_CELLS
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
def test_depth_hardly_changes_the_signature(format: Format) -> None:
    codes = Studio(np.random.default_rng(8)).scene()[0].round()
    scaled = codes / 255 if format.sample == "float" else codes * 2 ** (format.bits - 8)
    made = signature((scaled.to(format.dtype),), format)
    assert (made - signature(planes_of(codes), GRAY8)).abs().max() <= 3


def test_rgb_is_judged_by_its_luma() -> None:
    studio = Studio(np.random.default_rng(9))
    grey = studio.scene()[0].round().byte()
    assert torch.equal(signature((grey,) * 3, Format("RGB", "integer", 8)), signature((grey,), GRAY8))
    green = signature((grey * 0, grey, grey * 0), Format("RGB", "integer", 8)).float().abs().mean()
    blue = signature((grey * 0, grey * 0, grey), Format("RGB", "integer", 8)).float().abs().mean()
    assert green > 3 * blue


def test_floats_that_are_no_numbers_do_no_harm() -> None:
    plane = torch.rand(HEIGHT, WIDTH)
    plane[3, 3:6] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert signature((plane,), Format("GRAY", "float", 32)).abs().max() <= scenes.DETAIL_MAX


def test_the_number_of_torch_threads_changes_no_signature() -> None:
    frames = Studio(np.random.default_rng(10)).scene()
    large = F.interpolate(frames[:6, None], (900, 1600))[:, 0]
    before, made, decided = torch.get_num_threads(), [], []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append([signature(planes_of(frame), GRAY8) for frame in large])
            decided.append(scenes._Pair(made[-1][0], made[-1][5]).missing)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    assert decided[0] == decided[1]


@pytest.mark.needs_cuda
def test_a_gpu_decides_alike() -> None:
    studio = Studio(np.random.default_rng(12))
    here = [planes_of(frame) for frame in torch.cat([studio.scene()[:3], studio.scene()[:3]])]
    made = [signature(planes, GRAY8) for planes in here]
    there = [signature((planes[0].cuda(),), GRAY8) for planes in here]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(made, there, strict=True))
    assert scenes._Pair(made[0], made[5]).missing == scenes._Pair(there[0], there[5]).missing


# --- frame properties


@pytest.mark.parametrize(
    ("before", "here", "told"),
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
def test_either_property_tells_and_nothing_else_does(
    before: dict[str, int] | None, here: dict[str, int], told: bool | None
) -> None:
    assert cut_from_properties(before, here) is told
