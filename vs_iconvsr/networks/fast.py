"""Float32 convolutions on the CPU by fast algorithms: Winograd's for 3x3 kernels, Fourier transforms for larger ones.

They come with torch (NNPACK), which runs each on one core: here a frame is cut into bands of rows, and the bands go to
a team of threads. What follows a convolution is done to a band while the cache still has it. A sum is in another order
than in torch's usual kernels, as it is on another processor; the number of threads changes no byte, because the bands
depend on the frame's size alone. What this gains is in scripts/benchmark.md.
"""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_iconvsr.networks.blocks import (
    LEAKY_SLOPE,
    LeakyConv,
    PixelShuffleUpsampling,
    ResidualBlock,
    ResidualBlocks,
    leaky_relu,
)

BAND_ROWS = 30
"""Whole tiles of both algorithms (6 and 10 rows). Less would transform the weights too often; more would overflow the
caches of wide frames and leave cores of larger processors idle."""

WHOLE_PX = 2048  # frames up to this size are not worth a second thread
FEWEST_CHANNELS = 16  # a 3x3 convolution of fewer spends its time on transforms

# Without AVX-512, Winograd gains nothing for a 3x3 convolution of fewer channels before a frame has so many pixels.
NARROW_CHANNELS, NARROW_PX = 48, 200_000


@functools.cache
def is_available() -> bool:
    """Whether this torch has these kernels and this processor can run them. Asking also makes them ready."""
    if not hasattr(torch, "_nnpack_spatial_convolution") or not torch._nnpack_available():
        return False
    # NNPACK takes as many threads as the first caller has, for ever, and with more than one lets nobody work beside it.
    with _begun(ThreadPoolExecutor(1, "iconvsr-first", _use_one_core), 1) as alone:
        pixel = torch.zeros(1, 1, 1, 1, dtype=torch.float32, device="cpu")
        alone.submit(torch._nnpack_spatial_convolution, pixel, pixel, None, [0, 0], [1, 1]).result()
    return True


