"""docs/progress.schema.json: every line of --progress json is an event that it describes."""

import copy
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ffmpeg_filter import cli

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
Events = list[dict[str, Any]]
Run = Callable[..., Events]

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = json.loads((DOCS / "progress.schema.json").read_text())
FAST = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --progress json")


def refuse(constant: str) -> None:
    raise ValueError(f"expected JSON, got {constant}")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, but with every field named: what we write ourselves must be documented."""
    whole = copy.deepcopy(schema)
    for name, event in whole["$defs"].items():
        if "event" in event.get("properties", {}):
            assert event["properties"]["event"]["const"] == name
            event["additionalProperties"] = False
    return whole


EVENT = Draft202012Validator(closed(SCHEMA))


@pytest.fixture
def run(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(words…): the events of `iconvsr upscale WORDS --progress json`, each of them valid."""

    def start(*words: str | Path) -> Events:
        cli.main(["upscale", *map(str, words), *FAST, "--model", str(tiny_model)])
        events = [json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines()]
        for event in events:
            EVENT.validate(event)
        return events

    return start


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_and_the_page_name_the_same_events_and_fields() -> None:
    table = (DOCS / "queue.md").read_text().partition("## Progress as JSON")[2]
    page = {
        name: set(re.findall(r"`(\w+)`", fields))
        for name, fields in re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M)
    }
    described = {choice["$ref"].rpartition("/")[2] for choice in SCHEMA["oneOf"]}
    assert {name: set(SCHEMA["$defs"][name]["properties"]) - {"event"} for name in described} == page


def test_every_event_of_a_file_is_valid(clip: Make, run: Run, tmp_path: Path) -> None:
    events = run(clip("in.mkv", "-c:v", "libx264"), tmp_path / "out.mkv", "--verify")
    kinds = [event["event"] for event in events]
    assert {"note", "begin", "progress", "stage", "end", "summary"} == {*kinds}
    assert kinds[-1] == "summary"
    assert events[-1]["quality"]["frames"] == 12


def test_every_event_of_a_queue_is_valid(clip: Make, run: Run, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    clip("shelf/a.mkv", "-c:v", "libx264", frames=4)
    (tmp_path / "shelf" / "b.mkv").write_text("no video")
    first, again = (run(tmp_path / "shelf", "--output-dir", tmp_path / "out") for _ in range(2))
    assert {event["event"] for event in first} >= {"file", "queue", "queue_summary", "summary"}
    assert {event["status"] for event in (*first, *again) if event["event"] == "file"} == {
        *("begun", "done", "skipped", "failed")
    }
    assert first[-1]["event"] == again[-1]["event"] == "queue_summary"


@pytest.mark.parametrize(
    "event",
    [
        {"event": "nonesuch"},
        {"event": "note"},
        {"event": "note", "text": 5},
        {"event": "begin", "frames": -1, "total": 3},
        {"event": "file", "status": "failed", "source": "a", "output": "b"},
        {"event": "file", "status": "done", "source": "a", "output": "b", "error": "c"},
    ],
)
def test_the_schema_refuses_what_is_no_event(event: dict[str, Any]) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid(event)


def test_readers_accept_fields_of_later_versions() -> None:
    assert Draft202012Validator(SCHEMA).is_valid({"event": "note", "text": "a", "level": "info"})
