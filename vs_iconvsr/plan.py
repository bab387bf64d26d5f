"""The plan: everything that shapes pixels, settled before frame 0 and never changed by what memory is free.

A plan is a pure function of frame size, network, arguments and kind of device; it goes into logs and fingerprints.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vs_iconvsr import scenes
from vs_iconvsr.engine import PRECISIONS, Shape, uses_fast_convolutions
from vs_iconvsr.engine.tiles import MIN_TILE_PX, tiles_of
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Grid

GIB = 2**30
DEFAULT_HALO_PX = 48  # see scripts/seams.md


@dataclass(frozen=True)
class Settings:
    """What a user may ask for; None and "auto" leave the choice to `plan_for`.

    segment: frames kept from one propagation, 0 for whole scenes. context: frames read on either side of them.
    scene_detect: whether propagation stops at cuts. sc_threshold: see `scenes.is_cut`.
    tile: (width, height) of tiles in lr px, 0 for the whole frame. halo: px read round a tile.
    device: "auto", or torch's names with commas between several. precision: "auto" or one of engine.PRECISIONS.
    memory_bytes: what the device may give us. threads: torch's threads on
    the CPU.
    """

    segment: int = 30
    context: int = 5
    scene_detect: bool = True
    sc_threshold: float = scenes.DEFAULT_THRESHOLD
    tile: tuple[int, int] | None = None
    halo: int = DEFAULT_HALO_PX
    device: str = "auto"
    precision: str = "auto"
    memory_bytes: int | None = None
    threads: int | None = None
    dither: str = "ordered"
    matrix: int | None = None


@dataclass(frozen=True)
class Plan:
    """A settled plan. devices are torch names; memory_bytes is the budget of each."""

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
    working_bytes: int
    frame_bytes: int

    def shape(self, width: int, height: int) -> Shape:
        return Shape(width, height, self.tile, self.halo, self.precision)

    def describe(self) -> str:
        """One line for a log."""
        length = f"{self.segment} frames" if self.segment else "whole scenes"
        tile = "whole frames" if self.tile == (0, 0) else f"tiles of {self.tile[0]}x{self.tile[1]} + {self.halo} px"
        return (
            f"plan: segments of {length} + {self.context} of context, {tile}, {self.precision} on "
            f"{', '.join(self.devices)} ({self.threads} threads), about {self.working_bytes / GIB:.2f} GiB at work and "
            f"{self.frame_bytes / 2**20:.1f} MiB for each frame read, budget {self.memory_bytes / GIB:.0f} GiB"
        )

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
        for means in ("memory_bytes", "working_bytes", "frame_bytes"):
            del shaping[means]
        device = torch.device(self.devices[0])
        shaping["devices"] = [device.type] if device.type == "cpu" else [torch.cuda.get_device_name(device)]
        shaping["torch"] = torch.__version__
        shaping["cpu"] = torch.backends.cpu.get_cpu_capability()
        shaping["fast_convolutions"] = uses_fast_convolutions(device, PRECISIONS[self.precision])
        return shaping


def plan_for(settings: Settings, network: VideoNetwork, width: int, height: int) -> Plan:
    """The plan for frames of width x height. Raises ValueError, naming the argument, for what cannot be done."""
    Grid(1, settings.segment, settings.context)
    if settings.dither not in ("ordered", "none"):
        raise ValueError(f"dither: expected ordered or none, got {settings.dither}")
    if not 0 < settings.sc_threshold <= 1:
        raise ValueError(f"sc_threshold: expected a share above 0 and up to 1, got {settings.sc_threshold}")
    if settings.threads is not None and settings.threads < 1:
        raise ValueError(f"threads: expected at least 1, got {settings.threads}")
    devices = devices_named(settings.device)
    precision = _precision(settings.precision, devices[0])
    value_bytes = PRECISIONS[precision].itemsize
    budget = settings.memory_bytes or _usual_budget(devices[0])
    if budget < 0.25 * GIB:
        raise ValueError(f"memory: expected at least 0.25 GiB, got {budget / GIB:.3g}")
    tile = settings.tile
    if tile is None:
        tile = _tile_that_fits(width, height, settings.halo, network, value_bytes, budget)
    tiles = tiles_of(width, height, tile, settings.halo)
    largest = max(len(t.read_rows) * len(t.read_columns) for t in tiles)
    total = sum(len(t.read_rows) * len(t.read_columns) for t in tiles)
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
        working_bytes=network.working_values * largest * value_bytes + 12 * width * height * network.scale**2,
        frame_bytes=(network.carried_channels * value_bytes + 3 * 4) * total,
    )


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


def _precision(wanted: str, device: torch.device) -> str:
    if wanted != "auto":
        if wanted not in PRECISIONS:
            raise ValueError(f"precision: expected auto or one of {', '.join(PRECISIONS)}, got {wanted}")
        return wanted
    return "float16" if device.type == "cuda" else "float32"


def _usual_budget(device: torch.device) -> int:
    """The device's total memory rounded down to a power of two of GiB: the same on every day and for every load."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    else:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
    # Firmware and drivers keep some of what the label says: 3 % short of a power of two still counts as it.
    gib = max(int(total * 1.03) // GIB, 1)
    return int((1 << (gib.bit_length() - 1)) * GIB)


def usual_threads() -> int:
    """As many as OMP_NUM_THREADS says, the usual way to leave cores to others, else as many as this process may use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tile_that_fits(
    width: int, height: int, halo: int, network: VideoNetwork, value_bytes: int, budget: int
) -> tuple[int, int]:
    """The whole frame where one step of it fits half the budget, else the fewest tiles that do."""
    for count in range(1, 257):
        columns = min(count, max(1, round((count * width / height) ** 0.5)))
        rows = -(-count // columns)
        tile = (-(-width // columns) if columns > 1 else 0, -(-height // rows) if rows > 1 else 0)
        if any(0 < side < MIN_TILE_PX for side in tile):
            break
        tiles = tiles_of(width, height, tile, halo)
        largest = max(len(t.read_rows) * len(t.read_columns) for t in tiles)
        if network.working_values * largest * value_bytes <= budget // 2:
            return tile
    raise ValueError(
        f"memory: expected enough for one step on tiles of at least {MIN_TILE_PX} px, got {budget / GIB:.2g} GiB; "
        f"pass a larger memory= or another device="
    )
