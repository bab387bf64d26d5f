import argparse
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ffmpeg_filter.commands import models as models_command
from vs_iconvsr import weights
from vs_iconvsr.networks.basicvsr import BasicVSR
from vs_iconvsr.weights.catalogue import OFFICIAL, Official


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICONVSR_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    state = BasicVSR(mid_channels=8, num_blocks=1, flow_channels=2).state_dict()
    torch.save({"state_dict": {f"generator.{key}": value for key, value in state.items()}}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def said(*arguments: str) -> tuple[int, list[str]]:
    parser = argparse.ArgumentParser()
    models_command.add_parser(parser.add_subparsers())
    lines: list[str] = []
    code = models_command.run(parser.parse_args(["models", *arguments]), print_line=lines.append)
    return code, lines


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_the_list_shows_what_is_installed_and_where(arguments: tuple[str, ...], models: Path) -> None:
    code, lines = said(*arguments)
    assert code == 0
    assert any(line.startswith("iconvsr_reds4 ") and "not downloaded" in line for line in lines)
    assert lines[-2] == f"Downloads are stored in {models}"
    assert "free for non-commercial and research use only" in lines[-1]


def test_info_prints_network_layout_and_hash(theirs: Path) -> None:
    code, lines = said("info", str(theirs))
    assert code == 0
    assert "layout: MMagic, PyTorch" in lines
    assert f"sha256: {hashlib.sha256(theirs.read_bytes()).hexdigest()}" in lines
    assert "  mid_channels: 8" in lines


def test_convert_writes_a_file_that_loads(theirs: Path, tmp_path: Path) -> None:
    code, lines = said("convert", str(theirs), str(tmp_path / "ours.safetensors"))
    assert code == 0
    assert "BasicVSR" in lines[0]
    converted, original = weights.load(tmp_path / "ours.safetensors"), weights.load(theirs)
    assert all(torch.equal(value, original.state_dict()[key]) for key, value in converted.state_dict().items())


def test_verify_tries_every_model_and_fails_for_a_bad_one(theirs: Path, tmp_path: Path) -> None:
    assert said("verify", str(theirs)) == (0, [f"{theirs}: OK, {models_command.describe(theirs)}"])
    (tmp_path / "bad.pth").write_text("<html>")
    code, lines = said("verify", str(tmp_path / "bad.pth"), str(theirs))
    assert code == 1
    assert "FAILED" in lines[0]
    assert "got a web page" in lines[0]
    assert "OK" in lines[1]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    content = b"weights" * 1000
    name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(OFFICIAL, "tiny", Official("tiny", name, 1, "a test"))
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / name).write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *arguments: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def test_download_fetches_from_a_mirror(mirror: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_command, "PROGRESS_EVERY_S", 0.0)
    code, lines = said("download", "tiny", "--mirror", mirror)
    assert code == 0
    assert "tiny: 0.0 of 0.0 MB (100 %)" in lines
    assert lines[-1] == f"tiny: {models / OFFICIAL['tiny'].file_name}"


@pytest.mark.usefixtures("models")
def test_a_download_that_fails_raises_what_the_command_line_shows() -> None:
    with pytest.raises(weights.WeightsError, match="no connection"):
        said("download", "spynet", "--mirror", "http://127.0.0.1:9")


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        said("download", "nothing")
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
