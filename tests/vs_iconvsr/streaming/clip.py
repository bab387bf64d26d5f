"""A generated clip with one cut, and sessions on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from vs_iconvsr.colorspace import Format, Planes
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings
from vs_iconvsr.streaming import Fetched, HrFrame, Session, iterate

WIDTH, HEIGHT, NUM_FRAMES, CUT = 32, 24, 43, 17
YUV420P8 = Format("YUV", "integer", 8, 1, 1)
PROPERTIES = {"_Matrix": 6, "_Range": 0}


def make_clip(seed: int = 0) -> list[Planes]:
    """Grain over two still pictures, with one cut between them."""
    generator = torch.Generator().manual_seed(seed)

    def plane(n: int, size: tuple[int, int]) -> torch.Tensor:
        width, height = size
        scene = torch.Generator().manual_seed(100 + (n >= CUT))
        blocks = 30 + 190 * torch.rand(height // 2, width // 2, generator=scene)
        grain = 8 * torch.rand(height, width, generator=generator)
        return (blocks.repeat_interleave(2, 0).repeat_interleave(2, 1) + grain).to(torch.uint8)

    return [tuple(plane(n, size) for size in YUV420P8.plane_sizes(WIDTH, HEIGHT)) for n in range(NUM_FRAMES)]


CLIP = make_clip()


@dataclass
class Clip:
    """Source frames for a session, with a record of those that were fetched. properties: of single frames."""

    frames: list[Planes] = field(default_factory=lambda: CLIP)
    properties: dict[int, dict[str, int]] = field(default_factory=dict)
    fetched: list[int] = field(default_factory=list)

    def fetch(self, n: int) -> Fetched | None:
        if n >= len(self.frames):
            return None
        self.fetched.append(n)
        return Fetched(self.frames[n], PROPERTIES | self.properties.get(n, {}), user_data=n)

    def play(self, session: Session, *order: int) -> list[HrFrame]:
        """hr frames in this order; of no order: all of them."""
        return [hr for _, hr in iterate(session, self.fetch, order or range(NUM_FRAMES))]


def open_session(
    network: VideoNetwork,
    num_frames: int | None = NUM_FRAMES,
    in_flight: int = 1,
    sharers: int = 1,
    warn: Callable[[str], None] = print,
    target: Format = YUV420P8,
    **settings: object,
) -> Session:
    return Session(
        network,
        Settings(**({"segment": 10, "context": 2, "threads": 1} | settings)),  # type: ignore[arg-type]
        source=YUV420P8,
        width=WIDTH,
        height=HEIGHT,
        num_frames=num_frames,
        target=target,
        in_flight=in_flight,
        sharers=sharers,
        warn=warn,
    )


def equal(one: HrFrame, other: HrFrame) -> bool:
    same_planes = all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
    return same_planes and one.properties == other.properties and one.user_data == other.user_data


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()
