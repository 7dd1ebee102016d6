"""Names that are any bytes, links, and names from Windows: every list and page opens, and each file can be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.api.conftest import Running, running
from tests.tiny import tiny_checkpoint
from webui.core.texts import shown_name

ODD = [
    bytes.fromhex("c3a8c4ef"),  # GBK, of the report
    b"\xff\xfe-caf\xe9",  # Latin-1
    "猫".encode("shift_jis"),
    b"line\nbreak\ttab\x1b[31m\x7f",
    "turned\u202egnp\u2066".encode(),
    b"\xed\xa0\x80half",  # a lone surrogate, as some archives have it
    b"a\\b 'q' \"<i>&amp; %C3",
]
"""Stems of files, as bytes."""
STYLES = ["sdxl\\portrait", "C:\\styles\\a", "\\\\host\\b", "ends in \\", "both / and \\"]
FOLDERS = {
    "checkpoint": "models/Stable-diffusion",
    "lora": "models/Lora",
    "embedding": "embeddings",
    "vae": "models/VAE",
    "hypernetwork": "models/hypernetworks",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every folder of models with every odd name, and ordinary ones among them."""
    data = tmp_path_factory.mktemp("odd")
    rows = "".join(f"{name},style number {number},\n" for number, name in enumerate(STYLES))
    (data / "styles.csv").write_text("name,prompt,negative_prompt\n" + rows)
    plain = tiny_checkpoint(data / "models" / "Stable-diffusion", "plain")
    (data / "models" / "Stable-diffusion" / "sdxl").mkdir()
    tiny_checkpoint(data / "models" / "Stable-diffusion" / "sdxl", "Real_4", seed=4)
    (data / "models" / "Stable-diffusion" / "linked.safetensors").symlink_to(plain)
    for folder in FOLDERS.values():
        (data / folder).mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(ODD):
        for kind, folder in FOLDERS.items():
            path = os.fsencode(data / folder) + b"/" + stem + (b".pt" if kind == "hypernetwork" else b".safetensors")
            if kind == "checkpoint":
                os.link(plain, path)
            elif kind == "embedding":
                save_file({"emb_params": torch.full((1, 32), float(number))}, os.fsdecode(path))
            elif kind == "lora":
                metadata = {"ss_output_name": f"alias {number}", "ssmd_tags": '{"\\ud800": "\\udfff"}'}
                save_file({"x": torch.zeros(1)}, os.fsdecode(path), metadata)
            else:
                Path(os.fsdecode(path)).write_bytes(b"")
            Path(os.fsdecode(os.path.splitext(path)[0] + b".json")).write_text(
                '{"description": "half \\ud800 \\u0000"}'
            )
    return data


@pytest.fixture(scope="module")
def odd(data: Path) -> Iterator[Running]:
    with running(data, "plain") as easel:
        yield easel


@pytest.mark.parametrize(
    "path", ["/", "/config", *(f"/sdapi/v1/{name}" for name in ("loras", "embeddings", "options"))]
)
def test_nothing_in_a_folder_takes_a_page_down(odd: Running, path: str) -> None:
    assert odd.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "key"),
    [("sd-models", "model_name"), ("loras", "name"), ("sd-vae", "model_name"), ("hypernetworks", "name")],
)
def test_every_odd_file_is_listed_under_a_name_that_can_be_typed(odd: Running, path: str, key: str) -> None:
    listed = [item[key] for item in odd.client.get(f"/sdapi/v1/{path}").json()]
    for stem in ODD:
        shown = shown_name(os.fsdecode(stem))
        assert any(name.startswith(shown) for name in listed), shown
        assert shown.isprintable()


