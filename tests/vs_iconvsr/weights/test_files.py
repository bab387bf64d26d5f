"""Files that are damaged, hostile or something else: each is refused by name, at once, and without memory for it."""

import argparse
import collections
import datetime
import io
import json
import os
import pickle
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.vs_iconvsr.networks.deterministic import filled
from tests.vs_iconvsr.weights.files_of_others import mmagic, write
from vs_iconvsr import weights
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.weights.files import inspect

MOST_S = 3.0  # of CPU time, three times what it takes on a busy machine; a bomb would take minutes
MOST_BYTES = 100e6  # torch's own pages that a first call touches are among them


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> BasicVSR:
    """Written and loaded once here: what torch imports on first use is not counted below."""
    network = filled(BasicVSR(mid_channels=8, num_blocks=1, flow_channels=2))
    weights.load(write(tmp_path_factory.mktemp("first") / "a.pth", mmagic(network.state_dict())))
    return network


@pytest.fixture(autouse=True)
def at_once_and_without_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("long"):
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, start = peak_bytes(), time.process_time()
    yield
    assert time.process_time() - start < MOST_S
    assert peak_bytes() - before < MOST_BYTES


def peak_bytes() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def refusal(path: Path) -> str:
    with pytest.raises(weights.WeightsError) as caught:
        weights.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- code ---


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


class HistoryBuffer:
    """As MMEngine's logs are: arrays in objects of a class that is not installed here."""

    __module__ = "mmengine.logging.history_buffer"

    def __init__(self) -> None:
        self.values, self.last, self.place = np.arange(9.0), np.float64(2.5), PurePosixPath("/data")


