"""`iconvsr serve` as a whole: real processes, real requests, real signals, a real browser."""

import hashlib
import html
import http.client
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from ffmpeg_filter import cli
from ffmpeg_filter.job.queue.state import StateFile
from ffmpeg_filter.serve.board import Board
from ffmpeg_filter.serve.control import Control
from ffmpeg_filter.serve.server import TOKEN_HEADER, QueueServer
from tests.ffmpeg_filter.processes import children_of

pytestmark = pytest.mark.needs_ffmpeg

Make = Callable[..., Path]
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "status.schema.json").read_text(encoding="utf-8"))
for described in (SCHEMA, SCHEMA["properties"]["overall"], SCHEMA["properties"]["files"]["items"]):
    described["additionalProperties"] = False  # what we write ourselves must be documented
STATE = Draft202012Validator(SCHEMA)
FAST = shlex.split("--device cpu --threads 1 --segment 4 --context 1 --preset ultrafast --part-frames 8")
PATIENCE_S = 120.0


@dataclass
class Served:
    """A running `iconvsr serve` and how to ask it."""

    process: "subprocess.Popen[str] | None"
    address: str
    board: Board | None = None

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def token(self) -> str:
        return self.address.partition("token=")[2]

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content. headers: the token without any."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers={TOKEN_HEADER: self.token} if headers is None else headers)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def state(self) -> dict[str, Any]:
        code, _, content = self.ask("GET", "/status")
        assert code == 200, content
        found: dict[str, Any] = json.loads(content)
        STATE.validate(found)
        return found

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while not condition(state := self.state()):
            assert time.monotonic() < end, state
            time.sleep(0.05)
        return state


def process_of(server: Served) -> "subprocess.Popen[str]":
    assert server.process is not None
    return server.process


type Serve = Callable[..., Served]


@pytest.fixture
def shelf(clip: Make, tmp_path: Path) -> Path:
    """Two videos, the first of many parts, and a third one that is none, with a name that is none either."""
    (tmp_path / "shelf").mkdir()
    clip("shelf/a.mkv", "-c:v", "ffv1", frames=64)
    clip("shelf/b.mkv", "-c:v", "ffv1", frames=4)
    (tmp_path / "shelf" / "c <script>alert(1)<÷script>.mkv").write_text("dear diary\n" * 100)
    return tmp_path / "shelf"


