"""Generated clips: their flow is exact, and each depends on the settings and its number alone."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.frames import read_image
from training.data.photographs import CREDITS, photograph
from training.data.synthesise import (
    FLOW_SCALE,
    CanvasBank,
    Generator,
    Homographies,
    Layer,
    Wobble,
    clips,
    contact_sheet,
    random_walk,
    render_clip,
    synthesise,
)
from training.metrics import luma
from vs_iconvsr.networks.warp import warp

TINY = Generator(seed=3, clips=2, frames=3, size=32, canvases=2, canvas_px=96)


def moving_layer(*, wobble: float) -> Layer:
    """An image of coordinates: its two colors encode the position on the canvas."""
    along = torch.linspace(0.0, 1.0, 256)
    y, x = torch.meshgrid(along, along, indexing="ij")
    path = random_walk(np.random.default_rng(5), 4, fastest=6.0)
    path[:, 2] += 0.01 * np.arange(4)
    path[:, 3] += 0.02 * np.arange(4)
    homographies = Homographies(path, zoom=1.5, turn=0.7, center=np.array([3.0, -2.0]), tilt=np.array([2e-4, -1e-4]))
    return Layer(torch.stack([x, y, x, torch.ones_like(x)]), homographies, Wobble(wobble, (0.05, 0.03), 0.4, 1.0))


@pytest.mark.parametrize("wobble", [0.0, 2.0])
def test_what_the_flow_points_at_shows_the_same_place(wobble: float) -> None:
    layer = moving_layer(wobble=wobble)
    flow, cover = layer.motion(64, 4)
    assert cover.min() > 0.99
    lr = FLOW_SCALE * (torch.arange(16.0) + 0.5) - 0.5  # hr positions of the lr centres
    y, x = torch.meshgrid(lr, lr, indexing="ij")
    for i in range(3):
        now, later = layer.render(64, i), layer.render(64, i + 1)
        there = torch.stack([x, y]) + FLOW_SCALE * flow[i]
        seen = F.grid_sample(later, (2.0 * there / 63 - 1.0).movedim(0, -1)[None], align_corners=True)
        here = F.grid_sample(now, (2.0 * torch.stack([x, y]) / 63 - 1.0).movedim(0, -1)[None], align_corners=True)
        inside = ((there > 1) & (there < 62)).all(dim=0)
        # One canvas px is 1/255 here, an hr px 1.5 of them: 0.05 px at most.
        assert (seen - here)[0, :2, inside].abs().max() < 0.05 * 1.5 / 255


def test_a_share_of_the_canvases_are_photographs_and_the_others_stay_as_they_are() -> None:
    plain, mixed = (
        CanvasBank(Generator(seed=3, clips=1, size=32, canvases=5, canvas_px=96, photographs=share), device="cpu")
        for share in (0.0, 0.4)
    )
    same = [torch.equal(ours, theirs) for ours, theirs in zip(mixed.canvases, plain.canvases, strict=True)]
    assert same == [True, True, False, True, False]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(mixed.outlines, plain.outlines, strict=True))


def test_photographs_fill_a_canvas_of_any_size() -> None:
    for size in (200, 768):
        pictures = [photograph(np.random.default_rng(i), size) for i in range(8)]
        assert {picture.shape for picture in pictures} == {(size, size, 3)}
        assert all(0.0 <= picture.min() < picture.max() <= 1.0 for picture in pictures)
        assert len({picture.tobytes() for picture in pictures}) == 8


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"skimage: expected this Python package, found none; pip install .*\[train\]"):
        photograph(np.random.default_rng(0), 64)


def test_every_photograph_comes_with_scikit_image_and_a_credit() -> None:
    assert {name for name in CREDITS if not hasattr(skimage.data, name)} == set()
    assert "coffee" not in CREDITS  # the documentation shows it as one that no model has seen


def test_a_set_of_an_earlier_version_is_taken_as_it_is(tmp_path: Path) -> None:
    synthesise(TINY, tmp_path)
    index = tmp_path / "index.json"
    index.write_text(index.read_text().replace(',\n    "photographs": 0.0', ""))
    assert "photographs" not in index.read_text()
    before = (tmp_path / "gt.npy").stat().st_mtime_ns
    synthesise(TINY, tmp_path)
    assert (tmp_path / "gt.npy").stat().st_mtime_ns == before


def test_motion_is_not_zero() -> None:
    assert moving_layer(wobble=0.0).motion(64, 4)[0].abs().mean() > 0.02


def test_a_clip_depends_on_its_number_alone() -> None:
    more = Generator(seed=3, clips=9, frames=3, size=32, canvases=2, canvas_px=96)
    first, second = itertools.islice(clips(more), 2), clips(TINY)
    for (ours, our_flow), (theirs, their_flow) in zip(first, second, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(our_flow, their_flow)


def test_a_set_is_whole_and_made_once(tmp_path: Path) -> None:
    synthesise(TINY, tmp_path)
    gt, flow = np.load(tmp_path / "gt.npy"), np.load(tmp_path / "flow.npy")
    assert gt.shape == (2, 3, 3, 32, 32)
    assert flow.shape == (2, 2, 2, 8, 8)
    assert gt.std() > 10
    assert not list(tmp_path.glob("*.part"))
    written = (tmp_path / "gt.npy").stat().st_mtime_ns
    synthesise(TINY, tmp_path)
    assert (tmp_path / "gt.npy").stat().st_mtime_ns == written


def test_a_set_made_otherwise_is_not_overwritten(tmp_path: Path) -> None:
    synthesise(TINY, tmp_path)
    with pytest.raises(ValueError, match="expected an empty folder or a set made with"):
        synthesise(Generator(seed=4, clips=2, frames=3, size=32, canvases=2, canvas_px=96), tmp_path)


def test_a_contact_sheet_can_be_looked_at(tmp_path: Path) -> None:
    from PIL import Image

    synthesise(TINY, tmp_path)
    contact_sheet(tmp_path, tmp_path / "sheet.png", columns=3, rows=2)
    assert Image.open(tmp_path / "sheet.png").size == (96, 64)


def test_a_canvas_too_small_for_the_camera_is_refused() -> None:
    with pytest.raises(ValueError, match=r"canvas_px: expected at least 2.5 times size \(64\), got 100"):
        Generator(size=64, canvas_px=100)


def spectral_slope(y: Tensor) -> float:
    """Of power over frequency, both logarithmic, from 3 to 100 periods over 256 px; y (256, 256)."""
    window = torch.hann_window(256, periodic=False, dtype=torch.float64)
    power = torch.fft.fft2((y - y.mean()) * window * window.view(-1, 1)).abs().square()
    places = torch.fft.fftfreq(256, 1 / 256)
    radius = torch.hypot(places[:, None], places[None]).round().long().flatten()
    sums = torch.zeros(200, dtype=torch.float64).index_add_(0, radius.clamp(max=199), power.flatten())
    mean = sums / torch.bincount(radius.clamp(max=199), minlength=200)
    r = np.arange(3, 101)
    return float(np.polyfit(np.log(r), np.log(mean[3:101].numpy() + 1e-9), 1)[0])


def gradient_kurtosis(y: Tensor) -> float:
    slopes = torch.cat([y.diff(dim=-1).flatten(), y.diff(dim=-2).flatten()])
    return float(((slopes - slopes.mean()) ** 4).mean() / slopes.var() ** 2)


@pytest.fixture(scope="module")
def many() -> list[tuple[Tensor, Tensor]]:
    """Clips of three frames as those that the bundled models are trained on."""
    return list(clips(Generator(seed=21, clips=16, frames=3, size=256, canvases=6, canvas_px=768)))


def test_clips_are_as_detailed_and_as_uneven_as_footage(many: list[tuple[Tensor, Tensor]]) -> None:
    """Between the busiest and the smoothest of Vid4, by the same measures: slopes of -2.0 and -2.9, kurtosis 7 to 21.

    The median: one clip in ten is out of focus on purpose.
    """
    y = [luma(255.0 * clip[0])[0] for clip, _ in many]
    slopes, kurtosis = [spectral_slope(frame) for frame in y], [gradient_kurtosis(frame) for frame in y]
    assert -3.1 <= np.median(slopes) <= -2.0
    assert 7.0 <= np.median(kurtosis) <= 21.0


@pytest.mark.needs_shared
def test_the_measures_give_the_known_figures_of_real_footage() -> None:
    walk = Path(__file__).parents[3].parent / "shared" / "clips" / "walk"
    frames = [read_image(path) for path in sorted(walk.glob("*.png"))[::12]]
    windows = [
        luma(frame)[0, top : top + 256, left : left + 256]
        for frame in frames
        for top in (0, 224)
        for left in (0, 232, 464)
    ]
    assert np.mean([spectral_slope(window) for window in windows]) == pytest.approx(-2.92, abs=0.15)
    assert np.mean([gradient_kurtosis(window) for window in windows]) == pytest.approx(20.8, rel=0.25)


def test_motion_is_of_all_speeds(many: list[tuple[Tensor, Tensor]]) -> None:
    """hr px a frame: some clips stand still, half move by a fraction of a px to a few, some fast."""
    speeds = np.array([float(FLOW_SCALE * flow.norm(dim=1).median()) for _, flow in many])
    assert speeds.min() < 0.5
    assert 0.3 < np.median(speeds) < 4.0
    assert 4.0 < speeds.max() < 60.0


def test_the_flow_explains_the_motion(many: list[tuple[Tensor, Tensor]]) -> None:
    """Frames fetched along the flow differ far less than frames that are not: in the median over the pixels of a clip,
    for what is covered has no flow, and slightly smoothed, for lr frames alias.
    """
    shares = []
    for clip, flow in many:
        lr = F.avg_pool2d(F.avg_pool2d(clip, FLOW_SCALE), 3, stride=1, padding=1, count_include_pad=False)
        fetched = warp(lr[1:], flow, padding_mode="border")
        before, after = (lr[1:] - lr[:-1]).abs().median(), (fetched - lr[:-1]).abs().median()
        if before > 0.01:
            shares.append(float(after / before))
    assert len(shares) >= 6
    assert np.median(shares) < 0.65


@pytest.mark.long
def test_a_clip_is_rendered_on_the_requested_device() -> None:
    """On "meta", which computes nothing: torch refuses to mix its tensors with those of another device."""
    bank = CanvasBank(TINY, device="meta")
    for seed in range(6):
        clip, flow = render_clip(np.random.default_rng(seed), bank, TINY)
        assert (clip.device.type, flow.device.type) == ("meta", "meta")
