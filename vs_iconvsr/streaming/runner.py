"""One device at work: a step of a segment at a time, from source planes to hr planes. No lock, no decisions."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vs_iconvsr.engine import MemoryStrategy, Propagation, Upscaler
from vs_iconvsr.engine.memory import is_out_of_memory
from vs_iconvsr.segments import Segment
from vs_iconvsr.streaming.actions import Begin
from vs_iconvsr.streaming.frames import Converter, HrFrame, SourceFrame
from vs_iconvsr.streaming.held import HeldPropagation

STRATEGIES = tuple(MemoryStrategy)
"""By the numbers that the planner knows them by, from the fastest to the one that needs least memory."""


@dataclass
class SegmentJob:
    """A segment under way. It holds its own source frames: the store may forget them.

    failure: what those who wait for one of its frames get instead.
    """

    segment: Segment
    frames: Mapping[int, SourceFrame]
    device: int
    strategy: MemoryStrategy
    starts_scene: bool
    ends_scene: bool
    propagation: Propagation | HeldPropagation | None = None
    failure: Exception | None = None

    @classmethod
    def begin(cls, begin: Begin, source: Mapping[int, SourceFrame]) -> "SegmentJob":
        frames = {n: source[n] for n in begin.segment.read}
        strategy = STRATEGIES[begin.strategy]
        return cls(begin.segment, frames, begin.device, strategy, begin.starts_scene, begin.ends_scene)

    def restart(self, strategy: int) -> None:
        self.strategy, self.propagation = STRATEGIES[strategy], None


@dataclass(frozen=True)
class StepDone:
    """A step that ended well. hr: the frame that it completed, `number` its number."""

    number: int
    hr: HrFrame | None
    backward_done: bool
    seconds: float


@dataclass(frozen=True)
class OutOfMemory:
    """A step that found no memory; what the job held of the device is free again."""

    reason: str


@dataclass(frozen=True)
class Failure:
    """A step that ended with another error."""

    error: Exception


type Outcome = StepDone | OutOfMemory | Failure


class Runner:
    """Takes steps on one device; only that device's worker thread may call it.

    held_once: whether frames that repeat the one before exactly are upscaled once.
    """

    def __init__(self, upscaler: Upscaler, converter: Converter, *, held_once: bool = False) -> None:
        self.device = upscaler.device
        self._upscaler, self._converter, self._held_once = upscaler, converter, held_once

    def step(self, job: SegmentJob, *, rewind: bool) -> Outcome:
        """One step of the job's propagation, which begins with the first. rewind: repeat its forward branch first."""
        began = time.monotonic()
        try:
            if job.propagation is None:
                job.propagation = self._begin(job)
            elif rewind:
                job.propagation.rewind()
            number = job.propagation.next_kept
            rgb = job.propagation.step()
            hr = None if rgb is None else self._hr_frame(job, number, rgb)
            return StepDone(number, hr, job.propagation.backward_done, time.monotonic() - began)
        except Exception as error:
            if not is_out_of_memory(error):
                return Failure(error)
            reason = str(error)
        # After the exception is gone: its traceback holds tensors. What torch's allocator has in its cache it gives
        # back by itself before it reports that memory has run out.
        job.propagation = None
        return OutOfMemory(reason)

    def _begin(self, job: SegmentJob) -> Propagation | HeldPropagation:
        frames, device = job.frames, self.device  # not the job itself, which would then keep itself alive
        converter = self._converter

        def lr_frame(n: int) -> Tensor:
            return converter.to_lr(frames[n], device)

        if self._held_once:
            return HeldPropagation(self._upscaler, job.segment, frames, lr_frame, job.strategy)
        return self._upscaler.propagate(job.segment, lr_frame, strategy=job.strategy)

    def _hr_frame(self, job: SegmentJob, n: int, rgb: Tensor) -> HrFrame:
        kept = job.segment.kept
        starts, ends = n == kept.start and job.starts_scene, n == kept.stop - 1 and job.ends_scene
        return self._converter.to_hr(n, job.frames[n], rgb, segment=kept.start, starts=starts, ends=ends)
