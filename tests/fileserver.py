"""An https server on the loopback interface that serves files well or badly, and a way out that leads to it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from webui.net.egress import Egress

CERTIFICATES = Path(__file__).parent / "fixtures" / "egress"


@dataclass
class Reply:
    """What a path answers. ranges: whether parts are served. breaks_after: bytes after which the connection ends.

    length: the Content-Length told, None for the true one, -1 for none.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    breaks_after: int | None = None
    length: int | None = None


@dataclass
class FileServer:
    """replies: path (without query) -> what is answered, or what says so anew each time. asked: requests so far."""

    port: int
    replies: dict[str, Reply | Callable[[], Reply]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def egress(self, **options: object) -> Egress:
        """A way out on which every name leads here."""
        context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        allowed = {"may_connect": lambda address: True, "resolve": lambda host, port: [("127.0.0.1", self.port)]}
        return Egress(**{**allowed, "context": context, "timeout": 60.0, **options})  # type: ignore[arg-type]

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of each request for a path."""
        return [headers.get("range") for _, asked, headers in self.asked if asked.partition("?")[0] == path]


@contextmanager
def file_server() -> Iterator[FileServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    files = FileServer(server.server_address[1])
    server.files = files  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        files: FileServer = self.server.files  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        files.asked.append((headers.get("host", ""), self.path, headers))
        reply = files.replies.get(self.path.partition("?")[0], Reply(b"nothing here", 404))
        reply = reply() if callable(reply) else reply
        body, status = reply.body, reply.status
        wanted = headers.get("range")
        fresh = "if-range" not in headers or headers["if-range"] == reply.headers.get("ETag")
        self.close_connection = True
        if wanted and reply.ranges and fresh and status == 200:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.end_headers()
                return
            status, body = 206, body[start:]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(reply.body) - 1}/{len(reply.body)}")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        length = len(body) if reply.length is None else reply.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(body if reply.breaks_after is None else body[: reply.breaks_after])
        except OSError:
            return  # the client has seen enough

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""
