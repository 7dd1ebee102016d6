"""From a pasted address to a model in its folder, against a server that plays Hugging Face, Civitai and others."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fileserver import FileServer, Reply, file_server
from webui.core.errors import BadModelFile, InvalidRequest, NotFound, Refused, WebuiError
from webui.core.flags import parse_flags
from webui.services.downloads import Downloads, check_allowed, check_start
from webui.services.model_sources import tokens_from

JSON = {"Content-Type": "application/json"}


def weights(count: int = 2000) -> bytes:
    """A safetensors file."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(count).randbytes(count)


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


Make = Callable[..., Downloads]


@pytest.fixture
def make(files: FileServer, tmp_path: Path) -> Iterator[Make]:
    made: list[Downloads] = []

    def build(**options: object) -> Downloads:
        folders = {"checkpoints": tmp_path / "Stable-diffusion", "lora": tmp_path / "Lora"}
        options = {"tokens": {}, "pauses": (), "egress": files.egress(), **options}
        made.append(Downloads(folders, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for downloads in made:
        downloads.close()


def on_hugging_face(files: FileServer, content: bytes, oid: str | None = None) -> None:
    tree = [
        {"type": "directory", "path": "unet"},
        {"type": "file", "path": "README.md", "size": 10},
        {
            "type": "file",
            "path": "ink v1.safetensors",
            "size": len(content),
            "lfs": {"oid": oid or hashlib.sha256(content).hexdigest(), "size": len(content)},
        },
        {"type": "file", "path": "unet/part.bin", "size": 5},
    ]
    files.replies["/api/models/someone/ink/tree/main"] = Reply(json.dumps(tree).encode(), headers=JSON)
    files.replies["/someone/ink/resolve/main/ink%20v1.safetensors"] = Reply(
        status=302, headers={"Location": "https://cdn.example/blob?sig=1"}
    )
    files.replies["/blob"] = Reply(content, headers={"ETag": '"abc"'})


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("someone/ink", ["ink v1.safetensors", "part.bin"]),
        ("https://huggingface.co/someone/ink", ["ink v1.safetensors", "part.bin"]),
        ("https://huggingface.co/someone/ink/tree/main", ["ink v1.safetensors", "part.bin"]),
        ("https://huggingface.co/someone/ink/blob/main/ink%20v1.safetensors", ["ink v1.safetensors"]),
        ("https://huggingface.co/someone/ink/resolve/main/ink v1.safetensors?download=true", ["ink v1.safetensors"]),
    ],
)
def test_hugging_faces_addresses_lead_to_files(address: str, names: list[str], files: FileServer, make: Make) -> None:
    content = weights()
    on_hugging_face(files, content)
    found = make().look(address)
    assert [offer.name for offer in found] == names
    assert (found[0].size, found[0].checked) == (len(content), True)


def test_a_file_from_hugging_face_is_installed(files: FileServer, make: Make, tmp_path: Path) -> None:
    content = weights()
    on_hugging_face(files, content)
    finished: list[str] = []
    downloads = make(tokens={"huggingface.co": "hf_secret"}, finished=finished.append)
    key = downloads.start(downloads.look("someone/ink")[0].id, "lora")
    assert downloads.wait(60)
    (state,) = downloads.states()
    assert (state.id, state.state, state.done, state.size) == (key, "done", len(content), len(content))
    assert (tmp_path / "Lora" / "ink v1.safetensors").read_bytes() == content
    assert finished == ["lora"]
    secrets = {host.partition(":")[0]: headers.get("authorization") for host, _, headers in files.asked}
    assert secrets == {"huggingface.co": "Bearer hf_secret", "cdn.example": None}


