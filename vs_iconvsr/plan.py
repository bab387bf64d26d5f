"""The plan: everything that shapes pixels, settled before frame 0 and never changed by what memory is free.

A plan is a pure function of frame size, network, arguments and kind of device; it goes into logs and fingerprints.
"""

import bisect
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from vs_iconvsr import colorspace, options, system
from vs_iconvsr.engine import PRECISIONS, Shape, check_precision, uses_fast_convolutions
from vs_iconvsr.engine.tiles import MIN_TILE_PX, Tile, tiles_of
from vs_iconvsr.networks.propagation import VideoNetwork

GIB = 2**30
MOST_VALUES = 2**31 - 1  # in one tensor on a GPU: kernels count them with 31 bits
GPU_CONVERSION_BYTES = 26  # per hr pixel, of whole planes on their way from RGB to code values
DEFAULT_HALO_PX = options.HALO.default


@dataclass(frozen=True)
class Settings:
    """What a user asks for; None and "auto" leave the choice to `plan_for`. See `options` for the meaning of each.

    memory_bytes is the option `memory` in bytes, matrix its number in H.273; the other fields but strengths are options
    as they are. strengths: (first frame, strength) pairs, ascending; each replaces `strength` up to the next one.
    """

    segment: int = options.SEGMENT.default
    context: int = options.CONTEXT.default
    scene_detect: bool = options.SCENE_DETECT.default
    sc_threshold: float = options.SC_THRESHOLD.default
    tile: tuple[int, int] | None = options.TILE.default
    halo: int = options.HALO.default
    device: str = options.DEVICE.default
    precision: str = options.PRECISION.default
    memory_bytes: int | None = None
    threads: int | None = options.THREADS.default
    dither: str = options.DITHER.default
    matrix: int | None = None
    cleaning: int | None = options.CLEANING.default
    strength: float = options.STRENGTH.default
    strengths: tuple[tuple[int, float], ...] = ()
    held_frames: str = options.HELD_FRAMES.default

    @classmethod
    def from_options(cls, values: Mapping[str, object]) -> Self:
        """The settings among a user's options, by name; what is absent or None keeps its default.

        The one place where both frontends turn options into settings. Raises ValueError, naming the option.
        """
        given = {name: value for name, value in values.items() if value is not None}
        fields: dict[str, Any] = {
            option.name: option.parse(given[option.name]) for option in _SAME_IN_SETTINGS if option.name in given
        }
        if "memory" in given:
            memory_gib = options.MEMORY.parse(given["memory"])
            assert memory_gib is not None
            fields["memory_bytes"] = round(memory_gib * GIB)
        if "matrix" in given:
            fields["matrix"] = colorspace.matrix_named(str(given["matrix"]))
        return cls(**fields)


_SAME_IN_SETTINGS: tuple[options.Option[Any], ...] = (
    options.SEGMENT,
    options.CONTEXT,
    options.SCENE_DETECT,
    options.SC_THRESHOLD,
    options.TILE,
    options.HALO,
    options.DEVICE,
    options.PRECISION,
    options.THREADS,
    options.DITHER,
    options.CLEANING,
    options.STRENGTH,
    options.HELD_FRAMES,
)


