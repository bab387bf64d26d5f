"""Decoding, upscaling and encoding in parallel: one thread each, with bounded queues between them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from ffmpeg_filter.media.decode import DecodedFrame
from ffmpeg_filter.media.encode import FrameEncoder
from ffmpeg_filter.media.ffmpeg import FfmpegError
from vs_iconvsr.colorspace import Planes
from vs_iconvsr.streaming import Fetched, HrFrame, Session, iterate

logger = logging.getLogger(__name__)

DECODED_AHEAD = 12
ENCODED_BEHIND = 4

# For gaps up to this many frames, decoding on is cheaper than seeking.
_SEEK_GAP_FRAMES = 300


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """The job was asked to stop; finished parts are kept."""


class QueueClosed(Exception):  # noqa: N818 - carries the real cause as its __cause__
    """The other end of a queue has stopped."""


@dataclass(frozen=True)
class StageTime:
    """Seconds of work on a number of frames; waiting for other stages does not count."""

    frames: int = 0
    seconds: float = 0.0

    def __add__(self, more: "StageTime") -> "StageTime":
        return StageTime(self.frames + more.frames, self.seconds + more.seconds)

    def beside(self, other: "StageTime") -> "StageTime":
        """Both in parallel: the rates add up."""
        frames, fps = self.frames + other.frames, self.fps + other.fps
        return StageTime(frames, frames / fps if fps > 0 else self.seconds + other.seconds)

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class StageTimes:
    """The time that each stage spent working; the slowest limits the speed of all."""

    decode: StageTime = field(default_factory=StageTime)
    upscale: StageTime = field(default_factory=StageTime)
    encode: StageTime = field(default_factory=StageTime)

    def __add__(self, more: "StageTimes") -> "StageTimes":
        return StageTimes(self.decode + more.decode, self.upscale + more.upscale, self.encode + more.encode)

    def rates(self) -> dict[str, float]:
        """fps of each stage by name, without stages that processed no frame."""
        return {name: round(spent.fps, 3) for name, spent in vars(self).items() if spent.frames}


class BoundedQueue[Item]:
    """A bounded queue between two threads that either end can abort, so that neither waits forever."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._cause: BaseException | None = None
        self._broken = False

    def put(self, item: Item) -> None:
        """Waits for room. Raises QueueClosed if the consumer has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken or len(self._items) < self._size)
            self._check()
            self._items.append(item)
            self._changed.notify_all()

    def take(self) -> Item | None:
        """Waits for an item; None after the last one. Raises QueueClosed if the producer failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken or self._ended or bool(self._items))
            self._check()
            if not self._items:
                if self._cause is not None:
                    raise QueueClosed from self._cause
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self, cause: BaseException | None = None) -> None:
        """No more items follow, because of `cause` if there is one; those in the queue can still be taken."""
        with self._changed:
            self._ended, self._cause = True, self._cause or cause
            self._changed.notify_all()

    def abort(self, cause: BaseException | None = None) -> None:
        """Wakes and stops both ends and discards the items. The first cause is the one reported."""
        with self._changed:
            self._broken = True
            self._cause = self._cause or cause
            self._items.clear()
            self._changed.notify_all()

    def _check(self) -> None:
        if self._broken:
            raise QueueClosed from self._cause


class FrameReader:
    """Source frames on demand, decoded a few ahead by a separate thread. Cheap in ascending order."""

    def __init__(self, decode: Callable[[int], Iterator[DecodedFrame]], ahead: int = DECODED_AHEAD) -> None:
        self._decode = decode
        self._ahead = ahead
        self._queue: BoundedQueue[DecodedFrame] | None = None
        self._thread: threading.Thread | None = None
        self._next = 0
        self.spent = StageTime()

    def get(self, n: int) -> DecodedFrame:
        """Frame n. Raises what the decoder raises."""
        if self._queue is None or n < self._next or n - self._next > _SEEK_GAP_FRAMES:
            self._begin(n)
        assert self._queue is not None
        while True:
            try:
                picture = self._queue.take()
            except QueueClosed as broken:
                raise broken.__cause__ or broken from None
            assert picture is not None, "the decoder returns every frame of the table"
            self._next = picture.index + 1
            if picture.index == n:
                return picture

    def fetch(self, n: int) -> Fetched:
        """Frame n as a session takes it, see `iterate`."""
        frame = self.get(n)
        return Fetched(frame.planes, frame.properties)

    def close(self) -> None:
        if self._queue is not None and self._thread is not None:
            self._queue.abort()
            self._thread.join()
        self._queue = None

    def _begin(self, n: int) -> None:
        self.close()
        queue: BoundedQueue[DecodedFrame] = BoundedQueue(self._ahead)

        def decode_on() -> None:
            try:
                began = time.monotonic()
                for picture in self._decode(n):
                    self.spent += StageTime(1, time.monotonic() - began)
                    queue.put(picture)
                    began = time.monotonic()
                queue.end()
            except QueueClosed:
                return
            except BaseException as error:
                queue.end(error)

        self._queue, self._next = queue, n
        self._thread = threading.Thread(target=decode_on, name="decode", daemon=True)
        self._thread.start()


