"""Weights and sequences that are functions of a name: the same bits on every machine, as the goldens were made with.

Integer arithmetic up to the last multiplication; neither numpy's random module nor libm has a part in it. The scales
keep activations near 1 through 30 blocks, flows at a few pixels and deformable offsets at one or two.
"""

import re
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

MASK = 2**64 - 1
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PARTS = 4  # of 16 bits in a word; their sum is nearly normal
SPREAD = ((65536.0**2 - 1) / 3) ** 0.5  # standard deviation of that sum

# (layers, gain of the weight, scale of the bias): the first that fits counts.
GAINS = (
    (r"conv_offset\.[024]$", 1.4, 0.1),
    (r"conv_offset\.6$", 0.5, 0.2),  # the tanh of BasicVSR++ must not saturate
    (r"image_cleaning\.1$", 0.3, 0.03),
    (r"basic_module\.", 1.4, 0.1),
    (r"conv_offset", 2.0, 0.5),
    (r"dcn_?pack", 2.2, 0.1),
    (r"temporal_attn", 0.5, 0.02),
    (r"(feat_fusion|spatial_attn1)\.conv$", 1.6, 0.1),
    (r"\.conv1$", 0.8, 0.02),
    (r"\.conv2$", 0.3, 0.02),
    (r"resblocks\.main\.0$", 0.8, 0.05),
    (r"(backward|forward)_fusion$", 0.8, 0.05),
    (r"conv_last$", 0.3, 0.02),
    (r"", 1.4, 0.1),
)
SPYNET_LAST = re.compile(r"basic_module\.([0-5])\.basic_module\.4\.conv$")


def words(name: str, count: int, seed: int) -> NDArray[np.uint64]:
    """SplitMix64, started at the name's CRC and the seed."""
    start = (zlib.crc32(name.encode()) << 32 ^ seed * 0x9E3779B1) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def noise(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Mean 0, variance 1, nearly normal."""
    drawn = words(name, int(np.prod(shape, dtype=np.int64)), seed)
    parts = [(drawn >> np.uint64(16 * i) & np.uint64(0xFFFF)).astype(np.int64) for i in range(PARTS)]
    return ((sum(parts) - 131070) / SPREAD).reshape(shape)


def tensor(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """The float32 tensor of a key; keys are named as in our networks."""
    layer, _, kind = name.rpartition(".")
    if kind in IMAGENET:
        return torch.tensor(IMAGENET[kind], dtype=torch.float32).view(shape)
    if last := SPYNET_LAST.search(layer):
        gain = bias = 0.8 * 2.0 ** (int(last[1]) - 5)  # about one pixel of the frame for each level
    else:
        gain, bias = next((gain, bias) for pattern, gain, bias in GAINS if re.search(pattern, layer))
    scale = gain / np.sqrt(np.prod(shape[1:])) if kind == "weight" else bias
    return torch.from_numpy((noise(name, shape, seed) * scale).astype(np.float32))


def tensors(shapes: Mapping[str, tuple[int, ...]], *, prefix: str = "", seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: tensor(prefix + name, tuple(shape), seed) for name, shape in shapes.items()}


def filled[Network: nn.Module](network: Network, *, prefix: str = "", seed: int = 0) -> Network:
    """The network with these weights, in eval mode. prefix: where it lies in the network that the goldens are of."""
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    network.load_state_dict(tensors(shapes, prefix=prefix, seed=seed))
    return network.eval().requires_grad_(False)


# --- sequences: value noise that pans, and a patch in front of it that goes the other way ---

SEQUENCE_SCALES = ((32, 0.35), (12, 0.3), (5, 0.2), (2, 0.15))  # cell in px, amplitude
LATTICE = 64


def sequence_u8(t: int, h: int, w: int, seed: int = 0) -> NDArray[np.uint8]:
    """(t, 3, h, w) RGB; the background moves by (0.75, -1.25) px a frame, the patch by (-1, 1.5)."""
    rows, columns = np.arange(h, dtype=np.float64), np.arange(w, dtype=np.float64)
    frames = np.empty((t, h, w, 3))
    for i in range(t):
        top, left = h / 3 - i * 1.0, w / 4 + i * 1.5
        background = picture("bg", rows + i * 0.75, columns + i * -1.25, seed)
        patch = picture("fg", rows - top, columns - left, seed)
        inside_rows = np.clip(np.minimum(rows - top, top + h / 3 - rows), 0, 1)
        inside_columns = np.clip(np.minimum(columns - left, left + w / 3 - columns), 0, 1)
        inside = (inside_rows[:, None] * inside_columns[None, :])[..., None]
        frames[i] = background * (1 - inside) + patch * inside
    stretched = np.clip(frames * 1.3 - 0.15, 0, 1) * 255
    return np.floor(stretched + 0.5).astype(np.uint8).transpose(0, 3, 1, 2).copy()


def sequence(t: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    """(1, t, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(sequence_u8(t, h, w, seed).astype(np.float32) / np.float32(255))[None]


def picture(layer: str, rows: NDArray[np.float64], columns: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    total = np.zeros((len(rows), len(columns), 3))
    for cell, amplitude in SEQUENCE_SCALES:
        raw = words(f"{layer}{cell}", LATTICE * LATTICE * 3, seed) >> np.uint64(40)
        lattice = raw.astype(np.float64).reshape(LATTICE, LATTICE, 3) / 2.0**24
        total += amplitude * smooth(lattice, rows / cell, columns / cell)
    return total


def smooth(
    lattice: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The periodic lattice between its points."""
    (top, bottom, down), (left, right, across) = neighbours(rows), neighbours(columns)
    down, across = down[:, None, None], across[None, :, None]
    above = lattice[top][:, left] * (1 - across) + lattice[top][:, right] * across
    below = lattice[bottom][:, left] * (1 - across) + lattice[bottom][:, right] * across
    return above * (1 - down) + below * down


def neighbours(
    positions: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    first = np.floor(positions).astype(np.int64)
    fraction = positions - first
    return first % LATTICE, (first + 1) % LATTICE, fraction * fraction * (3 - 2 * fraction)
