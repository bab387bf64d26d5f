"""What a session does when a step fails, when memory runs out, and when it is closed."""

import threading
from collections.abc import Callable

import pytest
import torch

from tests.vs_iconvsr.streaming.clip import CUT, NUM_FRAMES, Clip, equal, open_session, wait_until
from vs_iconvsr import scenes
from vs_iconvsr.engine import MemoryStrategy, Propagation, Upscaler
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.streaming import HrFrame
from vs_iconvsr.streaming.frames import Converter

Step = Callable[[Propagation], torch.Tensor | None]


@pytest.fixture
def strategies(monkeypatch: pytest.MonkeyPatch) -> list[MemoryStrategy]:
    """The memory strategy of each propagation that was begun."""
    begun: list[MemoryStrategy] = []
    propagate = Upscaler.propagate

    def recorded(self: Upscaler, *arguments: object, strategy: MemoryStrategy) -> Propagation:
        begun.append(strategy)
        return propagate(self, *arguments, strategy=strategy)  # type: ignore[arg-type]

    monkeypatch.setattr(Upscaler, "propagate", recorded)
    return begun


def fail_forward_steps(
    monkeypatch: pytest.MonkeyPatch, count: int, *, start: int | None = None, error: Exception | None = None
) -> None:
    """The next forward steps, of the segment that keeps `start` first or of any, find no memory."""
    left = count
    step: Step = Propagation.step

    def failing(self: Propagation) -> torch.Tensor | None:
        nonlocal left
        if left and self.backward_done and start in (None, self.segment.kept.start):
            left -= 1
            raise error or torch.OutOfMemoryError("injected")
        return step(self)

    monkeypatch.setattr(Propagation, "step", failing)


