"""The starting point of a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.data.synthesise import Generator, synthesise
from training.loop.recipe import Data, FlowPretraining, Network, Optimiser, Recipe, Start
from training.loop.start import FLOW_FILE, build, save_flow, starting_network
from training.loop.train_flow import FlowGateError
from vs_iconvsr import weights
from vs_iconvsr.networks.light import LightFlow, LightVSR
from vs_iconvsr.networks.spynet import SPyNet

TINY = Network(arguments={"mid_channels": 8, "num_blocks": 1, "flow_channels": 8})
RECIPE = Recipe(network=TINY, data=Data(train="clips", held_out="clips"), optimiser=Optimiser(steps=1))


def test_fresh_weights_depend_on_the_seed() -> None:
    first, again, other = (build(replace(RECIPE, seed=seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_given_weights_determine_the_network(tmp_path: Path) -> None:
    network = LightVSR(mid_channels=8, num_blocks=2, flow_channels=8)
    weights.save(network, tmp_path / "given.safetensors", provenance={})
    start = Start(weights=str(tmp_path / "given.safetensors"))
    built = build(replace(RECIPE, network=None, start=start))
    assert built.hyper_parameters == network.hyper_parameters
    assert torch.equal(built.state_dict()["tail_first.weight"], network.state_dict()["tail_first.weight"])


def test_a_recipe_has_either_a_network_or_weights() -> None:
    with pytest.raises(ValueError, match=r"network: expected either it or start\.weights, got neither"):
        replace(RECIPE, network=None)
    with pytest.raises(ValueError, match=r"network: expected either it or start\.weights, got both"):
        replace(RECIPE, start=Start(weights="light"))


def test_a_flow_network_is_loaded_from_its_file(tmp_path: Path) -> None:
    flow = LightFlow(8)
    save_flow(flow, tmp_path / "flow.safetensors")
    recipe = replace(RECIPE, start=Start(flow=str(tmp_path / "flow.safetensors")))
    network = starting_network(recipe, tmp_path / "run", tmp_path)
    assert isinstance(network, LightVSR)
    for name, value in flow.state_dict().items():
        assert torch.equal(network.flow_network.state_dict()[name], value)


def test_spynet_is_loaded_from_its_file(tmp_path: Path) -> None:
    spynet = SPyNet(channels=32)
    weights.save(spynet, tmp_path / "spynet.safetensors", provenance={})
    basicvsr = Network(architecture="BasicVSR", arguments={"mid_channels": 8, "num_blocks": 1})
    recipe = replace(RECIPE, network=basicvsr, start=Start(flow=str(tmp_path / "spynet.safetensors")))
    network = starting_network(recipe, tmp_path / "run", tmp_path)
    for name, value in spynet.state_dict().items():
        assert torch.equal(network.state_dict()[f"spynet.{name}"], value)


def test_flow_that_did_not_learn_fails_the_gate(tmp_path: Path) -> None:
    synthesise(Generator(seed=3, clips=2, frames=2, size=64, canvases=1, canvas_px=160), tmp_path / "clips")
    recipe = replace(RECIPE, flow=FlowPretraining(steps=1, batch=1, gate=0.01))
    with pytest.raises(FlowGateError, match=r"expected an end-point error below 0\.01 of zero flow's, got"):
        starting_network(recipe, tmp_path / "run", tmp_path)
    assert not (tmp_path / "run" / FLOW_FILE).exists()


def test_pretrained_flow_is_saved_and_reused(tmp_path: Path) -> None:
    synthesise(Generator(seed=3, clips=2, frames=2, size=64, canvases=1, canvas_px=160), tmp_path / "clips")
    recipe = replace(RECIPE, flow=FlowPretraining(steps=2, batch=1, gate=100.0))
    first = starting_network(recipe, tmp_path / "run", tmp_path).state_dict()
    written = (tmp_path / "run" / FLOW_FILE).stat().st_mtime_ns
    again = starting_network(recipe, tmp_path / "run", tmp_path).state_dict()
    assert (tmp_path / "run" / FLOW_FILE).stat().st_mtime_ns == written
    assert all(torch.equal(first[name], again[name]) for name in first)