@dataclass(frozen=True)
class Plan:
    """A settled plan. devices are torch's names; memory_bytes is the budget of each; matrix None goes by the tags.

    scale, cleaning: see VideoNetwork. held_once: whether frames that repeat the one before exactly are upscaled once.
    working_bytes: of one step. frame_bytes: held for each frame that a segment
    reads. pinned_bytes: host memory that the features of one segment may take; two are under way on each device.
    """

    segment: int
    context: int
    scene_detect: bool
    sc_threshold: float
    tile: tuple[int, int]
    halo: int
    precision: str
    devices: tuple[str, ...]
    threads: int
    memory_bytes: int
    dither: str
    matrix: int | None
    scale: int
    cleaning: int
    strength: float
    strengths: tuple[tuple[int, float], ...]
    held_once: bool
    working_bytes: int
    frame_bytes: int
    pinned_bytes: int

    def shape(self, width: int, height: int, *, sharers: int = 1) -> Shape:
        """sharers: how many sessions share the plan's memory."""
        pinned = self.pinned_bytes // sharers
        return Shape(width, height, self.tile, self.halo, self.precision, self.cleaning, self.working_bytes, pinned)

    def strength_of(self, n: int) -> float:
        """The strength of frame n."""
        after = bisect.bisect(self.strengths, n, key=lambda change: change[0])
        return self.strengths[after - 1][1] if after else self.strength

    def describe(self) -> str:
        """One line for a log."""
        length = f"{self.segment} frames" if self.segment else "whole scenes"
        tile = "whole frames" if self.tile == (0, 0) else f"tiles of {self.tile[0]}x{self.tile[1]} + {self.halo} px"
        return (
            f"plan: segments of {length} + {self.context} of context, {tile}, {self._extras()}{self.precision} on "
            f"{', '.join(self.devices)} ({self.threads} threads), about {self.working_bytes / GIB:.2f} GiB at work and "
            f"{self.frame_bytes / 2**20:.1f} MiB for each frame read, budget {self.memory_bytes / GIB:g} GiB"
        )

    def _extras(self) -> str:
        extras = {
            "the size is kept": self.scale == 1,
            f"cleaning {self.cleaning} of 3": self.cleaning > 0,
            f"strength {self.strength:g}": self.strength < 1 and not self.strengths,
            f"strength by scene from {_lowest_strength(self):g}": bool(self.strengths),
            "held frames once": self.held_once,
        }
        return "".join(f"{text}, " for text, applies in extras.items() if applies)

    def out_of_memory_error(self, device: int) -> MemoryError:
        """For a segment that does not fit on the device of that number by any memory strategy."""
        return MemoryError(
            f"memory: expected {self.working_bytes / GIB:.2f} GiB and a segment's features on {self.devices[device]}, "
            f"got an out-of-memory error with every memory strategy; pass a smaller tile= (now {self.tile}), "
            f"segment= (now {self.segment}) or memory="
        )

    def fingerprint(self) -> dict[str, object]:
        """What the pixels depend on besides the weights and the clip; for manifests."""
        shaping = asdict(self)
        for name in ("memory_bytes", "working_bytes", "frame_bytes", "pinned_bytes"):
            del shaping[name]
        if self.strengths:
            shaping["strengths"] = _digest(self.strengths)
        else:
            del shaping["strengths"]
        if not self.held_once:
            del shaping["held_once"]
        devices = [torch.device(name) for name in self.devices]
        shaping["devices"] = list(dict.fromkeys(_device_model(device) for device in devices))
        shaping["torch"] = torch.__version__
        shaping["cpu"] = torch.backends.cpu.get_cpu_capability()
        shaping["fast_convolutions"] = uses_fast_convolutions(devices[0], PRECISIONS[self.precision])
        return shaping


