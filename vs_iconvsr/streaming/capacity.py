"""How much a session may hold at a time: frames, and the first memory strategy. Shapes no pixel."""

from vs_iconvsr.engine import MemoryStrategy
from vs_iconvsr.plan import Plan
from vs_iconvsr.streaming.runner import STRATEGIES
from vs_iconvsr.streaming.segment_queue import Limits


def planned_limits(plan: Plan, num_frames: int | None, hr_bytes: int, *, in_flight: int, sharers: int) -> Limits:
    """hr_bytes: of one hr frame. in_flight: requests at a time. sharers: sessions that share the plan's memory.

    hr frames: at least those in flight, at most a cell, if an eighth of the budget takes it.
    """
    affordable = plan.memory_bytes // 8 // sharers // hr_bytes
    return Limits(
        in_flight=in_flight,
        hr_frames=max(in_flight + 2, min(plan.segment or 60, affordable)),
        devices=len(plan.devices),
        strategies=len(STRATEGIES),
        strategy=STRATEGIES.index(_first_strategy(plan, num_frames, sharers)),
    )


def _first_strategy(plan: Plan, num_frames: int | None, sharers: int) -> MemoryStrategy:
    """The features of two segments stay on the device where three quarters of the budget take them, else in host
    memory where a quarter of that does."""
    lengths = [length for length in (plan.segment, num_frames) if length]
    length = min(lengths, default=0) + 2 * plan.context
    room = plan.memory_bytes * 3 // 4 - plan.working_bytes
    if sharers * 2 * length * plan.frame_bytes <= room:
        return MemoryStrategy.KEEP
    fits_host = sharers * length * plan.frame_bytes <= plan.pinned_bytes
    return MemoryStrategy.OFFLOAD if plan.devices[0] != "cpu" and fits_host else MemoryStrategy.RECOMPUTE
