"""The names and addresses the server goes by."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from webui.api.guard.asgi import Headers, Refusal


class Hosts:
    """Which Host headers are answered.

    names: further host names (--server-name, names of a reverse proxy). Always answered: localhost, *.localhost
        and loopback addresses.
    listen: the server is reachable from the network: also answer to any address written as a number
        (which no DNS rebinding can forge) and to this machine's own name.
    """

    def __init__(self, names: Iterable[str], *, listen: bool):
        self._listen = listen
        self._names = frozenset(name for host in names if (name := host_name(host)))
        if listen:
            self._names |= own_names()

    def allow(self, host: str) -> None:
        """Answer to one more name from now on."""
        if name := host_name(host):
            self._names |= {name}

    def check(self, headers: Headers) -> None:
        """Raises: Refusal 421 unless the request was meant for a name or address this server goes by."""
        given = headers.all("host")
        name = host_name(given[0]) if len(given) == 1 else None
        if name is None:
            raise Refusal(400, "The request needs exactly one valid Host header.")
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return
        address = ip_address(name)
        if address is not None and (self._listen or is_loopback(address)):
            return
        raise Refusal(
            421,
            f'This server does not answer to the name "{name[:100]}". Start it with --server-name, '
            "or with --cors-allow-origins and the address it has there, to add a name.",
        )


def host_name(host: str) -> str | None:
    """The name or address in a Host header or URL, lower-case, without port, brackets and final dot; None if broken."""
    if "://" in host:
        host = host.partition("://")[2].partition("/")[0]
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+)(:\d{0,5})?", host.strip(), re.ASCII)
    if match is None:
        bare = host.strip()  # an IPv6 address as a flag gives it, without brackets
        return bare.lower() if ip_address(bare) is not None else None
    name = match[1].lower().strip("[]")
    return name.removesuffix(".") or None


def ip_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host name is, or None for a real name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address, or the IPv4 address inside an IPv6 one, is this machine talking to itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def own_names() -> frozenset[str]:
    """The names this machine goes by: its host name, without and with domain, and that in .local."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({name, short, f"{short}.local"} - {""})