def on_civitai(files: FileServer, content: bytes) -> dict[str, object]:
    version = {
        "id": 7,
        "name": "v2",
        "trainedWords": ["inkpen"],
        "model": {"name": "Ink <b>", "type": "LORA"},
        "files": [
            {
                "name": "ink.safetensors",
                "type": "Model",
                "sizeKB": len(content) / 1024,
                "downloadUrl": "https://civitai.com/api/download/models/7",
                "hashes": {"SHA256": hashlib.sha256(content).hexdigest().upper()},
            },
            {"name": "evil.safetensors", "downloadUrl": "https://files.example/x", "hashes": {}},
            {"name": "archive.zip", "downloadUrl": "https://civitai.com/api/download/models/7?type=Archive"},
        ],
    }
    files.replies["/api/v1/model-versions/7"] = Reply(json.dumps(version).encode(), headers=JSON)
    model = {"name": "Ink <b>", "type": "LORA", "modelVersions": [version]}
    files.replies["/api/v1/models/5"] = Reply(json.dumps(model).encode(), headers=JSON)
    files.replies["/api/download/models/7"] = Reply(content, headers={"ETag": '"abc"'})
    return version


@pytest.mark.parametrize(
    "address",
    [
        "https://civitai.com/models/5/ink?modelVersionId=7",
        "https://civitai.com/models/5",
        "https://civitai.com/api/download/models/7?type=Model&format=SafeTensor",
    ],
)
def test_a_model_from_civitai_is_installed_with_its_description(
    address: str, files: FileServer, make: Make, tmp_path: Path
) -> None:
    content = weights()
    version = on_civitai(files, content)
    downloads = make()
    (offer,) = downloads.look(address)
    assert (offer.name, offer.kind, offer.size, offer.checked) == ("ink.safetensors", "lora", len(content), True)
    downloads.start(offer.id, offer.kind or "")
    assert downloads.wait(60)
    assert (tmp_path / "Lora" / "ink.safetensors").read_bytes() == content
    kept = json.loads((tmp_path / "Lora" / "ink.civitai.info").read_text())
    assert kept["trainedWords"] == version["trainedWords"]


def test_a_direct_address_is_named_by_the_server_or_its_end(files: FileServer, make: Make) -> None:
    named = {"Content-Disposition": "attachment; filename*=UTF-8''..%2Fn%C3%A4me.safetensors"}
    files.replies["/a"] = Reply(weights(), headers=named)
    files.replies["/deep/model.safetensors"] = Reply(weights())
    downloads = make()
    assert downloads.look("https://files.example/a")[0].name == "näme.safetensors"
    assert downloads.look("https://files.example/deep/model.safetensors?x=1")[0].name == "model.safetensors"


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("what is this", InvalidRequest, "no address"),
        ("http://files.example/model.safetensors", Refused, "https://"),
        ("https://files.example/page", Refused, "web page"),
        ("https://files.example/program.exe", Refused, "no model file"),
        ("https://files.example/gone", Refused, "status 404"),
        ("https://huggingface.co/datasets/x/y", InvalidRequest, "no address of a model"),
        ("https://huggingface.co/someone/nothing", NotFound, "knows no such model"),
        ("https://civitai.com/user/x", InvalidRequest, "no address of a model"),
        ("https://civitai.com/models/9", Refused, "isn't understood"),
    ],
)
def test_other_addresses_end_in_one_sentence(
    address: str, error: type[WebuiError], sentence: str, files: FileServer, make: Make
) -> None:
    files.replies["/page"] = Reply(b"<html>", headers={"Content-Type": "text/html"})
    files.replies["/program.exe"] = Reply(b"MZ")
    files.replies["/api/v1/models/9"] = Reply(b"[" * 100_000, headers=JSON)
    with pytest.raises(error, match=sentence):
        make().look(address)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!doctype html>" + b"x" * 500, "web page"),
        (pickle.dumps({"x": 1}, protocol=2) + b"x" * 500, "pickle named .safetensors"),
        (b"PK\x03\x04" + b"x" * 500, "pickle named .safetensors"),
        (b"x" * 500, "doesn't begin as"),
        (struct.pack("<Q", 40) + b'{"x": 1}' + b" " * 32 + b"rest", "broken header"),
        (weights()[:-5], "cut off"),
    ],
)
def test_what_is_no_model_is_not_installed(
    content: bytes, sentence: str, files: FileServer, make: Make, tmp_path: Path
) -> None:
    files.replies["/model.safetensors"] = Reply(content, headers={"Content-Type": "application/octet-stream"})
    downloads = make()
    downloads.start(downloads.look("https://files.example/model.safetensors")[0].id, "checkpoints")
    assert downloads.wait(60)
    assert downloads.states()[0].state == "failed"
    assert sentence in downloads.states()[0].error
    assert list((tmp_path / "Stable-diffusion").iterdir()) == []


