"""What an extension gets for models of its own: lists of files, and their weights, read safely."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from webui.core.flags import parse_flags
from webui.extensions.api import BadModelFile, NotFound, read_weights
from webui.extensions.easel import Easel
from webui.services.building import build_services


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Easel]:
    data = tmp_path_factory.mktemp("data")
    other = data / "other" / "models" / "ControlNet"
    other.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, other / "depth.safetensors")
    flags = parse_flags(["--data-dir", str(data), "--extra-models-dir", str(data / "other"), "--device", "cpu"], {})[0]
    services = build_services(flags)
    yield services.host.easel
    services.checkpoints.close()


def test_a_catalog_of_ones_own_folder_lists_names_and_short_hashes(easel: Easel) -> None:
    catalog = easel.catalog("ControlNet", (".safetensors", ".pth"))
    assert [file.stem for file in catalog] == ["depth"]
    own = easel.paths.models / "ControlNet" / "v1"
    own.mkdir(parents=True)
    save_file({"a": torch.ones(3)}, own / "Canny.safetensors")
    (own / "notes.txt").write_text("no model")
    catalog.refresh()
    assert catalog.titles() == ("depth [e3b0c442]", "Canny [e3b0c442]")
    canny = catalog.find("canny")
    assert catalog.find("Canny [e3b0c442]") == canny
    assert catalog.find("CANNY [ffffffff]") == canny
    assert catalog.find("v1/canny.safetensors") == canny
    assert len(catalog.sha256(canny) or "") == 64
    with pytest.raises(NotFound, match='the closest is "Canny"'):
        catalog.find("cany")
    (own / "Canny.safetensors").unlink()
    catalog.refresh()
    assert catalog.get("canny") is None


def test_of_two_files_of_one_stem_the_hash_decides(easel: Easel, tmp_path: Path) -> None:
    for name, filling in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.pth").write_bytes(filling * 0x110000)
    catalog = easel.catalog(tmp_path, (".pth",))
    first, second = catalog.titles()
    assert first != second
    assert [catalog.find(title).path.parent.name for title in (first, second)] == ["a", "b"]


def test_a_folder_without_a_known_name_is_looked_for_in_further_roots_too(easel: Easel) -> None:
    further = easel.paths.data / "other" / "models" / "faces"
    further.mkdir()
    (further / "Ada.onnx").write_bytes(b"0")
    assert [file.stem for file in easel.catalog("faces", (".onnx",))] == ["Ada"]


def test_weights_of_both_formats_are_read_by_content(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1, dtype=torch.float16)}
    save_file(tensors, tmp_path / "net.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "net.pth")
    os.rename(tmp_path / "net.safetensors", tmp_path / "net.ckpt")
    for name in ("net.ckpt", "net.pth"):
        found = read_weights(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(Path.cwd() / "owned"),)


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), b"", b"no weights at all"])
def test_a_file_that_would_run_code_or_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "net.pth"
    file.write_bytes(content)
    with pytest.raises(BadModelFile, match=r"net\.pth"):
        read_weights(file)
    assert not (Path.cwd() / "owned").exists()


def test_a_catalog_is_made_once_and_passes_folders_over(easel: Easel, tmp_path: Path) -> None:
    (tmp_path / "nets" / "preprocessors").mkdir(parents=True)
    for name in ("canny.pth", "preprocessors/hed.pth"):
        (tmp_path / "nets" / name).write_bytes(b"x")
    found = easel.catalog(tmp_path / "nets", (".pth",), passed_over=("preprocessors",))
    assert [file.stem for file in found.all()] == ["canny"]
    assert easel.catalog(tmp_path / "nets", (".pth",), passed_over=("preprocessors",)) is found
    assert [file.stem for file in easel.catalog(tmp_path / "nets", (".pth",)).all()] == ["canny", "hed"]
