"""The loop over hr frames: for files, pipes, pages and benchmarks. VapourSynth alone drives a session by itself."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    for ascending n, each once, a few ahead of need. Raises what fetch, `put` and `frame` raise; what they raise for a
    frame ahead of need comes when that frame is needed, and nothing is fetched ahead from then on.
    """
    failed = _Failed()
    for n in itertools.count() if frames is None else frames:
        while missing := session.needs(n):
            failed.raise_if_among(missing)
            _put_frames(session, fetch, missing)
        if session.num_frames is not None and n >= session.num_frames:
            session.abandon(n)
            return
        hr = session.frame(n)
        if failed.error is None:
            _put_ahead(session, fetch, session.look_ahead(n), failed)
        yield n, hr


@dataclass
class _Failed:
    """The frame that could not be had ahead of need, and why."""

    number: int = -1
    error: Exception | None = None

    def raise_if_among(self, needed: Collection[int]) -> None:
        if self.error is not None and self.number in needed:
            raise self.error


def _put_ahead(
    session: Session, fetch: Callable[[int], Fetched | None], numbers: Iterable[int], failed: _Failed
) -> None:
    for n in numbers:
        try:
            if not _put(session, fetch, n):
                return
        except Exception as error:  # it is nobody's yet: the hr frames before can be made
            failed.number, failed.error = n, error
            return


def _put_frames(session: Session, fetch: Callable[[int], Fetched | None], numbers: Iterable[int]) -> None:
    for n in numbers:
        if not _put(session, fetch, n):
            return


def _put(session: Session, fetch: Callable[[int], Fetched | None], n: int) -> bool:
    """Whether there was a frame n."""
    fetched = fetch(n)
    if fetched is None:
        session.end(n)
        return False
    session.put(n, fetched.planes, fetched.properties, user_data=fetched.user_data)
    return True
