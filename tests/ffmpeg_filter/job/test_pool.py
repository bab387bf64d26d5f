import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ffmpeg_filter.job import pool
from ffmpeg_filter.job.finalize import JobSummary
from ffmpeg_filter.job.options import JobOptions
from ffmpeg_filter.job.pipeline import FrameReader, Interrupted, Part, PartWriter
from ffmpeg_filter.job.pool import Pipeline, PipelinePool
from ffmpeg_filter.media.decode import DecodedFrame
from vs_iconvsr import system
from vs_iconvsr.colorspace import Planes
from vs_iconvsr.streaming import Counts

PLANES = (torch.zeros(1, 1),)
PARTS = [Part(k, range(10 * k, 10 * k + 10)) for k in range(6)]
MEET_S = 20.0


class Still:
    """A session of which every frame is there at once. engine_s: what its engine needs for a frame, as it reports."""

    def __init__(self, engine_s: float) -> None:
        self.engine_s = engine_s
        self.until = 0
        self.untils: list[int] = []
        self.counts = Counts()
        self.plan = SimpleNamespace(devices=("cpu",))
        self.planes = PLANES

    num_frames = 60

    def stop_at(self, until: int) -> None:
        self.until = until

    def needs(self, n: int) -> list[int]:
        self.untils.append(self.until)
        del n
        return []

    look_ahead = needs

    def frame(self, n: int) -> "Still":
        del n
        self.counts.hr_frames += 1
        self.counts.busy_s += self.engine_s
        return self

    def close(self) -> None:
        return


class Shelf:
    """Where the parts of all pipelines go. put_s: what its encoders need for a frame. fail: the part that fails."""

    def __init__(self, put_s: float = 0.0, fail: int = -1, at_open: Callable[[], object] = lambda: None) -> None:
        self.put_s, self.fail, self.at_open = put_s, fail, at_open
        self.made: dict[int, list[int]] = {}
        self.lock = threading.Lock()
        self.killed = 0

    def open(self, part: Part) -> "Shelf.Encoder":
        self.at_open()
        return Shelf.Encoder(self, part)

    def commit(self, part: Part, encoder: "Shelf.Encoder") -> None:
        with self.lock:
            assert part.number not in self.made
            self.made[part.number] = encoder.times

    class Encoder:
        path = Path("x")

        def __init__(self, shelf: "Shelf", part: Part) -> None:
            self.shelf, self.part, self.times, self.count = shelf, part, [], 0  # type: ignore[var-annotated]

        def put(self, planes: Planes, pts: int) -> None:
            del planes
            if self.part.number == self.shelf.fail:
                raise OSError("the encoder is gone")
            time.sleep(self.shelf.put_s)
            self.times.append(pts)
            self.count += 1

        def finish(self) -> None:
            return

        def kill(self) -> None:
            self.shelf.killed += 1

        def close(self) -> None:
            self.kill()


def decode(first: int) -> Iterator[DecodedFrame]:
    for n in itertools.count(first):
        yield DecodedFrame(n, PLANES, {})


def first_two_meet() -> Callable[[], None]:
    """For at_open: the first encoder goes on when the second one is open, too."""
    meeting, opened = threading.Barrier(2), itertools.count()

    def meet() -> None:
        if next(opened) < 2:
            meeting.wait(MEET_S)

    return meet


