import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ffmpeg_filter.job.pipeline import (
    BoundedQueue,
    FrameReader,
    Interrupted,
    Part,
    PartWriter,
    QueueClosed,
    StageTime,
    run_pipeline,
)
from ffmpeg_filter.media.decode import DecodedFrame
from vs_iconvsr.colorspace import Planes

PLANES = (torch.zeros(1, 1),)


# ---- queue ----


def test_a_queue_keeps_the_order_and_ends() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    giver = threading.Thread(target=lambda: ([queue.put(n) for n in range(100)], queue.end()))
    giver.start()
    assert [queue.take() for _ in range(101)] == [*range(100), None]
    giver.join()


def test_a_full_queue_blocks_the_producer() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.put(0)
    second = threading.Event()
    giver = threading.Thread(target=lambda: (queue.put(1), second.set()))
    giver.start()
    assert not second.wait(0.05)
    assert queue.take() == 0
    assert second.wait(10)
    giver.join()


def test_a_broken_queue_wakes_both_ends_and_names_the_first_cause() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.put(0)
    causes: list[BaseException | None] = []

    def give() -> None:
        try:
            queue.put(1)
        except QueueClosed as broken:
            causes.append(broken.__cause__)

    giver = threading.Thread(target=give)
    giver.start()
    first = ValueError("first")
    queue.abort(first)
    queue.abort(ValueError("second"))
    giver.join(10)
    with pytest.raises(QueueClosed) as raised:
        queue.take()
    assert causes == [first]
    assert raised.value.__cause__ is first


# ---- feed ----


@pytest.fixture
def counted() -> tuple[Callable[[int], Iterator[DecodedFrame]], list[int]]:
    """A decoder of 1000 frames, and where it was asked to start."""
    starts: list[int] = []

    def decode(first: int) -> Iterator[DecodedFrame]:
        starts.append(first)
        for n in range(first, 1000):
            yield DecodedFrame(n, PLANES, {})

    return decode, starts


Counted = tuple[Callable[[int], Iterator[DecodedFrame]], list[int]]


def test_ascending_frames_are_decoded_once(counted: Counted) -> None:
    feed = FrameReader(counted[0])
    assert [feed.get(n).index for n in (0, 1, 2, 5, 40)] == [0, 1, 2, 5, 40]
    assert counted[1] == [0]
    feed.close()


def test_going_back_or_far_ahead_starts_the_decoder_again(counted: Counted) -> None:
    feed = FrameReader(counted[0])
    assert [feed.get(n).index for n in (10, 3, 900)] == [10, 3, 900]
    assert counted[1] == [10, 3, 900]
    feed.close()


def test_an_error_of_the_decoder_reaches_the_caller() -> None:
    def decode(first: int) -> Iterator[DecodedFrame]:
        yield DecodedFrame(first, PLANES, {})
        raise OSError("the disk is gone")

    feed = FrameReader(decode)
    assert feed.get(0).index == 0
    with pytest.raises(OSError, match="the disk is gone"):
        feed.get(1)
    feed.close()


# ---- writer ----


class Kept:
    """PartSink in memory; fails where asked to."""

    def __init__(self, fail_at: str = "") -> None:
        self.fail_at, self.parts, self.killed = fail_at, {}, []  # type: ignore[var-annotated]

    def open(self, part: Part) -> "Kept.Encoder":
        if self.fail_at == "open":
            raise OSError("open")
        return Kept.Encoder(self, part.number)

    def commit(self, part: Part, encoder: "Kept.Encoder") -> None:
        if self.fail_at == "commit":
            raise OSError("commit")
        self.parts[part.number] = encoder.times

    class Encoder:
        path = Path("x")

        def __init__(self, kept: "Kept", part: int) -> None:
            self.kept, self.part, self.times, self.count = kept, part, [], 0  # type: ignore[var-annotated]

        def put(self, planes: Planes, pts: int) -> None:
            del planes
            if self.kept.fail_at == "put":
                raise OSError("put")
            self.times.append(pts)
            self.count += 1

        def finish(self) -> None:
            if self.kept.fail_at == "finish":
                raise OSError("finish")

        def kill(self) -> None:
            self.kept.killed.append(self.part)

        def close(self) -> None:
            self.kill()


PARTS = [Part(0, range(2)), Part(2, range(4, 6))]


