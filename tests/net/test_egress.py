"""The door out: which addresses are connected to, and what becomes of redirects and secrets."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from tests.fileserver import FileServer, Reply, file_server
from webui.core.errors import Refused
from webui.net.egress import Egress, Unreachable, is_public


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
        ),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "fec0::1", "2001:db8::1"),
    ],
)
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://files.example/x",
            "file:///etc/passwd",
            "ftp://files.example/x",
            "gopher://x",
            "data:text/html,x",
            "",
        ),
        *(
            "https://user:secret@files.example/x",
            "https:///x",
            "https://files.example/a b",
            "https://files.example:9x/",
        ),
        *(
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/",
            "https://0x7f.1/",
            "https://2130706433/",
        ),
        *("https://localhost/x", "https://169.254.169.254/latest", f"https://files.example/{'x' * 5000}"),
    ],
)
def test_what_leads_elsewhere_than_to_the_open_internet_is_refused(url: str) -> None:
    with pytest.raises((Refused, Unreachable)), Egress(timeout=2).open(url):
        pass


def test_nothing_is_sent_to_an_address_that_is_refused(files: FileServer) -> None:
    egress = files.egress(may_connect=is_public)
    with pytest.raises(Refused, match="no public address"), egress.open("https://files.example/x"):
        pass
    assert files.asked == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(files: FileServer) -> None:
    egress = files.egress(may_connect=is_public, resolve=lambda host, port: [("8.8.8.8", 443), ("10.0.0.1", 443)])
    with pytest.raises(Refused, match="10.0.0.1"), egress.open("https://files.example/x"):
        pass


def test_a_name_is_resolved_once_for_a_connection(files: FileServer) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        asked.append(host)
        return [("127.0.0.1", files.port)]

    files.replies["/x"] = Reply(b"found")
    with files.egress(resolve=resolve).open("https://files.example/x") as answer:
        assert answer.read_all(100) == b"found"
    assert asked == ["files.example"]
    assert files.asked[0][0].partition(":")[0] == "files.example"


def test_redirects_are_judged_like_the_first_address(files: FileServer) -> None:
    files.replies["/private"] = Reply(status=302, headers={"Location": "https://10.0.0.1/x"})
    files.replies["/plain"] = Reply(status=302, headers={"Location": "http://files.example/x"})
    files.replies["/near"] = Reply(status=307, headers={"Location": "x?y=1"})
    files.replies["/x"] = Reply(b"found")

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        return [("10.0.0.1", 443)] if host == "10.0.0.1" else [("127.0.0.1", files.port)]

    egress = files.egress(resolve=resolve, may_connect=lambda address: address.is_loopback)
    for path, reason in (("private", "no public address"), ("plain", "https://")):
        with pytest.raises(Refused, match=reason), egress.open(f"https://files.example/{path}"):
            pass
    with egress.open("https://files.example/near") as answer:
        assert (answer.url, answer.read(10)) == ("https://files.example/x?y=1", b"found")


def test_five_redirects_are_followed_and_no_more(files: FileServer) -> None:
    for number in range(7):
        files.replies[f"/{number}"] = Reply(status=302, headers={"Location": f"/{number + 1}"})
    files.replies["/7"] = Reply(b"end")
    with files.egress().open("https://files.example/2") as answer:
        assert len(answer.redirects) == 5
    with pytest.raises(Refused, match="more than 5 times"), files.egress().open("https://files.example/1"):
        pass


def test_a_secret_goes_to_the_first_host_alone(files: FileServer) -> None:
    files.replies["/gated"] = Reply(status=302, headers={"Location": "https://cdn.example/file"})
    files.replies["/file"] = Reply(b"weights")
    with files.egress().open("https://huggingface.co/gated", secret="hf_x"):
        pass
    assert [headers.get("authorization") for _, _, headers in files.asked] == ["Bearer hf_x", None]


def test_a_stranger_with_a_certificate_of_its_own_is_not_believed(files: FileServer) -> None:
    egress = Egress(may_connect=lambda address: True, resolve=lambda host, port: [("127.0.0.1", files.port)])
    with pytest.raises(Unreachable, match="can't prove who it is"), egress.open("https://files.example/x"):
        pass
    with pytest.raises(Unreachable, match="can't prove who it is"), files.egress().open("https://other.example/x"):
        pass


def test_offline_is_one_sentence(files: FileServer) -> None:
    def nowhere(host: str, port: int) -> list[tuple[str, int]]:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    lost = files.egress(resolve=nowhere)
    with pytest.raises(Unreachable, match=r"can't be found .*online\?$"), lost.open("https://files.example/x"):
        pass
    closed = files.egress(resolve=lambda host, port: [("127.0.0.1", 1)])
    with pytest.raises(Unreachable, match=r"can't be reached .*online\?$"), closed.open("https://files.example/x"):
        pass


def test_more_than_asked_for_is_not_read(files: FileServer) -> None:
    files.replies["/big"] = Reply(b"x" * 1000)
    with files.egress().open("https://files.example/big") as answer, pytest.raises(Refused, match="more than 999"):
        answer.read_all(999)
