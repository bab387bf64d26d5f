"""The switches of the process: ours while a step runs, everybody else's before and after."""

import threading
from collections.abc import Iterator

import pytest
import torch

from vs_iconvsr.engine import MemoryStrategy, Shape, Upscaler
from vs_iconvsr.engine.exact import exact_arithmetic, exact_switches
from vs_iconvsr.networks.propagation import VideoNetwork
from vs_iconvsr.segments import Segment

OTHERS = {"benchmark": True, "deterministic": False, "fp32_precision": "tf32", "enabled": False, "allow_tf32": True}


def now() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in exact_switches()]


EXACT = [value for _, _, value in exact_switches()]


@pytest.fixture(autouse=True)
def somebody_else() -> Iterator[list[object]]:
    """Another user of torch in the process, who wants speed; what was before is set again afterwards."""
    before = now()
    for owner, name, _ in exact_switches():
        setattr(owner, name, OTHERS[name])
    yield now()
    for (owner, name, _), value in zip(exact_switches(), before, strict=True):
        setattr(owner, name, value)


def test_all_switches_are_set_inside_and_given_back_outside(somebody_else: list[object]) -> None:
    assert all(a != b for a, b in zip(somebody_else, EXACT, strict=True))
    with exact_arithmetic():
        assert now() == EXACT
    assert now() == somebody_else


def test_they_are_given_back_after_an_error(somebody_else: list[object]) -> None:
    with pytest.raises(RuntimeError, match="a step"), exact_arithmetic():
        raise RuntimeError("a step failed")
    assert now() == somebody_else


def test_a_device_that_is_done_does_not_take_them_from_another(somebody_else: list[object]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other_device() -> None:
        with exact_arithmetic():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other_device)
    with exact_arithmetic():
        thread.start()
        assert inside.wait(10)
    assert now() == EXACT
    leave.set()
    thread.join(10)
    assert now() == somebody_else


def test_the_engine_steps_with_them(
    tiny_network: VideoNetwork, monkeypatch: pytest.MonkeyPatch, somebody_else: list[object]
) -> None:
    upscaler = Upscaler(tiny_network, torch.device("cpu"), Shape(16, 16))
    seen: list[list[object]] = []
    flows = type(upscaler.network).flows
    monkeypatch.setattr(type(upscaler.network), "flows", lambda *frames: (seen.append(now()), flows(*frames))[1])
    propagation = upscaler.propagate(
        Segment(range(2), range(2)), lambda _: torch.zeros(3, 16, 16), strategy=MemoryStrategy.KEEP
    )
    while not propagation.finished:
        propagation.step()
    assert seen == [EXACT]
    assert now() == somebody_else
