"""Networks of several files fetched from public servers, against a server that plays them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fileserver import FileServer, Reply, file_server
from tests.services.test_downloads import weights
from webui.core.errors import BadModelFile
from webui.core.packaged import BLIP, CAPTIONERS, WD_TAGGER, Fetchable, HubFile
from webui.net.egress import Egress, Unreachable
from webui.services.packaged import install_weights


def addresses(wanted: Fetchable) -> list[str]:
    return [urlsplit(file.address).path for file in wanted.files if isinstance(file, HubFile)]


def content_of(path: str) -> bytes:
    if path.endswith(".safetensors"):
        return weights()
    return (b"\x08" if path.endswith(".onnx") else b"x") + random.Random(path).randbytes(900)


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as running:
        for wanted in (BLIP, WD_TAGGER):
            tree = []
            for path in addresses(wanted):
                running.replies[path] = Reply(content_of(path))
                tree.append({"type": "file", "path": path.rpartition("/")[2], "size": len(content_of(path))})
            repository = "/".join(addresses(wanted)[0].split("/")[1:3])
            running.replies[f"/api/models/{repository}/tree/main"] = Reply(json.dumps(tree).encode())
        yield running


def install(wanted: Fetchable, folder: Path, egress: Egress, told: list[int] | None = None) -> tuple[Path, ...]:
    heard: list[int] = [] if told is None else told
    return install_weights(wanted.files, folder, folder / "tmp", egress, heard.append)


def test_everything_says_its_size_licence_and_origin() -> None:
    for wanted in CAPTIONERS:
        assert f"{wanted.size / 1e6:,.1f} MB from " in wanted.missing
        assert {file.licence for file in wanted.files if isinstance(file, HubFile)} <= {
            *("MIT", "BSD-3-Clause", "Apache-2.0"),
        }
        assert f"models/{wanted.folder}." in wanted.missing
        assert {urlsplit(file.address).scheme for file in wanted.files if isinstance(file, HubFile)} == {"https"}


def test_the_files_come_into_their_folder_with_a_note_of_the_licence(files: FileServer, tmp_path: Path) -> None:
    told: list[int] = []
    paths = install(BLIP, tmp_path, files.egress(), told)
    assert paths == BLIP.paths(tmp_path)
    assert [path.read_bytes() for path in paths] == [content_of(path) for path in addresses(BLIP)]
    assert told[-1] == sum(path.stat().st_size for path in paths)
    assert "BSD-3-Clause" in paths[0].with_name(f"{paths[0].name}.license.txt").read_text()
    asked = len(files.asked)
    assert install(BLIP, tmp_path, files.egress()) == paths
    assert len(files.asked) == asked


def test_what_is_no_file_of_weights_is_not_kept(files: FileServer, tmp_path: Path) -> None:
    page = next(path for path in addresses(WD_TAGGER) if path.endswith(".onnx"))
    files.replies[page] = Reply(b"<html>sign in</html>".ljust(len(content_of(page))))
    with pytest.raises(BadModelFile, match=r"model\.onnx is a web page"):
        install(WD_TAGGER, tmp_path, files.egress())
    assert not WD_TAGGER.paths(tmp_path)[0].exists()
    shard = next(path for path in addresses(BLIP) if path.endswith(".safetensors"))
    files.replies[shard] = Reply(b"\x80\x02pickle".ljust(len(content_of(shard))))
    with pytest.raises(BadModelFile, match=r"model\.safetensors"):
        install(BLIP, tmp_path, files.egress())


def test_offline_is_one_sentence(tmp_path: Path) -> None:
    def nowhere(host: str, port: int) -> list[tuple[str, int]]:
        raise OSError("no network")

    with pytest.raises(Unreachable, match="is this machine online"):
        install(WD_TAGGER, tmp_path, Egress(resolve=nowhere))
