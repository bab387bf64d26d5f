"""What the authors' networks computed with the weights and sequences of `deterministic`, and how to compare with it.

Beside the tests lies what is small: of a whole network's hr every 15th row and column, which meets all 16 phases of the
pixel shuffles. The team's shared folder holds more (every 3rd, edges, other sizes).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.vs_iconvsr.networks.deterministic import sequence
from vs_iconvsr.networks.propagation import VideoNetwork

HERE = Path(__file__).parents[1] / "data" / "golden"
SHARED = Path(__file__).parents[3].parent / "shared" / "reference" / "golden"

WHOLE = 2e-5  # the authors' own float32 and float64 differ by 4.4e-6
UNIT = 5e-5

Golden = dict[str, NDArray[np.generic]]


def golden(name: str) -> Golden:
    return dict(np.load(HERE / f"{name}.npz"))


def shared_golden(name: str) -> Golden:
    return dict(np.load(SHARED / f"{name}.npz"))


def as_input(values: NDArray[np.generic]) -> Tensor:
    """float16 units as float32; uint8 frames as float32 in [0, 1]."""
    if values.dtype == np.uint8:
        return torch.from_numpy(values.astype(np.float32) / np.float32(255))
    return torch.from_numpy(values.astype(np.float32))


def difference(ours: Tensor, theirs: NDArray[np.generic]) -> float:
    assert tuple(ours.shape) == theirs.shape
    return float(np.abs(ours.double().numpy() - theirs.astype(np.float64)).max())


def whole_difference(network: VideoNetwork, name: str, h: int = 64, w: int = 64, **options: float) -> float:
    """The largest difference from the golden beside the tests; the means of all frames are compared, too."""
    theirs = golden(name)
    hr = network(sequence(len(theirs["mean"]), h, w, seed=int(theirs["seed"])), **options)[0]
    means = difference(hr.double().mean(dim=(-2, -1)), theirs["mean"])
    return max(means, difference(hr[..., ::15, ::15], theirs["probe"]))


def shared_difference(network: VideoNetwork, name: str, **options: float) -> float:
    """As whole_difference, with all that the shared golden holds of hr."""
    theirs = shared_golden(name)
    hr = network(as_input(theirs["input_u8"])[None], **options)[0]
    return max(
        difference(hr[..., ::3, ::3], theirs["probe"]),
        difference(hr[..., -4:], theirs["right"]),
        difference(hr[..., -4:, :], theirs["bottom"]),
    )