def test_cudnn_without_memory_changes_the_strategy_and_not_the_bytes(
    tiny_network: VideoNetwork, reference: list[HrFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    fail_forward_steps(monkeypatch, 1, error=error)
    with open_session(tiny_network) as session:
        played = Clip().play(session)
        assert session.status.memory_strategy is MemoryStrategy.OFFLOAD
    assert all(equal(hr, expected) for hr, expected in zip(played, reference, strict=True))


@pytest.mark.parametrize(("failures", "last"), [(1, MemoryStrategy.OFFLOAD), (2, MemoryStrategy.RECOMPUTE)])
def test_out_of_memory_changes_the_strategy_and_not_the_bytes(
    tiny_network: VideoNetwork,
    reference: list[HrFrame],
    monkeypatch: pytest.MonkeyPatch,
    strategies: list[MemoryStrategy],
    failures: int,
    last: MemoryStrategy,
) -> None:
    fail_forward_steps(monkeypatch, failures)
    with open_session(tiny_network) as session:
        played = Clip().play(session)
        assert session.status.memory_strategy is last
    assert all(equal(hr, expected) for hr, expected in zip(played, reference, strict=True))
    assert strategies[: failures + 1] == list(MemoryStrategy)[: failures + 1]
    assert strategies[-1] is last


def test_devices_that_run_out_of_memory_together_each_take_the_next_strategy(
    tiny_network: VideoNetwork,
    reference: list[HrFrame],
    monkeypatch: pytest.MonkeyPatch,
    strategies: list[MemoryStrategy],
) -> None:
    """Each had only tried to keep its features; together they must not use up all strategies."""
    together = threading.Barrier(3, timeout=60)
    failed: set[int] = set()
    step: Step = Propagation.step

    def failing(self: Propagation) -> torch.Tensor | None:
        start = self.segment.kept.start
        if start in (20, 30, 40) and start not in failed:
            failed.add(start)
            together.wait()
            raise torch.OutOfMemoryError("injected")
        return step(self)

    monkeypatch.setattr(Propagation, "step", failing)
    got: dict[int, HrFrame] = {}
    with open_session(tiny_network, in_flight=3, device="cpu,cpu,cpu") as session:
        threads = [
            threading.Thread(target=lambda n=n: got.update({n: Clip().play(session, n)[0]}), daemon=True)
            for n in (21, 31, 41)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert set(got) == {21, 31, 41}
    assert all(equal(hr, reference[n]) for n, hr in got.items())
    assert MemoryStrategy.RECOMPUTE not in strategies


def test_work_ahead_that_runs_out_of_memory_is_nobodys_failure(
    tiny_network: VideoNetwork,
    reference: list[HrFrame],
    monkeypatch: pytest.MonkeyPatch,
    strategies: list[MemoryStrategy],
) -> None:
    fail_forward_steps(monkeypatch, 1, start=10)
    with open_session(tiny_network) as session:
        played = Clip().play(session, *range(9))
        assert wait_until(lambda: session.counts.segments_begun == 2 and session.status.segments == 1, seconds=30)
        played += Clip().play(session, *range(9, 20))
    assert all(equal(hr, expected) for hr, expected in zip(played, reference[:20], strict=True))
    assert strategies[:3] == [MemoryStrategy.KEEP, MemoryStrategy.KEEP, MemoryStrategy.OFFLOAD]


def test_out_of_memory_by_every_strategy_names_the_arguments_to_pass(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Propagation) -> None:
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(Propagation, "step", failing)
    expected = pytest.raises(MemoryError, match=r"^memory: expected .* got .*; pass .*tile=.*segment=.*memory=")
    with open_session(tiny_network) as session, expected:
        Clip().play(session, 0)


def test_a_failure_reaches_everybody_who_waits_and_the_next_request_tries_again(
    tiny_network: VideoNetwork, reference: list[HrFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session(tiny_network, in_flight=3) as session:
        clip = Clip()
        with monkeypatch.context() as patch:
            patch.setattr(Propagation, "step", lambda _: (_ for _ in ()).throw(RuntimeError("no such kernel")))
            for n in (0, 1, 2):
                while missing := session.needs(n):
                    for k in missing:
                        session.put(k, *clip.fetch(k)[:2], user_data=k)  # type: ignore[index]
            for n in (0, 1, 2):
                with pytest.raises(RuntimeError, match="no such kernel"):
                    session.frame(n)
        assert equal(clip.play(session, 1)[0], reference[1])


def test_cuts_are_judged_while_devices_and_other_threads_can_take_the_lock(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging, go_on = threading.Event(), threading.Event()
    is_cut = scenes.is_cut

    def slow(*arguments: object, **options: object) -> bool:
        judging.set()
        assert go_on.wait(60)
        return is_cut(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scenes, "is_cut", slow)
    with open_session(tiny_network) as session:
        playing = threading.Thread(target=lambda: Clip().play(session, CUT), daemon=True)
        playing.start()
        assert judging.wait(60)
        asking = threading.Thread(target=lambda: (session.look_ahead(3), session.abandon(3)), daemon=True)
        asking.start()
        asking.join(10)
        assert not asking.is_alive(), "the lock is held while frames are compared"
        go_on.set()
        playing.join(60)
        assert not playing.is_alive()


def test_a_failing_cut_comparison_reaches_those_who_wait(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> bool:
        raise RuntimeError("no comparison")

    monkeypatch.setattr(scenes, "is_cut", failing)
    with open_session(tiny_network) as session:
        with pytest.raises(RuntimeError, match="no comparison"):
            Clip().play(session, 0)
        with pytest.raises(RuntimeError, match="no comparison"):
            session.frame(0)


def test_closing_wakes_those_who_wait(tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(tiny_network)
    begun, go_on = threading.Event(), threading.Event()
    step: Step = Propagation.step

    def slow(self: Propagation) -> torch.Tensor | None:
        begun.set()
        go_on.wait(10)
        return step(self)

    monkeypatch.setattr(Propagation, "step", slow)
    raised: list[Exception] = []

    def wait() -> None:
        try:
            Clip().play(session, 3)
        except ValueError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(10)
    closing = threading.Thread(target=session.close)
    closing.start()
    waiting.join(timeout=10)
    assert "closed" in str(raised[0])
    go_on.set()
    closing.join(timeout=10)
    assert not closing.is_alive()
    assert session.counts.steps == 1  # the one that was running


def test_a_frame_asked_for_while_its_segment_ends_is_made_again(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_end, go_on = threading.Event(), threading.Event()
    to_hr = Converter.to_hr

    def slow_at_the_end(self: Converter, *arguments: object, **options: object) -> HrFrame:
        hr = to_hr(self, *arguments, **options)  # type: ignore[arg-type]
        if hr.user_data == 5 and not at_the_end.is_set():
            at_the_end.set()
            assert go_on.wait(60)
        return hr

    monkeypatch.setattr(Converter, "to_hr", slow_at_the_end)
    with open_session(tiny_network, 6, segment=6, context=0, sharers=10**6) as session:  # room for three hr frames
        last = threading.Thread(target=lambda: Clip().play(session, 5), daemon=True)
        last.start()
        assert at_the_end.wait(60)
        assert session.needs(0) == []  # made long ago and evicted; its segment is still there
        go_on.set()
        found: list[HrFrame] = []
        first = threading.Thread(target=lambda: found.append(session.frame(0)), daemon=True)
        first.start()
        first.join(60)
        last.join(60)
    assert len(found) == 1
    assert NUM_FRAMES > 6


def test_threads_that_torch_refuses_are_an_error_of_the_frame_that_waits(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        raise RuntimeError(f"injected at {number}")

    monkeypatch.setattr(torch, "set_num_threads", refuse)
    expected = "threads: expected a number that torch takes, got 3: injected at 3"
    with open_session(tiny_network, threads=3) as session, pytest.raises(ValueError, match=expected):
        Clip().play(session, 0)
