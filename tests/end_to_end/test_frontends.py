"""Guarantee 2: the filter and the command make the same hr planes of the same file."""

from pathlib import Path

import av
import numpy as np
import pytest
import vapoursynth as vs

from ffmpeg_filter.cli import main
from tests.vs_iconvsr.networks.deterministic import filled
from vs_iconvsr import weights
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR

pytestmark = [pytest.mark.needs_vapoursynth, pytest.mark.needs_ffmpeg]

WIDTH, HEIGHT, FRAMES, CUT = 48, 32, 23, 11


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A lossless file with a cut in it, limited range and BT.709, tagged so."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        for n in range(FRAMES):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            frame.colorspace, frame.color_range = 1, 1
            for p, plane in enumerate(frame.planes):
                size = (plane.height // 2, plane.width // 2)
                scene = np.random.default_rng([n >= CUT, p]).integers(30, 220, size)
                samples = np.zeros((plane.height, plane.line_size), np.uint8)
                samples[:, : plane.width] = np.roll(scene.repeat(2, 0).repeat(2, 1), n % 3, axis=1)
                plane.update(samples.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def planes(path: Path) -> list[list[np.ndarray]]:
    """All planes of a video file as 16-bit samples."""
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(plane, np.uint16).reshape(plane.height, plane.line_size // 2)[:, : plane.width]
                for plane in frame.planes
            ]
            for frame in container.decode(video=0)
        ]


def check_both_frontends(source: Path, model: Path, made: Path, **options: float) -> tuple[int, int]:
    """The size of the hr frames, which both make with the same planes."""
    settings = ["--segment", "8", "--context", "2", "--model", str(model)]
    settings += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["upscale", str(source), str(made), "--encoder", "ffv1", "--bits", "10", *settings]) == 0
    clip = vs.core.bs.VideoSource(str(source), cachemode=0)
    clip = vs.core.iconvsr.Upscale(clip, model=str(model), segment=8, context=2, format=vs.YUV420P10, **options)
    by_command = planes(made)
    assert len(by_command) == clip.num_frames == FRAMES
    for n, frame in enumerate(clip.frames(close=True)):
        for p in range(3):
            assert np.array_equal(np.asarray(frame[p]), by_command[n][p]), (n, p)
    return clip.width, clip.height


@pytest.mark.parametrize("options", [{}, {"strength": 0.6}])
def test_both_frontends_make_the_same_planes(
    source: Path, tiny_model: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    assert check_both_frontends(source, tiny_model, tmp_path / "out.mkv", **options) == (4 * WIDTH, 4 * HEIGHT)


def test_both_frontends_clean_as_often_as_the_user_says(source: Path, tmp_path: Path) -> None:
    network = filled(RealBasicVSR(mid_channels=8, num_blocks=1, cleaning_blocks=1, flow_channels=2))
    weights.save(network, tmp_path / "real.safetensors", provenance={})
    check_both_frontends(source, tmp_path / "real.safetensors", tmp_path / "twice.mkv", cleaning=2)
    clip = vs.core.bs.VideoSource(str(source), cachemode=0)
    once, twice = (
        np.asarray(
            vs.core.iconvsr.Upscale(clip, model=str(tmp_path / "real.safetensors"), segment=1, **how).get_frame(0)[0]
        )
        for how in ({}, {"cleaning": 2})
    )
    assert not np.array_equal(once, twice)


@pytest.mark.long
def test_both_frontends_keep_the_size_where_the_network_does(source: Path, tmp_path: Path) -> None:
    network = filled(BasicVSRPlusPlus(mid_channels=8, num_blocks=1, flow_channels=2, scale=1))
    weights.save(network, tmp_path / "same.safetensors", provenance={})
    size = check_both_frontends(source, tmp_path / "same.safetensors", tmp_path / "out.mkv", strength=0.5)
    assert size == (WIDTH, HEIGHT)
