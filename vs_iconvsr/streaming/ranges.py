"""The ranges of frames that cells, their surroundings and look-ahead cover. Part of the planner: integers only."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from vs_iconvsr.scenes import AFTER, BEFORE
from vs_iconvsr.segments import Grid, StartsScene

ROUND_FRAMES = 8
"""Source frames asked for at a time. A frame that has come but is not ours yet sits in VapourSynth's cache of the
source node, which holds 20: with short rounds no second request finds it gone, and nothing is decoded twice."""


@dataclass(frozen=True)
class Ranges:
    """detects: whether cuts are looked for. devices: how many work side by side.

    until: no hr frame from here on will be requested, None: all of them may be.
    """

    grid: Grid
    detects: bool
    devices: int
    until: int | None = None

    def ending_at(self, num_frames: int) -> "Ranges":
        return dataclasses.replace(self, grid=dataclasses.replace(self.grid, num_frames=num_frames))

    def surroundings(self, cell: range) -> range:
        """Every frame that a segment of this cell may read, or its cuts be judged by."""
        context = self.grid.context
        if not self.detects:
            return self.grid.clip(cell.start - context, cell.stop + context)
        reach = max(context, 1)
        before, after = max(reach - 1 + BEFORE, context), max(reach - 1 + AFTER + 1, context)
        return self.grid.clip(cell.start - before, cell.stop + after)

    def evidence(self, n: int, undecided: int, window: range) -> range:
        """What to fetch while the segment of n is not decided: with a grid all that could matter, else the next few.

        window: the frames that decide about the frame `undecided`.
        """
        if self.grid.segment:
            return self.surroundings(self.grid.cell(n))
        reach = ROUND_FRAMES - BEFORE - AFTER
        if undecided > n:
            return self.grid.clip(window.start, window.stop + reach)
        return self.grid.clip(window.start - reach, window.stop)

    def scenes_around(self, frames: Iterable[int], starts_scene: StartsScene) -> set[range]:
        """See `scene_around`."""
        return {self.scene_around(n, starts_scene) for n in frames}

    def scene_around(self, n: int, starts_scene: StartsScene) -> range:
        """What is known to be of the scene of n, and a round on either side, which the cuts there are judged by."""
        start, stop = n, n + 1
        while start > 0 and starts_scene(start) is False:
            start -= 1
        while stop < self.grid.cell(n).stop and starts_scene(stop) is False:
            stop += 1
        return self.grid.clip(start - ROUND_FRAMES, stop + ROUND_FRAMES)

    def cells_after(self, n: int) -> range:
        """The cells after that of n, one for each device; empty after the last cell."""
        start = stop = self.grid.cell(n).stop
        for _ in range(self.devices):
            if not self.is_past_the_end(stop):
                stop = self.grid.cell(stop).stop
        return range(start, stop)

    def ahead(self, n: int) -> range:
        """Source frames from n on to fetch by the time that hr frame n is made, those of the next cells included.

        Of these two for each hr frame and device, so that all have come when half of the cell has been delivered. What
        is left of this cell, where a cut ended a segment early, comes first: decoders must not have to go back.
        """
        cell = self.grid.cell(n)
        first_new = self.surroundings(cell).stop
        pace = 2 * (n - cell.start + 1) * self.devices
        return range(n, min(self.surroundings(self.cells_after(n)).stop, first_new + pace))

    def is_past_the_end(self, n: int) -> bool:
        ends = [end for end in (self.grid.num_frames, self.until) if end is not None]
        return any(n >= end for end in ends)