def plan_for(settings: Settings, network: VideoNetwork, width: int, height: int) -> Plan:
    """The plan for frames of width x height. Raises ValueError, naming the argument, for what cannot be done."""
    _check(settings)
    devices = devices_named(settings.device)
    _refuse_unlike(devices)
    precision = _precision(settings.precision, devices[0])
    value_bytes = PRECISIONS[precision].itemsize
    budget = settings.memory_bytes or _usual_budget(devices[0])
    tile = settings.tile
    on_cpu = devices[0].type == "cpu"
    pixel_bytes = value_bytes * (network.working_values if on_cpu else network.working_values_on_gpu)
    if tile is None:
        most_px = budget // 2 // pixel_bytes
        if not on_cpu:
            most_px = min(most_px, MOST_VALUES // network.largest_values)
        tile = _tile_that_fits(width, height, settings.halo, network, most_px, budget)
    tiles = tiles_of(width, height, tile, settings.halo)
    tiles_px = [_computed_px(tile, network) for tile in tiles]
    largest_px, total_px = max(tiles_px), sum(tiles_px)
    return Plan(
        segment=settings.segment,
        context=settings.context,
        scene_detect=settings.scene_detect,
        sc_threshold=settings.sc_threshold,
        tile=tile,
        halo=settings.halo,
        precision=precision,
        devices=tuple(str(device) for device in devices),
        threads=settings.threads or usual_threads(),
        memory_bytes=budget,
        dither=settings.dither,
        matrix=settings.matrix,
        scale=network.scale,
        cleaning=_cleaning(settings, network),
        strength=settings.strength,
        strengths=settings.strengths,
        held_once=settings.held_frames == "once",
        working_bytes=_working_bytes(
            pixel_bytes * largest_px,
            width * height * network.scale**2,
            hr_frames=(1 if _lowest_strength(settings) == 1 else 3) + (settings.held_frames == "once"),
            on_cpu=on_cpu,
        ),
        frame_bytes=(network.stored_values * value_bytes + 4 * (network.stored_flow_values + 3)) * total_px,
        pinned_bytes=system.usable_memory_bytes() // 4 // len(devices),
    )


def _working_bytes(network_bytes: int, hr_px: int, *, hr_frames: int, on_cpu: bool) -> int:
    """Of one step: the network at work on one tile, or a GPU on the planes of a whole frame; and hr in float32."""
    return 12 * hr_px * hr_frames + (network_bytes if on_cpu else max(network_bytes, GPU_CONVERSION_BYTES * hr_px))


def _lowest_strength(settings: Settings | Plan) -> float:
    return min([settings.strength, *(strength for _, strength in settings.strengths)])


def _digest(strengths: Sequence[tuple[int, float]]) -> str:
    """What a manifest holds of a list that may be long."""
    return f"{len(strengths)} changes ({hashlib.sha256(repr(strengths).encode()).hexdigest()[:8]})"


def _check(settings: Settings) -> None:
    """The limits of single options; those of tile and device depend on more than the value."""
    options.SEGMENT.check(settings.segment)
    options.CONTEXT.check(settings.context)
    options.DITHER.check(settings.dither)
    options.SC_THRESHOLD.check(settings.sc_threshold)
    options.HALO.check(settings.halo)
    options.HELD_FRAMES.check(settings.held_frames)
    for strength in (settings.strength, *(strength for _, strength in settings.strengths)):
        options.STRENGTH.check(strength)
    starts = [start for start, _ in settings.strengths]
    if starts != sorted(set(starts)):
        raise ValueError(f"strengths: expected ascending first frames, got {starts[:20]}")
    if settings.threads is not None:
        options.THREADS.check(settings.threads)
    if settings.memory_bytes is not None:
        options.MEMORY.check(settings.memory_bytes / GIB)
    if settings.cleaning is not None:
        options.CLEANING.check(settings.cleaning)
    if settings.matrix is not None:
        colorspace.matrix_named(str(settings.matrix))


def _cleaning(settings: Settings, network: VideoNetwork) -> int:
    if settings.cleaning is not None and not network.cleaning:
        raise ValueError(
            f"cleaning: expected a model that cleans its frames, such as realbasicvsr, got a {type(network).__name__}; "
            f"leave cleaning= out"
        )
    return settings.cleaning or network.cleaning


def devices_named(text: str) -> list[torch.device]:
    """ "auto" → the first CUDA device, else Apple's or Intel's, else the CPU; "cuda:0,cuda:1" → both.

    Raises ValueError, naming what this machine has, for a device that is not there: never a silent fallback.
    """
    there = devices_here()
    if text == "auto":
        return [torch.device(there[0])]
    named = [name.strip() for name in text.split(",")]
    found = [{"cuda": "cuda:0", "xpu": "xpu:0", "mps:0": "mps", "cpu:0": "cpu"}.get(name, name) for name in named]
    for name, asked in zip(found, named, strict=True):
        if name not in there:
            raise ValueError(f"device: expected auto or some of {', '.join(there)}, got {asked or 'nothing'}")
    if len({torch.device(name).type for name in found}) > 1:
        raise ValueError(f"device: expected devices of one kind, whose pixels agree, got {text}")
    return [torch.device(name) for name in found]


def devices_here() -> list[str]:
    """The devices torch can use on this machine, best first; the CPU is always the last."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    if torch.xpu.is_available():
        names += [f"xpu:{i}" for i in range(torch.xpu.device_count())]
    return [*names, "cpu"]


def _refuse_unlike(devices: Sequence[torch.device]) -> None:
    """Raises ValueError for devices of different models: each would make other pixels."""
    first, *others = devices
    for other in others:
        if _device_model(other) != _device_model(first):
            raise ValueError(
                f"device: expected devices of one model, whose pixels agree, got {first} ({_device_model(first)}) and "
                f"{other} ({_device_model(other)}); pass one of them"
            )


def _device_model(device: torch.device) -> str:
    """What the pixels depend on: the name of a GPU, or the kind of a device that has no more than one model here."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    return device.type


def _precision(requested: str, device: torch.device) -> str:
    precision = options.PRECISION.parse(requested)
    if precision == "auto":
        precision = "float16" if device.type == "cuda" else "float32"
    check_precision(precision, device)
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ValueError(
            f"precision: expected float16 or float32 on {_device_model(device)}, which only emulates others, "
            f"got {precision}"
        )
    return precision


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself. NVIDIA's do from Ampere on; others are not judged."""
    return device.type != "cuda" or bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)


