"""The published recipes match the paper, and every recipe can produce a batch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.cli import main
from training.data.sequences import BatchSource
from training.loop.config import RecipeError
from training.loop.recipe import Recipe, read_recipe
from training.loop.start import build
from vs_iconvsr import weights
from vs_iconvsr.networks.edvr import EDVRFeatureExtractor
from vs_iconvsr.networks.spynet import SPyNet

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
PUBLISHED = [
    f"{architecture}_{data}"
    for architecture in ("iconvsr", "basicvsr")
    for data in ("reds4", "vimeo90k_bi", "vimeo90k_bd")
]


@pytest.fixture(params=PUBLISHED)
def published(request: pytest.FixtureRequest) -> tuple[str, Recipe]:
    name = str(request.param)
    return name, read_recipe(CONFIGS / f"{name}.yaml")


@pytest.mark.parametrize(
    "override",
    [
        "watch.log=0",
        "watch.evaluate=0",
        "watch.save=-1",
        "watch.patience=-1",
        "flow.batch=0",
        "flow.steps=0",
    ],
)
def test_numbers_that_would_end_a_run_in_a_traceback_are_refused(override: str) -> None:
    with pytest.raises(RecipeError, match="expected at least"):
        read_recipe(CONFIGS / "light.yaml", overrides=(override,))


@pytest.mark.parametrize("value", ["-1", "0"])
def test_networks_of_impossible_size_are_refused(value: str) -> None:
    recipe = read_recipe(CONFIGS / "light.yaml", overrides=(f"network.arguments.mid_channels={value}",))
    assert recipe.network is not None
    with pytest.raises(ValueError, match=r"network\.arguments: expected those of LightVSR, got"):
        recipe.network.build()


def test_the_optimizer_matches_the_paper(published: tuple[str, Recipe]) -> None:
    settings = published[1].optimiser
    assert (settings.steps, settings.learning_rate, settings.last_learning_rate) == (300_000, 2e-4, 1e-7)
    assert (settings.betas, settings.flow_share, settings.frozen) == ((0.9, 0.99), 0.125, 5_000)
    assert (settings.epsilon, settings.average, settings.clip_norm, settings.warm_up) == (1e-6, 0.0, 0.0, 0)
    assert settings.precision == "float32"


def test_the_samples_match_the_paper(published: tuple[str, Recipe]) -> None:
    name, recipe = published
    patches = recipe.patches
    assert (patches.batch, patches.patch_px) == (8, 64)
    assert (patches.frames, patches.mirrored) == ((15, False) if "reds" in name else (7, True))
    assert (patches.permute_colours, patches.reverse_time) == (0.0, 0.0)
    assert [degradation.kind for degradation in recipe.degradations] == ["bd" if name.endswith("bd") else "bi"]


def test_the_network_and_its_start_match_the_paper(published: tuple[str, Recipe]) -> None:
    name, recipe = published
    assert recipe.network is not None
    network = recipe.network
    arguments = {"mid_channels": 64, "num_blocks": 30, "scale": 4}
    if name.startswith("iconvsr"):
        arguments |= {"keyframe_stride": 5, "temporal_padding": 2 if "reds" in name else 3}
    assert (network.architecture.lower(), network.arguments) == (name.split("_")[0], arguments)
    refill = None if name.startswith("basicvsr") else "edvrm_reds" if "reds" in name else "edvrm_vimeo90k"
    assert (recipe.start.flow, recipe.start.refill) == ("spynet", refill)
    assert recipe.flow is None


def test_reds_is_validated_on_clips_that_it_is_not_trained_on() -> None:
    data = read_recipe(CONFIGS / "iconvsr_reds4.yaml").data
    assert (data.layout, data.held_out_layout) == ("reds", "reds4")


class Uniform:
    """Two sequences of uniform color."""

    def __len__(self) -> int:
        return 2

    def shape(self, i: int) -> tuple[int, int, int]:
        del i
        return 16, 256, 256

    def read(self, i: int, frames: range, rows: slice, columns: slice) -> torch.Tensor:
        size = (len(frames), 3, rows.stop - rows.start, columns.stop - columns.start)
        return torch.full(size, 90 + i, dtype=torch.uint8)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_produces_a_batch_for_its_network(path: Path) -> None:
    recipe = read_recipe(path)
    scale = build(recipe).scale
    patches = replace(recipe.patches, batch=1)
    batch = BatchSource(Uniform(), patches, degradations=recipe.degradations, scale=scale, seed=recipe.seed)[0]
    frames = 2 * patches.frames if patches.mirrored else patches.frames
    assert batch.lr.shape == (1, frames, 3, patches.patch_px, patches.patch_px)
    assert batch.gt.shape == (1, frames, 3, scale * patches.patch_px, scale * patches.patch_px)


def test_each_published_recipe_takes_a_step_on_data_laid_out_like_its_archives(
    published: tuple[str, Recipe], tmp_path: Path
) -> None:
    """Every size is reduced; layout, mirroring, degradation, given flow and refill networks are unchanged."""
    name, recipe = published
    if "reds" in name:
        for clip in ("000", "001"):
            write_frames(tmp_path / "REDS" / "train_sharp" / clip, [f"{k:08d}.png" for k in range(6)])
    else:
        septuplet = tmp_path / "vimeo_septuplet"
        write_frames(septuplet / "sequences" / "00001" / "0001", [f"im{k}.png" for k in range(1, 8)])
        (septuplet / "sep_trainlist.txt").write_text("00001/0001\n")
        write_frames(tmp_path / "Vid4" / "GT" / "city", [f"{k:04d}.png" for k in range(5)])
    small = {
        "network.arguments.mid_channels": 8,
        "network.arguments.num_blocks": 1,
        "network.arguments.flow_channels": 4,
        "patches.batch": 1,
        "patches.frames": 5 if "reds" in name else 7,
        "patches.patch_px": 8,
        "optimiser.steps": 1,
        "watch.held_out_frames": 5,
    }
    spynet = SPyNet(channels=4)
    weights.save(spynet, tmp_path / "spynet.safetensors", provenance={})
    small["start.flow"] = tmp_path / "spynet.safetensors"
    if recipe.start.refill:
        small["network.arguments.edvr_channels"] = 8
        padding = 2 if "reds" in name else 3
        edvr = EDVRFeatureExtractor(num_frames=2 * padding + 1, channels=8)
        weights.save(edvr, tmp_path / "edvr.safetensors", provenance={})
        small["start.refill"] = tmp_path / "edvr.safetensors"
    overrides = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", name, "--data", str(tmp_path), "--out", str(tmp_path / "run"), *overrides]) == 0

    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["step"] == 1
    assert torch.equal(
        state["network"]["spynet.basic_module.0.basic_module.0.conv.weight"],
        spynet.state_dict()["basic_module.0.basic_module.0.conv.weight"],
    )  # still frozen
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1].keys() >= {"gain_bd_db" if name.endswith("bd") else "gain_bi_db"}


def write_frames(folder: Path, names: list[str]) -> None:
    """48x40 frames of a pattern that moves by a pixel each."""
    folder.mkdir(parents=True)
    texture = np.random.default_rng(5).integers(0, 256, (40, 96, 3), dtype=np.uint8)
    for k, name in enumerate(names):
        Image.fromarray(np.ascontiguousarray(texture[:, k : k + 48])).save(folder / name)


def test_an_unknown_recipe_name_is_reported_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ligth", "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "ligth: expected a recipe's file or one of basicvsr_reds4, " in error
    assert "standard" in error
