"""What VapourSynth hands over with a call: the arguments, the clip, and a way to its log."""

from collections.abc import Callable, Mapping, Sequence

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


def argument[T](arguments: Arguments, option: Option[T]) -> T:
    """The value of an argument, or its default. Raises ValueError, naming it, for a value outside its limits."""
    values = arguments.get(option.name)
    if not values:
        return option.default
    return option.parse(values if option.kind == "size" else values[0])


def settings_from(arguments: Arguments) -> Settings:
    """What the arguments ask for. Raises ValueError, naming the argument, for what cannot be."""
    values: dict[str, object] = {}
    for option in options.FILTER:
        if given := arguments.get(option.name):
            values[option.name] = given if option.kind == "size" else given[0]
    return Settings.from_options(values)


def network_from(arguments: Arguments) -> VideoNetwork:
    return weights.load(argument(arguments, options.MODEL), auto_download=argument(arguments, options.AUTO_DOWNLOAD))


def constant_format(clip: Clip) -> Format:
    """Raises ValueError for a clip whose format or size changes."""
    id_, width, height, _ = clip
    if id_ == 0 or width == 0 or height == 0:
        raise ValueError(
            "clip: expected constant format and size, got a clip where they change; "
            "split it, or bring all of it to one with resize.Bicubic(width=, height=, format=)"
        )
    return Format.from_id(id_)
