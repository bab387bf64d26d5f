"""A core with two threads, and the frames that every order of requests must give."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def two_threads() -> Iterator[None]:
    import vapoursynth as vs

    vs.core.num_threads = 2
    yield
    vs.core.num_threads = 2


@pytest.fixture(scope="session")
def reference(tiny_model: Path) -> list[str]:
    """A digest of every hr frame of the noisy clip, requested in order."""
    from tests.end_to_end.noisy_clip import ARGUMENTS, core, digest, make_source

    clip = core.iconvsr.Upscale(make_source(), model=str(tiny_model), **ARGUMENTS)
    return [digest(frame) for frame in clip.frames(close=True)]
