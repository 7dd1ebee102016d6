"""A way out for programs of others, git first of all, that obeys the rules of `egress`.

It is an http proxy on the loopback interface that knows CONNECT alone, leads to one server, at addresses that were
judged, and counts what comes back.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from webui.core.errors import WebuiError
from webui.net.egress import Egress

LONGEST_HEAD = 8192
PIECE = 1 << 16
IDLE = 120.0
"""Seconds without a byte from either side after which a connection is closed."""


class Tunnel:
    """port: of the proxy. exceeded: whether more came than was allowed, so that the connection was closed."""

    def __init__(self, egress: Egress, url: str, limit: int):
        parts = urlsplit(url)
        self.egress, self.url, self.limit = egress, url, limit
        self.target = f"{parts.hostname}:{parts.port or 443}"
        self.port = 0
        self.exceeded = False
        self._received = 0
        self._lock = threading.Lock()

    def count(self, size: int) -> bool:
        """Add to what has come; returns whether that is still allowed."""
        with self._lock:
            self._received += size
            self.exceeded = self.exceeded or self._received > self.limit
            return not self.exceeded


@contextmanager
def tunnel(egress: Egress, url: str, limit: int) -> Iterator[Tunnel]:
    """Open while the context lasts. limit: bytes that may come back, of all connections together."""
    opened = Tunnel(egress, url, limit)
    with _Proxy(("127.0.0.1", 0), _Handler) as server:
        server.opened = opened
        opened.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield opened
        finally:
            server.shutdown()
            thread.join()


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    opened: Tunnel


class _Handler(socketserver.BaseRequestHandler):
    server: _Proxy
    request: socket.socket

    def handle(self) -> None:
        opened = self.server.opened
        self.request.settimeout(IDLE)
        try:
            words = self._head().split(b" ")
            if words[:2] != [b"CONNECT", opened.target.encode()]:
                self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            with opened.egress.dial(opened.url) as other:
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._pass_on(other)
        except WebuiError:
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        except OSError:
            return  # one of the two has gone

    def _head(self) -> bytes:
        """The request's first line and headers."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.request.recv(LONGEST_HEAD)
            if not data or len(head) > LONGEST_HEAD:
                raise OSError("no request came")
            head += data
        return head

    def _pass_on(self, other: socket.socket) -> None:
        ends = {self.request: other, other: self.request}
        while True:
            ready, _, _ = select.select(list(ends), [], [], IDLE)
            if not ready:
                return
            for end in ready:
                data = end.recv(PIECE)
                if not data or (end is other and not self.server.opened.count(len(data))):
                    return
                ends[end].sendall(data)
