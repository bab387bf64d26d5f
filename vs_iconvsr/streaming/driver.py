"""The loop over hr frames: for files, pipes, pages and benchmarks. VapourSynth alone drives a session by itself."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from vs_iconvsr.colorspace import Planes
from vs_iconvsr.streaming.frames import HrFrame
from vs_iconvsr.streaming.session import Session


class Fetched(NamedTuple):
    """A source frame to hand over; see `Session.put`."""

    planes: Planes
    properties: Mapping[str, int]
    user_data: object = None


def iterate(
    session: Session, fetch: Callable[[int], Fetched | None], frames: Iterable[int] | None = None
) -> Iterator[tuple[int, HrFrame]]:
    """(n, hr frame n) for n in frames, in that order; None: all frames to the end of the clip.

    fetch(n): source frame n, or None past the end of a clip whose length nobody knew. For ascending frames it is asked
    for ascending n, each once, a few ahead of need. Raises what fetch, `put` and `frame` raise.
    """
    for n in itertools.count() if frames is None else frames:
        while missing := session.needs(n):
            _put_frames(session, fetch, missing)
        if session.num_frames is not None and n >= session.num_frames:
            session.abandon(n)
            return
        hr = session.frame(n)
        _put_frames(session, fetch, session.look_ahead(n))
        yield n, hr


def _put_frames(session: Session, fetch: Callable[[int], Fetched | None], numbers: Iterable[int]) -> None:
    for n in numbers:
        fetched = fetch(n)
        if fetched is None:
            session.end(n)
            return
        session.put(n, fetched.planes, fetched.properties, user_data=fetched.user_data)
