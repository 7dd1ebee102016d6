"""Lists of LoRAs, embeddings and hypernetworks: names, aliases, hashes, and what suits the loaded model."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from webui.catalog.embedding_image import TEXT_KEY
from webui.catalog.facts import FactCache
from webui.catalog.hashes import HashCache
from webui.catalog.networks import EmbeddingCatalog, HypernetworkCatalog, LoraCatalog, Networks


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Networks]:
    hashes, facts = HashCache(tmp_path / "hashes.sqlite"), FactCache(tmp_path / "facts.sqlite")
    yield Networks(
        LoraCatalog((tmp_path / "Lora", tmp_path / "LyCORIS"), hashes, facts),
        EmbeddingCatalog((tmp_path / "embeddings",), hashes, facts),
        HypernetworkCatalog((tmp_path / "hypernetworks",), hashes),
    )
    hashes.close()
    facts.close()


def lora(path: Path, metadata: dict[str, str] | None = None, key: str = "lora_unet_conv_in") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{key}.lora_up.weight": torch.ones(4, 2)}, path, metadata)
    return path


def embedding(path: Path, *shape: int, key: str = "emb_params") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.ones(shape)}, path)
    return path


def test_loras_are_found_in_both_folders_by_name_alias_and_path(tmp_path: Path, networks: Networks) -> None:
    lora(tmp_path / "Lora" / "people" / "Anna v10.safetensors", {"ss_output_name": "anna"})
    lora(tmp_path / "Lora" / "Anna v9.safetensors")
    lora(tmp_path / "LyCORIS" / "ink.safetensors")
    networks.refresh()
    assert [file.stem for file in networks.loras] == ["Anna v9", "ink", "Anna v10"]
    for name in ("Anna v10", "anna v10", "anna", "ANNA", "people/Anna v10"):
        found = networks.loras.lookup(name)
        assert found is not None
        assert found.stem == "Anna v10"
    assert networks.loras.lookup("nobody") is None


def test_a_file_name_wins_over_an_alias_and_clashing_aliases_mean_nothing(tmp_path: Path, networks: Networks) -> None:
    folder = tmp_path / "Lora"
    for name, alias in (("a", "b"), ("b", "other"), ("c", "same"), ("d", "same"), ("e", "None"), ("f", "fine")):
        lora(folder / f"{name}.safetensors", {"ss_output_name": alias})
    networks.refresh()
    found = networks.loras.lookup("b")
    assert found is not None
    assert found.stem == "b"
    assert networks.loras.lookup("same") is None
    names = {file.stem: networks.loras.prompt_name(file) for file in networks.loras}
    assert names == {"a": "a", "b": "other", "c": "c", "d": "d", "e": "e", "f": "fine"}
    assert {networks.loras.prompt_name(file, "Filename") for file in networks.loras} == set("abcdef")


def test_metadata_is_shown_as_a1111_does(tmp_path: Path, networks: Networks) -> None:
    told = {"z": "1", "ss_tag_frequency": '{"a": {"cat": 3}}', "ssmd_cover_images": "[...]", "ss_sd_model_name": "{x"}
    lora(tmp_path / "Lora" / "x.safetensors", told)
    networks.refresh()
    (file,) = networks.loras
    shown = networks.loras.metadata(file)
    assert list(shown)[:2] == ["ss_sd_model_name", "ss_tag_frequency"]
    assert shown == {"z": "1", "ss_tag_frequency": {"a": {"cat": 3}}, "ss_sd_model_name": "{x"}


def test_the_hash_leaves_the_header_out_unless_the_file_states_one(tmp_path: Path, networks: Networks) -> None:
    plain = lora(tmp_path / "Lora" / "plain.safetensors")
    lora(tmp_path / "Lora" / "told.safetensors", {"sshs_model_hash": "c0ffee"})
    torch.save({"a": torch.ones(2)}, tmp_path / "Lora" / "torch.pt")
    networks.refresh()
    files = {file.stem: file for file in networks.loras}
    data = plain.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert networks.loras.known_hash(files["plain"]) is None
    assert networks.loras.hash(files["plain"]) == hashlib.sha256(data[start:]).hexdigest()
    assert networks.loras.known_hash(files["plain"]) == networks.loras.hash(files["plain"])
    assert networks.loras.hash(files["told"]) == "c0ffee"
    whole = hashlib.sha256((tmp_path / "Lora" / "torch.pt").read_bytes()).hexdigest()
    assert networks.loras.hash(files["torch"]) == whole


@pytest.mark.parametrize(
    ("metadata", "key", "version"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "lora_unet_conv_in", "SDXL"),
        ({"ss_base_model_version": "sd_v1"}, "lora_unet_conv_in", "SD1"),
        ({"ss_v2": "True"}, "lora_unet_conv_in", "SD2"),
        ({"ss_network_module": "networks.lora"}, "lora_unet_conv_in", "SD1"),
        ({}, "lora_te2_text_model_encoder_layers_0_mlp_fc1", "SDXL"),
        ({}, "transformer.joint_blocks.0.x", "SD3"),
        ({}, "lora_unet_double_blocks_0_img_attn_qkv", "Flux"),
        ({}, "lora_unet_conv_in", "Unknown"),
    ],
)
def test_versions(tmp_path: Path, networks: Networks, metadata: dict[str, str], key: str, version: str) -> None:
    lora(tmp_path / "Lora" / "x.safetensors", metadata, key)
    networks.refresh()
    assert [networks.loras.facts(file).version for file in networks.loras] == [version]


@pytest.mark.parametrize(("width", "version"), [(768, "SD1"), (1024, "SD2"), (2048, "SDXL"), (64, "Unknown")])
def test_versions_by_the_width_of_the_context(tmp_path: Path, networks: Networks, width: int, version: str) -> None:
    (tmp_path / "Lora").mkdir()
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
    save_file({key: torch.ones(2, width)}, tmp_path / "Lora" / "x.safetensors")
    networks.refresh()
    assert [networks.loras.facts(file).version for file in networks.loras] == [version]


def test_a_broken_lora_is_listed_with_its_problem(tmp_path: Path, networks: Networks) -> None:
    (tmp_path / "Lora").mkdir()
    (tmp_path / "Lora" / "x.safetensors").write_bytes(b"nothing of the kind")
    networks.refresh()
    (file,) = networks.loras
    assert "x.safetensors" in networks.loras.facts(file).problem
    assert networks.loras.metadata(file) == {}
    assert networks.loras.hash(file) is None


def test_facts_are_read_once_for_each_state_of_a_file(tmp_path: Path) -> None:
    path = lora(tmp_path / "Lora" / "x.safetensors", {"ss_output_name": "first"})
    place = tmp_path / "facts.sqlite"

    def alias() -> str:
        with HashCache(tmp_path / "h.sqlite") as hashes:
            facts = FactCache(place)
            (file,) = catalog = LoraCatalog((tmp_path / "Lora",), hashes, facts)
            found = catalog.facts(file).alias
            facts.close()
        return found

    assert alias() == "first"
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content.replace(b"first", b"other"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert alias() == "first", "neither size nor time tell of a change"
    lora(path, {"ss_output_name": "a longer name"})  # so that the size tells, should the times be the same
    assert alias() == "a longer name"
    place.write_bytes(b"no database at all, but long enough to be looked at")
    assert alias() == "a longer name"


def test_five_thousand_loras_are_listed_without_opening_one(tmp_path: Path, networks: Networks) -> None:
    (tmp_path / "Lora").mkdir()
    for number in range(5000):
        (tmp_path / "Lora" / f"l{number}.safetensors").touch()
    opened: list[str] = []

    def watch(event: str, args: tuple[object, ...]) -> None:  # Python keeps such a hook; elsewhere it sees nothing
        if event == "open" and str(args[0]).startswith(str(tmp_path / "Lora" / "l")):
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    networks.refresh()
    assert len(networks.loras) == 5000
    assert networks.loras.lookup("l4999") is not None
    assert networks.loras.poll(0) is False
    assert not opened
    assert "is empty" in networks.loras.facts(networks.loras.all()[0]).problem
    assert len(set(opened)) == 1, "asked for facts, it opens that one file"


def test_embeddings_of_every_format(tmp_path: Path, networks: Networks) -> None:
    folder = tmp_path / "embeddings"
    embedding(folder / "kohya.safetensors", 3, 768)
    embedding(folder / "diffusers.safetensors", 1024, key="<cat>")
    save_file({"clip_g": torch.ones(2, 1280), "clip_l": torch.ones(2, 768)}, folder / "xl.safetensors")
    told = {"step": 7, "sd_checkpoint": "abcd", "sd_checkpoint_name": "m", "name": "other"}
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(4, 768)}, **told}, folder / "a.pt")
    torch.save({"<dog>": torch.ones(768)}, folder / "b.bin")
    content = {"string_to_param": {"*": {"TORCHTENSOR": [[1.0] * 768]}}, "name": "pictured", "step": 1}
    info = PngInfo()
    info.add_text(TEXT_KEY, base64.b64encode(json.dumps(content).encode()).decode())
    Image.new("RGB", (8, 8)).save(folder / "c.png", pnginfo=info)
    for preview in ("a.preview.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / preview, pnginfo=info)
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    (folder / "broken.pt").write_bytes(b"\x80\x02nothing")
    save_file({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, folder / "two.safetensors")
    networks.refresh()
    catalog = networks.embeddings
    sizes = {name: (facts.vectors, facts.widths) for name, facts in catalog.loaded().items()}
    assert sizes == {
        "a": (4, (768,)),
        "b": (1, (768,)),
        "diffusers": (1, (1024,)),
        "kohya": (3, (768,)),
        "pictured": (1, (768,)),
        "xl": (2, (768, 1280)),
    }
    assert not {"a.preview.png", "b.png"} & {file.path.name for file in catalog}
    facts = catalog.loaded()["a"]
    assert (facts.step, facts.sd_checkpoint, facts.sd_checkpoint_name) == (7, "abcd", "m")
    problems = {file.path.name: catalog.facts(file).problem for file in catalog}
    assert {name for name, problem in problems.items() if problem} == {"broken.pt", "two.safetensors"}
    catalog.fit_to((768, 1280))
    assert list(catalog.loaded()) == ["xl"]
    assert list(catalog.skipped()) == ["a", "b", "diffusers", "kohya", "pictured"]
    assert catalog.loaded()["xl"].shape == 2048
    assert catalog.vectors() == {"xl": 2}


def test_hypernetworks_by_name(tmp_path: Path, networks: Networks) -> None:
    (tmp_path / "hypernetworks" / "old").mkdir(parents=True)
    for name in ("b.pt", "old/a.pt", "a.pt.optim"):
        (tmp_path / "hypernetworks" / name).write_bytes(b"x")
    networks.refresh()
    assert [file.stem for file in networks.hypernetworks] == ["b", "a"]
    assert networks.hypernetworks.find("a").folder == "old"
