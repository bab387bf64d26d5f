"""Photographs that anybody may use, as canvases: they come with scikit-image; CREDITS has the terms of each."""

import math
from collections.abc import Callable

import numpy as np

from vs_iconvsr.extras import with_extra_named

from .canvases import Picture, Random

# Name in skimage.data: credit. `coffee`, on which the documentation shows what a model does, is not among them.
CREDITS = {
    "astronaut": "NASA, public domain",
    "brick": "CC0Textures, CC0",
    "camera": "Lav Varshney, CC0",
    "chelsea": "Stéfan van der Walt, CC0",
    "coins": "Brooklyn Museum, no known copyright restrictions",
    "grass": "linolafett, CC0",
    "gravel": "CC0Textures, CC0",
    "rocket": "SpaceX, public domain",
}


def photograph(random: Random, size: int) -> Picture:
    """(size, size, 3) in [0, 1]: one of the photographs, continued by reflection, in colors of its own.

    ValueError names the extra to install if scikit-image is missing.
    """
    try:
        import skimage.data
    except ImportError as error:
        raise ValueError(str(with_extra_named(error))) from error

    load: Callable[[], Picture] = getattr(skimage.data, str(random.choice(sorted(CREDITS))))
    picture = np.asarray(load(), dtype=np.float32) / 255.0
    if picture.ndim == 2:
        tint = random.normal(0.0, 0.12, 3)
        picture = picture[..., None] ** np.exp(tint - tint.mean()).astype(np.float32)
    rows, columns = (_reflected(random, length, size) for length in picture.shape[:2])
    picture = picture[rows][:, columns]
    contrast, brightness = math.exp(random.normal(0.0, 0.15)), random.normal(0.0, 0.05)
    filled: Picture = np.clip(0.5 + contrast * (picture - 0.5) + brightness, 0.0, 1.0).astype(np.float32)
    return filled


def _reflected(random: Random, length: int, size: int) -> np.ndarray:
    """`size` consecutive positions, from anywhere, of a row of `length` that goes to and fro."""
    places = (int(random.integers(2 * length)) + np.arange(size)) % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)
