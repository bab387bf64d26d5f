"""What is measured: models, sizes, numbers of frames; and the clips for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.vs_iconvsr.networks.deterministic import filled
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.propagation import VideoNetwork

YUV420P8 = Format("YUV", "integer", 8, 1, 1)
YUV420P10 = Format("YUV", "integer", 10, 1, 1)
PROPERTIES = {"_Matrix": 1, "_Range": 0}


@dataclass(frozen=True)
class Case:
    """A model, the lr size and the number of frames."""

    model: str
    width: int
    height: int
    frames: int


QUICK = [Case("light", 48, 32, 3), Case("IconVSR-16x1", 32, 32, 3)]
ON_CPU = [
    Case("light", 320, 240, 10),
    Case("IconVSR-64x30", 64, 64, 10),
    Case("IconVSR-64x30", 320, 180, 10),
    Case("BasicVSR-64x30", 320, 180, 5),
]
ON_GPU = [
    Case("light", 320, 180, 30),
    Case("IconVSR-64x30", 320, 180, 30),
    Case("BasicVSR-64x30", 320, 180, 30),
    Case("IconVSR-64x30", 640, 360, 15),
]


def load_network(model: str) -> VideoNetwork:
    """The bundled model "light", or, as in "IconVSR-64x30", a network of that width and depth with made-up weights."""
    if model == "light":
        try:
            from vs_iconvsr import weights

            return weights.load("light")
        except ImportError:  # a machine with torch only: an untrained network that does the same work
            torch.manual_seed(0)
            return LightVSR().eval().requires_grad_(False)
    kind, _, size = model.partition("-")
    channels, blocks = (int(number) for number in size.split("x"))
    if kind == "IconVSR":
        return filled(IconVSR(mid_channels=channels, num_blocks=blocks, edvr_channels=channels))
    return filled(BasicVSR(mid_channels=channels, num_blocks=blocks))


def make_clip(rgb: Tensor) -> list[tuple[Tensor, ...]]:
    """rgb (t, 3, h, w) → the planes of each frame as YUV420P8."""
    return [tuple(to_8_bits(plane) for plane in planes_of(frame)) for frame in rgb.cpu()]


def planes_of(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A stand-in for YUV 4:2:0 of a frame (3, h, w): only the size and the motion matter here."""
    return rgb.mean(dim=0), rgb[2, ::2, ::2], rgb[0, ::2, ::2]


def to_8_bits(plane: Tensor) -> Tensor:
    return (16 + 219 * plane).to(torch.uint8).contiguous()
