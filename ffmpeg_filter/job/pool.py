"""Pipelines of decoder, engine and encoder that make parts: one, or two if one encoder keeps the engine waiting.

With small or complex frames an encoder leaves cores idle, however many threads it has; two encoders, each working on
its own part, do not. The bytes of a part do not depend on which pipeline makes it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ffmpeg_filter.job.pipeline import FrameReader, Interrupted, Part, PartWriter, StageTime, StageTimes, run_pipeline
from vs_iconvsr import system
from vs_iconvsr.streaming import HrFrame, Session

logger = logging.getLogger(__name__)

MAX_PIPELINES = 2

# The load average needs a minute to settle, and the first frames of a run are not representative.
_WATCH_S = 60.0
_WATCH_FRAMES = 60
_WAITING = 0.8  # of the engine's rate: an encoder below it is the limit
_IDLE = 0.4  # of the cores


@dataclass
class Pipeline:
    """Upscales and encodes one part after the other."""

    session: Session
    reader: FrameReader
    writer: PartWriter

    def stages(self) -> StageTimes:
        """The time that its stages have spent so far."""
        engine = StageTime(self.session.counts.hr_frames, self.session.counts.busy_s / len(self.session.plan.devices))
        return StageTimes(self.reader.spent, engine, self.writer.spent)


class PipelinePool:
    """The parts to make, and the pipelines that make them.

    open_pipeline: creates a pipeline; its argument is how many of them share the memory. encoders: how many pipelines;
    None: one, and a second one when that is faster. on_frame: called with each hr frame, by one thread at a time.
    """

    def __init__(
        self,
        todo: Sequence[Part],
        open_pipeline: Callable[[int], Pipeline],
        *,
        encoders: int | None,
        stop: threading.Event,
        on_frame: Callable[[HrFrame], None],
    ) -> None:
        self._todo = deque(todo)
        self._end = todo[-1].frames.stop
        self._open = open_pipeline
        self._encoders = encoders
        self._stop = stop
        self._on_frame = on_frame
        self._lock = threading.RLock()
        self._halted = threading.Event()
        self._failure: BaseException | None = None
        self._pipelines: list[Pipeline] = []
        self._second: threading.Thread | None = None
        self._began = time.monotonic()

    def run(self) -> None:
        """Makes all parts. Raises Interrupted, or the first error, after all pipelines have stopped."""
        try:
            self._drive(self._open_pipeline())
            if self._second is not None:
                self._second.join()
        except BaseException as error:
            self._end_second(at_once=isinstance(error, KeyboardInterrupt))
            if not isinstance(error, Interrupted) or self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure

    def stages(self) -> StageTimes:
        """The time that all pipelines have spent: they share one engine and have the other stages to themselves."""
        with self._lock:
            each = [pipeline.stages() for pipeline in self._pipelines]
        total = each[0]
        for more in each[1:]:
            total = StageTimes(
                total.decode.beside(more.decode), total.upscale + more.upscale, total.encode.beside(more.encode)
            )
        return total

    def _open_pipeline(self) -> Pipeline:
        with self._lock:
            pipeline = self._open(len(self._pipelines) + 1)
            self._pipelines.append(pipeline)
            return pipeline

    def _drive(self, pipeline: Pipeline) -> None:
        def on_frame(hr: HrFrame) -> None:
            with self._lock:
                self._on_frame(hr)
                if self._second is None and self._todo and self._second_would_pay():
                    self._second = threading.Thread(target=self._run_second, name="second pipeline", daemon=True)
                    self._second.start()

        run_pipeline(
            pipeline.session,
            pipeline.reader,
            pipeline.writer,
            self._claim_parts(pipeline),
            should_stop=self._should_stop,
            on_frame=on_frame,
        )

    def _claim_parts(self, pipeline: Pipeline) -> Iterator[Part]:
        """Part after part, until none is left. A single pipeline looks ahead beyond its current part."""
        while True:
            with self._lock:
                if not self._todo:
                    return
                part = self._todo.popleft()
                pipeline.session.stop_at(self._end if self._second is None else part.frames.stop)
            yield part

    def _should_stop(self) -> bool:
        return self._stop.is_set() or self._halted.is_set()

    def _run_second(self) -> None:
        try:
            with self._lock:
                self._pipelines[0].session.stop_at(self._todo[0].frames.start if self._todo else self._end)
                logger.info("starting a second encoder")
            self._drive(self._open_pipeline())
        except BaseException as error:
            self._failure = error
            self._halted.set()

    def _end_second(self, *, at_once: bool) -> None:
        self._halted.set()
        if self._second is None:
            return
        if at_once:
            for pipeline in self._pipelines[1:]:
                pipeline.writer.kill()
        self._second.join()

    def _second_would_pay(self) -> bool:
        if self._encoders is not None:
            return self._encoders > 1
        if time.monotonic() - self._began < _WATCH_S:
            return False
        spent = self.stages()
        if spent.encode.frames < _WATCH_FRAMES or spent.encode.fps > _WAITING * spent.upscale.fps:
            return False
        return system.idle_share() >= _IDLE
