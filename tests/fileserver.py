"""An https server on the loopback interface that serves files well or badly, and a way out that leads to it."""

from __future__ import annotations

import os
import ssl
import subprocess
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
    """replies: path (without query) -> what is answered, or what says so anew each time. asked: requests so far.

    repositories: a folder whose bare repositories (name.git) are served by git itself.
    """

    port: int
    replies: dict[str, Reply | Callable[[], Reply]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    repositories: Path | None = None

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
        if files.repositories is not None and ".git/" in self.path:
            self.answer_by_git(files.repositories, headers)
            return
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

    do_POST = do_GET

    def answer_by_git(self, folder: Path, headers: dict[str, str]) -> None:
        """As a web server with git's own CGI program does."""
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(headers.get("content-length", 0)))
        environ = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        }
        program = ["git", "-c", "safe.directory=*", "http-backend"]
        output = subprocess.run(program, env=environ, input=body, stdout=subprocess.PIPE, check=False).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        told = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.close_connection = True
        self.send_response(int(told.pop("Status", "200").split()[0]))
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""
