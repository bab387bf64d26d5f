"""Flow pretraining resumes to the same bits, and both kinds of flow network learn."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.data.sequences import GeneratedSet
from training.data.synthesise import Generator, synthesise
from training.loop.recipe import Data, FlowPretraining, Network, Optimiser, Recipe
from training.loop.run_options import RunOptions, RunStopped
from training.loop.start import FLOW_FILE, starting_network
from training.loop.train_flow import FlowPairSource, damp_initial_flow, flow_levels, pretrain_flow, sample_pairs
from vs_iconvsr.networks.light import LightFlow
from vs_iconvsr.networks.spynet import SPyNet

RECIPE = Recipe(
    network=Network(arguments={"mid_channels": 8, "num_blocks": 1, "flow_channels": 8}),
    data=Data(train="clips", held_out="clips"),
    flow=FlowPretraining(steps=6, batch=2, gate=100.0),
    optimiser=Optimiser(steps=1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generator = Generator(seed=3, clips=6, frames=4, size=128, canvases=2, canvas_px=320)
    synthesise(generator, folder / "clips")
    return folder


class StoppingClock:
    """A time.monotonic() that reports that time is up after so many calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self) -> float:
        self.calls -= 1
        return -math.inf if self.calls >= 0 else math.inf


def test_stopped_pretraining_resumes_to_the_same_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = starting_network(RECIPE, tmp_path / "straight", folder).state_dict()
    monkeypatch.setattr(time, "monotonic", StoppingClock(calls=3))
    with pytest.raises(RunStopped, match="flow: step 4 of 6"):
        starting_network(RECIPE, tmp_path / "stopped", folder, options=RunOptions(until=0.0))
    monkeypatch.undo()
    assert not (tmp_path / "stopped" / FLOW_FILE).exists()
    resumed = starting_network(RECIPE, tmp_path / "stopped", folder).state_dict()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == [FLOW_FILE]


def test_worker_processes_change_no_bit(folder: Path, tmp_path: Path) -> None:
    alone = starting_network(RECIPE, tmp_path / "alone", folder).state_dict()
    helped = starting_network(RECIPE, tmp_path / "helped", folder, options=RunOptions(workers=1)).state_dict()
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_basicvsr_gets_its_pretrained_spynet(folder: Path, tmp_path: Path) -> None:
    arguments = {"mid_channels": 8, "num_blocks": 1, "flow_channels": 4}
    recipe = replace(RECIPE, network=Network(architecture="BasicVSR", arguments=arguments))
    kept = starting_network(recipe, tmp_path / "run", folder).state_dict()
    again = starting_network(recipe, tmp_path / "run", folder).state_dict()
    fresh = starting_network(replace(recipe, flow=None), tmp_path / "fresh", folder).state_dict()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    changed = {name for name in kept if not torch.equal(kept[name], fresh[name])}
    assert changed
    assert all(name.startswith("spynet.") for name in changed)


@pytest.mark.parametrize("kind", [LightFlow, SPyNet])
def test_flow_networks_overfit_a_few_pairs(
    kind: type, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = GeneratedSet(folder / "clips")
    pairs = sample_pairs(clips, RECIPE.degradations, 2, seed=1, step=0)
    monkeypatch.setattr(FlowPairSource, "__getitem__", lambda *_: pairs)
    torch.manual_seed(0)
    network = LightFlow(16) if kind is LightFlow else SPyNet(channels=8)
    settings = FlowPretraining(steps=150, batch=2, gate=100.0, learning_rate=3e-3)
    pretrain_flow(network, replace(RECIPE, flow=settings), clips, clips, tmp_path, options=RunOptions())
    with torch.inference_mode():
        left = (flow_levels(network, pairs.frame, pairs.neighbour)[-1] - pairs.flow).norm(dim=1).mean()
    assert float(left) < 0.5 * float(pairs.flow.norm(dim=1).mean())


def test_a_damped_spynet_starts_close_to_zero_flow() -> None:
    torch.manual_seed(0)
    network = SPyNet(channels=8)
    frames = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = max(float(flow.abs().max()) for flow in flow_levels(network, frames, frames.flip(-1)))
        damp_initial_flow(network)
        after = max(float(flow.abs().max()) for flow in flow_levels(network, frames, frames.flip(-1)))
    assert after < 0.2 * before
