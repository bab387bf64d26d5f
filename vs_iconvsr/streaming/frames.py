"""The frames that go in and come out, and where they wait: planes on the CPU with what their numbers mean."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vs_iconvsr import colorspace, scenes
from vs_iconvsr.colorspace import Colorimetry, Format, Planes
from vs_iconvsr.streaming.source_frames import CutMarks
from vs_iconvsr.streaming.transfer import Arriving, to_host

CHECK_RANGE_EVERY = 24
"""One of so many source frames is looked at for codes outside its range."""


class SourceFrame:
    """A source frame as it came. user_data: whatever the frontend gave with it; it is returned with the hr frame."""

    def __init__(
        self, planes: Planes, format: Format, properties: Mapping[str, int], color: Colorimetry, user_data: object
    ) -> None:
        self.planes = planes
        self.properties = properties
        self.color = color
        self.user_data = user_data
        self._format = format
        self._signature: Tensor | None = None

    @property
    def size_bytes(self) -> int:
        return sum(plane.numel() * plane.element_size() for plane in self.planes)

    @property
    def marks(self) -> CutMarks:
        """What the frame's own properties say of cuts."""
        starts, ends = (self.properties.get(name) for name in (scenes.PREV, scenes.NEXT))
        return CutMarks(None if starts is None else starts != 0, None if ends is None else ends != 0)

    @property
    def is_marked(self) -> bool:
        return self.marks != CutMarks()

    def signature(self) -> Tensor:
        """See `scenes.signature`; computed once."""
        if self._signature is None:
            self._signature = scenes.signature(self.planes, self._format)
        return self._signature


@dataclass(frozen=True)
class HrFrame:
    """An hr frame, in the target format.

    arriving: its planes; `planes` waits for them. properties: the frame properties to change, None to delete one.
    segment: the first frame kept of its segment. user_data: that of the source frame of the same number.
    """

    arriving: Arriving
    color: Colorimetry
    properties: Mapping[str, int | None]
    segment: int
    user_data: object

    @property
    def planes(self) -> Planes:
        return self.arriving.wait()

    @property
    def size_bytes(self) -> int:
        return self.arriving.size_bytes


class Sized(Protocol):
    @property
    def size_bytes(self) -> int: ...


class Store[Item: Sized](MutableMapping[int, Item]):
    """Frames by number, with what they hold in bytes. The planner decides what is taken out, and so sets the bound."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self.size_bytes = 0

    def __getitem__(self, n: int) -> Item:
        return self._items[n]

    def __setitem__(self, n: int, item: Item) -> None:
        self.discard((n,))
        self._items[n] = item
        self.size_bytes += item.size_bytes

    def __delitem__(self, n: int) -> None:
        self.size_bytes -= self._items.pop(n).size_bytes

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def discard(self, numbers: Collection[int]) -> None:
        for n in numbers:
            if n in self._items:
                del self[n]


class OneTimeWarnings:
    """Passes each text on once, from whatever thread it comes."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def __call__(self, text: str) -> None:
        with self._lock:
            is_known = text in self._known
            self._known.add(text)
        if not is_known:
            self._warn(text)


@dataclass(frozen=True)
class Converter:
    """Planes to RGB and back for one clip.

    source, width, height: of its frames. target: the format of hr frames. matrix: the user's word, None: by property.
    strength_of: the share of the network in an hr frame, by its number; the rest is the source frame, enlarged by
    bicubic interpolation. warn: called with guesses about color and with what is clipped.
    """

    source: Format
    target: Format
    width: int
    height: int
    matrix: int | None
    dither: str
    strength_of: Callable[[int], float]
    marks_cuts: bool
    warn: Callable[[str], None]

    def read(self, n: int, planes: Planes, properties: Mapping[str, int], user_data: object) -> SourceFrame:
        """Source frame n, and warnings on the way. Raises ValueError, naming it, for one that cannot be upscaled."""
        try:
            color, warnings = colorspace.colorimetry_of(
                properties, self.source, self.width, self.height, matrix=self.matrix
            )
        except ValueError as error:
            raise ValueError(f"source frame {n}: {error}") from error
        if n % CHECK_RANGE_EVERY == 0:
            warnings = [*warnings, *colorspace.range_warnings(planes[0], self.source, color)]
        for text in warnings:
            self.warn(text)
        return SourceFrame(planes, self.source, properties, color, user_data)

    def to_lr(self, frame: SourceFrame, device: torch.device) -> Tensor:
        """(3, h, w) float32 RGB in [0, 1] on the device."""
        planes = tuple(plane.to(device) for plane in frame.planes)
        return colorspace.to_rgb(planes, self.source, frame.color)

    def to_hr(self, n: int, frame: SourceFrame, rgb: Tensor, *, segment: int, starts: bool, ends: bool) -> HrFrame:
        """hr frame n from its source frame and rgb (3, s*h, s*w). starts, ends: whether it is the first or the last
        frame of a scene. segment: the first frame kept of its segment."""
        height, width = rgb.shape[-2:]
        color = colorspace.output_colorimetry(frame.color, self.source, self.target, width, height, matrix=self.matrix)
        with torch.inference_mode():
            rgb = self._blended(frame, rgb, self.strength_of(n))
            arriving = to_host(self._planes(rgb, frame.color.matrix, color))
        properties: dict[str, int | None] = dict.fromkeys(colorspace.COLOR_PROPERTIES)
        properties |= colorspace.properties_of(color, self.target)
        if self.marks_cuts and not frame.is_marked:
            properties |= {scenes.PREV: int(starts), scenes.NEXT: int(ends)}
        properties["IconVSRSegmentStart"] = segment
        return HrFrame(arriving, color, properties, segment, frame.user_data)

    def _blended(self, frame: SourceFrame, rgb: Tensor, strength: float) -> Tensor:
        if strength == 1.0:
            return rgb
        lr = torch.nan_to_num(self.to_lr(frame, rgb.device), nan=0.0, posinf=1.0, neginf=0.0)  # as the networks take it
        bicubic = colorspace.enlarge_bicubic(lr, rgb.shape[-1] // self.width)
        return bicubic if strength == 0.0 else torch.lerp(bicubic, rgb, strength)

    def _planes(self, rgb: Tensor, source_matrix: int, color: Colorimetry) -> Planes:
        """A GRAY source has no color: what the network adds of it is taken away."""
        if self.source.family == "GRAY":
            return colorspace.gray_from_rgb(rgb, self.target, color, matrix=source_matrix, dither=self.dither)
        return colorspace.from_rgb(rgb, self.target, color, dither=self.dither)
