"""Cards: which there are, what they say, and what may be changed through them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from webui.core.errors import InvalidRequest, NotFound
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.cards import Cards, plain_text
from webui.services.services import Services

HOSTILE = "<img src=x onerror=alert(1)>"


def lora(path: Path, width: int = 768, **metadata: str) -> None:
    """A LoRA of one tensor, by its width for SD 1; also good as an embedding of one vector."""
    entry = {"dtype": "F16", "shape": [1, width], "data_offsets": [0, 2 * width]}
    raw = json.dumps({"__metadata__": metadata, "lora_unet_x_attn2_to_k.lora_down.weight": entry}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(2 * width))


def picture(width: int = 32, format: str = "PNG", noisy: bool = False) -> bytes:
    file = io.BytesIO()
    image = Image.effect_noise((width, width), 90) if noisy else Image.new("RGB", (width, width), "red")
    image.save(file, format)
    return file.getvalue()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Four LoRAs, one of them in a hidden folder, and two that are no models."""
    folder = tmp_path / "models" / "Lora"
    lora(folder / "ink.safetensors", ss_output_name="Ink Alias", ss_tag_frequency='{"a": {"pen": 3}, "b": {"pen": 4}}')
    lora(folder / "people" / "anna v10.safetensors")
    lora(folder / "people" / "anna v9.safetensors")
    lora(folder / "people" / ".old" / "gone.safetensors")
    (folder / f"{HOSTILE.replace('/', '')}.safetensors").write_bytes(b"not a model")
    (folder / "ink.json").write_text(json.dumps({"activation text": "inkpen", "preferred weight": 0.7}))
    (folder / "people" / "anna v9.civitai.info").write_text(json.dumps({"description": f"<p>Nice{HOSTILE} one</p>"}))
    built = build_services(parse_flags(["--data-dir", str(tmp_path)], {})[0])
    yield built
    built.checkpoints.close()


@pytest.fixture
def cards(services: Services) -> Cards:
    return Cards(services)


def titles(cards: Cards, kind: str = "lora", **question: object) -> list[str]:
    return [card.title for card in cards.page(kind, **question).cards]  # type: ignore[arg-type]


def test_loras_have_cards_with_what_goes_into_the_prompt(cards: Cards) -> None:
    found = {card.title: card for card in cards.page("lora").cards}
    assert list(found) == [HOSTILE.replace("/", ""), "ink", "anna v9", "anna v10"]
    assert found["ink"].insert == "<lora:Ink Alias:0.7>"
    assert found["ink"].activation == "inkpen"
    assert found["anna v9"].insert == "<lora:anna v9:1>"
    assert found["anna v9"].description == "Nice one"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"search": "ANNA"}, ["anna v9", "anna v10"]),
        ({"search": "anna v10"}, ["anna v10"]),
        ({"search": "nice"}, ["anna v9"]),
        ({"search": "people/a"}, ["anna v9", "anna v10"]),
        ({"search": "gon"}, []),
        ({"search": "gone"}, ["gone"]),
        ({"folder": "people"}, ["anna v9", "anna v10"]),
        ({"folder": "peop"}, []),
        ({"search": "anna", "descending": True}, ["anna v10", "anna v9"]),
        ({"search": "anna", "sort": "name"}, ["anna v9", "anna v10"]),
        ({"search": "anna", "count": 1}, ["anna v9"]),
        ({"search": "anna", "start": 1}, ["anna v10"]),
        ({"search": "nothing like it"}, []),
    ],
)
def test_cards_are_found_by_words_and_folder(question: dict[str, object], expected: list[str], cards: Cards) -> None:
    assert titles(cards, **question) == expected


def test_pages_follow_each_other(cards: Cards) -> None:
    first = cards.page("lora", count=3)
    assert (len(first.cards), first.next, first.total) == (3, 3, 4)
    last = cards.page("lora", count=3, start=3)
    assert ([card.title for card in last.cards], last.next) == (["anna v10"], None)


def test_hidden_folders_obey_the_settings(cards: Cards, services: Services) -> None:
    assert cards.folders("lora") == ["people", "people/.old"]
    services.settings.update({"extra_networks_hidden_models": "Always"})
    assert "gone" in titles(cards)
    services.settings.update({"extra_networks_hidden_models": "Never", "extra_networks_show_hidden_directories": False})
    assert titles(cards, search="gone") == []
    assert cards.folders("lora") == ["people"]


def test_loras_of_another_family_are_not_shown(cards: Cards, services: Services) -> None:
    services.networks.embeddings.fit_to((1024,))
    assert titles(cards, search="anna") == []
    services.settings.update({"lora_show_all": True})
    assert titles(cards, search="anna") == ["anna v9", "anna v10"]


def test_checkpoint_cards_name_the_title_to_switch_to(cards: Cards) -> None:
    (card,) = cards.page("checkpoints").cards
    assert (card.title, card.insert) == ("easel-emoji", "")
    assert (card.checkpoint or "").startswith("easel-emoji.safetensors")


