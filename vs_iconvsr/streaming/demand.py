"""Which hr frames are requested, which are there, and where sequential access has got to. Part of the planner."""

from collections import OrderedDict, deque


class Demand:
    """requests: hr frames asked for and not yet delivered, oldest first. hr: hr frames held, least recent first.

    front: the furthest frame of sequential access, None while access jumps.
    """

    def __init__(self, in_flight: int) -> None:
        self.requests: dict[int, None] = {}
        self.hr: OrderedDict[int, None] = OrderedDict()
        self.front: int | None = None
        self._recent: deque[int] = deque(maxlen=2 * in_flight + 2)

    def request(self, n: int) -> None:
        if n in self.requests:
            return
        self.requests[n] = None
        if n - 1 in self._recent or n - 2 in self._recent:  # threads swap neighbors
            self.front = n if self.front is None else max(n, self.front)
        else:
            self.front = n if n == 0 else None  # whoever asks for the first frame will go on
        self._recent.append(n)

    @property
    def wanted(self) -> set[int]:
        """hr frames that are requested, and where sequential access is."""
        return {*self.requests} if self.front is None else {*self.requests, self.front}

    def withdraw(self, n: int) -> None:
        self.requests.pop(n, None)

    def add_hr(self, n: int) -> None:
        self.hr[n] = None
        self.hr.move_to_end(n)

    def is_waiting_for(self, kept: range) -> bool:
        """Whether a frame among these is requested and not there."""
        return any(n in kept and n not in self.hr for n in self.requests)

    def evict_hr(self, limit: int) -> tuple[int, ...]:
        """Forgets what is above the limit, but nothing that is requested; what lies ahead of the front goes last."""
        surplus = max(len(self.hr) - limit, 0)
        if not surplus:
            return ()
        spare = sorted((n for n in self.hr if n not in self.requests), key=self.is_ahead)
        gone = tuple(spare[:surplus])
        for n in gone:
            del self.hr[n]
        return gone

    def is_ahead(self, n: int) -> bool:
        """Whether sequential access will come by frame n."""
        return self.front is not None and n > self.front