@pytest.fixture
def serve(shelf: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Serve]:
    """serve("--now", …): `iconvsr serve SHELF --output-dir OUT …`, when it has printed its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> Served:
        words = ["serve", str(shelf), "--output-dir", str(tmp_path / "out"), "--port", "0", *more]
        command = [sys.executable, "-m", "ffmpeg_filter.cli", *words, "--model", str(tiny_model), *FAST]
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **streams)
        started.append(process)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate(timeout=30)
        return Served(process, address)

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def statuses(state: dict[str, Any]) -> list[str]:
    return [file["status"] for file in state["files"]]


def is_idle(state: dict[str, Any]) -> bool:
    return bool(state["phase"] == "idle")


def is_upscaling(state: dict[str, Any]) -> bool:
    return any(file["status"] == "upscaling" and 0 < file["frames"] < file["total"] for file in state["files"])


# ---- the queue ----


def test_a_queue_is_started_stopped_and_resumed_from_the_page(
    shelf: Path, serve: Serve, tiny_model: Path, tmp_path: Path
) -> None:
    server = serve()
    first = server.state()
    assert (first["phase"], statuses(first)) == ("idle", ["waiting"] * 3)
    assert server.ask("POST", "/start")[0] == 200
    server.wait_for(is_upscaling)
    code, _, text = server.ask("POST", "/start")
    assert (code, text.decode()) == (409, "expected nothing to run, got a queue that is upscaling; stop it, or wait")
    assert server.ask("POST", "/stop")[0] == 200
    stopped = server.wait_for(is_idle)
    assert statuses(stopped) == ["stopped", "waiting", "waiting"]
    assert 0 < stopped["files"][0]["frames"] < 64
    assert {entry.status for entry in StateFile(tmp_path / "out").read()} == {"waiting"}

    server.ask("POST", "/start")
    ended = server.wait_for(lambda state: is_idle(state) and "failed" in statuses(state))
    assert statuses(ended) == ["done", "done", "failed"]
    assert "expected a video file" in ended["files"][2]["text"]
    assert (ended["overall"]["done"], ended["overall"]["failed"]) == (2, 1)
    alone = tmp_path / "alone.mkv"
    assert cli.main(["upscale", str(shelf / "a.mkv"), str(alone), "--model", str(tiny_model), *FAST]) == 0
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (alone, tmp_path / "out" / "a.mkv")]
    assert digests[0] == digests[1]


def test_ctrl_c_stops_the_queue_at_a_part_and_ends_the_server(serve: Serve, tmp_path: Path) -> None:
    server = serve("--now")
    server.wait_for(is_upscaling)
    process_of(server).send_signal(signal.SIGINT)
    _, printed = process_of(server).communicate(timeout=60)
    assert process_of(server).returncode == 0, printed
    assert "Traceback" not in printed
    assert {entry.status for entry in StateFile(tmp_path / "out").read()} == {"waiting"}
    assert (tmp_path / "out" / "a.mkv.iconvsr").is_dir()


@pytest.mark.long
def test_a_second_ctrl_c_ends_the_server_at_once(serve: Serve) -> None:
    server = serve("--now")
    server.wait_for(is_upscaling)
    for _ in range(2):
        process_of(server).send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, printed = process_of(server).communicate(timeout=30)
    assert process_of(server).returncode in (0, 130), printed  # 0: the step at hand was done between the two
    assert "Traceback" not in printed


def test_a_killed_server_leaves_no_process_and_a_queue_that_can_go_on(serve: Serve, tmp_path: Path) -> None:
    server = serve("--now")
    server.wait_for(is_upscaling)
    children = children_of(process_of(server).pid)
    assert len(children) == 1
    process_of(server).kill()
    process_of(server).wait()
    end = time.monotonic() + 30
    while Path(f"/proc/{children[0]}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with StateFile(tmp_path / "out").hold() as _:
        assert {entry.status for entry in StateFile(tmp_path / "out").read()} <= {"waiting", "running"}


# ---- mistakes ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--crf", "20"], "--output-dir"),
        (["--output-dir", "out", "--progress", "json"], "argument --progress: not allowed"),
        (["--output-dir", "out", "--dry-run"], "argument --dry-run: not allowed"),
        (["--output-dir", "out", "--port", "70000"], "expected a port from 0 to 65535, got 70000"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "in.mkv", *words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nothing.safetensors"], "nothing.safetensors"),
        pytest.param(["--order", "size", "--settle", "3"], "settle: expected", marks=pytest.mark.long),
    ],
)
def test_a_queue_that_cannot_be_ends_the_command_with_its_message(
    shelf: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    command = [sys.executable, "-m", "ffmpeg_filter.cli", "serve", str(shelf), "--output-dir", str(tmp_path / "out")]
    done = subprocess.run([*command, "--port", "0", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"iconvsr: [^\n]*{message}[^\n]*\n", done.stderr), done.stderr


def test_a_port_that_is_taken_is_named(idle: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "in.mkv", "--output-dir", str(tmp_path), "--port", str(idle.port)]) == 1
    assert f"port: expected one that is free, got {idle.port}" in capsys.readouterr().err


# ---- who may ask ----


@pytest.fixture
def idle(tiny_model: Path, tmp_path: Path) -> Iterator[Served]:
    """The server in this process, with a board of one file; a queue that is started fails at once."""
    board = Board(str(tmp_path))
    source, output = str(tmp_path / "in.mkv"), str(tmp_path / "out.mkv")
    board.enter("listing")
    board.apply({"event": "file", "status": "begun", "source": source, "output": output})
    board.enter("idle")
    with QueueServer(board, Control(board, ["--nothing"], ["--model", str(tiny_model), *FAST[:8]]), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Served(None, server.address, board)
        server.shutdown()
        thread.join()


REQUESTS = [
    ("GET", "/?token=TOKEN", {}, 200),
    ("GET", "/status?token=TOKEN", {}, 200),
    ("GET", "/status", {TOKEN_HEADER: "TOKEN", "Host": "localhost:PORT"}, 200),
    ("GET", "/", {}, 403),
    ("GET", "/status", {}, 403),
    ("GET", "/status?token=wrong", {}, 403),
    ("GET", "/status", {TOKEN_HEADER: "\xfc"}, 403),
    ("GET", "/status", {TOKEN_HEADER: "TOKEN", "Host": "evil.example:PORT"}, 403),
    ("POST", "/start", {}, 403),
    ("POST", "/start?token=TOKEN", {}, 403),  # what a form of another page could send
    ("POST", "/start", {TOKEN_HEADER: "TOKEN", "Host": "evil.example"}, 403),
    ("POST", "/end", {TOKEN_HEADER: "TOKEN"}, 404),
    ("GET", "/compare/../../etc/passwd", {TOKEN_HEADER: "TOKEN"}, 404),
    ("GET", "/compare/1", {TOKEN_HEADER: "TOKEN"}, 404),
    ("GET", "/compare/0", {TOKEN_HEADER: "TOKEN"}, 404),
    ("POST", "/compare/-1", {TOKEN_HEADER: "TOKEN"}, 404),
    ("POST", "/compare/%C2%B2", {TOKEN_HEADER: "TOKEN"}, 404),
    ("PUT", "/start", {TOKEN_HEADER: "TOKEN"}, 501),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), REQUESTS)
def test_only_the_printed_address_opens_the_page(
    idle: Served, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    def fill(text: str) -> str:
        return text.replace("TOKEN", idle.token).replace("PORT", str(idle.port))

    code, given, content = idle.ask(method, fill(path), {name: fill(value) for name, value in headers.items()})
    assert code == status, content
    if status != 501:
        assert given["Content-Security-Policy"].startswith("default-src 'none'")
    assert is_idle(idle.state())


def test_what_goes_wrong_in_a_queue_is_shown(idle: Served) -> None:
    assert idle.ask("POST", "/start")[0] == 200
    assert any("arguments are required: INPUT OUTPUT" in note for note in idle.wait_for(is_idle)["notes"])


def test_the_server_listens_on_this_machine_only(idle: Served) -> None:
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [words[1] for words in listening if words[1].endswith(f":{idle.port:04X}") and words[3] == "0A"]
    assert ours == [f"0100007F:{idle.port:04X}"]


# ---- comparisons and the browser ----


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str, int], str]:
    """browse(address, milliseconds): the document after that time, as a real browser has built it."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")

    def visit(address: str, milliseconds: int = 2500) -> str:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}"]
        flags += [f"--virtual-time-budget={milliseconds}", "--dump-dom", address]
        done = subprocess.run([browser, "--headless", *flags], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return visit


def test_a_comparison_is_made_and_opened(clip: Make, idle: Served) -> None:
    clip("in.mkv", "-c:v", "ffv1", frames=4)
    assert idle.ask("POST", "/compare/0")[0] == 200
    state = idle.wait_for(is_idle)
    assert state["files"][0]["compared"], state["notes"]
    code, headers, content = idle.ask("GET", f"/compare/0?token={idle.token}", {})
    assert code == 200
    assert "sandbox allow-scripts" in headers["Content-Security-Policy"]
    assert b"data:image/png;base64," in content
    assert b"<td>tiny</td>" in content


COUNTS = {"files": 4, "done": 0, "skipped": 1, "failed": 1, "waiting": 1}


def test_a_browser_shows_files_progress_and_messages_as_text(idle: Served, browse: Callable[..., str]) -> None:
    assert idle.board is not None
    script = "<img src=x onerror=alert(1)>"
    idle.board.enter("upscaling")
    for event in (
        {"event": "file", "status": "skipped", "source": "a/b.mkv", "output": "out/b.mkv"},
        {"event": "file", "status": "failed", "source": f"a\\{script}", "output": "out/d.mkv", "error": f"no {script}"},
        {"event": "note", "text": f"note {script}"},
        {"event": "file", "status": "begun", "source": "a/c.mkv", "output": "out/c.mkv"},
        {"event": "progress", "frames": 8, "total": 32, "fps": 2.0, "remaining_s": 12.4, "memory_gib": 1.25},
        {"event": "queue", **COUNTS, "share": 0.625, "remaining_s": 3725.0},
    ):
        idle.board.apply(event)
    text = browse(idle.address)
    assert "<title>62.5 % – iconvsr</title>" in text
    rows = re.findall(
        r'<li class="(\w+)">.*?<span class="name"[^>]*>(.*?)</span>.*?'
        r'<progress ([^>]*)>.*?<span class="text[^>]*>(.*?)</span></li>',
        text,
        re.DOTALL,
    )
    assert [(status, html.unescape(name), html.unescape(words)) for status, name, _, words in rows] == [
        ("waiting", "in.mkv", ""),
        ("done", "b.mkv", "out/b.mkv"),
        ("failed", script, f"no {script}"),
        ("upscaling", "c.mkv", "8 of 32 frames, 2.00 fps, 0:12 left, 1.3 GiB of memory"),
    ]
    assert ["hidden" in bar for _, _, bar, _ in rows] == [True, True, True, False]
    assert "2 of 4 files done, 1 failed, 62.5 %, 1:02:05 left; upscaling" in text
    assert f"note {html.escape(script, quote=False)}" in text
    assert 'role="alert" hidden' in text
    start, stop = (re.search(rf'<button id="{name}"[^>]*>', text) for name in ("start", "stop"))
    assert start is not None
    assert stop is not None
    assert ("disabled" in start.group(), "disabled" in stop.group()) == (True, False)


def test_without_its_token_the_browser_shows_what_to_do(idle: Served, browse: Callable[..., str]) -> None:
    assert "open the whole address that iconvsr serve printed" in browse(f"http://127.0.0.1:{idle.port}/")
