"""From linear light, which EXR images hold, to the gamma-coded values that models expect, and back."""

from collections.abc import Callable

import torch
from torch import Tensor

SRGB = 13
"""The H.273 transfer of what `to_srgb` returns: sRGB, IEC 61966-2-1."""


def to_srgb(light: Tensor, peak: float) -> Tensor:
    """Light from 0 to peak as float32 from 0 to 1, on the sRGB curve; values outside are clipped, NaN becomes 0."""
    share = light.to(torch.float32).nan_to_num(nan=0.0, posinf=peak, neginf=0.0).div(peak).clamp(0, 1)
    return torch.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)


def to_linear(values: Tensor, transfer: int, peak: float = 1.0) -> Tensor:
    """Coded values from 0 to 1 as light from 0 to peak, float32: the inverse of the transfer with that H.273 number.

    Raises ValueError for a transfer without a defined white, such as PQ and HLG.
    """
    check_transfer(transfer)
    return _CURVES[transfer](values.to(torch.float32)) * peak


def check_transfer(transfer: int) -> None:
    """Raises ValueError for a transfer that `to_linear` does not support."""
    if transfer not in _CURVES:
        raise ValueError(
            f"transfer: expected one of {', '.join(map(str, sorted(_CURVES)))} for EXR, which holds linear light, "
            f"got {transfer} ({_NAMES.get(transfer, 'unknown')}); name the output .png, .tif or .dpx"
        )


def _srgb(values: Tensor) -> Tensor:
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _bt709(values: Tensor) -> Tensor:
    return torch.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


# Unspecified (2) is treated as BT.709, as in players.
_CURVES: dict[int, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys((1, 2, 6, 14, 15), _bt709),
    4: lambda values: values**2.2,
    5: lambda values: values**2.8,
    8: lambda values: values,
    13: _srgb,
}
_NAMES = {16: "PQ", 18: "HLG", 9: "log", 10: "log", 11: "xvYCC", 12: "BT.1361", 17: "DCI"}
