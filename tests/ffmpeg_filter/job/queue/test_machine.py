"""The queue's decisions alone: nothing is made twice, overwritten or forgotten, whenever a run is killed."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffmpeg_filter.job.queue import events as do
from ffmpeg_filter.job.queue.events import Action, BeginJob, Entry, Found, QueueRules
from ffmpeg_filter.job.queue.machine import POLL_S, QueueMachine

RULES = QueueRules(settings={"model": "m", "crf": "16"})


def found(name: str, size: int = 10, modified: int = 0, folder: str = "") -> Found:
    stem = name.rpartition(".")[0]
    return Found(f"/shelf/{folder}{name}", folder.rstrip("/"), stem, name, size, modified)


def scanned(*sources: Found, existing: frozenset[str] = frozenset(), now_s: float = 0) -> do.Scanned:
    return do.Scanned(now_s, sources, existing)


def begun(actions: list[Action]) -> Entry:
    entry = next(action.entry for action in actions if isinstance(action, BeginJob))
    assert isinstance(entry, Entry)
    return entry


def finished(source: Found, rules: QueueRules = RULES, entries: tuple[Entry, ...] = ()) -> tuple[Entry, ...]:
    """The entries of a queue after a run with this source."""
    machine = QueueMachine(entries, rules)
    assert begun(machine.handle(scanned(source))).source == source.source
    machine.handle(do.Begun(source.source, source.identity))
    machine.handle(do.Published(source.source, 8, 100, 1.0))
    return machine.entries


# ---- which one, under which name ----


@pytest.mark.parametrize(("order", "names"), [("name", "2 10 a"), ("size", "a 10 2"), ("newest", "10 a 2")])
def test_the_order_is_natural_by_name_ascending_by_size_or_newest_first(order: do.Order, names: str) -> None:
    machine = QueueMachine((), replace(RULES, order=order))
    sources = found("2.mkv", 30, 1), found("10.mkv", 20, 3), found("a.mkv", 10, 2)
    actions, seen = machine.handle(scanned(*sources)), []
    while not isinstance(actions[-1], do.End):
        entry = begun(actions)
        seen.append(entry.output.removesuffix(".mkv"))
        machine.handle(do.Begun(entry.source, {}))
        machine.handle(do.JobFailed(entry.source, "no"))
        actions = machine.handle(do.JobEnded())
    assert " ".join(seen) == names


def test_sources_of_one_stem_get_outputs_of_their_own_whatever_their_case() -> None:
    machine = QueueMachine((), RULES)
    machine.handle(scanned(found("a.mkv"), found("A.avi"), found("a.avi.x"), found("A.AVI.x")))
    outputs = [entry.output for entry in machine.entries]
    assert outputs == ["A.mkv", "A.AVI.mkv", "a.avi.x.mkv", "a.mkv.mkv"]


def test_a_source_keeps_its_output_when_another_of_its_stem_arrives_later() -> None:
    entries = finished(found("b.mkv"))
    machine = QueueMachine(entries, RULES)
    actions = machine.handle(scanned(found("b.avi"), found("b.mkv"), existing=frozenset({"b.mkv"})))
    assert begun(actions).output == "b.avi.mkv"
    assert do.Skip(entries[0]) in actions


# ---- what is done ----


def test_what_is_done_is_skipped() -> None:
    entries = finished(found("a.mkv"))
    actions = QueueMachine(entries, RULES).handle(scanned(found("a.mkv"), existing=frozenset({"a.mkv"})))
    assert actions == [do.Skip(entries[0]), do.End()]


def test_a_source_that_changed_is_refused_and_its_output_stays() -> None:
    entries = finished(found("a.mkv"))
    machine = QueueMachine(entries, RULES)
    actions = machine.handle(scanned(found("a.mkv", 11), existing=frozenset({"a.mkv"})))
    reason = "the source has changed since the output was made; pass --overwrite to make it again"
    assert actions == [do.Refuse(entries[0], reason), do.End()]
    assert machine.entries == entries
    assert machine.counts().failed == 1


def test_other_settings_are_refused_with_both_values() -> None:
    entries = finished(found("a.mkv"))
    machine = QueueMachine(entries, QueueRules(settings={"model": "m", "bits": "8"}))
    refused = machine.handle(scanned(found("a.mkv"), existing=frozenset({"a.mkv"})))[0]
    assert isinstance(refused, do.Refuse)
    assert refused.reason.startswith("made with other settings: bits default, now 8; crf 16, now default; pass --over")


def test_with_overwrite_it_is_made_again() -> None:
    machine = QueueMachine(finished(found("a.mkv")), replace(RULES, overwrite=True))
    actions = machine.handle(scanned(found("a.mkv", 11), existing=frozenset({"a.mkv"})))
    assert isinstance(actions[-1], BeginJob)
    assert actions[-1].why == "the source has changed since the output was made; making it again"


def test_what_is_done_is_skipped_with_overwrite_too_so_that_a_killed_run_goes_on() -> None:
    machine = QueueMachine(finished(found("a.mkv")), replace(RULES, overwrite=True))
    actions = machine.handle(scanned(found("a.mkv"), existing=frozenset({"a.mkv"})))
    assert isinstance(actions[0], do.Skip)


def test_an_output_that_is_gone_is_made_again() -> None:
    actions = QueueMachine(finished(found("a.mkv")), RULES).handle(scanned(found("a.mkv")))
    assert isinstance(actions[-1], BeginJob)
    assert actions[-1].why == "its output is gone; making it again"


def test_the_rate_of_image_sequences_does_not_concern_videos() -> None:
    entries = finished(found("a.mkv"))
    machine = QueueMachine(entries, replace(RULES, image_settings={"rate": "24"}))
    actions = machine.handle(scanned(found("a.mkv"), existing=frozenset({"a.mkv"})))
    assert actions == [do.Skip(entries[0]), do.End()]


def test_a_source_that_changed_between_scan_and_job_is_known_as_the_job_read_it() -> None:
    machine = QueueMachine((), RULES)
    machine.handle(scanned(found("a.mkv")))
    machine.handle(do.Begun("/shelf/a.mkv", found("a.mkv", 12).identity))
    machine.handle(do.Published("/shelf/a.mkv", 8, 100, 1.0))
    again = QueueMachine(machine.entries, RULES).handle(scanned(found("a.mkv", 12), existing=frozenset({"a.mkv"})))
    assert isinstance(again[0], do.Skip)


def test_a_watching_queue_does_not_report_a_file_again_that_changed_between_scan_and_job() -> None:
    machine = QueueMachine((), replace(RULES, settle_s=0))
    machine.handle(scanned(found("a.mkv")))
    machine.handle(do.Begun("/shelf/a.mkv", found("a.mkv", 12).identity))
    machine.handle(do.Published("/shelf/a.mkv", 8, 100, 1.0))
    again = machine.handle(scanned(found("a.mkv", 12), existing=frozenset({"a.mkv"})))
    assert again == [do.WaitAndScan(POLL_S)]
    assert (machine.counts().done, machine.counts().skipped) == (1, 0)


# ---- stopping and failing ----


def test_a_failure_does_not_end_the_queue_and_is_tried_again_by_the_next_run() -> None:
    machine = QueueMachine((), RULES)
    machine.handle(scanned(found("a.mkv"), found("b.mkv")))
    machine.handle(do.Begun("/shelf/a.mkv", {}))
    machine.handle(do.JobFailed("/shelf/a.mkv", "no"))
    assert begun(machine.handle(do.JobEnded())).source == "/shelf/b.mkv"
    again = QueueMachine(machine.entries, RULES).handle(scanned(found("a.mkv"), found("b.mkv")))
    assert begun(again).source == "/shelf/a.mkv"


def test_an_interrupted_job_waits_and_nothing_else_begins() -> None:
    machine = QueueMachine((), RULES)
    machine.handle(scanned(found("a.mkv"), found("b.mkv")))
    machine.handle(do.Begun("/shelf/a.mkv", {}))
    assert machine.handle(do.JobInterrupted("/shelf/a.mkv")) == [do.Save()]
    assert machine.handle(do.JobEnded()) == [do.End()]
    assert machine.counts().waiting == 2


# ---- watching ----


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=20))
def test_a_watched_file_is_taken_once_it_has_not_changed_for_the_time_to_settle(steps: list[tuple[int, int]]) -> None:
    settle_s, now_s = 5.0, 0.0
    machine = QueueMachine((), replace(RULES, settle_s=settle_s))
    since_s, last = 0.0, None
    for pause_s, size in steps:
        now_s += pause_s
        if size != last:
            since_s, last = now_s, size
        begins = [a for a in machine.handle(scanned(found("a.mkv", size), now_s=now_s)) if isinstance(a, BeginJob)]
        assert bool(begins) == (size > 0 and now_s - since_s >= settle_s)
        if begins:
            return


def test_a_watching_queue_waits_scans_after_each_job_and_ends_when_it_is_stopped() -> None:
    machine = QueueMachine((), replace(RULES, settle_s=0))
    assert isinstance(machine.handle(scanned())[-1], do.WaitAndScan)
    entry = begun(machine.handle(scanned(found("a.mkv"))))
    machine.handle(do.Begun(entry.source, entry.identity))
    machine.handle(do.Published(entry.source, 8, 100, 1.0))
    assert machine.handle(do.JobEnded()) == [do.WaitAndScan(0)]
    machine.handle(do.StopRequested())
    assert machine.handle(do.JobEnded()) == [do.End()]


def test_a_watched_file_that_failed_is_tried_again_when_it_has_changed() -> None:
    machine = QueueMachine((), replace(RULES, settle_s=0))
    machine.handle(scanned(found("a.mkv")))
    machine.handle(do.Begun("/shelf/a.mkv", found("a.mkv").identity))
    machine.handle(do.JobFailed("/shelf/a.mkv", "cut short"))
    assert isinstance(machine.handle(scanned(found("a.mkv")))[-1], do.WaitAndScan)
    assert begun(machine.handle(scanned(found("a.mkv", 20)))).source == "/shelf/a.mkv"


# ---- any order of events, killed anywhere ----


@dataclass
class World:
    """A shelf, an output folder, and runs of the queue that end anywhere. outputs: what each was made from."""

    data: st.DataObject
    shelf: dict[str, int] = field(default_factory=dict)  # name: size
    outputs: dict[str, tuple[str, Mapping[str, int], str]] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)  # published, and the run killed before that was written down
    saved: tuple[Entry, ...] = ()

    def run(self, crf: str, *, overwrite: bool) -> None:
        rules = QueueRules(settings={"crf": crf}, overwrite=overwrite)
        machine = QueueMachine(self.saved, rules)
        for entry in machine.entries:
            if entry.output in self.noted & self.outputs.keys():
                machine.handle(do.Recovered(entry.source, 1, 1))
                self.saved = machine.entries
        self.noted.clear()
        sources = [found(name, size) for name, size in self.shelf.items()]
        pending = deque(machine.handle(scanned(*sources, existing=frozenset(self.outputs))))
        while pending:
            if self.data.draw(st.integers(0, 9)) == 0:
                return  # killed
            match pending.popleft():
                case do.Save():
                    self.saved = machine.entries
                case do.Skip(entry):
                    assert self.outputs[entry.output] == (entry.source, entry.identity, crf)
                case BeginJob(entry):
                    if not self.job(machine, entry, crf, overwrite=overwrite):
                        return
                    pending += machine.handle(do.JobEnded())
                case do.End():
                    self.check_complete(machine, crf)

    def job(self, machine: QueueMachine, entry: Entry, crf: str, *, overwrite: bool) -> bool:
        """False if the process was killed in it. As run_job does, it never replaces an output unless allowed to."""
        identity = found(entry.source.rpartition("/")[2], self.shelf[entry.source.rpartition("/")[2]]).identity
        machine.handle(do.Begun(entry.source, identity))
        self.saved = machine.entries
        end = self.data.draw(st.sampled_from(("good", "good", "bad", "stopped", "killed", "killed late")))
        if end == "killed":
            return False
        if entry.status == "done":
            assert overwrite or entry.output not in self.outputs, "it would replace a finished output"
            assert self.outputs.get(entry.output) != (entry.source, identity, crf), "it was made already"
        if entry.output in self.outputs and not overwrite:
            end = "bad"
        if end in ("good", "killed late"):
            self.outputs[entry.output] = (entry.source, identity, crf)
            self.noted.add(entry.output)
            if end == "killed late":
                return False
            machine.handle(do.Published(entry.source, 1, 1, 1.0))
            self.saved = machine.entries
            self.noted.discard(entry.output)
            return True
        machine.handle(do.JobFailed(entry.source, "no") if end == "bad" else do.JobInterrupted(entry.source))
        self.saved = machine.entries
        return True

    def check_complete(self, machine: QueueMachine, crf: str) -> None:
        """Nothing was forgotten, and no two sources share an output."""
        counts = machine.counts()
        assert counts.files == len(self.shelf)
        assert counts.running == 0
        outputs = [entry.output.casefold() for entry in machine.entries]
        assert len(set(outputs)) == len(outputs)
        assert counts.bytes_ended <= counts.bytes_total
        del crf


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_runs_killed_anywhere_make_every_output_once_and_replace_none_unasked(data: st.DataObject) -> None:
    world = World(data)
    for _ in range(data.draw(st.integers(1, 12))):
        change = data.draw(st.sampled_from(("run", "run", "run", "arrive", "arrive", "change", "lose an output")))
        if change == "arrive":
            world.shelf.setdefault(data.draw(st.sampled_from(("a.mkv", "a.avi", "A.mkv", "a.avi.mp4", "b.ts"))), 1)
        elif change == "change" and world.shelf:
            world.shelf[data.draw(st.sampled_from(sorted(world.shelf)))] += 1
        elif change == "lose an output" and world.outputs:
            del world.outputs[data.draw(st.sampled_from(sorted(world.outputs)))]
        elif change == "run":
            world.run(data.draw(st.sampled_from(("16", "20"))), overwrite=data.draw(st.booleans()))
