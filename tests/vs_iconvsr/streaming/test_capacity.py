"""How much a session may hold."""

import pytest

from vs_iconvsr.engine import MemoryStrategy
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.plan import Settings, plan_for
from vs_iconvsr.streaming.capacity import planned_limits
from vs_iconvsr.streaming.runner import STRATEGIES


@pytest.mark.parametrize(
    ("segment", "num_frames", "expected"),
    [(30, 1_000_000, MemoryStrategy.KEEP), (1_000_000, 30, MemoryStrategy.KEEP), (0, 30, MemoryStrategy.KEEP)]
    + [(n, m, MemoryStrategy.RECOMPUTE) for n, m in ((1_000_000, None), (1_000_000, 1_000_000), (0, 1_000_000))],
)
def test_a_segment_is_at_most_as_long_as_the_clip(
    tiny_network: VideoNetwork, segment: int, num_frames: int | None, expected: MemoryStrategy
) -> None:
    plan = plan_for(Settings(segment=segment, device="cpu", memory_bytes=2**30), tiny_network, 64, 64)
    limits = planned_limits(plan, num_frames, 100_000, in_flight=1, sharers=1)
    assert STRATEGIES[limits.strategy] is expected
