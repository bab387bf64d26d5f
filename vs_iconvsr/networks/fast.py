"""Float32 convolutions on the CPU by fast algorithms: Winograd's for 3x3 kernels, Fourier transforms for larger ones.

They come with torch (NNPACK). A sum is in another order than in torch's usual kernels, as it is on another processor;
the number of threads changes no byte. What they gain is in scripts/benchmark.md.
"""

import torch
from torch import Tensor, nn

BAND_PX = 2**20  # at 64 channels these algorithms hold 900 bytes a pixel besides input and output: 1 GB


def is_available() -> bool:
    """Whether this torch has these kernels and this processor can run them. Asking also makes them ready."""
    return hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()


def use_fast_convolutions(network: nn.Module) -> None:
    """Puts a FastConv2d in the place of every convolution in network that can be one; keys and weights stay.

    network: float32 on the CPU, without gradients.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _fits(child):
                setattr(parent, name, FastConv2d(child))


class FastConv2d(nn.Module):
    """What `conv` computes, for (n, c, h, w) of any size. Frames go one by one: a batch would sum in another order."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.padding = [conv.kernel_size[0] // 2, conv.kernel_size[1] // 2]

    def forward(self, features: Tensor) -> Tensor:
        frames = [self._frame(features[i : i + 1]) for i in range(features.shape[0])]
        return frames[0] if len(frames) == 1 else torch.cat(frames)

    def _frame(self, frame: Tensor) -> Tensor:
        """A large frame in bands of rows, each read with the rows around it."""
        h, w = frame.shape[-2:]
        rows = max(BAND_PX // w, 1)
        if h <= rows:
            return self._band(frame)
        convolved = frame.new_empty(1, self.weight.shape[0], h, w)
        for top in range(0, h, rows):
            bottom = min(top + rows, h)
            above, below = max(top - self.padding[0], 0), min(bottom + self.padding[0], h)
            band = self._band(frame[:, :, above:below])
            convolved[:, :, top:bottom] = band[:, :, top - above : bottom - above]
        return convolved

    def _band(self, band: Tensor) -> Tensor:
        return torch._nnpack_spatial_convolution(band, self.weight, self.bias, self.padding, [1, 1])


def _fits(conv: nn.Conv2d) -> bool:
    """Kernels of one pixel gain nothing; strides, groups and dilation are not for these algorithms."""
    sides = conv.kernel_size
    return (
        all(side > 1 and side % 2 == 1 for side in sides)
        and conv.padding == tuple(side // 2 for side in sides)
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )
