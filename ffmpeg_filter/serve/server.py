"""The server behind the page: loopback only, every request with the token that only the address printed has."""

import json
import logging
import secrets
import string
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ffmpeg_filter.serve.board import Board
from ffmpeg_filter.serve.control import BusyError, Control

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
TOKEN_HEADER = "X-Iconvsr-Token"

_CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_INLINE = f"{_CLOSED}; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_POLICY = f"{_INLINE}; connect-src 'self'"
# A comparison is a page of its own: in a sandbox it has another origin, and cannot ask this server for anything.
_COMPARISON_POLICY = f"{_INLINE}; sandbox allow-scripts"


class QueueServer(ThreadingHTTPServer):
    """Serves the page of a board; its buttons call the control. port: 0 takes any that is free."""

    daemon_threads = True

    def __init__(self, board: Board, control: Control, port: int) -> None:
        self.board, self.control = board, control
        self.token = secrets.token_urlsafe(24)
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{LOOPBACK}:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: QueueServer
    timeout = 30.0  # a connection that says nothing does not keep its thread
    server_version, sys_version = "iconvsr", ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        token = self.headers.get(TOKEN_HEADER) or parse_qs(url.query).get("token", [""])[0]
        if not self._admitted(token):
            return
        match url.path.split("/")[1:]:
            case [""]:
                self._send(HTTPStatus.OK, _page(self.server.token), "text/html", _POLICY)
            case ["status"]:
                self._send_json(HTTPStatus.OK, self.server.control.status())
            case ["compare", number]:
                self._send_comparison(number)
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, f"no such page: {url.path}")

    def do_POST(self) -> None:
        # By header only: a form or a link of another page cannot set one.
        if not self._admitted(self.headers.get(TOKEN_HEADER, "")):
            return
        control = self.server.control
        match self.path.split("/")[1:]:
            case ["start"]:
                self._do(control.start)
            case ["stop"]:
                self._do(control.stop)
            case ["compare", number]:
                if (source := self._source(number)) is not None:
                    self._do(lambda: control.compare(source))
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, f"no such action: {self.path}")

    def _admitted(self, token: str) -> bool:
        """Refuses other names of this machine (DNS rebinding), and whoever does not know the token."""
        port = self.server.server_port
        if self.headers.get("Host") not in {f"{LOOPBACK}:{port}", f"localhost:{port}"}:
            self._refuse(HTTPStatus.FORBIDDEN, f"expected http://{LOOPBACK}:{port}, got another host")
            return False
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the whole address that iconvsr serve printed, with its token")
            return False
        return True

    def _source(self, number: str) -> str | None:
        source = self.server.board.source(int(number)) if number.isdecimal() and len(number) < 10 else None
        if source is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"no such file: {number}")
        return source

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (BusyError, OSError) as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        else:
            self._send_json(HTTPStatus.OK, self.server.control.status())

    def _send_comparison(self, number: str) -> None:
        source = self._source(number)
        if source is None:
            return
        try:
            content = self.server.control.page_of(source).read_bytes()
        except FileNotFoundError:
            self._refuse(HTTPStatus.NOT_FOUND, "this comparison has not been made yet")
            return
        self._send(HTTPStatus.OK, content, "text/html", _COMPARISON_POLICY)

    def _send_json(self, status: HTTPStatus, values: object) -> None:
        self._send(status, json.dumps(values).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._send(status, text.encode(), "text/plain")

    def _send(self, status: HTTPStatus, content: bytes, kind: str, policy: str = _CLOSED) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        del format  # the request line has the token in it
        logger.debug("%s %s: %s", self.command, urlsplit(self.path).path, arguments[1:2])


def _page(token: str) -> bytes:
    text = resources.files("ffmpeg_filter.serve").joinpath("page.html").read_text(encoding="utf-8")
    return string.Template(text).substitute(token=json.dumps(token)).encode()