@functools.cache
def has_avx512() -> bool:
    """Of this processor; its capability is in a plan's fingerprint."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def use_fast_convolutions(network: nn.Module) -> None:
    """Puts a FastConv2d in the place of every convolution in network that can be one; keys and weights stay.

    network: float32 on the CPU, without gradients.
    """
    for name, child in network.named_children():
        kind = FAST_KINDS.get(type(child))
        if kind is not None and all(_fits(layer) for layer in child.modules() if isinstance(layer, nn.Conv2d)):
            setattr(network, name, kind(child))
        else:
            use_fast_convolutions(child)


def leaky_pair(first: nn.Module, last: nn.Module, features: Tensor) -> Tensor:
    """last(leaky_relu(first(features))). Two FastConv2d never hold the whole of what lies between them."""
    n, _, h, w = features.shape
    if (
        not isinstance(first, FastConv2d)
        or not isinstance(last, FastConv2d)
        or first.is_slow(h, w)
        or last.is_slow(h, w)
    ):
        pair: Tensor = last(leaky_relu(first(features)))
        return pair
    convolved = features.new_empty(n, last.weight.shape[0], h, w)
    reach = last.padding[0]

    def band(i: int, top: int, bottom: int) -> None:
        above, below = max(top - reach, 0), min(bottom + reach, h)
        between = F.leaky_relu_(first.rows(features[i : i + 1], above, below), LEAKY_SLOPE)
        convolved[i : i + 1, :, top:bottom] = last.rows(between, top - above, bottom - above)

    in_bands(n, h, w, band, rows=BAND_ROWS - 2 * reach)
    return convolved


class FastConv2d(nn.Module):
    """What `conv` computes, for (n, c, h, w) of any size. Frames go one by one: a batch would sum in another order."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.padding = [conv.kernel_size[0] // 2, conv.kernel_size[1] // 2]

    def forward(
        self,
        features: Tensor,
        *,
        slope: float | None = None,
        added: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """slope: of a leaky ReLU on the result, 0 is ReLU. added: a sum in its place.

        out: where the result goes; it may be `added`, but not features, of which several bands read the same rows.
        """
        n, _, h, w = features.shape
        convolved = features.new_empty(n, self.weight.shape[0], h, w) if out is None else out
        slow = self.is_slow(h, w)

        def band(i: int, top: int, bottom: int) -> None:
            frame, place = features[i : i + 1], convolved[i : i + 1, :, top:bottom]
            rows = self.whole(frame) if slow else self.rows(frame, top, bottom)
            if added is not None:
                torch.add(rows, added[i : i + 1, :, top:bottom], out=place)
            elif slope is None:
                place.copy_(rows)
            elif slope == 0.0:
                torch.clamp_min(rows, 0.0, out=place)
            else:
                torch.ops.aten.leaky_relu.out(rows, slope, out=place)

        if slow:
            for i in range(n):
                band(i, 0, h)
        else:
            in_bands(n, h, w, band)
        return convolved

    def is_slow(self, h: int, w: int) -> bool:
        """Whether torch's usual kernel is the quicker one for frames of this size."""
        wide, narrow, *sides = self.weight.shape
        return max(sides) == 3 and min(wide, narrow) < NARROW_CHANNELS and h * w < NARROW_PX and not has_avx512()

    def whole(self, frame: Tensor) -> Tensor:
        """The convolved frame (1, c, h, w) by torch's usual kernel, on all of torch's threads."""
        return F.conv2d(frame, self.weight, self.bias, padding=self.padding)

    def rows(self, frame: Tensor, top: int, bottom: int) -> Tensor:
        """Rows top to bottom of the convolved frame (1, c, h, w), from the rows around them."""
        above, below = max(top - self.padding[0], 0), min(bottom + self.padding[0], frame.shape[2])
        convolved = torch._nnpack_spatial_convolution(
            frame[:, :, above:below], self.weight, self.bias, self.padding, [1, 1]
        )
        return convolved[:, :, top - above : bottom - above]


class FastLeakyConv(nn.Module):
    """A LeakyConv whose convolution is a fast one."""

    def __init__(self, layer: LeakyConv) -> None:
        super().__init__()
        self.conv, self.slope = FastConv2d(layer.conv), layer.slope

    def forward(self, features: Tensor) -> Tensor:
        convolved: Tensor = self.conv(features, slope=self.slope)
        return convolved


class FastResidualBlock(nn.Module):
    """A ResidualBlock of fast convolutions."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = FastConv2d(block.conv1), FastConv2d(block.conv2)

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.conv2(self.conv1(features, slope=0.0), added=features)
        return change


class FastResidualBlocks(nn.Sequential):
    """ResidualBlocks of fast convolutions, in the same two pieces of memory from the first block to the last.

    New memory for each of 60 results would cost as much as a quarter of the convolutions: it comes page by page.
    """

    def __init__(self, blocks: ResidualBlocks) -> None:
        super().__init__(*(FastResidualBlock(block) for block in blocks if isinstance(block, ResidualBlock)))

    def forward(self, features: Tensor) -> Tensor:
        inside, carried = torch.empty_like(features), torch.empty_like(features)
        for block in self:
            assert isinstance(block, FastResidualBlock)
            block.conv1(features, slope=0.0, out=inside)
            features = block.conv2(inside, added=features, out=carried)
        return features


class FastPixelShuffleUpsampling(nn.Module):
    """A PixelShuffleUpsampling whose convolution is a fast one: each band goes to its squares of pixels at once."""

    def __init__(self, upsampling: PixelShuffleUpsampling) -> None:
        super().__init__()
        self.upsample_conv = FastConv2d(upsampling.upsample_conv)

    def forward(self, features: Tensor) -> Tensor:
        n, _, h, w = features.shape
        if self.upsample_conv.is_slow(h, w):
            return F.pixel_shuffle(self.upsample_conv(features, slope=LEAKY_SLOPE), 2)
        channels = self.upsample_conv.weight.shape[0] // 4
        shuffled = features.new_empty(n, channels, h, 2, w, 2)

        def band(i: int, top: int, bottom: int) -> None:
            rows = self.upsample_conv.rows(features[i : i + 1], top, bottom)
            squares = rows.view(channels, 2, 2, bottom - top, w).permute(0, 3, 1, 4, 2)
            torch.ops.aten.leaky_relu.out(squares, LEAKY_SLOPE, out=shuffled[i, :, top:bottom])

        in_bands(n, h, w, band)
        return shuffled.view(n, channels, 2 * h, 2 * w)


FAST_KINDS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Conv2d: FastConv2d,
    LeakyConv: FastLeakyConv,
    ResidualBlock: FastResidualBlock,
    ResidualBlocks: FastResidualBlocks,
    PixelShuffleUpsampling: FastPixelShuffleUpsampling,
}


def in_bands(n: int, h: int, w: int, band: Callable[[int, int, int], None], *, rows: int = BAND_ROWS) -> None:
    """Calls band(i, top, bottom) for every band of n frames, on as many threads as torch has for this one."""
    bands = [(i, top, bottom) for i in range(n) for top, bottom in bands_of(h, w, rows)]
    threads = torch.get_num_threads()
    if threads == 1 or len(bands) == 1:
        for each in bands:
            band(*each)
        return
    under_way = [_team(threads).submit(torch.inference_mode()(band), *each) for each in bands]
    for future in under_way:
        future.result()


def bands_of(h: int, w: int, rows: int = BAND_ROWS) -> list[tuple[int, int]]:
    """(top, bottom) of each band of a frame: a function of its size alone."""
    if h * w <= WHOLE_PX:
        return [(0, h)]
    rows = min(-(-h // 12) * 6, rows)  # a frame of less than two bands is cut in the middle
    return [(top, min(top + rows, h)) for top in range(0, h, rows)]


_of_this_thread = threading.local()


def _team(threads: int) -> ThreadPoolExecutor:
    """Threads that use one core each: torch's own share out every operation, and would get in each other's way.

    Every thread that computes has its own, which ends with it.
    """
    teams: dict[int, ThreadPoolExecutor] = _of_this_thread.__dict__.setdefault("teams", {})
    if threads not in teams:
        teams[threads] = _begun(ThreadPoolExecutor(threads, "iconvsr-band", _use_one_core), threads)
    return teams[threads]


def _use_one_core() -> None:
    torch.get_num_threads()  # the first question makes torch set this thread up, with its default
    torch.set_num_threads(1)


def _begun(team: ThreadPoolExecutor, size: int) -> ThreadPoolExecutor:
    """The team with all its threads running, and torch's default for threads begun later as the caller has it."""
    threads = torch.get_num_threads()
    all_begun = threading.Barrier(size + 1)
    for _ in range(size):
        team.submit(all_begun.wait)
    all_begun.wait()
    torch.set_num_threads(threads)
    return team


def _fits(conv: nn.Conv2d) -> bool:
    """Kernels of one pixel gain nothing; strides, groups and dilation are not for these algorithms."""
    sides = conv.kernel_size
    return (
        all(side > 1 and side % 2 == 1 for side in sides)
        and (max(sides) > 3 or conv.in_channels >= FEWEST_CHANNELS)
        and conv.padding == tuple(side // 2 for side in sides)
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )
