"""Exported files load by path and record their origin; a run that made things worse is not exported."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from training.data.sequences import GeneratedSet
from training.data.synthesise import Generator, synthesise
from training.degrade.degradation import Degradation
from training.export import (
    ModelCard,
    NoImprovementError,
    default_license,
    export,
    load_trained,
    starting_weights,
)
from training.loop import held_out
from training.loop.config import as_json, fingerprint
from training.loop.recipe import Data, Network, Optimiser, Recipe, Start, Watch
from training.loop.start import build
from vs_iconvsr import weights
from vs_iconvsr.networks.light import LightVSR

RECIPE = Recipe(
    network=Network(arguments={"mid_channels": 8, "num_blocks": 1, "flow_channels": 8}),
    data=Data(train="clips", held_out="clips"),
    degradations=(Degradation(),),
    optimiser=Optimiser(steps=10),
    watch=Watch(held_out_sequences=1),
)


@pytest.fixture
def clips(tmp_path: Path) -> GeneratedSet:
    synthesise(Generator(seed=3, clips=1, frames=2, size=32, canvases=1, canvas_px=80), tmp_path / "clips")
    return GeneratedSet(tmp_path / "clips")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run whose weights make everything a little brighter, which is worse than bicubic."""
    network = build(RECIPE)
    assert isinstance(network, LightVSR)
    assert network.tail_last.bias is not None
    network.tail_last.bias.data.fill_(0.02)
    folder = tmp_path / "run"
    folder.mkdir()
    safetensors.torch.save_file(network.state_dict(), folder / "average.safetensors")
    (folder / "metrics.jsonl").write_text(
        '{"step": 4, "gain_db": 0.5}\n{"step": 8, "gain_db": 0.7}\n{"step": 10, "gain_db": 0.6}\n'
    )
    return folder