class Workshop:
    """PipelinePool that end on one shelf."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        encoders: int | None,
        engine_s: float = 0.001,
        stop: threading.Event | None = None,
        on_frame: Callable[[object], None] = lambda _: None,
    ) -> None:
        self.sessions: list[Still] = []
        self.sharers: list[int] = []
        self.shelf, self.engine_s = shelf, engine_s
        self.pool = PipelinePool(
            PARTS, self.opened, encoders=encoders, stop=stop or threading.Event(), on_frame=on_frame
        )

    def opened(self, sharers: int) -> Pipeline:
        self.sharers.append(sharers)
        self.sessions.append(Still(self.engine_s))
        writer = PartWriter(self.shelf, range(60))  # type: ignore[arg-type]
        return Pipeline(self.sessions[-1], FrameReader(decode), writer)  # type: ignore[arg-type]


EVERYTHING = {part.number: list(part.frames) for part in PARTS}


def test_one_pipeline_makes_every_part_in_order_and_looks_ahead_to_the_end() -> None:
    workshop = Workshop(Shelf(), encoders=1)
    workshop.pool.run()
    assert workshop.shelf.made == EVERYTHING
    assert list(workshop.shelf.made) == sorted(EVERYTHING)
    assert workshop.sharers == [1]
    assert set(workshop.sessions[0].untils) == {60}


def test_two_encoders_are_open_at_the_same_time_and_every_part_is_made_once() -> None:
    workshop = Workshop(Shelf(at_open=first_two_meet()), encoders=2)
    workshop.pool.run()
    assert workshop.shelf.made == EVERYTHING
    assert workshop.sharers == [1, 2]
    assert workshop.pool.stages().encode.frames == 60


def test_beside_another_pipeline_none_looks_ahead_beyond_its_own_part() -> None:
    workshop = Workshop(Shelf(at_open=first_two_meet()), encoders=2)
    workshop.pool.run()
    assert set(workshop.sessions[1].untils) <= {part.frames.stop for part in PARTS}
    assert len(set(workshop.sessions[1].untils)) > 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a second encoder would pay is decided without watching for a minute."""
    monkeypatch.setattr(pool, "_WATCH_S", 0.0)
    monkeypatch.setattr(pool, "_WATCH_FRAMES", 3)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("put_s", "engine_s", "idle", "expected"),
    [(0.004, 0.001, 0.9, 2), (0.004, 0.001, 0.1, 1), (0.0, 1.0, 0.9, 1)],  # on a busy machine, 0 may become 10 ms
    ids=["encoder slow, cores idle", "encoder slow, cores busy", "encoder fast"],
)
def test_a_second_encoder_begins_where_it_would_pay(
    monkeypatch: pytest.MonkeyPatch, put_s: float, engine_s: float, idle: float, expected: int
) -> None:
    monkeypatch.setattr(system, "idle_share", lambda: idle)
    workshop = Workshop(Shelf(put_s), encoders=None, engine_s=engine_s)
    workshop.pool.run()
    assert workshop.shelf.made == EVERYTHING
    assert len(workshop.sessions) == expected


@pytest.mark.parametrize(("watched", "enough"), [("_WATCH_S", 0.0), ("_WATCH_FRAMES", 3)])
def test_no_second_encoder_starts_in_the_first_seconds_or_frames(
    monkeypatch: pytest.MonkeyPatch, watched: str, enough: float
) -> None:
    monkeypatch.setattr(pool, watched, enough)
    monkeypatch.setattr(system, "idle_share", lambda: 1.0)
    workshop = Workshop(Shelf(0.004), encoders=None)
    workshop.pool.run()
    assert len(workshop.sessions) == 1


@pytest.mark.parametrize("fail", [0, 1])
def test_a_failure_in_either_pipeline_ends_both_and_is_raised(fail: int) -> None:
    shelf = Shelf(0.002, fail, at_open=first_two_meet())
    workshop = Workshop(shelf, encoders=2)
    with pytest.raises(OSError, match="the encoder is gone"):
        workshop.pool.run()
    assert all(times == EVERYTHING[number] for number, times in shelf.made.items())
    assert len(shelf.made) <= 1
    assert not [thread for thread in threading.enumerate() if thread.name in ("second pipeline", "encode")]


def test_stopping_ends_both_pipelines() -> None:
    stop = threading.Event()
    count = itertools.count()
    workshop = Workshop(
        Shelf(0.002), encoders=2, stop=stop, on_frame=lambda _: stop.set() if next(count) == 25 else None
    )
    with pytest.raises(Interrupted):
        workshop.pool.run()
    assert len(workshop.shelf.made) < len(PARTS)
    assert not [thread for thread in threading.enumerate() if thread.name in ("second pipeline", "encode")]


def test_an_interrupt_waits_for_no_encoder_of_the_second_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    finishing, killed = threading.Event(), threading.Event()

    def finish(encoder: Shelf.Encoder) -> None:
        if encoder.part.number == 1:
            finishing.set()
            if not killed.wait(MEET_S):
                pytest.fail("nobody ended it")

    monkeypatch.setattr(Shelf.Encoder, "finish", finish)
    monkeypatch.setattr(Shelf.Encoder, "kill", lambda encoder: killed.set() if encoder.part.number == 1 else None)

    def on_frame(_: object) -> None:
        if threading.current_thread() is threading.main_thread() and finishing.is_set():
            raise KeyboardInterrupt

    shelf = Shelf(0.01, at_open=first_two_meet())
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Workshop(shelf, encoders=2, on_frame=on_frame).pool.run()
    assert killed.is_set()
    assert time.monotonic() - began < MEET_S / 2


@pytest.mark.needs_ffmpeg
def test_two_encoders_make_the_same_file_as_one(
    clip: Callable[..., Path], upscaled: Callable[..., JobSummary], tmp_path: Path
) -> None:
    source = clip("source.mkv", "-c:v", "libx264", frames=40)
    contents = []
    for encoders in (1, 2):
        output = tmp_path / f"{encoders}.mkv"
        upscaled(source, output, encoders=encoders)
        contents.append(output.read_bytes())
    assert contents[0] == contents[1]


def test_more_encoders_than_pipelines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoders: expected 1 to 2 at a time, got 3"):
        JobOptions(tmp_path / "in.mkv", tmp_path / "out.mkv", encoders=3)
