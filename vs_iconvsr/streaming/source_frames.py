"""Which source frames are held and which scene starts are known. Part of the planner: integers only."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vs_iconvsr.scenes import AFTER, BEFORE
from vs_iconvsr.scenes.cuts import SceneStarts
from vs_iconvsr.streaming.actions import Judge


@dataclass(frozen=True)
class CutMarks:
    """What a frame's own properties say of cuts: whether it starts a scene, whether it ends one; None: nothing."""

    starts: bool | None = None
    ends: bool | None = None


class SourceFrames:
    """The numbers of the frames held, least recently needed first, and the scene starts that they settle.

    detects: whether propagation stops at cuts; where it does not, no frame starts a scene.
    """

    def __init__(self, num_frames: int | None, *, detects: bool) -> None:
        self._detects = detects
        self._held: OrderedDict[int, CutMarks] = OrderedDict()
        self._scene_starts = SceneStarts(num_frames)
        self._under_judgement: set[int] = set()

    def __contains__(self, n: int) -> bool:
        return n in self._held

    def __len__(self) -> int:
        return len(self._held)

    def starts_scene(self, n: int) -> bool | None:
        return self._scene_starts[n] if self._detects else False

    def window(self, n: int) -> range:
        return self._scene_starts.window(n)

    def arrive(self, n: int, marks: CutMarks) -> list[Judge]:
        """Frame n is held from now on; the judgements that have become possible by that."""
        self._held[n] = marks
        return self._judgements(range(n - AFTER, n + BEFORE + 1))

    def learn(self, n: int, starts_scene: bool) -> None:
        """The outcome of a judgement."""
        self._under_judgement.discard(n)
        self._scene_starts.learn(n, starts_scene)

    def end(self, num_frames: int) -> list[Judge]:
        """The clip ends here: the last frames are judged without those that never come."""
        self._scene_starts.num_frames = num_frames
        return self._judgements(range(num_frames - AFTER, num_frames))

    def missing(self, numbers: Iterable[int], at_most: int) -> list[int]:
        """The first of those that are not held. The held ones before the last of these count as needed just now.

        at_most: a cell may hold a million frames, and this is asked again for every few that come.
        """
        missing: list[int] = []
        for n in numbers:
            if n in self._held:
                self._held.move_to_end(n)
                continue
            missing.append(n)
            if len(missing) == at_most:
                break
        return missing

    def evict(self, count: int, protected: Collection[range]) -> list[int]:
        """Forgets up to count frames outside the protected ranges, least recently needed first."""
        gone: list[int] = []
        for n in list(self._held) if count > 0 else ():
            if len(gone) == count:
                break
            if not any(n in frames for frames in protected):
                del self._held[n]
                gone.append(n)
        return gone

    def _judgements(self, candidates: Iterable[int]) -> list[Judge]:
        """Settles what frames themselves mark; the judgements for the other candidates whose window is held."""
        ready = []
        for n in candidates if self._detects else ():
            if self._scene_starts[n] is not None or n in self._under_judgement:
                continue
            if n - 1 not in self._held or n not in self._held:
                continue
            marks = [mark for mark in (self._held[n].starts, self._held[n - 1].ends) if mark is not None]
            window = self._scene_starts.window(n)
            if marks:
                self._scene_starts.learn(n, any(marks))
            elif all(k in self._held for k in window):
                self._under_judgement.add(n)
                ready.append(Judge(n, window))
        return ready
