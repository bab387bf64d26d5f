"""What VapourSynth hands over with a call: the arguments, the clip, and a way to its log."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vs_iconvsr import options, weights
from vs_iconvsr.colorspace import Format
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.options import Option
from vs_iconvsr.plan import Settings

type Arguments = Mapping[str, Sequence[int | float | str]]
type Clip = tuple[int, int, int, int]
"""Format id (0 for a clip of variable format), width and height (0 for variable size), number of frames."""
type Log = Callable[[int, str], None]

INFORMATION, WARNING = 1, 2  # of VSMessageType


@dataclass(frozen=True)
class Upscaling:
    """What a call of Upscale, or of Plan, asks for: checked by the same rules, before anything is made."""

    source: Format
    target: Format
    width: int
    height: int
    num_frames: int
    network: VideoNetwork
    settings: Settings


def upscaling(clip: Clip, arguments: Arguments) -> Upscaling:
    """Raises ValueError, naming the argument, for what cannot be."""
    _, width, height, num_frames = clip
    source = constant_format(clip)
    requested = argument(arguments, options.FORMAT)
    target = Format.from_id(requested) if requested else source
    settings = _settings_from(arguments)
    network = _network_from(arguments)
    _check_size(target, width * network.scale, height * network.scale)
    return Upscaling(source, target, width, height, num_frames, network, settings)


def argument[T](arguments: Arguments, option: Option[T]) -> T:
    """The value of an argument, or its default. Raises ValueError, naming it, for a value outside its limits."""
    values = arguments.get(option.name)
    if not values:
        return option.default
    return option.parse(values if option.kind == "size" else values[0])


def _settings_from(arguments: Arguments) -> Settings:
    """What the arguments ask for. Raises ValueError, naming the argument, for what cannot be."""
    values: dict[str, object] = {}
    for option in options.FILTER:
        if given := arguments.get(option.name):
            values[option.name] = given if option.kind == "size" else given[0]
    return Settings.from_options(values)


def _network_from(arguments: Arguments) -> VideoNetwork:
    model = _path_text(argument(arguments, options.MODEL))
    return weights.load(model, auto_download=argument(arguments, options.AUTO_DOWNLOAD))


def _path_text(model: str) -> str:
    """A path as Python has it: VapourSynth hands over bytes, here read as UTF-8, whatever file names are encoded in."""
    exact = os.fsdecode(model.encode("utf-8", "surrogateescape"))
    return exact if Path(exact).exists() else model


def _check_size(target: Format, width: int, height: int) -> None:
    """Raises ValueError where VapourSynth has no frames of that format and size: chroma samples cover whole pixels."""
    across, down = 1 << target.subsampling_w, 1 << target.subsampling_h
    if width % across or height % down:
        raise ValueError(
            f"format: expected one for frames of {width}x{height}, got {target}, whose sizes are multiples of "
            f"{across}x{down}; pass a format with less subsampling, or crop the clip with std.Crop"
        )


def constant_format(clip: Clip) -> Format:
    """Raises ValueError for a clip whose format or size changes."""
    id_, width, height, _ = clip
    if id_ == 0 or width == 0 or height == 0:
        raise ValueError(
            "clip: expected constant format and size, got a clip where they change; "
            "split it, or bring all of it to one with resize.Bicubic(width=, height=, format=)"
        )
    return Format.from_id(id_)
