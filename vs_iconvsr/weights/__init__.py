"""Weight files in, loaded networks out: for both frontends and for training."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vs_iconvsr.networks.edvr import EDVRFeatureExtractor
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.networks.spynet import SPyNet
from vs_iconvsr.weights.catalogue import (
    DEFAULT_MODEL,
    OFFICIAL,
    ModelInfo,
    available,
    locate,
    models_directory,
    sha256_of,
)
from vs_iconvsr.weights.download import download
from vs_iconvsr.weights.errors import WeightsError
from vs_iconvsr.weights.files import WeightFile, inspect, write_safetensors
from vs_iconvsr.weights.layouts import ARCHITECTURES, AnyNetwork, RecognizedNetwork, build, constants, recognize

__all__ = [
    "DEFAULT_MODEL",
    "FileInfo",
    "ModelInfo",
    "WeightsError",
    "available",
    "convert",
    "download",
    "fingerprint",
    "info",
    "load",
    "load_part",
    "locate",
    "models_directory",
    "save",
    "scale_of",
    "verify",
]

FORMAT = "vs_iconvsr/1"
RESERVED = ("format", "architecture", "hyper_parameters")


@dataclass(frozen=True)
class FileInfo:
    """What a weight file holds. layout: whose key names it uses. metadata: what `save` stored beside the tensors."""

    path: Path
    sha256: str
    size_bytes: int
    container: str
    layout: str
    architecture: str
    hyper_parameters: Mapping[str, int]
    parameters: int
    metadata: Mapping[str, str]


def load(model: str | os.PathLike[str], *, auto_download: bool = False) -> VideoNetwork:
    """The network of a name or a file: float32, CPU, eval mode, no gradients.

    Names are listed by `available`; a path may hold any layout of IconVSR or BasicVSR, or what `save` wrote. Official
    files are only downloaded with auto_download. float16, bfloat16 and float64 tensors become float32. Raises
    WeightsError.
    """
    if auto_download and isinstance(model, str) and model in OFFICIAL:
        download(model)
    network = load_file(locate(model))
    if not isinstance(network, VideoNetwork):
        raise WeightsError(
            f"{model}: expected a whole network, got a {type(network).__name__} alone, which can only start a training"
        )
    return network


def load_part(model: str | os.PathLike[str]) -> SPyNet | EDVRFeatureExtractor:
    """As `load`, for the parts from which a training starts."""
    part = load_file(locate(model))
    if not isinstance(part, SPyNet | EDVRFeatureExtractor):
        raise WeightsError(f"{model}: expected SPyNet or EDVR-M alone, got a whole {type(part).__name__}")
    return part


def save(
    network: nn.Module, path: str | os.PathLike[str], *, provenance: Mapping[str, str], half: bool = False
) -> None:
    """Writes a .safetensors file that `load` (or `load_part`) turns into an equal network, in float32.

    provenance: where the weights come from, stored as metadata. half: weights are rounded to float16. Raises ValueError
    for what could not be loaded again.
    """
    path = Path(path)
    architecture = type(network).__name__
    if not isinstance(network, AnyNetwork) or architecture not in ARCHITECTURES:
        raise ValueError(f"network: expected one of {', '.join(ARCHITECTURES)}, got {architecture}")
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a name that ends in .safetensors, got {path}")
    if taken := [key for key in provenance if key in RESERVED]:
        raise ValueError(f"provenance: expected keys other than {', '.join(RESERVED)}, got {', '.join(taken)}")
    hyper_parameters = json.dumps(network.hyper_parameters)
    metadata = {"format": FORMAT, "architecture": architecture, "hyper_parameters": hyper_parameters}
    write_safetensors(path, network.state_dict(), {**metadata, **provenance}, half=half)


def convert(model: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Converts any weight file, or part, to our .safetensors; the metadata names the source and its sha256."""
    source = locate(model)
    network = load_file(source)
    kept = {key: value for key, value in inspect(source).metadata.items() if key not in RESERVED}
    save(network, path, provenance={**kept, "converted_from": source.name, "converted_from_sha256": sha256_of(source)})


def fingerprint(model: str | os.PathLike[str]) -> str:
    """The sha256 of the model's file, 64 hex digits."""
    return sha256_of(locate(model))


def info(model: str | os.PathLike[str]) -> FileInfo:
    """What the model's file holds; reads no tensors. Raises WeightsError."""
    path = locate(model)
    file = inspect(path)
    found = recognize(file)
    with torch.device("meta"):
        network = build(found.architecture, found.hyper_parameters)
    return FileInfo(
        path=path,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        container=file.container,
        layout=found.layout,
        architecture=found.architecture,
        hyper_parameters=network.hyper_parameters,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        metadata=file.metadata,
    )


def scale_of(model: str | os.PathLike[str]) -> int:
    """hr size over lr size of the model's network; reads no tensors. Raises WeightsError, also for a part alone."""
    path = locate(model)
    found = recognize(inspect(path))
    with torch.device("meta"):
        network = build(found.architecture, found.hyper_parameters)
    if not isinstance(network, VideoNetwork):
        raise WeightsError(f"{model}: expected a whole network, got a {found.architecture} alone")
    return network.scale


def verify(model: str | os.PathLike[str]) -> None:
    """Loads the model, a whole network or a part, and discards it. Raises WeightsError if that fails."""
    load_file(locate(model))


def load_file(path: Path) -> AnyNetwork:
    file = inspect(path)
    found = recognize(file)
    tensors = read_tensors(file, found)
    with torch.device("meta"):  # no initial weights: they would take time and shift a caller's random numbers
        network = build(found.architecture, found.hyper_parameters)
    network.load_state_dict({**constants(found.architecture), **tensors}, assign=True)
    network.eval().requires_grad_(False)
    return network


def read_tensors(file: WeightFile, found: RecognizedNetwork) -> dict[str, torch.Tensor]:
    """The tensors by our names, float32 on the CPU. Raises WeightsError for those that no network can hold."""
    stored = file.tensors(found.table)
    for name, key in found.keys.items():
        if not stored[key].dtype.is_floating_point:
            raise WeightsError(f"{file.path}: {name}: expected floating point, got {stored[key].dtype}")
        if not stored[key].isfinite().all():
            raise WeightsError(
                f"{file.path}: {name}: expected finite numbers, got NaN or infinity: training diverged or the file is "
                "damaged"
            )
    return {name: _copied(stored[key]) for name, key in found.keys.items()}


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """float32 of its own memory, whatever torch's defaults are: the stored one may be mapped from a file."""
    return tensor.to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