@pytest.mark.parametrize("kind", ["lora", "checkpoints", "textual_inversion", "hypernetworks"])
def test_cards_of_odd_names_are_there_with_their_notes(odd: Running, kind: str) -> None:
    cards = {card["title"]: card for card in odd.client.get("/easel/v1/cards", params={"kind": kind}).json()["cards"]}
    for stem in ODD:
        card = cards[shown_name(os.fsdecode(stem))]
        assert "half" in card["description"]
        details = odd.client.get("/easel/v1/cards/details", params={"kind": kind, "name": card["name"]})
        assert details.status_code == 200, details.text


@pytest.mark.parametrize("stem", ODD, ids=range(len(ODD)))
def test_an_odd_checkpoint_can_be_used_and_told(odd: Running, stem: bytes) -> None:
    [title] = [
        item["title"]
        for item in odd.client.get("/sdapi/v1/sd-models").json()
        if item["model_name"] == shown_name(os.fsdecode(stem))
    ]
    body = {"prompt": "cat <lora:nope:1>", "steps": 1, "width": 64, "height": 64, "save_images": True}
    answer = odd.client.post(
        "/sdapi/v1/txt2img", json={**body, "override_settings": {"sd_model_checkpoint": title, "sd_vae": "None"}}
    )
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.json()["info"])["sd_model_name"] == shown_name(os.fsdecode(stem))


@pytest.mark.parametrize("stem", ODD, ids=range(len(ODD)))
def test_an_odd_lora_is_found_by_the_name_shown(odd: Running, stem: bytes) -> None:
    found = odd.services.networks.loras.lookup(shown_name(os.fsdecode(stem)))
    assert found is not None
    assert os.fsencode(found.path.stem) == stem
    assert odd.services.networks.loras.hash(found)


@pytest.mark.parametrize(
    "name",
    ["sdxl\\Real_4.safetensors", "sdxl\\Real_4.safetensors [0123456789]", "sdxl\\Real_4", "SDXL\\real_4.safetensors"],
)
def test_windows_spelling_finds_a_checkpoint(odd: Running, name: str) -> None:
    body = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64}
    answer = odd.client.post("/sdapi/v1/txt2img", json={**body, "override_settings": {"sd_model_checkpoint": name}})
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.json()["info"])["sd_model_name"] == "Real_4"


def test_a_link_is_a_second_name(odd: Running) -> None:
    names = [item["model_name"] for item in odd.client.get("/sdapi/v1/sd-models").json()]
    assert {"plain", "linked"} <= set(names)
    assert odd.services.checkpoints.find("plain").path.name == "plain.safetensors"


@pytest.mark.parametrize(
    ("wish", "kept"), [("auto", "Automatic"), ("", "Automatic"), ("AUTOMATIC", "Automatic"), ("none", "None")]
)
def test_vae_wishes_of_old_clients(odd: Running, wish: str, kept: str) -> None:
    assert odd.client.post("/sdapi/v1/options", json={"sd_vae": wish}).status_code == 200
    assert odd.client.get("/sdapi/v1/options").json()["sd_vae"] == kept


@pytest.mark.parametrize("name", STYLES)
def test_a_style_with_a_backslash_is_listed_and_applied(odd: Running, name: str) -> None:
    assert name in [style["name"] for style in odd.client.get("/sdapi/v1/prompt-styles").json()]
    body = {"prompt": "a cat", "styles": [name], "steps": 1, "width": 64, "height": 64}
    answer = odd.client.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    assert f"a cat, style number {STYLES.index(name)}\n" in json.loads(answer.json()["info"])["infotexts"][0]


@pytest.mark.parametrize("name", ["scripts\\loopback.py", "sub\\Loopback", "\\\\host\\x", "loopback\\"])
def test_a_script_with_a_backslash_is_named_as_it_was_asked_for(odd: Running, name: str) -> None:
    small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64}
    for body in ({"script_name": name}, {"alwayson_scripts": {name: {"args": []}}}):
        answer = odd.client.post("/sdapi/v1/txt2img", json={**small, **body})
        assert answer.status_code in (404, 422), answer.text
        assert name.lower() in f"{answer.json()['detail']} {answer.json()['errors']}".lower()
