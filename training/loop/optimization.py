"""The arithmetic of a training step: learning rate, loss, precision, and which parameters learn how fast."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..degrade.effects import LUMA
from .recipe import Optimiser
from .run_options import TrainingError

FLOW_PARTS = ("flow_network.", "spynet.")  # parameters that learn at flow_share of the learning rate
REFILL_PARTS = ("edvr.",)
HALF_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def learning_rate(settings: Optimiser, step: int) -> float:
    """Linear warm-up times a cosine from learning_rate to last_learning_rate."""
    warm = min(1.0, (step + 1) / max(1, settings.warm_up))
    wave = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
    return warm * (settings.last_learning_rate + wave * (settings.learning_rate - settings.last_learning_rate))


def charbonnier(hr: Tensor, gt: Tensor, *, epsilon: float, luma_share: float = 0.0) -> Tensor:
    """Mean of sqrt(d² + epsilon²) over RGB values (..., 3, h, w), with this share of the same over luma."""
    d = hr - gt
    loss = (d.square() + epsilon**2).sqrt().mean()
    if luma_share == 0.0:
        return loss
    luma = (d * d.new_tensor(LUMA).view(3, 1, 1)).sum(dim=-3)
    return torch.lerp(loss, (luma.square() + epsilon**2).sqrt().mean(), luma_share)


def autocast(precision: str, device: str) -> torch.autocast:
    """The context in which the forward pass runs; does nothing for float32."""
    return torch.autocast(torch.device(device).type, HALF_TYPES.get(precision), enabled=precision in HALF_TYPES)


def gradient_scaler(settings: Optimiser, device: str) -> torch.amp.GradScaler:
    """Keeps gradients within float16's range; passes them through unchanged for the other precisions."""
    kind = torch.device(device).type
    if settings.precision == "float16" and kind != "cuda":
        raise TrainingError(
            f"precision: expected a CUDA device for float16, got {device}; "
            "pass --device cuda, or --set optimiser.precision=bfloat16"
        )
    return torch.amp.GradScaler(kind, enabled=settings.precision == "float16")


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Adam's parameter groups: everything but the flow network, then the flow network if there is one."""
    flow = [value for name, value in network.named_parameters() if name.startswith(FLOW_PARTS)]
    rest = [value for name, value in network.named_parameters() if not name.startswith(FLOW_PARTS)]
    groups: list[dict[str, Any]] = [{"params": rest, "flow": False}]
    return [*groups, {"params": flow, "flow": True}] if flow else groups


def clear_gradients(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Freeze these parts for one step: Adam skips parameters without a gradient, so not a bit of them changes."""
    for name, parameter in network.named_parameters():
        if name.startswith(parts):
            parameter.grad = None
