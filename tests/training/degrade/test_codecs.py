"""Real encoders: lower quality loses more, any size passes, and equal frames give equal bytes."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from training.data.canvases import canvas
from training.degrade.codecs import ENCODERS, encode_decode
from training.degrade.degradation import bi
from training.metrics import luma, psnr


@pytest.fixture
def lr() -> torch.Tensor:
    """Four frames of 24 x 24: a smooth picture with a little noise, that moves."""
    x = torch.arange(24.0)
    picture = 127.0 + 60.0 * torch.sin(x / 1.7)[None] + 60.0 * torch.cos(x / 2.2)[:, None]
    frames = torch.stack([picture.roll(k, dims=1) for k in range(4)])
    frames = frames + 4.0 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return torch.stack([frames, 0.8 * frames + 20.0, 0.9 * frames], dim=1).clamp(0, 255).round().to(torch.uint8)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_loses_more_at_lower_quality(lr: torch.Tensor, encoder: str) -> None:
    qualities = (10.0, 40.0) if encoder == "libx264" else (2.0, 20.0)
    good, bad = (
        psnr(encode_decode(lr, encoder, quality=quality).flatten(0, 1), lr.flatten(0, 1)) for quality in qualities
    )
    assert 20.0 < bad < good - 2.5


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [(1, 1), (17, 19), (24, 40), (48, 33)])
def test_any_size_passes_through_an_encoder(encoder: str, size: tuple[int, int]) -> None:
    grey = torch.full((2, 3, *size), 90, dtype=torch.uint8)
    back = encode_decode(grey, encoder, quality=4.0)
    assert back.shape == grey.shape
    assert (back.int() - 90).abs().max() <= 4


@pytest.mark.parametrize("encoder", ENCODERS)
def test_equal_frames_give_equal_bytes(lr: torch.Tensor, encoder: str) -> None:
    first = encode_decode(lr, encoder, quality=22.0, preset="veryfast")
    assert all(
        torch.equal(first, encode_decode(lr.clone(), encoder, quality=22.0, preset="veryfast")) for _ in range(100)
    )


def moving_leaves(side: int) -> torch.Tensor:
    """(6, 3, side, side): detail that moves by a pixel a frame."""
    picture = torch.from_numpy(255.0 * canvas(np.random.default_rng(3), 96)).permute(2, 0, 1).to(torch.uint8)
    return torch.stack([picture.roll(k, dims=2)[:, :side, :side] for k in range(6)])


@pytest.mark.parametrize("crf", [18.0, 26.0, 34.0])
def test_x264_loses_as_much_as_with_its_default_settings(crf: float) -> None:
    """As much is lost as in a file that it wrote with nothing but --crf."""
    lr = moving_leaves(48)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": str(crf), "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for picture in lr.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    theirs = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    ours = encode_decode(lr, "libx264", quality=crf)
    assert psnr(luma(ours), luma(lr)) == pytest.approx(psnr(luma(theirs), luma(lr)), abs=0.4)


@pytest.mark.parametrize("outline_px", [0, 2])
def test_writing_that_scrolls_gives_equal_bytes_whatever_memory_held(outline_px: int) -> None:
    """What x264's fast macroblock tree does not do."""
    x, y = np.linspace(0.0, 200.0, 900)[None, :, None], np.linspace(0.0, 200.0, 240)[:, None, None]
    page = Image.fromarray(np.concatenate([x + 0 * y, y + 0 * x, 200 - x + 0 * y], axis=2).astype(np.uint8))
    font = ImageFont.load_default(size=24)
    for top in range(0, 240, 30):
        line = f"line {top} of a page that scrolls, with words: {7 * top}" * 2
        ImageDraw.Draw(page).text(
            (0, top), line, fill=(255,) * 3, font=font, stroke_width=outline_px, stroke_fill=(0, 0, 0)
        )
    whole = torch.from_numpy(np.array(page)).permute(2, 0, 1)
    lr = bi(torch.stack([whole[:, :180, n : n + 320] for n in range(7)]), 2)
    kept, results = [], set()
    for k in range(60):
        kept.append(torch.randn(1000 + 777 * k))
        results.add(encode_decode(lr, "libx264", quality=25.0).numpy().tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_colors_come_back(encoder: str) -> None:
    color = torch.tensor([200, 30, 60], dtype=torch.uint8).view(1, 3, 1, 1)
    back = encode_decode(color.expand(2, 3, 32, 32), encoder, quality=2.0)
    assert (back.int() - color.int()).abs().max() <= 6
