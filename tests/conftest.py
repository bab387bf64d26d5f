"""What every test may count on: a home of its own for VapourSynth's configuration, and honest skipping."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vs_iconvsr.networks.propagation import VideoNetwork

SHARED = Path(__file__).parents[2] / "shared"


def _has_ffmpeg() -> bool:
    return shutil.which("ffmpeg") is not None or importlib.util.find_spec("imageio_ffmpeg") is not None


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_plugin() -> bool:
    import vapoursynth

    return hasattr(vapoursynth.core, "iconvsr")


PRESENT = {
    "needs_cuda": _has_cuda,
    "needs_ffmpeg": _has_ffmpeg,
    "needs_shared": lambda: (SHARED / "reference").is_dir(),
    "needs_vapoursynth": _has_plugin,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """needs_* markers skip where the thing is missing, and fail where REQUIRE= names it."""
    for marker, present in PRESENT.items():
        if item.get_closest_marker(marker) and not present():
            if marker in os.environ.get("REQUIRE", "").split(","):
                pytest.fail(f"{marker}: REQUIRE names it, and it is not here")
            pytest.skip(f"{marker}: not here")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """XDG_CONFIG_HOME with the line in it that vspipe needs, and ICONVSR_MODELS without any downloaded weights."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        environment.setenv("ICONVSR_MODELS", str(tmp_path_factory.mktemp("models")))
        program = Path(sys.executable).with_name("vapoursynth")
        if program.exists():  # not where wheels were only unpacked, as for ./scripts/test_windows
            subprocess.run([program, "config"], check=True, capture_output=True)
        yield


@pytest.fixture(scope="session")
def tiny_network() -> "VideoNetwork":
    """A LightVSR of a few thousand weights that does something visible with every one of them."""
    import torch

    from vs_iconvsr.networks.light import LightVSR

    network = LightVSR(mid_channels=4, num_blocks=1, flow_channels=4).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="session")
def tiny_model(tiny_network: "VideoNetwork", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a weight file."""
    from vs_iconvsr import weights

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    weights.save(tiny_network, path, provenance={"name": "tiny"})
    return path
