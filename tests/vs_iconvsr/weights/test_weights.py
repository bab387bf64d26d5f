import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.vs_iconvsr.networks.deterministic import filled, sequence
from tests.vs_iconvsr.weights.files_of_others import KEYS, LAYOUTS, basicsr, mmagic, prefixed, without_constants, write
from vs_iconvsr import weights
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.networks.basicvsr_plusplus import BasicVSRPlusPlus
from vs_iconvsr.networks.edvr import EDVRFeatureExtractor
from vs_iconvsr.networks.iconvsr import IconVSR
from vs_iconvsr.networks.light import LightVSR
from vs_iconvsr.networks.realbasicvsr import RealBasicVSR
from vs_iconvsr.networks.spynet import SPyNet


def small_iconvsr(**arguments: int) -> IconVSR:
    return filled(IconVSR(**{"mid_channels": 8, "num_blocks": 2, "edvr_channels": 8, "flow_channels": 4, **arguments}))


def small_basicvsr(**arguments: int) -> BasicVSR:
    return filled(BasicVSR(**{"mid_channels": 8, "num_blocks": 2, "flow_channels": 4, **arguments}))


def small_plusplus(**arguments: int) -> BasicVSRPlusPlus:
    return filled(BasicVSRPlusPlus(**{"mid_channels": 8, "num_blocks": 2, "flow_channels": 4, **arguments}))


def small_real(**arguments: int) -> RealBasicVSR:
    blocks = {"num_blocks": 2, "cleaning_blocks": 3}
    return filled(RealBasicVSR(**{"mid_channels": 8, "flow_channels": 4, **blocks, **arguments}))


WHOLE = {
    "IconVSR": small_iconvsr(),
    "BasicVSR": small_basicvsr(),
    "BasicVSR++": small_plusplus(),
    "BasicVSR++ of the same size": small_plusplus(scale=1),
    "RealBasicVSR": small_real(),
}


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    assert type(one) is type(other)
    ones, others = one.state_dict(), other.state_dict()
    assert list(ones) == list(others)
    assert all(torch.equal(ones[key], others[key]) for key in ones)


# --- every layout ---


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", WHOLE)
def test_files_of_every_layout_load(kind: str, layout: str, legacy: bool, tmp_path: Path) -> None:
    network = WHOLE[kind]
    path = write(tmp_path / "theirs.pth", LAYOUTS[layout](network.state_dict()), legacy=legacy)
    assert_equal(weights.load(path), network)