def test_details_tell_facts_notes_and_training_tags(cards: Cards, services: Services) -> None:
    found = cards.details("lora", "ink.safetensors")
    assert (found["activation text"], found["preferred weight"], found["sd version"]) == ("inkpen", 0.7, "SD1")
    assert found["tags"] == [("pen", 7)]
    assert found["metadata"]["ss_output_name"] == "Ink Alias"
    assert found["hash"] == ""
    assert services.checkpoints.hasher.wait(60)
    assert len(cards.details("lora", "ink.safetensors")["hash"]) == 12
    with pytest.raises(NotFound):
        cards.details("lora", "../../config.json")
    with pytest.raises(NotFound, match="no cards of the kind"):
        cards.page("passwords")


def test_a_checkpoints_card_offers_the_vaes(cards: Cards, services: Services, tmp_path: Path) -> None:
    (services.paths.vae / "kl.safetensors").write_bytes(b"x")
    (tmp_path / "models" / "Stable-diffusion" / "own.safetensors").write_bytes(b"x")
    cards.refresh("checkpoints")
    found = cards.details("checkpoints", "own.safetensors")
    assert (found["vae"], found["vaes"]) == ("Automatic", ["Automatic", "None", "kl.safetensors"])
    cards.save("checkpoints", "own.safetensors", {"vae": "kl.safetensors"})
    assert cards.details("checkpoints", "own.safetensors")["vae"] == "kl.safetensors"


def test_notes_are_saved_beside_the_file(cards: Cards, services: Services) -> None:
    cards.save("lora", "people/anna v9.safetensors", {"notes": "mine", "preferred weight": 0.5, "sd version": "SDXL"})
    written = json.loads((services.paths.lora / "people" / "anna v9.json").read_text())
    assert written == {"notes": "mine", "preferred weight": 0.5, "sd version": "SDXL"}
    assert cards.page("lora", search="anna v9").cards[0].insert == "<lora:anna v9:0.5>"
    cards.save("lora", "people/anna v9.safetensors", {"description": "searched for"})
    assert titles(cards, search="searched") == ["anna v9"]


@pytest.mark.parametrize(
    "changes", [{"path": "/etc"}, {"notes": 3}, {"preferred weight": 9}, {"sd version": "SD9"}, {"vae": "x"}]
)
def test_other_keys_and_values_are_refused(changes: dict[str, object], cards: Cards, services: Services) -> None:
    before = (services.paths.lora / "ink.json").read_text()
    with pytest.raises(InvalidRequest):
        cards.save("lora", "ink.safetensors", changes)
    assert (services.paths.lora / "ink.json").read_text() == before


def test_a_preview_is_replaced_and_served(cards: Cards, services: Services) -> None:
    with pytest.raises(NotFound, match="no preview"):
        cards.preview("lora", "ink.safetensors")
    cards.set_preview("lora", "ink.safetensors", picture())
    assert cards.preview("lora", "ink.safetensors") == (picture(), "image/png")
    first = cards.page("lora", search="ink").cards[0].preview
    assert first
    cards.set_preview("lora", "ink.safetensors", picture(format="WEBP"))
    assert not (services.paths.lora / "ink.png").exists()
    assert cards.preview("lora", "ink.safetensors")[1] == "image/webp"
    assert cards.page("lora", search="ink").cards[0].preview != first


def test_large_previews_are_made_smaller_once(cards: Cards, services: Services) -> None:
    (services.paths.lora / "ink.preview.png").write_bytes(picture(1024, noisy=True))
    cards.refresh("lora")
    data, mime = cards.preview("lora", "ink.safetensors")
    assert (mime, Image.open(io.BytesIO(data)).size) == ("image/webp", (512, 512))
    assert cards.preview("lora", "ink.safetensors") == (data, mime)
    assert len(list((services.paths.cache / "thumbnails").iterdir())) == 1


@pytest.mark.parametrize("content", [b"<svg onload=alert(1)>", b"<html>", b"", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_picture_is_neither_served_nor_taken(content: bytes, cards: Cards, services: Services) -> None:
    (services.paths.lora / "ink.png").write_bytes(content)
    cards.refresh("lora")
    with pytest.raises((NotFound, InvalidRequest)):
        cards.preview("lora", "ink.safetensors")
    with pytest.raises(InvalidRequest):
        cards.set_preview("lora", "ink.safetensors", content)


def test_an_embeddings_preview_is_not_taken_for_an_embedding(cards: Cards, services: Services) -> None:
    (services.paths.embeddings / "style.pt").write_bytes(b"x")
    cards.refresh("textual_inversion")
    cards.set_preview("textual_inversion", "style.pt", picture())
    assert (services.paths.embeddings / "style.preview.png").exists()
    assert titles(cards, "textual_inversion") == ["style"]
    assert cards.page("textual_inversion").cards[0].insert == "style"


def test_new_files_change_the_version(cards: Cards, services: Services) -> None:
    before = cards.versions()
    lora(services.paths.lora / "later.safetensors")
    services.networks.loras.poll(0)
    after = cards.versions()
    assert after["lora"] > before["lora"]
    assert "later" in titles(cards)


def test_markup_becomes_text() -> None:
    assert plain_text("<p>A &lt; B</p><script>x</script>") == "A < B\nx"
    assert plain_text("1 < 2") == "1 < 2"
    assert plain_text("<" * 100_000)