@dataclass(frozen=True)
class Part:
    """Frames that become one file."""

    number: int
    frames: range


class PartSink(Protocol):
    """Where encoded parts go."""

    def open(self, part: Part) -> FrameEncoder:
        """An encoder for this part."""

    def commit(self, part: Part, encoder: FrameEncoder) -> None:
        """Checks and keeps what the finished encoder has written. Raises if it is not complete."""


class PartWriter:
    """Encodes hr frames into parts, on a separate thread. While the encoder of one part finishes, the next one starts.

    For each part: `begin`, then `put` for each of its frames. pts: the timestamp of every frame of the source.
    """

    def __init__(self, parts: PartSink, pts: Sequence[int]) -> None:
        self._parts, self._pts = parts, pts
        self._queue: BoundedQueue[Part | Planes] = BoundedQueue(ENCODED_BEHIND)
        self._open: set[FrameEncoder] = set()
        self._thread = threading.Thread(target=self._encode_parts, name="encode", daemon=True)
        self._failure: BaseException | None = None
        self.spent = StageTime()
        self._thread.start()

    def begin(self, part: Part) -> None:
        """The next hr frames belong to this part. Raises any error of the encoding thread."""
        self._enqueue(part)

    def put(self, planes: Planes) -> None:
        """The next hr frame of the part. Raises any error of the encoding thread."""
        self._enqueue(planes)

    def _enqueue(self, item: Part | Planes) -> None:
        try:
            self._queue.put(item)
        except QueueClosed as broken:
            self._thread.join()
            raise self._failure or broken from None

    def finish(self) -> None:
        """Waits until all parts are committed. Raises any error of the encoding thread."""
        self._queue.end()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """Stops: the part being encoded is lost; one with all its frames is committed, unless interrupted again."""
        self._queue.abort()
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """Kills all encoders; a part that has all its frames is lost, too."""
        self._queue.abort()
        for encoder in list(self._open):
            encoder.kill()

    def _encode_parts(self) -> None:
        finishing: Future[None] | None = None
        encoder: FrameEncoder | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="finish") as finisher:
            try:
                while (part := self._queue.take()) is not None:
                    assert isinstance(part, Part)
                    began = time.monotonic()
                    encoder = self._parts.open(part)
                    self._open.add(encoder)
                    self.spent += StageTime(0, time.monotonic() - began)
                    for n in part.frames:
                        if finishing is not None and finishing.done():
                            finishing.result()
                        planes = self._queue.take()
                        if planes is None:
                            raise FfmpegError(
                                f"part {part.number}: expected {len(part.frames)} frames, got {encoder.count}"
                            )
                        assert not isinstance(planes, Part)
                        began = time.monotonic()
                        encoder.put(planes, self._pts[n])
                        self.spent += StageTime(1, time.monotonic() - began)
                    if finishing is not None:
                        self._wait_for(finishing)
                    finishing, encoder = finisher.submit(self._finish_part, part, encoder), None
                if finishing is not None:
                    self._wait_for(finishing)
            except BaseException as error:
                self._failure = error if not isinstance(error, QueueClosed) else None
                self._queue.abort(error)
                if encoder is not None:
                    encoder.close()

    def _wait_for(self, finishing: Future[None]) -> None:
        began = time.monotonic()
        finishing.result()
        self.spent += StageTime(0, time.monotonic() - began)

    def _finish_part(self, part: Part, encoder: FrameEncoder) -> None:
        try:
            encoder.finish()
            self._parts.commit(part, encoder)
        finally:
            self._open.discard(encoder)


def run_pipeline(
    session: Session,
    reader: FrameReader,
    writer: PartWriter,
    parts: Iterable[Part],
    *,
    should_stop: Callable[[], bool],
    on_frame: Callable[[HrFrame], None],
) -> None:
    """Writes the hr frames of `parts`, in order, until all are written or `should_stop` returns true.

    Closes everything that it was given, in any case. Raises Interrupted, or the first error.
    """

    def frames() -> Iterator[int]:
        for part in parts:
            writer.begin(part)
            yield from part.frames

    done = threading.Event()
    watch = threading.Thread(target=_close_on_stop, args=(session, should_stop, done), name="stop", daemon=True)
    watch.start()
    try:
        for _, hr in iterate(session, reader.fetch, frames()):
            writer.put(hr.planes)
            on_frame(hr)
            if should_stop():
                raise Interrupted
        writer.finish()
    except BaseException as error:
        writer.abort()
        if should_stop() and not isinstance(error, KeyboardInterrupt):
            raise Interrupted from error
        raise
    finally:
        done.set()
        session.close()
        reader.close()


def _close_on_stop(session: Session, should_stop: Callable[[], bool], done: threading.Event) -> None:
    """Ends the wait for an hr frame when the user stops the job: the first frame of a segment may take minutes."""
    while not done.wait(0.2):
        if should_stop():
            session.close()
            return
