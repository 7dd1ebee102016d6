"""Weights fetched from public servers, against a server that plays them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fileserver import FileServer, Reply, file_server
from tests.services.test_downloads import weights
from webui.core.errors import BadModelFile
from webui.core.hosted import BLIP, HOSTED, WD_TAGGER
from webui.net.egress import Unreachable
from webui.services.hosted import fetch_hosted


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as running:
        for url in (*BLIP.files, *WD_TAGGER.files):
            path = urlsplit(url).path
            content = weights() if path.endswith(".safetensors") else random.Random(path).randbytes(900)
            running.replies[path] = Reply(b"x" + content if not path.endswith(".safetensors") else content)
        yield running


def test_everything_says_its_size_licence_and_origin() -> None:
    for hosted in HOSTED.values():
        assert hosted.summary.startswith("about ")
        assert hosted.licence in hosted.missing
        assert hosted.folder in hosted.missing
        assert {urlsplit(url).scheme for url in hosted.files} == {"https"}


def test_the_files_come_into_their_folder_with_a_note_of_the_licence(files: FileServer, tmp_path: Path) -> None:
    told: list[int] = []
    paths = fetch_hosted(BLIP, tmp_path, files.egress(), told.append)
    assert paths == BLIP.paths(tmp_path)
    sizes = [path.stat().st_size for path in paths]
    assert [path.read_bytes() for path in paths] == [files.replies[urlsplit(url).path].body for url in BLIP.files]  # type: ignore[union-attr]
    assert told[-1] == sum(sizes)
    assert "BSD-3-Clause" in (paths[0].parent / "easel-licence.txt").read_text()
    asked = len(files.asked)
    assert fetch_hosted(BLIP, tmp_path, files.egress()) == paths
    assert len(files.asked) == asked


def test_what_is_no_file_of_weights_is_not_kept(files: FileServer, tmp_path: Path) -> None:
    page = next(urlsplit(url).path for url in WD_TAGGER.files if url.endswith(".onnx"))
    files.replies[page] = Reply(b"<html>sign in</html>")
    with pytest.raises(BadModelFile, match=r"model\.onnx is a web page"):
        fetch_hosted(WD_TAGGER, tmp_path, files.egress())
    assert not WD_TAGGER.paths(tmp_path)[1].exists()
    files.replies[urlsplit(next(iter(BLIP.files))).path] = Reply(b"{}")
    shard = next(urlsplit(url).path for url in BLIP.files if url.endswith(".safetensors"))
    files.replies[shard] = Reply(b"\x80\x02pickle")
    with pytest.raises(BadModelFile, match=r"model\.safetensors"):
        fetch_hosted(BLIP, tmp_path, files.egress())


def test_offline_is_one_sentence(tmp_path: Path) -> None:
    from webui.net.egress import Egress

    def nowhere(host: str, port: int) -> list[tuple[str, int]]:
        raise OSError("no network")

    with pytest.raises(Unreachable, match="is this machine online"):
        fetch_hosted(WD_TAGGER, tmp_path, Egress(resolve=nowhere))
