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
