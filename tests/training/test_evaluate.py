"""The tables of results; conventions differ only in what they define."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.data.frames import FrameFolders, open_frames
from training.degrade.degradation import Degradation
from training.evaluate import (
    MOST_PSNR_DB,
    EvaluationProtocol,
    bicubic_upscaler,
    evaluate,
    gt_and_lr,
    markdown_table,
    measure,
    network_upscaler,
    results_as_json,
    save_side_by_side,
)
from training.metrics import luma, psnr
from vs_iconvsr.networks.light import LightVSR


def write_clip(folder: Path, *, frames: int, w: int = 32, h: int = 24, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for k in range(frames):
        smooth = np.kron(random.integers(0, 256, (3, 4, 3)), np.ones((8, 8, 1)))[:h, :w]
        Image.fromarray(smooth.astype(np.uint8)).save(folder / f"{k}.png")


@pytest.fixture
def clips(tmp_path: Path) -> FrameFolders:
    write_clip(tmp_path / "short", frames=1, seed=1)
    write_clip(tmp_path / "long", frames=3, seed=2)
    return open_frames(tmp_path)


def test_the_mean_is_over_clips_not_over_frames(clips: FrameFolders) -> None:
    (result,) = evaluate({"bicubic": bicubic_upscaler(4)}, clips, Degradation(), EvaluationProtocol(), scale=4)
    assert [score.frames for score in result.scores] == [3, 1]
    assert result.psnr_db == pytest.approx(np.mean([score.psnr_db for score in result.scores]))


def test_basicsr_rounds_and_mmagic_does_not() -> None:
    truth = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    ours = torch.full((1, 3, 16, 16), 100.4, dtype=torch.float64)
    rgb = {
        name: measure("", ours, truth, EvaluationProtocol(convention=name, channels="rgb"))
        for name in ("basicsr", "mmagic")
    }
    assert rgb["basicsr"].psnr_db == MOST_PSNR_DB
    assert rgb["mmagic"].psnr_db == pytest.approx(20 * np.log10(255 / 0.4))


def test_both_conventions_clamp() -> None:
    truth = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    for name in ("basicsr", "mmagic"):
        score = measure("", truth.double() + 9.0, truth, EvaluationProtocol(convention=name))
        assert score.psnr_db == MOST_PSNR_DB


def test_luma_and_rgb_are_measured_as_named() -> None:
    random = torch.Generator().manual_seed(0)
    ours, truth = (torch.randint(0, 256, (1, 3, 16, 16), generator=random, dtype=torch.uint8) for _ in range(2))
    y = measure("", ours.double(), truth, EvaluationProtocol(channels="y"))
    rgb = measure("", ours.double(), truth, EvaluationProtocol(channels="rgb"))
    assert y.psnr_db == pytest.approx(psnr(luma(ours[0]), luma(truth[0])))
    assert rgb.psnr_db == pytest.approx(psnr(ours[0], truth[0]))


def test_a_cropped_border_does_not_count() -> None:
    truth = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    ours = truth.double().clone()
    ours[..., 0] = 50.0
    assert measure("", ours, truth, EvaluationProtocol(crop_px=1)).psnr_db == MOST_PSNR_DB


def test_the_mirrored_protocol_averages_the_two_views_of_the_middle_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "one", frames=7)
    seen: list[Tensor] = []

    def upscale(lr: Tensor) -> Tensor:
        seen.append(lr)
        values = torch.arange(14.0, dtype=torch.float64).view(-1, 1, 1, 1)
        return values.expand(14, 3, 24, 32)

    clips = open_frames(tmp_path)
    (result,) = evaluate(
        {"ours": upscale}, clips, Degradation(), EvaluationProtocol(mirrored=True, channels="rgb"), scale=4
    )
    assert torch.equal(seen[0][:7], seen[0][7:].flip(0))
    assert result.scores[0].frames == 1
    gt, _ = gt_and_lr(clips, 0, Degradation(), scale=4)
    assert result.psnr_db == pytest.approx(psnr(torch.full((3, 24, 32), 7.0), gt[3]))  # (3 + 10) / 2, rounded


def test_the_mirrored_protocol_requires_seven_frames(clips: FrameFolders) -> None:
    with pytest.raises(ValueError, match="long: expected 7 frames for the mirrored protocol, got 3"):
        evaluate({"bicubic": bicubic_upscaler(4)}, clips, Degradation(), EvaluationProtocol(mirrored=True), scale=4)


def test_every_output_shows_the_network_next_to_bicubic(clips: FrameFolders, tmp_path: Path) -> None:
    network = LightVSR(mid_channels=8, num_blocks=1, flow_channels=8)
    upscalers = {"bicubic": bicubic_upscaler(4), "ours": network_upscaler(network, device="cpu")}
    results = evaluate(upscalers, clips, Degradation(), EvaluationProtocol(), scale=4)
    table = markdown_table(results)
    assert "| clip | frames | bicubic | ours |" in table
    assert "BI, Y, basicsr rounding" in table.replace("bi,", "BI,")
    read = json.loads(results_as_json(results))
    assert [entry["upscaler"] for entry in read] == ["bicubic", "ours"]
    assert read[0]["psnr_db"] == pytest.approx(results[0].psnr_db)
    gt, lr = gt_and_lr(clips, 0, Degradation(), scale=4)
    save_side_by_side([upscalers["ours"](lr)[0], gt[0]], tmp_path / "both.png")
    assert Image.open(tmp_path / "both.png").size == (64, 24)


def test_black_frames_keep_the_means_finite_and_the_json_strict(tmp_path: Path) -> None:
    """A fade: bicubic restores it exactly, and one infinite figure would swallow the clip's mean."""
    write_clip(tmp_path / "fade", frames=3, seed=1)
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(tmp_path / "fade" / "0.png")
    clips = open_frames(tmp_path)
    results = evaluate({"bicubic": bicubic_upscaler(4)}, clips, Degradation(), EvaluationProtocol(), scale=4)
    assert results[0].scores[0].equal_frames == 1
    assert results[0].psnr_db < 60.0
    assert "bicubic: 1 frames equal the ground truth; each counts as 100 dB" in markdown_table(results)

    def refused(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    assert json.loads(results_as_json(results), parse_constant=refused)[0]["scores"][0]["equal_frames"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convention": "matlab"}, "convention: expected basicsr or mmagic, got 'matlab'"),
        ({"channels": "yuv"}, "channels: expected y or rgb, got 'yuv'"),
    ],
)
def test_an_unknown_convention_is_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationProtocol(**arguments)  # type: ignore[arg-type]
