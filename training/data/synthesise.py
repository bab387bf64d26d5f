"""Clips with exact flow, rendered from drawn canvases: layers that move over each other before a moving camera.

A set is a folder: `gt.npy` (clips, frames, 3, size, size) uint8, `flow.npy` (clips, frames - 1, 2, size/4, size/4)
float16, and `index.json` with its settings. Clip i depends on the settings and i alone.
"""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .canvases import canvas, outline
from .photographs import photograph

logger = logging.getLogger(__name__)

FLOW_SCALE = 4  # the flow is that of the lr frames of an x4 network
INVERSION_STEPS = 6  # for a wobble that shrinks distances by less than half: error below 1e-2 px
_CANVAS, _OUTLINE, _CLIP = range(3)  # purposes of the random streams

Random = np.random.Generator
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Generator:
    """Settings of a set of generated clips.

    size: of the frames in px, a multiple of FLOW_SCALE. canvas_px: at least 2.5 times that.
    canvases: number drawn, each used in many clips, along with a third as many outlines. photographs: share of them
    that are photographs instead (photographs.CREDITS; needs scikit-image).
    """

    seed: int = 1
    clips: int = 400
    frames: int = 10
    size: int = 256
    canvases: int = 64
    canvas_px: int = 768
    photographs: float = 0.0

    def __post_init__(self) -> None:
        if self.size % FLOW_SCALE or self.size < 16:
            raise ValueError(f"size: expected a multiple of {FLOW_SCALE}, at least 16, got {self.size}")
        if self.canvas_px < 2.5 * self.size:
            raise ValueError(f"canvas_px: expected at least 2.5 times size ({self.size}), got {self.canvas_px}")
        for name, least in (("clips", 1), ("frames", 2), ("canvases", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0.0 <= self.photographs <= 1.0:
            raise ValueError(f"photographs: expected a share from 0 to 1, got {self.photographs}")


def synthesise(generator: Generator, folder: Path, *, device: str = "cpu") -> None:
    """Write the set to `folder`. Nothing happens if it is complete already; ValueError if another set is there."""
    settings = asdict(generator)
    index = folder / "index.json"
    if index.exists():
        found = json.loads(index.read_text(encoding="utf-8"))["generator"]
        if Generator(**found) == generator:  # of an earlier version, too: what it did not know has its default
            return
        raise ValueError(f"{folder}: expected an empty folder or a set made with {settings}, got one made with {found}")
    folder.mkdir(parents=True, exist_ok=True)
    n, t, size, lr = generator.clips, generator.frames, generator.size, generator.size // FLOW_SCALE
    parts = {name: folder / f"{name}.npy.part" for name in ("gt", "flow")}
    gt = np.lib.format.open_memmap(parts["gt"], mode="w+", dtype=np.uint8, shape=(n, t, 3, size, size))
    flow = np.lib.format.open_memmap(parts["flow"], mode="w+", dtype=np.float16, shape=(n, t - 1, 2, lr, lr))
    for i, (clip, motion) in enumerate(clips(generator, device=device)):
        gt[i] = (clip * 255.0).round().to(torch.uint8).cpu().numpy()
        flow[i] = motion.cpu().numpy()
        if (i + 1) % 50 == 0:
            logger.info("%d of %d clips", i + 1, n)
    gt.flush()
    flow.flush()
    del gt, flow  # Windows renames no file that is mapped
    for name, part in parts.items():
        part.replace(folder / f"{name}.npy")
    index.write_text(json.dumps({"generator": settings}, indent=2) + "\n", encoding="utf-8")


def clips(generator: Generator, *, device: str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
    """Clips (frames, 3, size, size) in [0, 1], each with its flow to the next frame (frames - 1, 2, size/4, size/4)."""
    bank = CanvasBank(generator, device=device)
    for i in range(generator.clips):
        yield render_clip(_random(generator, _CLIP, i), bank, generator)


class CanvasBank:
    """The canvases and outlines of a set, on the device."""

    def __init__(self, generator: Generator, *, device: str) -> None:
        size = generator.canvas_px
        self.canvases = []
        for i in range(generator.canvases):
            random = _random(generator, _CANVAS, i)
            # Spread evenly, and drawn from the canvas's own stream: the other canvases stay as they are.
            photo = math.floor((i + 1) * generator.photographs) > math.floor(i * generator.photographs)
            drawn = photograph(random, size) if photo else canvas(random, size)
            picture = np.ascontiguousarray(drawn.transpose(2, 0, 1))
            self.canvases.append(torch.from_numpy(picture).to(device))
        self.outlines = [
            torch.from_numpy(outline(_random(generator, _OUTLINE, i), size)).to(device)
            for i in range(1 + generator.canvases // 3)
        ]


def render_clip(random: Random, bank: CanvasBank, generator: Generator) -> tuple[Tensor, Tensor]:
    """One clip and its flow: for each pixel, that of the layer visible there."""
    t, size = generator.frames, generator.size
    device = bank.canvases[0].device
    camera = random_walk(random, t, fastest=float(random.choice([3.0, 10.0, 20.0])))
    if random.random() < 0.2:
        camera = np.zeros_like(camera)
    shutter = _shutter(random)
    frames = torch.zeros(len(shutter), t, 3, size, size, device=device)
    flow = torch.zeros(t - 1, 2, size // FLOW_SCALE, size // FLOW_SCALE, device=device)
    for depth in range(int(random.choice([1, 2, 3, 4], p=[0.3, 0.4, 0.2, 0.1]))):
        layer = _random_layer(random, bank, camera, size, behind_all=depth == 0)
        for k, offset in enumerate(shutter):
            image = torch.cat([layer.render(size, i + offset) for i in range(t)])
            frames[k] = image[:, :3] + (1.0 - image[:, 3:]) * frames[k]
        layer_flow, cover = layer.motion(size, t)
        flow = torch.where(cover > 0.5, layer_flow, flow)
    clip = frames.mean(dim=0)
    clip = _grade(random, clip)
    return clip.clamp(0.0, 1.0), flow


class Layer:
    """A moving image with coverage, rendered by mapping frame positions to canvas positions.

    At time i, frame position p shows canvas position H_i(p + wobble_i(p)), where H_i is a homography.
    picture (4, canvas_px, canvas_px): premultiplied color, coverage.
    """

    def __init__(self, picture: Tensor, homographies: "Homographies", wobble: "Wobble") -> None:
        self.picture = picture
        self.homographies = homographies
        self.wobble = wobble

    def render(self, size: int, time: float) -> Tensor:
        """(1, 4, size, size) at any time, including between frames."""
        positions = _pixel_centers(size, 1, self.picture)
        return self._sample(self.homographies.apply(time, positions + self.wobble.offset(time, positions)))

    def motion(self, size: int, frames: int) -> tuple[Tensor, Tensor]:
        """Flow to the next frame (frames - 1, 2, lr, lr) in lr px, and the layer's coverage (frames - 1, 1, lr, lr)."""
        positions = _pixel_centers(size, FLOW_SCALE, self.picture)
        flows, covers = [], []
        for i in range(frames - 1):
            on_canvas = self.homographies.apply(i, positions + self.wobble.offset(i, positions))
            later = self.wobble.invert(i + 1, self.homographies.invert(i + 1, on_canvas))
            flows.append((later - positions) / FLOW_SCALE)
            covers.append(self._sample(on_canvas)[0, 3:])
        return torch.stack(flows), torch.stack(covers)

    def _sample(self, on_canvas: Tensor) -> Tensor:
        grid = (on_canvas * (2.0 / self.picture.shape[-1])).movedim(0, -1).unsqueeze(0)
        return F.grid_sample(
            self.picture.unsqueeze(0), grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )


class Homographies:
    """Frame px relative to the frame's center → canvas px relative to the canvas's center, at any time."""

    def __init__(self, path: Matrix, *, zoom: float, turn: float, center: Matrix, tilt: Matrix) -> None:
        """path (frames, 4): x, y in px, log zoom, turn. center: canvas px. tilt (2,): perspective of the plane."""
        self.path, self.zoom, self.turn, self.center, self.tilt = path, zoom, turn, center, tilt

    def apply(self, time: float, positions: Tensor) -> Tensor:
        return _project(self._matrix(time), positions)

    def invert(self, time: float, positions: Tensor) -> Tensor:
        return _project(np.linalg.inv(self._matrix(time)), positions)

    def _matrix(self, time: float) -> Matrix:
        times = np.arange(len(self.path), dtype=np.float64)
        x, y, log_zoom, turn = (_interpolate(time, times, self.path[:, k]) for k in range(4))
        zoom = self.zoom * math.exp(-log_zoom)
        cos, sin = zoom * math.cos(self.turn + turn), zoom * math.sin(self.turn + turn)
        move = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
        turned = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [*self.tilt, 1.0]])
        place = np.array([[1.0, 0.0, self.center[0]], [0.0, 1.0, self.center[1]], [0.0, 0.0, 1.0]])
        matrix: Matrix = place @ turned @ move
        return matrix


@dataclass(frozen=True)
class Wobble:
    """A wave that runs through a layer, like cloth, leaves or water. amplitude in px, wave (2,) in radians per px."""

    amplitude: float
    wave: tuple[float, float]
    speed: float
    phase: float

    def offset(self, time: float, positions: Tensor) -> Tensor:
        if self.amplitude == 0.0:
            return torch.zeros_like(positions)
        x, y = positions
        along = self.wave[0] * x + self.wave[1] * y + self.phase + self.speed * time
        across = self.wave[1] * x - self.wave[0] * y + 1.7 * self.phase + self.speed * time
        return self.amplitude * torch.stack([torch.sin(along), torch.cos(across)])

    def invert(self, time: float, wobbled: Tensor) -> Tensor:
        """The positions p with p + offset(time, p) = wobbled, by fixed-point iteration."""
        positions = wobbled
        for _ in range(INVERSION_STEPS if self.amplitude else 0):
            positions = wobbled - self.offset(time, positions)
        return positions


def random_walk(random: Random, frames: int, *, fastest: float) -> Matrix:
    """(frames, 4): x, y in px, log zoom, turn: constant speed, perhaps acceleration, shake, swing, zoom, rotation."""
    t = np.arange(frames) - frames / 2
    speed, direction = math.exp(random.uniform(math.log(0.05), math.log(fastest))), random.uniform(0.0, 2.0 * math.pi)
    xy = speed * np.outer([math.cos(direction), math.sin(direction)], t)
    if random.random() < 0.4:
        xy = xy + np.outer(random.normal(0.0, 0.03 * speed, 2), t * t)
    if random.random() < 0.4:
        shake = random.normal(0.0, random.uniform(0.1, 1.5), (2, frames + 1))
        xy = xy + 0.5 * (shake[:, 1:] + shake[:, :-1])
    if random.random() < 0.2:
        xy = xy + random.uniform(0.3, 5.0) * np.sin(random.uniform(0.15, 1.2) * t + random.uniform(0.0, 6.3, (2, 1)))
    log_zoom = t * random.normal(0.0, 0.004) * (random.random() < 0.5)
    turn = t * random.normal(0.0, 0.004) * (random.random() < 0.4)
    return np.concatenate([xy, log_zoom[None], turn[None]]).T


def contact_sheet(folder: Path, path: Path, *, columns: int = 8, rows: int = 6) -> None:
    """Write the middle frames of the first clips of a set as one image."""
    from PIL import Image

    gt = np.load(folder / "gt.npy", mmap_mode="r")
    frames = [np.asarray(gt[i % len(gt), gt.shape[1] // 2]).transpose(1, 2, 0) for i in range(columns * rows)]
    lines = [np.concatenate(frames[i * columns : (i + 1) * columns], axis=1) for i in range(rows)]
    Image.fromarray(np.concatenate(lines, axis=0)).save(path)


def _random_layer(random: Random, bank: CanvasBank, camera: Matrix, size: int, *, behind_all: bool) -> Layer:
    picture = bank.canvases[int(random.integers(len(bank.canvases)))]
    cover = torch.ones_like(picture[:1])
    if not behind_all:
        cover = bank.outlines[int(random.integers(len(bank.outlines)))].unsqueeze(0)
    picture = torch.cat([picture * cover, cover])
    if random.random() < 0.5:
        picture = picture.flip(int(random.integers(1, 3)))

    zoom = random.uniform(1.2, 2.1)
    sharpness = random.uniform(0.2, 0.6)  # of the lens: standard deviation of its blur in px of the clip
    if behind_all and random.random() < 0.1:
        sharpness = random.uniform(1.2, 3.5)
    picture = _blur(picture, zoom * sharpness)

    parallax = 1.0 if behind_all else random.uniform(1.05, 2.2)
    path = camera * np.array([parallax, parallax, 1.0, 1.0])
    if not behind_all and random.random() < 0.7:
        path = path + random_walk(random, len(camera), fastest=float(random.choice([2.0, 6.0])))
    slack = max(0.0, 0.5 * picture.shape[-1] - 0.6 * zoom * size)
    homographies = Homographies(
        path,
        zoom=zoom,
        turn=random.uniform(-math.pi, math.pi) if random.random() < 0.5 else 0.0,
        center=random.uniform(-slack, slack, 2),
        tilt=random.normal(0.0, 3e-4, 2) if random.random() < 0.4 else np.zeros(2),
    )
    still = random.random() < 0.75
    wobble = Wobble(
        amplitude=0.0 if still else random.uniform(0.2, 2.5),
        wave=(float(np.clip(random.normal(0.0, 0.04), -0.1, 0.1)), float(np.clip(random.normal(0.0, 0.04), -0.1, 0.1))),
        speed=random.uniform(0.1, 0.9),
        phase=random.uniform(0.0, 2.0 * math.pi),
    )
    return Layer(picture, homographies, wobble)


def _shutter(random: Random) -> list[float]:
    """Time offsets within a frame that are averaged into motion blur; their mean is 0."""
    if random.random() < 0.75:
        return [0.0]
    moments, opening = int(random.integers(2, 4)), random.uniform(0.2, 0.6)
    return [opening * ((k + 0.5) / moments - 0.5) for k in range(moments)]


def _grade(random: Random, clip: Tensor) -> Tensor:
    """Grade the clip: exposure drift, fades, gamma, occasionally grain."""
    if random.random() < 0.3:
        start, end = random.uniform(0.5, 1.15, 2) if random.random() < 0.3 else random.normal(1.0, 0.05, 2)
        clip = clip * torch.linspace(float(start), float(end), len(clip), device=clip.device).view(-1, 1, 1, 1)
    if random.random() < 0.5:
        clip = clip.clamp(0.0, 1.0) ** math.exp(random.normal(0.0, 0.25))
    if random.random() < 0.1:
        grain = random.standard_normal(clip.shape, dtype=np.float32) * random.uniform(0.5, 2.0) / 255.0
        clip = clip + torch.from_numpy(grain).to(clip.device)
    return clip


def _blur(picture: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    distance = torch.arange(-radius, radius + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    picture = F.conv2d(F.pad(picture.unsqueeze(1), (radius, radius, 0, 0), mode="replicate"), kernel)
    picture = F.conv2d(F.pad(picture, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3))
    return picture.squeeze(1)


def _pixel_centers(size: int, step: int, like: Tensor) -> Tensor:
    """(2, size/step, size/step): the centers of squares of step pixels, in px relative to the frame's center."""
    along = (torch.arange(size // step, device=like.device, dtype=torch.float32) + 0.5) * step - size / 2
    return torch.stack(torch.meshgrid(along, along, indexing="xy"))


def _project(matrix: Matrix, positions: Tensor) -> Tensor:
    x, y = positions
    m = matrix.tolist()
    across, down, depth = (m[k][0] * x + m[k][1] * y + m[k][2] for k in range(3))
    return torch.stack([across / depth, down / depth])


def _interpolate(time: float, times: Matrix, values: Matrix) -> float:
    """Linear between frames; before the first and after the last, the outermost line is extended."""
    if len(times) == 1:
        return float(values[0])
    k = int(np.clip(math.floor(time), 0, len(times) - 2))
    return float(values[k] + (time - k) * (values[k + 1] - values[k]))


def _random(generator: Generator, purpose: int, i: int) -> Random:
    return np.random.default_rng(np.random.SeedSequence([generator.seed, purpose, i]))
