"""The one door out: every request to another machine goes through it.

Only https, only to public addresses. A name is resolved once, every address it has is judged, and the connection goes
to an address that was judged, so that a name which answers differently the next time (DNS rebinding) gains nothing.
Redirects are followed by the same rules. Proxies from the environment are not used: they would resolve names anew.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast
from urllib.parse import urljoin, urlsplit

from webui.core.errors import Refused, WebuiError
from webui.core.version import VERSION

REDIRECTS = 5
TIMEOUT = 30.0
"""Seconds without a sign from the other side."""
LONGEST_URL = 4096

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[tuple[str, int]]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unreachable(WebuiError):
    """The other machine can't be reached, or went away: another try may help."""

    status = 502


@dataclass(frozen=True)
class Answer:
    """What the last server of a chain of redirects says. url: its address.

    redirects: headers of the answers that led there, names in lower case. body: to be read once.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    redirects: tuple[Mapping[str, str], ...]
    body: IO[bytes]

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, b"" at the end. Raises: Unreachable when the connection breaks or stalls."""
        try:
            return self.body.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"The connection to {urlsplit(self.url).hostname} broke off ({_reason(error)})."
            ) from error

    def read_all(self, limit: int) -> bytes:
        """The whole body. Raises: Unreachable, Refused for more than `limit` bytes."""
        data = b""
        while part := self.read(min(1 << 16, limit + 1 - len(data))):
            data += part
            if len(data) > limit:
                raise Refused(f"{urlsplit(self.url).hostname} answers with more than {limit} bytes.")
        return data


class Egress:
    """Opens https addresses. Safe to use from several threads.

    may_connect: judges an address; tests let loopback through. resolve: (host, port) -> (address, port) pairs.
    context: certificates that are trusted, the system's by default.
    """

    def __init__(
        self,
        *,
        may_connect: Callable[[Address], bool] | None = None,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ):
        self._may_connect = may_connect or is_public
        self._resolve = resolve or _resolve
        self._context = context or ssl.create_default_context()
        self._timeout = timeout

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None, *, secret: str = "") -> Iterator[Answer]:
        """GET an address, following up to 5 redirects. An answer of any status is given back.

        secret: sent as bearer token to the first host only, never to another that a redirect names.
        Raises: Refused for an address that isn't allowed, Unreachable.
        """
        passed: list[Mapping[str, str]] = []
        first = urlsplit(url).hostname
        for _ in range(REDIRECTS + 1):
            sent = {"User-Agent": f"Easel/{VERSION}", "Accept-Encoding": "identity", **(headers or {})}
            if secret and urlsplit(url).hostname == first:
                sent["Authorization"] = f"Bearer {secret}"
            connection, target = self._connect(url)
            try:
                response = _ask(connection, target, sent, url)
                found = {name.lower(): value for name, value in response.getheaders()}
                if response.status not in (301, 302, 303, 307, 308) or "location" not in found:
                    yield Answer(url, response.status, found, tuple(passed), cast(IO[bytes], response))
                    return
            finally:
                connection.close()
            passed.append(found)
            url = urljoin(url, found["location"])
        raise Refused(f"{first} redirects more than {REDIRECTS} times.")

    def dial(self, url: str) -> socket.socket:
        """A plain connection to a judged address of the URL's host, for who does the rest.

        Raises: Refused, Unreachable.
        """
        host, port, _ = _parts(url)
        try:
            return _dialled(self._judged(host, port), self._timeout)
        except OSError as error:
            raise Unreachable(f"{host} can't be reached ({_reason(error)}): is this machine online?") from error

    def _connect(self, url: str) -> tuple[http.client.HTTPSConnection, str]:
        """A connection to a judged address of the URL's host, and what to ask it for."""
        host, port, target = _parts(url)
        return _PinnedConnection(host, self._judged(host, port), self._context, self._timeout), target

    def _judged(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        """The host's addresses. Raises: Refused if one of them may not be connected to, Unreachable without any."""
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{host} can't be found ({_reason(error)}): is this machine online?") from error
        if not found:
            raise Unreachable(f"{host} has no address.")
        for address, _ in found:
            if not self._may_connect(ipaddress.ip_address(address.partition("%")[0])):
                raise Refused(f"{host} is {address}, which is no public address; it is not connected to.")
        return found


class _PinnedConnection(http.client.HTTPSConnection):
    """Speaks with `host`, by its certificate and its name, at addresses chosen before."""

    def __init__(self, host: str, addresses: Sequence[tuple[str, int]], context: ssl.SSLContext, timeout: float):
        super().__init__(host, addresses[0][1], timeout=timeout, context=context)
        self._addresses = addresses
        self._pinned_context = context

    def connect(self) -> None:
        """Raises: OSError when none of the addresses answers."""
        plain = _dialled(self._addresses, self.timeout)
        self.sock = self._pinned_context.wrap_socket(plain, server_hostname=self.host)


def _dialled(addresses: Sequence[tuple[str, int]], timeout: float | None) -> socket.socket:
    """A connection to the first of the addresses that answers. Raises: OSError when none does."""
    for number, address in enumerate(addresses, 1):
        try:
            return socket.create_connection(address, timeout)
        except OSError:
            if number == len(addresses):
                raise
    raise OSError("no address")


def is_public(address: Address) -> bool:
    """Whether an address, and the IPv4 address inside an IPv6 one, belongs to the open internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None and not is_public(inner):
            return False
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _parts(url: str) -> tuple[str, int, str]:
    """(host, port, path with query). Raises: Refused for what is no https address without a password in it."""
    shown = url if len(url) <= 200 else f"{url[:197]}..."
    try:
        parts = urlsplit(url)
        port = parts.port or 443
        host = parts.hostname or ""
        ascii_host = host.encode("idna").decode() if not host.isascii() else host
    except (ValueError, UnicodeError) as error:
        raise Refused(f'"{shown}" is not an address that can be read ({error}).') from error
    if parts.scheme != "https":
        raise Refused(f'"{shown}" is not fetched: only addresses that begin with https:// are.')
    if not ascii_host or parts.username is not None or parts.password is not None:
        raise Refused("An address needs a host name, and no user name or password in it.")
    if len(url) > LONGEST_URL or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise Refused("An address must be shorter than 4096 letters, without spaces and control characters.")
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    return ascii_host, port, "".join(letter if letter.isascii() else _quoted(letter) for letter in target)


def _quoted(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())


def _ask(
    connection: http.client.HTTPSConnection, target: str, headers: Mapping[str, str], url: str
) -> http.client.HTTPResponse:
    host = urlsplit(url).hostname
    try:
        connection.request("GET", target, headers=dict(headers))
        return connection.getresponse()
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            f"{host} can't prove who it is ({error.verify_message}): check this machine's clock."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{host} can't be reached ({_reason(error)}): is this machine online?") from error


def _resolve(host: str, port: int) -> Sequence[tuple[str, int]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", "") or error) or type(error).__name__