@pytest.mark.parametrize(
    "arguments", [{"scale": 1}, {"scale": 2}, {"temporal_padding": 3, "edvr_channels": 16}, {"num_blocks": 1}]
)
def test_files_of_other_widths_load(arguments: dict[str, int], tmp_path: Path) -> None:
    network = small_iconvsr(**arguments)
    assert_equal(weights.load(write(tmp_path / "own.pth", network.state_dict())), network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    network = small_basicvsr()
    state = {key: value.to(dtype) for key, value in network.state_dict().items()}
    loaded = weights.load(write(tmp_path / "half.pth", state))
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


def test_what_is_loaded_is_ready_to_run(tmp_path: Path) -> None:
    loaded = weights.load(write(tmp_path / "mm.pth", mmagic(small_basicvsr().state_dict())))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_loading_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "mm.pth", mmagic(small_basicvsr().state_dict()))
    state = torch.random.get_rng_state()
    weights.load(path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_loading_does_not_import_torchs_compiler() -> None:
    """It takes seconds, at the start of every command."""
    program = "import sys; from vs_iconvsr import weights; weights.load('light'); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"


def test_what_is_loaded_outlives_its_file(tmp_path: Path) -> None:
    network = small_basicvsr()
    path = write(tmp_path / "mm.pth", mmagic(network.state_dict()))
    loaded = weights.load(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert_equal(loaded, network)


# --- parts ---


def sniklaus(state: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = list(without_constants({"spynet." + key: value for key, value in state.items()}).values())
    return dict(zip(KEYS["sniklaus_spynet_moduleBasic_old"], plain, strict=True))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", ["mmagic", "mmagic, nested", "basicsr", "sniklaus"])
def test_spynet_files_load_in_every_naming(layout: str, legacy: bool, tmp_path: Path) -> None:
    spynet = filled(SPyNet(), prefix="spynet.")
    bare = {key: value for key, value in spynet.state_dict().items() if key not in ("mean", "std")}
    content: Any = {
        "mmagic": bare,
        "mmagic, nested": {"state_dict": bare},
        "basicsr": {"params": dict(zip(KEYS["basicsr_spynet_file"], bare.values(), strict=True))},
        "sniklaus": sniklaus(spynet.state_dict()),
    }[layout]
    assert_equal(weights.load_part(write(tmp_path / "spynet.pth", content, legacy=legacy)), spynet)


@pytest.mark.parametrize("num_frames", [5, 7])
def test_edvr_files_load_without_what_follows_the_extractor(num_frames: int, tmp_path: Path) -> None:
    edvr = filled(EDVRFeatureExtractor(num_frames=num_frames, channels=8), prefix="edvr.")
    beyond = {"reconstruction.0.conv1.weight": torch.zeros(8, 8, 3, 3), "conv_hr.weight": torch.zeros(8, 8, 3, 3)}
    path = write(tmp_path / "edvr.pth", {"state_dict": prefixed("generator.", {**edvr.state_dict(), **beyond})})
    assert_equal(weights.load_part(path), edvr)


def test_basicsr_edvr_files_load(tmp_path: Path) -> None:
    edvr = filled(EDVRFeatureExtractor(channels=8), prefix="edvr.")
    named = basicsr(prefixed("edvr.", edvr.state_dict()))
    path = write(tmp_path / "edvr.pth", {"params": {key.removeprefix("edvr."): value for key, value in named.items()}})
    assert_equal(weights.load_part(path), edvr)


def test_a_part_does_not_load_as_a_network_nor_a_network_as_a_part(tmp_path: Path) -> None:
    part = write(tmp_path / "part.pth", SPyNet(channels=4).state_dict())
    with pytest.raises(weights.WeightsError, match="expected a whole network, got a SPyNet alone"):
        weights.load(part)
    whole = write(tmp_path / "whole.pth", small_basicvsr().state_dict())
    with pytest.raises(weights.WeightsError, match="expected SPyNet or EDVR-M alone, got a whole BasicVSR"):
        weights.load_part(whole)


# --- our own files ---


@pytest.mark.parametrize(
    "network",
    [
        small_iconvsr(keyframe_stride=7, scale=2),
        small_basicvsr(),
        small_plusplus(scale=1),
        small_real(cleaning=3),
        LightVSR(mid_channels=16, num_blocks=1, flow_channels=8),
        filled(SPyNet(channels=4)),
        filled(EDVRFeatureExtractor(channels=8)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_saving_and_loading_round_trips_exactly(network: nn.Module, tmp_path: Path) -> None:
    weights.save(network, tmp_path / "own.safetensors", provenance={"trained_on": "nothing"})
    part = isinstance(network, SPyNet | EDVRFeatureExtractor)
    loaded = (weights.load_part if part else weights.load)(tmp_path / "own.safetensors")
    assert_equal(loaded, network)
    assert loaded.hyper_parameters == network.hyper_parameters


def test_a_network_loaded_from_our_file_gives_the_same_hr(tmp_path: Path) -> None:
    network = small_iconvsr(keyframe_stride=2)
    weights.save(network, tmp_path / "own.safetensors", provenance={})
    lr = sequence(4, 8, 8)
    assert torch.equal(weights.load(tmp_path / "own.safetensors")(lr), network(lr))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    network = small_basicvsr()
    for name in ("one", "two"):
        weights.save(network, tmp_path / f"{name}.safetensors", provenance={"b": "1", "a": "2", "c": "3"})
    assert weights.fingerprint(tmp_path / "one.safetensors") == weights.fingerprint(tmp_path / "two.safetensors")


def test_saving_leaves_no_part_file_and_other_programs_can_read_it(tmp_path: Path) -> None:
    import safetensors.torch

    network = small_basicvsr()
    weights.save(network, tmp_path / "own.safetensors", provenance={"origin": "test"})
    assert [path.name for path in tmp_path.iterdir()] == ["own.safetensors"]
    read = safetensors.torch.load_file(tmp_path / "own.safetensors")
    assert all(torch.equal(read[key], value) for key, value in network.state_dict().items())


def test_metadata_records_format_network_and_provenance(tmp_path: Path) -> None:
    network = small_basicvsr()
    weights.save(network, tmp_path / "own.safetensors", provenance={"origin": "test"})
    metadata = weights.info(tmp_path / "own.safetensors").metadata
    assert metadata["format"] == "vs_iconvsr/1"
    assert metadata["architecture"] == "BasicVSR"
    assert json.loads(metadata["hyper_parameters"]) == network.hyper_parameters
    assert metadata["origin"] == "test"


@pytest.mark.parametrize(
    ("network", "name", "provenance", "message"),
    [
        (nn.Conv2d(1, 1, 1), "a.safetensors", {}, "network: expected one of LightVSR, .*, got Conv2d"),
        (small_basicvsr(), "a.pth", {}, "expected a name that ends in .safetensors"),
        (small_basicvsr(), "a.safetensors", {"format": "mine"}, "provenance: expected keys other than .*, got format"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(
    network: nn.Module, name: str, provenance: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        weights.save(network, tmp_path / name, provenance=provenance)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["mmagic", "basicsr"])
def test_converting_round_trips_exactly_and_records_the_source(layout: str, tmp_path: Path) -> None:
    network = small_iconvsr(temporal_padding=3)
    source = write(tmp_path / "theirs.pth", LAYOUTS[layout](network.state_dict()))
    weights.convert(source, tmp_path / "ours.safetensors")
    assert_equal(weights.load(tmp_path / "ours.safetensors"), network)
    metadata = weights.info(tmp_path / "ours.safetensors").metadata
    assert metadata["converted_from"] == "theirs.pth"
    assert metadata["converted_from_sha256"] == weights.fingerprint(source)


def test_info_describes_a_file_without_its_tensors(tmp_path: Path) -> None:
    network = small_iconvsr()
    path = write(tmp_path / "theirs.pth", mmagic(network.state_dict()), legacy=True)
    info = weights.info(path)
    assert (info.architecture, info.layout, info.container) == ("IconVSR", "MMagic", "PyTorch (before 1.6)")
    assert info.hyper_parameters == network.hyper_parameters
    assert info.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert info.size_bytes == path.stat().st_size


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_scale_of_a_model_is_read_without_loading_it(tmp_path: Path, scale: int) -> None:
    path = tmp_path / "own.safetensors"
    weights.save(LightVSR(mid_channels=4, num_blocks=1, flow_channels=4, scale=scale), path, provenance={})
    assert weights.scale_of(path) == scale


def test_a_part_of_a_network_has_no_scale(tmp_path: Path) -> None:
    weights.save(SPyNet(), tmp_path / "part.safetensors", provenance={})
    with pytest.raises(weights.WeightsError, match="expected a whole network, got a SPyNet alone"):
        weights.scale_of(tmp_path / "part.safetensors")


# --- strictness: every fault is named ---


def faulty(change: Any, tmp_path: Path) -> str:
    state = dict(small_basicvsr().state_dict())
    change(state)
    with pytest.raises(weights.WeightsError) as caught:
        weights.load(write(tmp_path / "faulty.pth", mmagic(state)))
    return str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    message = faulty(lambda state: state.pop("conv_hr.bias"), tmp_path)
    assert "does not fit BasicVSR(" in message
    assert "missing: conv_hr.bias" in message


def test_an_unexpected_key_is_named(tmp_path: Path) -> None:
    assert "unexpected: extra.weight [2]" in faulty(
        lambda state: state.update({"extra.weight": torch.zeros(2)}), tmp_path
    )


def test_a_misshapen_key_is_named(tmp_path: Path) -> None:
    message = faulty(lambda state: state.update({"conv_hr.weight": torch.zeros(64, 64, 1, 1)}), tmp_path)
    assert "misshapen: conv_hr.weight expected [64, 64, 3, 3], got [64, 64, 1, 1]" in message


@pytest.mark.parametrize("kind", ["BasicVSR++", "BasicVSR++ of the same size", "RealBasicVSR"])
def test_a_file_that_lacks_any_tensor_is_refused(kind: str, tmp_path: Path) -> None:
    state = dict(WHOLE[kind].state_dict())
    for key in [key for key in state if "conv_offset" in key or "image_cleaning" in key or "conv_hr" in key]:
        missing = write(tmp_path / "faulty.pth", mmagic({name: state[name] for name in state if name != key}))
        with pytest.raises(weights.WeightsError, match=f"(missing: {re.escape(key)}|expected IconVSR, )"):
            weights.load(missing)


def test_missing_unexpected_and_misshapen_keys_are_named_together(tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        del state["fusion.bias"]
        state["more"] = torch.zeros(1)
        state["conv_last.bias"] = torch.zeros(4)

    message = faulty(change, tmp_path)
    assert all(word in message for word in ("missing: fusion.bias", "unexpected: more", "misshapen: conv_last.bias"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    message = faulty(lambda state: state["conv_last.bias"].fill_(value), tmp_path)
    assert "conv_last.bias: expected finite numbers, got NaN or infinity" in message


def test_integers_are_refused_by_name(tmp_path: Path) -> None:
    message = faulty(lambda state: state.update({"conv_last.bias": torch.zeros(3, dtype=torch.int64)}), tmp_path)
    assert "conv_last.bias: expected floating point, got torch.int64" in message


@pytest.mark.parametrize(
    ("key", "network"),
    [
        ("body.0.rdb1.conv1.weight", "Real-ESRGAN"),
        ("body.0.weight", "compact Real-ESRGAN"),
        ("something.weight", "an unknown network"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(key: str, network: str, tmp_path: Path) -> None:
    path = write(tmp_path / "other.pth", {"params_ema": {key: torch.zeros(3, 3)}})
    with pytest.raises(weights.WeightsError, match=f"expected IconVSR, .* or LightVSR, got .*{network}"):
        weights.load(path)


@pytest.mark.parametrize("first_byte", [0x80, 0x38, 0x20])
def test_no_length_of_its_header_makes_a_safetensors_file_something_else(first_byte: int, tmp_path: Path) -> None:
    network, path = BasicVSR(mid_channels=8, num_blocks=1, flow_channels=2), tmp_path / "model.safetensors"
    weights.save(network, path, provenance={"note": ""})
    missing = (first_byte - path.read_bytes()[0]) % 256
    weights.save(network, path, provenance={"note": "x" * missing})
    assert path.read_bytes()[0] == first_byte  # 0x80 begins a pickle, too: one file in 32 was taken for one
    assert isinstance(weights.load(path), BasicVSR)


def test_a_path_that_is_not_unicode_loads_in_every_container(tmp_path: Path) -> None:
    network = small_basicvsr()
    written = [tmp_path / "our.safetensors", write(tmp_path / "mm.pth", mmagic(network.state_dict()))]
    weights.save(network, written[0], provenance={})
    for path in written:
        assert_equal(weights.load(path.rename(path.with_stem(os.fsdecode(b"caf\xe9")))), network)