def writer_to(kept: Kept) -> PartWriter:
    return PartWriter(kept, [n * 10 for n in range(6)])  # type: ignore[arg-type]


def write(writer: PartWriter) -> None:
    """Both parts, to the end."""
    for part in PARTS:
        writer.begin(part)
        for _ in part.frames:
            writer.put(PLANES)
    writer.finish()


def test_frames_go_to_the_parts_that_are_missing() -> None:
    kept = Kept()
    write(writer_to(kept))
    assert kept.parts == {0: [0, 10], 2: [40, 50]}
    assert kept.killed == []


def test_the_next_part_begins_while_the_encoder_of_the_last_one_empties_itself() -> None:
    begun = threading.Event()

    class Slow(Kept):
        def open(self, part: Part) -> Kept.Encoder:
            encoder = super().open(part)
            if part.number == 2:
                begun.set()
            encoder.finish = lambda: begun.wait(30) or pytest.fail("nothing has begun")  # type: ignore[method-assign]
            return encoder

    kept = Slow()
    write(writer_to(kept))
    assert set(kept.parts) == {0, 2}


def test_time_spent_waiting_for_frames_is_not_the_encoders() -> None:
    writer = writer_to(Kept())
    writer.begin(Part(0, range(4)))
    for _ in range(4):
        threading.Event().wait(0.1)
        writer.put(PLANES)
    writer.finish()
    assert writer.spent.frames == 4
    assert writer.spent.seconds < 0.2


@pytest.mark.parametrize("where", ["open", "put", "finish", "commit"])
def test_the_first_failure_reaches_the_caller(where: str) -> None:
    kept = Kept(where)
    with pytest.raises(OSError, match=where):
        write(writer_to(kept))
    assert kept.parts == {}


def test_an_aborted_writer_keeps_no_part_that_is_not_whole() -> None:
    kept = Kept()
    writer = writer_to(kept)
    writer.begin(PARTS[0])
    writer.put(PLANES)
    writer.put(PLANES)
    writer.begin(PARTS[1])
    writer.put(PLANES)
    writer.abort()
    assert set(kept.parts) <= {0}


def test_too_few_frames_are_no_whole_part() -> None:
    writer = writer_to(Kept())
    writer.begin(PARTS[0])
    writer.put(PLANES)
    with pytest.raises(Exception, match="part 0: expected 2 frames, got 1"):
        writer.finish()


# ---- the whole line ----


class Still:
    """A session of which every frame is there at once; frame 3 never comes if asked so."""

    def __init__(self, hang_at: int = -1) -> None:
        self.closed = threading.Event()
        self.hang_at = hang_at

    num_frames = 60

    def needs(self, n: int) -> list[int]:
        del n
        return []

    def look_ahead(self, n: int) -> list[int]:
        del n
        return []

    def frame(self, n: int) -> "Still":
        if n == self.hang_at:
            assert self.closed.wait(30)
            raise ValueError("closed")
        return self

    planes = PLANES

    def close(self) -> None:
        self.closed.set()


def test_stopping_ends_the_wait_for_a_frame(counted: Counted) -> None:
    stop = threading.Event()
    session = Still(hang_at=3)
    shown = []

    def on_frame(hr: object) -> None:
        shown.append(hr)
        if len(shown) == 3:
            stop.set()

    with pytest.raises(Interrupted):
        run_pipeline(
            session,  # type: ignore[arg-type]
            FrameReader(counted[0]),
            writer_to(Kept()),
            [Part(0, range(4))],
            should_stop=stop.is_set,
            on_frame=on_frame,
        )
    assert session.closed.is_set()


def test_a_failure_closes_everything(counted: Counted) -> None:
    session = Still()
    with pytest.raises(OSError, match="put"):
        run_pipeline(
            session,  # type: ignore[arg-type]
            FrameReader(counted[0]),
            writer_to(Kept("put")),
            PARTS,
            should_stop=lambda: False,
            on_frame=lambda _: None,
        )
    assert session.closed.is_set()


def test_the_rates_of_stages_side_by_side_add_up() -> None:
    both = StageTime(10, 5.0).beside(StageTime(3, 3.0))
    assert both.frames == 13
    assert both.fps == pytest.approx(3.0)
    assert StageTime(0, 1.0).beside(StageTime(0, 2.0)) == StageTime(0, 3.0)
