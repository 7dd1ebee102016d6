"""Downloads from a server that breaks off, lies, redirects, and sends other things."""

from __future__ import annotations

import hashlib
import random
import re
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fileserver import FileServer, Reply, file_server
from webui.core.errors import BadModelFile, InvalidRequest, Refused, WebuiError
from webui.net.download import Cancelled, NoSpace, RemoteFile, download, safe_name
from webui.net.egress import Unreachable

URL = "https://files.example/model.safetensors"
CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TAG = {"ETag": '"v1"'}
QUICK = (0.0, 0.0)


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def remote(**known: object) -> RemoteFile:
    return RemoteFile(**{"url": URL, "name": "model.safetensors", **known})  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_progress(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG)
    told: list[tuple[int, int]] = []
    path = download(files.egress(), remote(sha256=SHA256), tmp_path, told=lambda *state: told.append(state))
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["model.safetensors"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_download_that_breaks_off_goes_on_where_it_ended(files: FileServer, tmp_path: Path) -> None:
    breaks = iter([100_000, 50_000])
    files.replies["/model.safetensors"] = lambda: Reply(CONTENT, headers=TAG, breaks_after=next(breaks, None))
    path = download(files.egress(), remote(sha256=SHA256), tmp_path, pauses=QUICK)
    assert path.read_bytes() == CONTENT
    assert files.ranges("/model.safetensors") == [None, "bytes=100000-", "bytes=150000-"]


def test_it_gives_up_and_a_later_start_goes_on(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG, breaks_after=100_000)
    with pytest.raises(Unreachable, match="broke off after 100000 of 300000 bytes"):
        download(files.egress(), remote(), tmp_path, pauses=())
    assert left(tmp_path) == ["model.safetensors.part", "model.safetensors.part.json"]
    assert (tmp_path / "model.safetensors.part").stat().st_size == 100_000
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG)
    assert download(files.egress(), remote(), tmp_path).read_bytes() == CONTENT
    assert files.ranges("/model.safetensors")[-1] == "bytes=100000-"
    assert left(tmp_path) == ["model.safetensors"]


