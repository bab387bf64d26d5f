"""What the command resizes with is `core.resize` itself."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import vapoursynth as vs

from ffmpeg_filter.media.target_size import KERNELS, Resize
from ffmpeg_filter.media.zimg import Resizer, Resizing, format_between
from vs_iconvsr.colorspace import Colorimetry, Format, Planes

WIDTH, HEIGHT = 96, 64
COLOR = Colorimetry(matrix=1, transfer=1, primaries=1, full_range=False, chroma_location=0)
YUV420 = Format("YUV", "integer", 10, 1, 1)


def noise(seed: int, target: Format) -> Planes:
    generator = torch.Generator().manual_seed(seed)
    sizes = format_between(target).plane_sizes(WIDTH, HEIGHT)
    return tuple(
        torch.randint(0, 65536, (h, w), generator=generator, dtype=torch.int32).to(torch.uint16) for w, h in sizes
    )


def by_script(planes: Planes, resizing: Resizing) -> list[np.ndarray]:
    """The same as a user would write it, with the properties that `core.iconvsr.Upscale` sets."""
    color = resizing.color
    blank = vs.core.std.BlankClip(format=format_between(resizing.target).id, width=WIDTH, height=HEIGHT, length=1)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        del n
        frame = f.copy()
        for p, plane in enumerate(planes):
            np.asarray(frame[p])[...] = plane.numpy()
        frame.props.update({"_Matrix": color.matrix, "_Range": int(color.full_range)})
        frame.props.update({"_ChromaLocation": color.chroma_location})
        return frame

    resize = getattr(vs.core.resize, KERNELS[resizing.resize.kernel])
    size = {"width": resizing.resize.width, "height": resizing.resize.height}
    clip = resize(
        vs.core.std.ModifyFrame(blank, blank, fill), **size, format=resizing.target.id, dither_type=resizing.dither
    )
    with clip.get_frame(0) as frame:
        return [np.asarray(frame[p]).copy() for p in range(frame.format.num_planes)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_is_that_of_core_resize(kernel: str) -> None:
    resizing = Resizing(Resize(70, 50, kernel, Fraction(1)), (WIDTH, HEIGHT), YUV420, COLOR, "ordered")
    made = Resizer(resizing)(noise(1, YUV420))
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(made, by_script(noise(1, YUV420), resizing), strict=True))


@pytest.mark.parametrize("dither", ["ordered", "none"])
@pytest.mark.parametrize(
    ("target", "color"),
    [
        (Format("YUV", "integer", 8, 1, 0), Colorimetry(matrix=6, full_range=True, chroma_location=1)),
        (Format("GRAY", "integer", 12), COLOR),
        (Format("RGB", "integer", 16), Colorimetry(matrix=0, full_range=True)),
    ],
    ids=str,
)
def test_every_format_is_that_of_core_resize(target: Format, color: Colorimetry, dither: str) -> None:
    resizing = Resizing(Resize(140, 90, "spline36", Fraction(1)), (WIDTH, HEIGHT), target, color, dither)
    made = Resizer(resizing)(noise(2, target))
    assert [tuple(plane.shape) for plane in made] == [(h, w) for w, h in target.plane_sizes(140, 90)]
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(made, by_script(noise(2, target), resizing), strict=True))


def test_a_frame_does_not_depend_on_those_before_it() -> None:
    resizing = Resizing(Resize(70, 50, "lanczos", Fraction(1)), (WIDTH, HEIGHT), YUV420, COLOR, "ordered")
    one, other = Resizer(resizing), Resizer(resizing)
    first, second = one(noise(3, YUV420)), one(noise(4, YUV420))
    for a, b in ((second, other(noise(4, YUV420))), (first, other(noise(3, YUV420)))):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def stripes(target: Format, low: int, high: int) -> Planes:
    """Columns of two values by turns; chroma, if any, is gray."""
    (width, height), *chroma = format_between(target).plane_sizes(WIDTH, HEIGHT)
    columns = torch.tensor([low, high], dtype=torch.int32).repeat(width // 2).expand(height, width)
    rest = [torch.full((h, w), 32768, dtype=torch.int32) for w, h in chroma]
    planes = [columns] * 3 if target.family == "RGB" else [columns, *rest]
    return tuple(plane.to(torch.uint16).contiguous() for plane in planes)


def middle(resize: Resize, target: Format, color: Colorimetry, low: int, high: int) -> float:
    """The luma, or green, of stripes that are too thin for the size, away from the borders; of 65535."""
    made = Resizer(Resizing(resize, (WIDTH, HEIGHT), target, color, "none"))(stripes(target, low, high))
    return float(made[0][4:-4, 4:-4].float().mean())


SRGB, BT1886, PQ = 13, 1, 16


def pq_of(light: float) -> float:
    """SMPTE ST 2084: light as a share of 10,000 cd/m² to the coded value."""
    m = 2610 / 16384
    root = light**m
    return float(((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32))


@pytest.mark.parametrize(
    ("target", "transfer", "full_range", "expected"),
    [
        (Format("RGB", "integer", 16), SRGB, True, 1.055 * 0.5 ** (1 / 2.4) - 0.055),
        (Format("GRAY", "integer", 16), SRGB, True, 1.055 * 0.5 ** (1 / 2.4) - 0.055),
        (Format("RGB", "integer", 16), BT1886, True, 0.5 ** (1 / 2.4)),
        (Format("YUV", "integer", 16, 1, 1), BT1886, False, 0.5 ** (1 / 2.4)),
        (Format("YUV", "integer", 16, 1, 1), 2, False, 0.5 ** (1 / 2.4)),
        (Format("YUV", "integer", 16, 0, 0), PQ, False, pq_of(0.5)),
    ],
    ids=["srgb", "gray", "bt1886", "yuv", "untagged", "pq"],
)
def test_in_linear_light_black_and_white_stripes_become_half_the_light(
    target: Format, transfer: int, full_range: bool, expected: float
) -> None:
    color = Colorimetry(0 if target.family == "RGB" else 1, full_range, 0, transfer, 1)
    low, high = (0, 65535) if full_range else (16 << 8, 235 << 8)
    size = (WIDTH // 4, HEIGHT // 4, "bilinear", Fraction(1))
    by_values = middle(Resize(*size), target, color, low, high)
    by_light = middle(Resize(*size, linear_light=True), target, color, low, high)
    assert (by_values - low) / (high - low) == pytest.approx(0.5, abs=0.001)
    assert (by_light - low) / (high - low) == pytest.approx(expected, abs=0.001)
