"""Clips with known cuts: generated ones, and real ones where they are at hand. Frames: (t, h, w) float, 0 to 255."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH, HEIGHT, FRAMES = 160, 96, 12
SHARED = Path(__file__).parents[4] / "shared"


@dataclass
class Studio:
    """Makes unrelated scenes: textures, shapes, a moving camera, moving objects."""

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
        """A landscape three frames wide and high."""
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
        """A disc with its own pattern moves across the frame."""
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
    """One factor a frame; the last value is repeated to the end."""
    return torch.tensor([*values, *[values[-1]] * (FRAMES - len(values))])[:, None, None]


def compressed(frames: Tensor) -> Tensor:
    """After MPEG-4 compression at a very low bit rate."""
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.bit_rate = Fraction(1, 24), Fraction(24), 60_000
    encoder.options = {"qmin": "12", "qmax": "31"}
    decoder = av.CodecContext.create("mpeg4", "r")
    packets = []
    for i, luma in enumerate(frames.clamp(0, 255).byte().numpy()):
        gray = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
        frame = av.VideoFrame.from_ndarray(np.concatenate([luma, gray]), format="yuv420p")
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
class LabeledClip:
    kind: str
    frames: Tensor
    cuts: tuple[int, ...]


def joined(studio: Studio, kind: str, one: Tensor, other: Tensor) -> LabeledClip:
    """Two scenes joined by a cut; each is shown for three frames or more."""
    left, right = (int(studio.random.integers(3, FRAMES + 1)) for _ in range(2))
    frames = DAMAGE[kind](studio, torch.cat([one[-left:], other[:right]]))
    return LabeledClip(f"cut, {kind}", frames, (left * HELD.get(kind, 1),))


def generated(seed: int, each: int) -> Iterator[LabeledClip]:
    studio = Studio(np.random.default_rng(seed))
    for _ in range(each):
        for kind in DAMAGE:
            yield joined(studio, kind, studio.scene(), studio.scene())
            yield LabeledClip(f"one scene, {kind}", DAMAGE[kind](studio, studio.scene()), ())
        for kind, made in NOT_CUTS.items():
            yield LabeledClip(kind, made(studio), ())


def fading() -> Tensor:
    return weights(1, 1, 0.86, 0.71, 0.57, 0.43, 0.29, 0.14, 0)


def real_clips() -> Iterator[Tensor]:
    """Luma of the real clips, scaled to the size of the generated ones."""
    for folder in ("walk", "street_320x180", "degraded_640x360", "phone.mp4"):
        path = SHARED / "clips" / folder
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        frames = [frame.to_ndarray(format="gray") for file in files for frame in av.open(str(file)).decode(video=0)]
        luma = torch.from_numpy(np.stack(frames))[:, None].float()
        yield F.interpolate(luma, (HEIGHT, WIDTH), mode="bilinear", antialias=True)[:, 0]