def test_a_file_that_changed_meanwhile_begins_anew(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(b"o" * 300_000, headers={"ETag": '"old"'}, breaks_after=100_000)
    with pytest.raises(Unreachable):
        download(files.egress(), remote(), tmp_path, pauses=())
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG)
    assert download(files.egress(), remote(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_without_tags_or_ranges_begins_anew(ranges: bool, files: FileServer, tmp_path: Path) -> None:
    breaks = iter([100_000])
    files.replies["/model.safetensors"] = lambda: Reply(CONTENT, ranges=ranges, breaks_after=next(breaks, None))
    assert download(files.egress(), remote(), tmp_path, pauses=QUICK).read_bytes() == CONTENT


def test_another_files_part_is_not_taken_up(files: FileServer, tmp_path: Path) -> None:
    files.replies["/other"] = Reply(b"o" * 300_000, headers=TAG, breaks_after=100_000)
    with pytest.raises(Unreachable):
        download(files.egress(), remote(url="https://files.example/other"), tmp_path, pauses=())
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG)
    assert download(files.egress(), remote(), tmp_path).read_bytes() == CONTENT
    assert files.ranges("/model.safetensors") == [None]


def test_a_wrong_hash_leaves_nothing(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG)
    with pytest.raises(BadModelFile, match="arrived with the SHA-256"):
        download(files.egress(), remote(sha256="0" * 64), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("reply", "error", "sentence"),
    [
        (Reply(CONTENT, length=len(CONTENT) + 10), Unreachable, "broke off after 300000 of 300010"),
        (Reply(CONTENT, length=-1), Refused, "doesn't say how large"),
        (Reply(CONTENT, headers={"Content-Encoding": "gzip"}), Refused, "doesn't say how large"),
        (Reply(CONTENT, headers={"Content-Type": "text/html; charset=utf-8"}), BadModelFile, "web page instead"),
        (Reply(b"no", 401), Refused, "token"),
        (Reply(b"no", 404), Refused, "no such file"),
        (Reply(b"no", 418), Refused, "status 418"),
        (Reply(b"no", 429), Unreachable, "too many requests"),
        (Reply(b"no", 503), Unreachable, "can't answer now"),
        (Reply(status=302, headers={"Location": "http://files.example/plain"}), Refused, "https://"),
    ],
)
def test_wrong_answers_end_in_one_sentence(
    reply: Reply, error: type[WebuiError], sentence: str, files: FileServer, tmp_path: Path
) -> None:
    files.replies["/model.safetensors"] = reply
    with pytest.raises(error, match=sentence):
        download(files.egress(), remote(), tmp_path, pauses=())
    assert not (tmp_path / "model.safetensors").exists()


def test_a_size_other_than_announced_is_refused_before_anything_is_read(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(CONTENT)
    with pytest.raises(BadModelFile, match="offers 300000 bytes where 5 were announced"):
        download(files.egress(), remote(size=5), tmp_path)
    assert left(tmp_path) == []


def test_the_first_bytes_are_looked_at_before_the_rest_comes(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(b"<html>" + CONTENT)

    def no_page(start: bytes) -> None:
        if start.startswith(b"<html"):
            raise BadModelFile("a page")

    with pytest.raises(BadModelFile, match="a page"):
        download(files.egress(), remote(), tmp_path, check_start=no_page)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_stopped_download_is_kept_and_goes_on(files: FileServer, tmp_path: Path) -> None:
    big = CONTENT * 10
    files.replies["/model.safetensors"] = Reply(big, headers=TAG)
    asked = iter([True, True, False])
    with pytest.raises(Cancelled):
        download(files.egress(), remote(), tmp_path, keep_going=lambda: next(asked))
    assert 0 < (tmp_path / "model.safetensors.part").stat().st_size < len(big)
    assert download(files.egress(), remote(), tmp_path).read_bytes() == big
    assert (files.ranges("/model.safetensors")[-1] or "").startswith("bytes=")


def test_a_disk_without_room_is_told_before(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 1000))
    files.replies["/model.safetensors"] = Reply(CONTENT)
    with pytest.raises(NoSpace, match="GB free"):
        download(files.egress(), remote(), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_an_existing_file_is_never_overwritten(files: FileServer, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match="already"):
        download(files.egress(), remote(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"
    assert files.asked == []


def test_nothing_written_or_said_holds_a_secret(files: FileServer, tmp_path: Path) -> None:
    files.replies["/model.safetensors"] = Reply(CONTENT, headers=TAG, breaks_after=1000)
    wanted = remote(url=f"{URL}?token=s3cret", secret="s3cret")
    with pytest.raises(Unreachable) as error:
        download(files.egress(), wanted, tmp_path, pauses=())
    assert "s3cret" not in str(error.value) + (tmp_path / "model.safetensors.part.json").read_text()
    assert "s3cret" not in repr(remote(secret="s3cret"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors", "model.safetensors"),
        ("../../etc/passwd.pt", "passwd.pt"),
        ("..\\..\\x.pt", "x.pt"),
        ("a<b>:c|?*.pt", "a_b__c___.pt"),
        ("CON.safetensors", "_CON.safetensors"),
        (".hidden.pt", "hidden.pt"),
        ("x\u202etp.exe", "x_tp.exe"),
        ("a\nb\x00.pt", "a_b_.pt"),
    ],
)
def test_names_become_plain_file_names(name: str, expected: str) -> None:
    assert safe_name(name) == expected


def test_long_names_keep_their_ending() -> None:
    assert re.fullmatch(r"ü{60,70}\.safetensors", safe_name("ü" * 500 + ".safetensors"))
    for nothing in ("", "...", "/", "///..", "__"):
        with pytest.raises(InvalidRequest):
            safe_name(nothing)