def _usual_budget(device: torch.device) -> int:
    """Of the total memory, whatever is free: the same on every day and for every load.

    A GPU's is rounded to whole GiB, since drivers keep some of what the label says, and an eighth is left to the
    driver and the screen. Main memory, of which other programs take most, is rounded down to a power of two.
    """
    if device.type in ("cuda", "xpu"):
        module = torch.cuda if device.type == "cuda" else torch.xpu
        total: int = module.get_device_properties(device).total_memory
        return max(round(total / GIB), 1) * GIB * 7 // 8
    # Firmware keeps some of what the label says: 3 % short of a power of two still counts as it.
    gib = max(int(system.usable_memory_bytes() * 1.03) // GIB, 1)
    return int((1 << (gib.bit_length() - 1)) * GIB)


def usual_threads() -> int:
    """OMP_NUM_THREADS, the usual way to leave cores to others, else as many as this process may use."""
    requested = os.environ.get("OMP_NUM_THREADS", "")
    if requested.isdecimal() and len(requested) < 5 and 0 < int(requested) <= options.MAX_THREADS:
        return int(requested)
    return system.usable_cores()


def _computed_px(tile: Tile, network: VideoNetwork) -> int:
    """What is read of a tile, and what the network pads it with."""
    return network.padded_side(len(tile.read_rows)) * network.padded_side(len(tile.read_columns))


def _tile_that_fits(
    width: int, height: int, halo: int, network: VideoNetwork, most_px: int, budget: int
) -> tuple[int, int]:
    """The whole frame where it has at most so many pixels, halo included, else the fewest tiles that have."""
    for count in range(1, 257):
        columns = min(count, max(1, round((count * width / height) ** 0.5)))
        rows = -(-count // columns)
        tile = (-(-width // columns) if columns > 1 else 0, -(-height // rows) if rows > 1 else 0)
        if any(0 < side < MIN_TILE_PX for side in tile):
            break
        largest_px = max(_computed_px(each, network) for each in tiles_of(width, height, tile, halo))
        if largest_px <= most_px:
            return tile
    raise ValueError(
        f"memory: expected enough for one step on tiles of at least {MIN_TILE_PX} px, got {budget / GIB:g} GiB; "
        f"pass a larger memory= or another device="
    )