def test_a_pickle_that_asks_for_more_than_weights_is_not_installed(
    files: FileServer, make: Make, tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("echo hacked",)

    files.replies["/model.pt"] = Reply(pickle.dumps(Evil(), protocol=2))
    downloads = make()
    downloads.start(downloads.look("https://files.example/model.pt")[0].id, "lora")
    assert downloads.wait(60)
    assert downloads.states()[0].state == "failed"
    assert list((tmp_path / "Lora").iterdir()) == []


def test_a_failed_download_is_taken_up_again(files: FileServer, make: Make, tmp_path: Path) -> None:
    content = weights(100_000)
    on_hugging_face(files, content)
    files.replies["/blob"] = Reply(content, headers={"ETag": '"abc"'}, breaks_after=50_000)
    downloads = make()
    key = downloads.start(downloads.look("someone/ink")[0].id, "lora")
    assert downloads.wait(60)
    assert (downloads.states()[0].state, downloads.states()[0].done) == ("failed", 50_000)
    assert "broke off" in downloads.states()[0].error
    files.replies["/blob"] = Reply(content, headers={"ETag": '"abc"'})
    downloads.again(key)
    assert downloads.wait(60)
    assert downloads.states()[0].state == "done"
    assert files.ranges("/blob")[-1] == "bytes=50000-"


def test_downloads_can_be_stopped_while_they_wait(files: FileServer, make: Make) -> None:
    on_hugging_face(files, weights())
    downloads = make(pauses=(1000.0,))
    files.replies["/blob"] = Reply(weights(), headers={"ETag": '"abc"'}, breaks_after=100)
    first = downloads.start(downloads.look("someone/ink")[0].id, "lora")
    second = downloads.start(downloads.look("someone/ink")[1].id, "lora")
    assert downloads.start(downloads.look("someone/ink")[1].id, "lora") == second
    downloads.cancel(second)
    downloads.cancel(first)
    assert downloads.wait(60)
    assert {state.state for state in downloads.states()} <= {"cancelled", "failed"}
    downloads.cancel(first)
    with pytest.raises(NotFound):
        downloads.cancel("download99")
    with pytest.raises(NotFound, match="too old"):
        downloads.start("offer99", "lora")
    with pytest.raises(InvalidRequest, match="no kind of model"):
        downloads.start(downloads.look("someone/ink")[0].id, "../elsewhere")


def test_a_legitimate_header_may_look_like_a_pickle_at_first() -> None:
    check_start("x.safetensors", struct.pack("<Q", 0x0280) + b'{"x"')
    with pytest.raises(BadModelFile):
        check_start("x.safetensors", b"\x80\x02}q\x00.......")


def test_strangers_cannot_fill_the_disk() -> None:
    for flags, allowed in (
        ([], True),
        (["--listen"], False),
        (["--share"], False),
        (["--listen", "--gradio-auth", "a:b"], True),
        (["--share", "--gradio-auth", "a:b"], False),
    ):
        parsed = parse_flags(flags, {})[0]
        if allowed:
            check_allowed(parsed)
        else:
            with pytest.raises(Refused, match="Models are downloaded only"):
                check_allowed(parsed)


def test_tokens_come_from_the_environment() -> None:
    assert tokens_from({"HF_TOKEN": "a", "CIVITAI_API_KEY": "b"}) == {"huggingface.co": "a", "civitai.com": "b"}
    assert tokens_from({}) == {"huggingface.co": "", "civitai.com": ""}
