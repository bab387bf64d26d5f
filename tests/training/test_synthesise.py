"""Generated clips: their flow is exact, and each depends on the settings and its number alone."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.synthesise import (
    FLOW_SCALE,
    Generator,
    Homographies,
    Layer,
    Wobble,
    clips,
    contact_sheet,
    random_walk,
    synthesise,
)

TINY = Generator(seed=3, clips=2, frames=3, size=32, canvases=2, canvas_px=96)


def moving_layer(*, wobble: float) -> Layer:
    """Coordinates as a picture: its two colours say where on the canvas one looks."""
    along = torch.linspace(0.0, 1.0, 256)
    y, x = torch.meshgrid(along, along, indexing="ij")
    path = random_walk(np.random.default_rng(5), 4, fastest=6.0)
    path[:, 2] += 0.01 * np.arange(4)
    path[:, 3] += 0.02 * np.arange(4)
    homographies = Homographies(path, zoom=1.5, turn=0.7, centre=np.array([3.0, -2.0]), tilt=np.array([2e-4, -1e-4]))
    return Layer(torch.stack([x, y, x, torch.ones_like(x)]), homographies, Wobble(wobble, (0.05, 0.03), 0.4, 1.0))


@pytest.mark.parametrize("wobble", [0.0, 2.0])
def test_what_the_flow_points_at_shows_the_same_place(wobble: float) -> None:
    layer = moving_layer(wobble=wobble)
    flow, cover = layer.motion(64, 4)
    assert cover.min() > 0.99
    lr = FLOW_SCALE * (torch.arange(16.0) + 0.5) - 0.5  # hr positions of the lr centres
    y, x = torch.meshgrid(lr, lr, indexing="ij")
    for i in range(3):
        now, later = layer.filmed(64, i), layer.filmed(64, i + 1)
        there = torch.stack([x, y]) + FLOW_SCALE * flow[i]
        seen = F.grid_sample(later, (2.0 * there / 63 - 1.0).movedim(0, -1)[None], align_corners=True)
        here = F.grid_sample(now, (2.0 * torch.stack([x, y]) / 63 - 1.0).movedim(0, -1)[None], align_corners=True)
        inside = ((there > 1) & (there < 62)).all(dim=0)
        # One canvas px is 1/255 here, an hr px 1.5 of them: 0.05 px at most.
        assert (seen - here)[0, :2, inside].abs().max() < 0.05 * 1.5 / 255


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
    with pytest.raises(ValueError, match="wanted an empty folder or a set made with"):
        synthesise(Generator(seed=4, clips=2, frames=3, size=32, canvases=2, canvas_px=96), tmp_path)


def test_a_contact_sheet_can_be_looked_at(tmp_path: Path) -> None:
    from PIL import Image

    synthesise(TINY, tmp_path)
    contact_sheet(tmp_path, tmp_path / "sheet.png", columns=3, rows=2)
    assert Image.open(tmp_path / "sheet.png").size == (96, 64)


def test_a_canvas_too_small_for_the_camera_is_refused() -> None:
    with pytest.raises(ValueError, match=r"canvas_px: wanted at least 2.5 times size \(64\), got 100"):
        Generator(size=64, canvas_px=100)
