"""scripts/levers.py: what a lever computes is what it would replace."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
levers = pytest.importorskip("levers")

from vs_iconvsr.networks.blocks import ResidualTrunk  # noqa: E402


def test_a_fused_trunk_asks_cudnn_for_what_a_plain_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's operation by what its documentation says, on a CPU."""
    calls = []

    def convolution_relu(features: Tensor, weight: Tensor, bias: Tensor, *how: object) -> Tensor:
        calls.append(how)
        return F.relu(F.conv2d(features, weight, bias, *how))

    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolution_relu)
    plain = ResidualTrunk(7, 4, num_blocks=3)
    features = torch.rand(1, 7, 9, 8)
    with torch.inference_mode():
        assert torch.equal(levers.with_fused_relu(plain)(features), plain(features))
    assert calls == [((1, 1), (1, 1), (1, 1), 1)] * 3