def test_an_exported_file_loads_by_path_and_records_its_origin(clips: GeneratedSet, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    worse = load_trained(RECIPE, run)
    assert isinstance(worse, LightVSR)
    assert worse.tail_last.bias is not None
    worse.tail_last.bias.data.fill_(0.2)
    card = ModelCard(name="mine", command="python -m training train mine.yaml", figures="On my cat: +1 dB.")
    export(RECIPE, run, path, card=card, held_out_set=clips, start=worse)

    loaded, info = weights.load(path), weights.info(path)
    lr = torch.rand(1, 2, 3, 8, 8)
    assert torch.equal(loaded(lr), load_trained(RECIPE, run)(lr))
    assert info.metadata["licence"] == "Apache-2.0"
    assert info.metadata["steps"] == "8 of 10"  # the best, not the last
    assert info.metadata["recipe_sha256"] == fingerprint(RECIPE)
    assert json.loads(info.metadata["recipe"])["optimiser"]["steps"] == 10
    text = path.with_suffix(".md").read_text()
    assert text.startswith("# mine\n")
    assert "On my cat: +1 dB." in text


def test_a_half_precision_file_holds_the_weights_that_were_measured(
    clips: GeneratedSet, run: Path, tmp_path: Path
) -> None:
    card, paths = ModelCard(name="", command=""), [tmp_path / "whole.safetensors", tmp_path / "half.safetensors"]
    for path in paths:
        half = path.stem == "half"
        export(RECIPE, run, path, card=card, held_out_set=clips, start=build(RECIPE), half=half, force=True)
    saved_bytes = paths[0].stat().st_size - paths[1].stat().st_size
    assert saved_bytes == pytest.approx(2 * weights.info(paths[1]).parameters, abs=64)
    loaded, expected = weights.load(paths[1]).state_dict(), load_trained(RECIPE, run).half().state_dict()
    assert all(torch.equal(loaded[name].half(), expected[name]) for name in expected)


def test_weights_worse_than_their_start_are_not_exported(clips: GeneratedSet, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    with pytest.raises(NoImprovementError, match="expected held-out gains above those before training"):
        export(RECIPE, run, path, card=ModelCard(name="", command=""), held_out_set=clips, start=build(RECIPE))
    assert not path.exists()
    export(RECIPE, run, path, card=ModelCard(name="", command=""), held_out_set=clips, start=build(RECIPE), force=True)
    assert path.exists()


def test_export_with_a_recipe_other_than_the_runs_is_refused(clips: GeneratedSet, run: Path, tmp_path: Path) -> None:
    (run / "recipe.json").write_text(as_json(replace(RECIPE, seed=2)))
    with pytest.raises(ValueError, match=r"got another \(seed: 1, 2 there\); pass the recipe and every --set"):
        export(
            RECIPE,
            run,
            tmp_path / "a.safetensors",
            card=ModelCard(name="", command=""),
            held_out_set=clips,
            start=build(RECIPE),
        )


def exported(
    run: Path, path: Path, clips: GeneratedSet, *, recipe: Recipe = RECIPE, license_: str | None = None
) -> str:
    """The license in the file."""
    card = ModelCard(name="mine", command="", license=license_)
    export(recipe, run, path, card=card, held_out_set=clips, start=build(recipe), force=True)
    return weights.info(path).metadata["licence"]


def test_weights_of_others_get_no_license_of_ours_unless_told(clips: GeneratedSet, run: Path, tmp_path: Path) -> None:
    theirs, path = tmp_path / "theirs.safetensors", tmp_path / "mine.safetensors"
    weights.save(build(RECIPE), theirs, provenance={})
    recipe = replace(RECIPE, network=None, start=Start(weights=str(theirs)))
    stated = exported(run, path, clips, recipe=recipe)
    assert stated.startswith("not stated: that of theirs.safetensors (sha256 ")
    assert (
        f"Began with: theirs.safetensors (sha256 {weights.fingerprint(theirs)[:16]}"
        in path.with_suffix(".md").read_text()
    )
    assert json.loads(weights.info(path).metadata["began_with"]) == {str(theirs): weights.fingerprint(theirs)}
    assert exported(run, path, clips, recipe=recipe, license_="CC0-1.0") == "CC0-1.0"


def test_bundled_weights_are_ours_under_any_name(tmp_path: Path) -> None:
    (light,) = [model.path for model in weights.available() if model.name == "light"]
    assert light is not None
    shutil.copy(light, tmp_path / "copy.safetensors")
    for model in ("light", str(tmp_path / "copy.safetensors")):
        began_with = starting_weights(replace(RECIPE, network=None, start=Start(weights=model)))
        assert default_license(began_with) == "Apache-2.0"
        assert began_with[0].sha256 == weights.fingerprint("light")


def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "gains", lambda *_, **__: pytest.fail("measured before the mistake was found"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.pth", r"expected a name that ends in \.safetensors, got .*x\.pth"),
        ("no/where/x.safetensors", "expected a folder that exists, got .*mkdir -p"),
        ("notes.safetensors", r"notes\.md: expected no file or an earlier model card, got your own text"),
        ("theirs.safetensors", r"theirs\.safetensors: expected no file or an earlier export, got something else"),
    ],
)
def test_a_place_that_is_taken_or_wrong_is_found_before_anything_is_measured(
    clips: GeneratedSet, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    no_measuring(monkeypatch)
    (tmp_path / "notes.md").write_text("my diary\n")
    weights.save(build(RECIPE), tmp_path / "theirs.safetensors", provenance={})
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    with pytest.raises(ValueError, match=message):
        exported(run, tmp_path / name, clips)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_an_export_may_be_exported_again(clips: GeneratedSet, run: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert exported(run, tmp_path / "mine.safetensors", clips) == "Apache-2.0"


def test_a_folder_without_a_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the folder of a run .* found no average\.safetensors"):
        load_trained(RECIPE, tmp_path)
