"""Encoding to code values: dither."""

import pytest
import torch

from tests.vs_iconvsr.colorspace.samples import GRAY8, RGBS, YUV444P16
from tests.vs_iconvsr.fake_gpu import CUDA, fake_gpu
from vs_iconvsr.colorspace import Colorimetry, Format, codes, from_rgb, to_rgb


def test_dither_keeps_the_mean() -> None:
    for value in (20.1, 77.5, 200.93):
        rgb = torch.full((3, 128, 128), value / 255)
        for plane in from_rgb(rgb, Format("RGB", "integer", 8), Colorimetry(0, True)):
            assert plane.double().mean().item() == pytest.approx(value, abs=0.02)
            assert set(plane.unique().tolist()) == {int(value), int(value) + 1}


def test_dither_keeps_the_mean_of_every_small_neighborhood() -> None:
    plane = from_rgb(torch.full((3, 192, 192), 100.5 / 255), GRAY8, Colorimetry(1, True))[0].float()
    means = torch.nn.functional.avg_pool2d(plane[None, None], 8, stride=1)
    assert (means - 100.5).abs().max() <= 0.1  # a random pattern is off by 0.06 on average, by 0.25 somewhere


def test_dither_leaves_representable_values_unchanged() -> None:
    samples = torch.arange(256, dtype=torch.uint8).reshape(16, 16).repeat(6, 6)
    for full_range in (False, True):
        rgb = to_rgb((samples, samples, samples), Format("RGB", "integer", 8), Colorimetry(0, True))
        kept = from_rgb(rgb, Format("RGB", "integer", 8), Colorimetry(0, True))
        assert torch.equal(kept[0], samples), full_range


def test_dither_depends_on_position_alone() -> None:
    left, right = torch.rand(3, 90, 40), torch.rand(3, 90, 24)
    whole = from_rgb(torch.cat([left, right], dim=2), YUV444P16, Colorimetry(1, False))
    alone = from_rgb(left, YUV444P16, Colorimetry(1, False))
    assert all(torch.equal(a[:, :40], b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("dither", codes.DITHERS)
@pytest.mark.parametrize("height", [1, 63, 64, 128, 200])
def test_whole_planes_get_the_codes_of_bands(monkeypatch: pytest.MonkeyPatch, height: int, dither: str) -> None:
    rgb = torch.rand(3, height, 10)
    in_bands = from_rgb(rgb, YUV444P16, Colorimetry(1, False), dither=dither)
    monkeypatch.setattr(codes, "_rows_at_once", lambda values: values.shape[0])
    whole = from_rgb(rgb, YUV444P16, Colorimetry(1, False), dither=dither)
    assert all(torch.equal(a, b) for a, b in zip(whole, in_bands, strict=True))


@pytest.mark.parametrize("height", [40, 64, 150])
def test_the_dither_repeats_to_the_last_row(height: int) -> None:
    tall = from_rgb(torch.full((3, 192, 30), 100.5 / 255), GRAY8, Colorimetry(1, True))[0]
    assert torch.equal(tall[codes.DITHER_ROWS :], tall[: -codes.DITHER_ROWS])
    assert torch.equal(
        from_rgb(torch.full((3, height, 30), 100.5 / 255), GRAY8, Colorimetry(1, True))[0], tall[:height]
    )


def test_a_gpu_takes_as_many_kernels_for_a_tall_plane_as_for_a_low_one() -> None:
    def kernels(height: int) -> int:
        with fake_gpu() as gpu:
            from_rgb(torch.empty(3, height, 10, device=CUDA), YUV444P16, Colorimetry(1, False))
        return gpu.kernels.total()

    assert kernels(2100) == kernels(100)


def test_an_unknown_dither_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected one of ordered, none, got 'random'"):
        from_rgb(torch.zeros(3, 2, 2), RGBS, Colorimetry(0, True), dither="random")