@pytest.fixture
def mmengine(network: BasicVSR, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A checkpoint in the middle of a training, as MMagic 1 leaves it."""
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["mmengine.logging.history_buffer"], "HistoryBuffer", HistoryBuffer, raising=False)
    hub = {"log_scalars": {"train/loss": HistoryBuffer()}, "arguments": argparse.Namespace(seed=np.int64(3))}
    hub |= {"counts": collections.defaultdict(int, a=1), "type": torch.float32, "at": datetime.datetime(2024, 1, 1)}
    return {**mmagic(network.state_dict()), "message_hub": hub}


def test_a_checkpoint_of_mmengine_is_read_without_building_its_logs(
    mmengine: dict[str, Any], network: BasicVSR, tmp_path: Path
) -> None:
    path = write(tmp_path / "iter_5.pth", mmengine)
    for name in [name for name in sys.modules if name.startswith("mmengine")]:
        del sys.modules[name]
    loaded = weights.load(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_code_beside_the_logs_of_mmengine_is_still_refused(mmengine: dict[str, Any], tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    path = write(tmp_path / "evil.pth", {**mmengine, "extra": Malicious(proof)})
    assert "expected tensors only, got a pickle that runs 'posix.system' when it is loaded" in refusal(path)
    assert not proof.exists()


def test_tensors_that_share_a_storage_or_are_transposed_are_read_as_they_are(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    content = {"view": whole[1:, 1:], "turned": whole.t(), "half": whole.half(), "none": torch.empty(0)}
    file = inspect(write(tmp_path / "views.pth", content))
    found = file.tensors("")
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in content.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_is_named_and_does_not_run(legacy: bool, network: BasicVSR, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    content = {**mmagic(network.state_dict()), "extra": Malicious(proof)}
    path = write(tmp_path / "evil.pth", content, legacy=legacy)
    assert "expected tensors only, got a pickle that runs 'posix.system' when it is loaded" in refusal(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the same file runs where it is trusted: the test can fail
    assert proof.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_malicious_pickle_does_not_run(protocol: int, tmp_path: Path) -> None:
    proof, path = tmp_path / "executed", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Malicious(proof), protocol))
    assert "posix.system" in refusal(path)
    assert not proof.exists()


def test_a_pickle_of_protocol_0_does_not_run(tmp_path: Path) -> None:
    proof, path = tmp_path / "executed", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Malicious(proof), 0))
    assert "got a file that begins with" in refusal(path)
    assert not proof.exists()


@pytest.mark.parametrize("value", [collections.Counter("a"), bytearray(b"a"), {1, 2}, complex(1, 2)])
def test_classes_that_torch_would_admit_are_refused_too(value: object, network: BasicVSR, tmp_path: Path) -> None:
    path = write(tmp_path / "odd.pth", {**mmagic(network.state_dict()), "extra": value})
    assert "expected tensors only, got a pickle that runs" in refusal(path)


# --- sizes that are not there ---


def rewritten_zip(source: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)))
    return target


@pytest.mark.parametrize("legacy", [False, True])
def test_a_storage_larger_than_its_file_is_refused(legacy: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "big.pth", {"state_dict": {"a": torch.zeros(123457)}}, legacy=legacy)
    honest, stated = b"J" + struct.pack("<i", 123457), b"J" + struct.pack("<i", 2**31 - 1)
    assert honest in path.read_bytes()
    if legacy:
        path.write_bytes(path.read_bytes().replace(honest, stated))
    else:
        path = rewritten_zip(path, tmp_path / "bigger.pth", lambda data: data.replace(honest, stated))
    assert f"expected {(2**31 - 1) * 4}" in refusal(path) or "cut off: expected 8589" in refusal(path)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", {"state_dict": {"a": torch.zeros(123457)}})
    shape = b"J" + struct.pack("<i", 123457) + b"\x85"  # the tuple of one side

    def change(data: bytes) -> bytes:
        return data.replace(shape, b"J" + struct.pack("<i", 2**31 - 1) + b"\x85")

    assert "reaches beyond its 123457 numbers" in refusal(rewritten_zip(path, tmp_path / "b.pth", change))


@pytest.mark.parametrize("header_bytes", [10 * 2**30, 2**63, 2**64 - 1])
def test_a_safetensors_header_of_10_gb_is_refused(header_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", header_bytes) + b'{"a":' + b" " * 1000)
    assert f"got {header_bytes}: damaged or malicious" in refusal(path)


def test_safetensors_that_state_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "cut off or damaged: expected" in refusal(path)


@pytest.mark.parametrize("value", [10**9, -1, 2.5, "64", None, [64]])
def test_impossible_hyper_parameters_are_refused(value: object, network: BasicVSR, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    weights.files.write_safetensors(
        path,
        network.state_dict(),
        {"architecture": "BasicVSR", "hyper_parameters": json.dumps({"mid_channels": value})},
    )
    assert "mid_channels of BasicVSR: expected 0 to 1024" in refusal(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"architecture": "Transformer"}, "architecture: expected one of LightVSR, .*, got 'Transformer'"),
        ({"architecture": "BasicVSR", "hyper_parameters": "[]"}, "hyper_parameters: expected a JSON object"),
        ({"architecture": "BasicVSR", "hyper_parameters": "{"}, "Expecting property name"),
        ({"architecture": "BasicVSR", "hyper_parameters": '{"depth": 3}'}, "BasicVSR: .*depth"),
        ({"architecture": "BasicVSR", "hyper_parameters": '{"scale": 3}'}, "BasicVSR: scale: expected one of"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(
    metadata: dict[str, str], message: str, network: BasicVSR, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    weights.files.write_safetensors(path, network.state_dict(), metadata)
    with pytest.raises(weights.WeightsError, match=message):
        weights.load(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200_000_000))
    assert "got compressed ones" in refusal(path)


@pytest.mark.parametrize("bomb", [b"(" * 1_000_000, b")\x85" + b"\x85" * 500_000, b"]" * 900_000, b"N0" * 500_000])
def test_a_pickle_of_endless_opcodes_is_refused(bomb: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + bomb + b".")
    assert "damaged or cut off" in refusal(path)


@pytest.mark.parametrize("side", [b"J" + struct.pack("<i", -1), b"\x8a\xff" + b"\x7f" * 255])
def test_sides_below_0_or_of_600_digits_are_refused(side: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", {"state_dict": {"a": torch.zeros(123457)}})
    honest = b"J" + struct.pack("<i", 123457) + b"\x85"
    damaged = rewritten_zip(path, tmp_path / "b.pth", lambda data: data.replace(honest, side * 1000 + b"\x85"))
    assert "damaged or cut off" in refusal(damaged)
    damaged = rewritten_zip(path, tmp_path / "c.pth", lambda data: data.replace(honest, side + b"\x85"))
    assert "a tensor of negative or astronomic size" in refusal(damaged)


def test_safetensors_of_infinite_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    header = b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "damaged header" in refusal(path)


def test_a_pickle_that_wants_a_huge_memo_or_string_is_refused(tmp_path: Path) -> None:
    for number, bomb in enumerate((b"Nr\xff\xff\xff\xff", b"X\xff\xff\xff\x7fa", b"\x8b\xff\xff\xff\x7f\0")):
        path = tmp_path / f"bomb{number}.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + bomb + b".")
        refusal(path)


# --- not whole ---


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("tenths", [1, 5, 9])
def test_a_file_cut_off_is_refused(tenths: int, legacy: bool, network: BasicVSR, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.pth", mmagic(network.state_dict()), legacy=legacy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * tenths // 10])
    assert "cut off" in refusal(path)


@pytest.mark.parametrize("size_bytes", [9, 200, 5000, -1])
def test_safetensors_cut_off_are_refused(size_bytes: int, network: BasicVSR, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    weights.save(network, path, provenance={})
    path.write_bytes(path.read_bytes()[:size_bytes])
    assert "cut off" in refusal(path)


def test_a_file_of_zeros_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zeros.pth"
    with path.open("wb") as file:
        file.truncate(35_000_000)
    assert "got zeros only" in refusal(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_git_lfs_pointer_is_named(name: str, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 19332096\n"
    (tmp_path / name).write_text(pointer)
    assert "got a git-lfs pointer to one" in refusal(tmp_path / name)
    assert "git lfs pull" in refusal(tmp_path / name)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.pth"
    path.touch()
    assert "got one of 0 bytes" in refusal(path)


# --- not weights ---


@pytest.mark.parametrize("page", ["<!DOCTYPE html><html>Sign in</html>", "\n  <html>404</html>"])
def test_a_web_page_saved_as_weights_is_refused(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.pth"
    path.write_text(page)
    assert "got a web page" in refusal(path)


def test_another_zip_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"picture")
    assert "got another kind of zip archive" in refusal(path)


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive/data.pkl", "archive/constants.pkl", "archive/code/__torch__.py"):
            archive.writestr(name, b"x")
    assert "got a TorchScript program" in refusal(path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), "text"])
def test_a_file_without_a_dictionary_is_refused(content: object, tmp_path: Path) -> None:
    assert "expected a dictionary of tensors" in refusal(write(tmp_path / "a.pth", content))


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    assert "holds no tensors" in refusal(write(tmp_path / "a.pth", {"state_dict": {}}))


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "movie.mkv"
    path.write_bytes(b"\x1a\x45\xdf\xa3matroska")
    assert "got a file that begins with" in refusal(path)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert "got a path that does not exist" in refusal(tmp_path / "none.pth")
    assert "got a directory or a device" in refusal(tmp_path)
    with pytest.raises(weights.WeightsError, match="got a directory or a device"):
        weights.load(Path("/dev/zero"))


# --- anything ---


@pytest.mark.long
@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
def test_whatever_bytes_are_changed_loading_gives_a_network_or_a_weights_error(
    container: str, network: BasicVSR, tmp_path: Path
) -> None:
    path = tmp_path / ("a.safetensors" if container == "safetensors" else "a.pth")
    if container == "safetensors":
        weights.save(network, path, provenance={"a": "b"})
    else:
        buffer = io.BytesIO()
        torch.save(mmagic(network.state_dict()), buffer, _use_new_zipfile_serialization=container == "zip")
        path.write_bytes(buffer.getvalue())
    whole, dice = path.read_bytes(), random.Random(0)
    structure = [i for i in range(len(whole)) if i < 20_000 or i > len(whole) - 20_000]
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for position in dice.choices(structure, k=dice.choice((1, 2, 8))):
            damaged[position] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            weights.load(path)
        except weights.WeightsError:
            refused += 1
    assert refused > 30
