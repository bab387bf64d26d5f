"""Downloads from a server on this machine that behaves well, badly, or not at all."""

import contextlib
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vs_iconvsr.weights import WeightsError, download
from vs_iconvsr.weights.catalogue import OFFICIAL, Official

CONTENT = bytes(range(256)) * 4000
STALL_S = 0.3


@dataclass
class Server:
    """What the server does next, and what it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    ranges: bool = True
    stop_after: int | None = None
    stall: bool = False
    announce_length: bool = True
    asked: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers.get("Range"))
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.ranged() else 0
            if start >= len(state.content) and start:
                self.send_error(416)
                return
            self.send_response(206 if self.ranged() else 200)
            if self.ranged():
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            if state.announce_length:
                self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            stop = len(state.content) if state.stop_after is None else start + state.stop_after
            self.wfile.write(state.content[start:stop])
            self.wfile.flush()
            if state.stall:
                state.released.wait(60)
                with contextlib.suppress(OSError):  # nobody waits any more
                    self.wfile.write(state.content[stop:])

        def ranged(self) -> bool:
            return state.ranges and "Range" in self.headers

        def log_message(self, *arguments: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{running.server_port}/"
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield state
    state.released.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ICONVSR_MODELS", str(tmp_path / "models"))
    prefix = hashlib.sha256(CONTENT).hexdigest()[:8]
    monkeypatch.setitem(OFFICIAL, "tiny", Official("tiny", f"nets/tiny-{prefix}.pth", 1, "a test"))
    return tmp_path / "models"


def failure(server: Server, name: str = "tiny") -> str:
    with pytest.raises(WeightsError) as caught:
        download(name, base_url=server.url, stall_s=STALL_S)
    return str(caught.value)


def left(models: Path) -> dict[str, int]:
    return {path.suffix: path.stat().st_size for path in models.iterdir() if path.suffix != ".lock"}


def test_a_file_arrives_whole_with_progress(server: Server, models: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    path = download("tiny", base_url=server.url, progress=lambda done, whole: calls.append((done, whole)))
    assert path.read_bytes() == CONTENT
    assert calls[0] == (0, len(CONTENT))
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert left(models) == {".pth": len(CONTENT)}


@pytest.mark.usefixtures("models")
def test_a_downloaded_file_is_not_fetched_again(server: Server) -> None:
    for _ in range(2):
        download("tiny", base_url=server.url)
    assert server.asked == [None]


@pytest.mark.usefixtures("models")
def test_a_damaged_downloaded_file_is_replaced(server: Server) -> None:
    path = download("tiny", base_url=server.url)
    path.write_bytes(b"damaged")
    assert download("tiny", base_url=server.url).read_bytes() == CONTENT


def test_a_broken_connection_keeps_what_arrived_and_the_next_call_continues(server: Server, models: Path) -> None:
    server.stop_after = 300_000
    assert f"ended after 300000 of {len(CONTENT)} bytes; what has arrived is kept" in failure(server)
    assert left(models) == {".part": 300_000}
    server.stop_after = None
    assert download("tiny", base_url=server.url).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


@pytest.mark.usefixtures("models")
def test_a_server_without_ranges_starts_over(server: Server) -> None:
    server.stop_after = 300_000
    failure(server)
    server.stop_after, server.ranges = None, False
    assert download("tiny", base_url=server.url).read_bytes() == CONTENT


@pytest.mark.usefixtures("models")
def test_a_server_that_sends_no_length_works(server: Server) -> None:
    server.announce_length = False
    assert download("tiny", base_url=server.url).read_bytes() == CONTENT


def test_a_download_that_was_complete_is_checked_and_renamed(server: Server, models: Path) -> None:
    models.mkdir()
    (models / (OFFICIAL["tiny"].file_name + ".part")).write_bytes(CONTENT)
    assert download("tiny", base_url=server.url).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_the_part_of_another_download_is_discarded(server: Server, models: Path) -> None:
    models.mkdir()
    (models / (OFFICIAL["tiny"].file_name + ".part")).write_bytes(b"x" * 1000)
    assert download("tiny", base_url=server.url).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


def test_a_file_with_a_wrong_hash_is_refused_and_deleted(server: Server, models: Path) -> None:
    server.content = b"an advertisement" * 100
    assert "…, got another from " in failure(server)
    assert left(models) == {}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"the server refused \(HTTP 404\); try --mirror, or copy the file to .*models.tiny-.*\.pth"),
        (403, r"the server refused \(HTTP 403\)"),
        (500, r"the server failed \(HTTP 500\); try again later"),
        (503, r"the server failed \(HTTP 503\); try again later"),
    ],
)
def test_an_error_from_the_server_is_reported(status: int, message: str, server: Server, models: Path) -> None:
    server.status = status
    with pytest.raises(WeightsError, match=message):
        download("tiny", base_url=server.url)
    assert left(models) == {}


@pytest.mark.parametrize("after", [0, 300_000])
def test_a_server_that_stalls_is_given_up(after: int, server: Server, models: Path) -> None:
    server.stop_after, server.stall = after, True
    assert "the server stopped sending; what has arrived is kept: run the same command again" in failure(server)
    assert left(models) == {".part": after}


@pytest.mark.usefixtures("models")
def test_a_missing_network_connection_is_reported(server: Server) -> None:
    server.url = "http://127.0.0.1:9/"  # the port of `discard`, where nobody listens
    assert "no connection" in failure(server)
    server.url = "http://host.invalid/"
    assert "no connection" in failure(server)


@pytest.mark.usefixtures("models")
def test_a_disk_without_enough_room_is_reported_before_it_is_full(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert "got a full disk" in failure(server)
    assert "set ICONVSR_MODELS to another directory" in failure(server)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /dev/full")
def test_a_disk_that_fills_up_is_reported(server: Server, models: Path) -> None:
    models.mkdir()
    part = models / (OFFICIAL["tiny"].file_name + ".part")
    part.symlink_to("/dev/full")
    assert "got a full disk" in failure(server)


def test_a_directory_that_cannot_be_created_is_reported(server: Server, models: Path) -> None:
    models.write_text("a file")
    assert "tiny: " in failure(server)


@pytest.mark.parametrize("url", ["file:///etc/", "ftp://127.0.0.1/", "nonsense"])
@pytest.mark.usefixtures("models")
def test_a_mirror_is_a_web_address(url: str) -> None:
    with pytest.raises(WeightsError, match="mirror: expected an address that begins with https:// or http://"):
        download("tiny", base_url=url)


@pytest.mark.usefixtures("models")
def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"download: expected one of iconvsr_reds4, .*, got 'nothing'"):
        download("nothing")


def test_two_processes_download_a_file_once(server: Server, models: Path) -> None:
    program = (
        "import logging, sys\n"
        "from vs_iconvsr.weights import download\n"
        "from vs_iconvsr.weights.catalogue import OFFICIAL, Official\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "OFFICIAL['tiny'] = Official('tiny', sys.argv[1], 1, 'a test')\n"
        "print(download('tiny', base_url=sys.argv[2], progress=lambda done, whole: print(done, flush=True)))\n"
    )
    command = [sys.executable, "-c", program, OFFICIAL["tiny"].address, server.url]
    server.stop_after, server.stall = 300_000, True
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "0\n"  # it has asked, and holds the lock
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert second.stdout.readline().startswith("another process downloads tiny-")
            server.released.set()
            answers = [process.communicate(timeout=120)[0].split()[-1] for process in (first, second)]
    assert answers == [str(models / OFFICIAL["tiny"].file_name)] * 2
    assert server.asked == [None]
