"""What the Train tab and A1111's four routes do to a running server: real files come of it."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

ROUTE = "/easel/v1/training"


class Asker:
    def __init__(self, server: Any) -> None:
        self.client = httpx.Client(base_url=server.url, timeout=300)
        self.drawn = 0
        self.job = ""

    def get(self, path: str, **question: Any) -> Any:
        return self.client.get(path, params=question).raise_for_status().json()

    def post(self, path: str, content: Any) -> Any:
        answer = self.client.post(path, json=content)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, content: Any) -> str:
        answer = self.client.post(path, json=content)
        assert 400 <= answer.status_code < 500, answer.text
        return str(answer.json()["errors"])

    def done(self, path: str, **content: Any) -> Any:
        """A job of the page, once it has ended: what the page would be told."""
        self.drawn += 1
        self.job = f"task(train{self.drawn}{time.monotonic_ns()})"
        self.post(f"{ROUTE}/{path}", {**content, "job": self.job})
        while not self.post("/internal/progress", {"id_task": self.job, "live_preview": False})["completed"]:
            time.sleep(0.1)
        return self.get(f"{ROUTE}/result", id=self.job)


@pytest.fixture(scope="module")
def asker(server: Any) -> Asker:
    return Asker(server)


@pytest.fixture(scope="module")
def folder(server: Any) -> Iterator[Path]:
    place: Path = server.data / "training set"
    place.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{seed}.png")
    yield place
    shutil.rmtree(place)
    for below in ("embeddings", "models/hypernetworks", "models/Lora"):
        for file in (server.data / below).glob("tried*"):
            file.unlink()


SMALL = {
    "data.resolution": "64",
    "data.min_bucket_reso": 64,
    "data.max_bucket_reso": 128,
    "lora.network_dim": 2,
    "optimization.max_train_steps": 2,
}


def test_what_a_folder_holds_is_told(asker: Asker, folder: Path) -> None:
    values = {**SMALL, "data.train_data_dir": str(folder), "data.every.num_repeats": 4}
    found = asker.post(f"{ROUTE}/look", {"kind": "lora", "values": values, "trigger": "sks"})
    facts = dict(found["facts"])
    assert found["errors"] == []
    assert facts["Pictures"] == "3, 3 with a caption"
    assert facts["An epoch"] == "12 pictures in 12 batches"
    assert (facts["Steps"], facts["Sizes"], facts["Saved as"]) == ("2", "64x64 (3)", "sks.safetensors")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "Name the folder with the pictures"),
        ({"data.train_data_dir": "nowhere"}, "There is no folder"),
        ({"data.train_data_dir": "models"}, "holds no pictures to train on"),
        ({"data.train_data_dir": "training set", "data.resolution": "big"}, "neither a number nor"),
        ({"data.train_data_dir": "training set", "checkpoint": "none such"}, 'No checkpoint matches "none such"'),
        ({"data.train_data_dir": "training set", "name": "a/b"}, "can't be the name of a file"),
        ({"data.train_data_dir": "training set", "optimization.lr_warmup_steps": 5}, "constant"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(asker: Asker, folder: Path, values: dict[str, Any], told: str) -> None:
    body = {"kind": "lora", "values": values, "trigger": "sks"}
    found = asker.post(f"{ROUTE}/look", body)
    assert told in " ".join(found["errors"])
    assert told in asker.refused(f"{ROUTE}/start", {**body, "job": "task(never)"})


def test_a_broken_picture_is_named_and_nothing_is_lost(asker: Asker, folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:400])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    try:
        body = {"kind": "lora", "values": {**SMALL, "data.train_data_dir": str(folder)}, "trigger": "sks"}
        (told,) = asker.post(f"{ROUTE}/look", body)["errors"]
        assert "training set/broken.png: Broken.png" in told or "broken.png is damaged" in told
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    finally:
        (folder / "broken.png").unlink()


def test_an_embedding_is_made_and_trained_by_a1111s_routes(asker: Asker, folder: Path, server: Any) -> None:
    made = asker.post("/sdapi/v1/create/embedding", {"name": "tried?!", "num_vectors_per_token": 2, "init_text": "cat"})
    file = server.data / "embeddings" / "tried.pt"
    assert made["info"].endswith(str(file))
    before = file.read_bytes()
    again = asker.refused("/sdapi/v1/create/embedding", {"name": "tried"})
    assert 'There is a tried.pt already; choose another name, or tick "Overwrite Old Embedding"' in again
    args = {
        "embedding_name": "tried",
        "learn_rate": "0.01",
        "data_root": "training set",
        "log_directory": "training logs",
        "training_width": 64,
        "training_height": 64,
        "steps": 3,
        "save_embedding_every": 2,
        "create_image_every": 0,
        "template_filename": "subject.txt",
    }
    trained = asker.post("/sdapi/v1/train/embedding", args)
    assert str(file) in trained["info"]
    assert file.read_bytes() != before
    (csv,) = (server.data / "training logs").glob("*/tried*/*.csv")
    assert len(csv.read_text().splitlines()) >= 3
    listed = asker.get("/sdapi/v1/embeddings")
    assert {**listed["loaded"], **listed["skipped"]}["tried"]["step"] == 3
    shutil.rmtree(server.data / "training logs")


def test_a_hypernetwork_is_made_and_trained_as_it_was_made(asker: Asker, folder: Path, server: Any) -> None:
    made = asker.done(
        "create_hypernetwork",
        values={"name": "tried", "enable_sizes": ["32", "64"], "layer_structure": "1, 3, 1", "activation_func": "relu"},
    )
    file = server.data / "models" / "hypernetworks" / "tried.pt"
    assert made["message"] == "tried.pt is made, and can be trained now."
    before = file.read_bytes()
    values = {
        "hypernetwork_name": "tried",
        "data_root": str(folder),
        "training_width": 64,
        "training_height": 64,
        "steps": 2,
        "create_image_every": 0,
    }
    result = asker.done("train_hypernetwork", values=values)
    assert "tried.pt is trained: 2 steps" in result["message"]
    assert file.read_bytes() != before
    form = asker.get(f"{ROUTE}/form", name="train")
    (field,) = [field for field in form["sections"][0]["fields"] if field["path"] == "hypernetwork_name"]
    assert "tried" in field["choices"]
    shutil.rmtree(server.data / "textual_inversion", ignore_errors=True)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("create/embedding", {"name": "?/"}, "can't be the name of a file"),
        ("create/embedding", {"name": "x", "num_vectors_per_token": 99}, "less than or equal to 75, got 99"),
        ("create/hypernetwork", {"name": "x", "layer_structure": "2, 1"}, "begin and end with 1"),
        ("create/hypernetwork", {"name": "x", "size": 1}, "has no parameter size"),
        ("train/embedding", {}, "Choose the embedding to train"),
        ("train/embedding", {"embedding_name": "none such"}, 'There is no embedding "none such"'),
        ("train/hypernetwork", {"hypernetwork_name": "none such"}, 'There is no hypernetwork "none such"'),
    ],
)
def test_a1111s_routes_answer_mistakes_in_sentences(asker: Asker, path: str, body: dict[str, Any], told: str) -> None:
    assert told in asker.refused(f"/sdapi/v1/{path}", body)


def test_the_epochs_of_a_lora_are_compared_with_the_base(asker: Asker, folder: Path, server: Any) -> None:
    values = {
        **SMALL,
        "name": "tried",
        "data.train_data_dir": str(folder),
        "optimization.max_train_epochs": 2,
        "optimization.learning_rate": 0.05,
        "saving.save_every_n_epochs": 1,
    }
    trained = asker.done("start", kind="lora", values=values, trigger="sks")
    assert trained["compare"] == "tried"
    told = asker.get(f"{ROUTE}/log", id=asker.job)
    assert [row[:2] for row in told["rows"]] == [[step, (step - 1) // 3 + (step % 3 == 0)] for step in range(1, 7)]
    assert all(0 < loss < 100 and rate == 0.05 and norm > 0 for _, _, loss, rate, norm in told["rows"])
    rest = asker.get(f"{ROUTE}/log", id=asker.job, offset=told["offset"])
    assert rest == {"rows": [], "offset": told["offset"], "ended": True}
    assert (server.data / "models" / "Lora" / "tried-000001.safetensors").exists()
    compared = asker.done("compare", trained=asker.job, prompt="sks")
    assert asker.get(f"{ROUTE}/log", id=asker.job)["rows"] == []
    assert asker.get(f"{ROUTE}/log", id="task(none)")["ended"]
    assert asker.client.get(f"{ROUTE}/log", params={"id": asker.job, "offset": 2**70}).status_code == 422
    assert compared["samples"] >= 1
    assert compared["comments"] == []
    id = asker.job
    picture = asker.client.get(f"{ROUTE}/sample", params={"id": id, "index": 0})
    grid = Image.open(io.BytesIO(picture.content))
    assert grid.width > 2.5 * grid.height / 2
    assert asker.client.get(f"{ROUTE}/sample", params={"id": id, "index": 99}).status_code == 404


def test_dreambooth_crops_to_what_matters(asker: Asker, folder: Path, server: Any) -> None:
    values = {
        "data.train_data_dir": str(folder),
        "data.resolution": "64",
        "data.enable_bucket": False,
        "data.crop": "focal",
        "dreambooth.te_steps": 1,
        "dreambooth.unet_steps": 1,
        "name": "tried-dreambooth",
    }
    result = asker.done("start", kind="dreambooth", values=values, trigger="sks")
    assert "tried-dreambooth.safetensors is trained: 2 steps" in result["message"]
    (server.data / "models" / "Stable-diffusion" / "tried-dreambooth.safetensors").unlink()


# Captions


def test_captions_are_shown_and_written_beside_their_pictures(asker: Asker, folder: Path) -> None:
    (folder / "10_more").mkdir()
    shutil.copy(folder / "0.png", folder / "10_more" / "x.png")
    (folder / "1.caption").write_text("as it was")
    (folder / "2.txt").write_bytes("grün".encode("latin-1"))
    try:
        shown = {row["name"]: row for row in asker.get(f"{ROUTE}/captions", folder=str(folder))["pictures"]}
        assert set(shown) == {"0.png", "1.png", "2.png", "10_more/x.png"}
        assert shown["1.png"]["caption"] == "as it was"
        assert "isn't written in UTF-8" in shown["2.png"]["problem"]
        for name, text in (("1.png", "new"), ("10_more/x.png", " made \n")):
            asker.post(f"{ROUTE}/captions", {"folder": str(folder), "name": name, "text": text})
        assert (folder / "1.caption").read_text() == "new"
        assert not (folder / "1.txt").exists()
        assert (folder / "10_more" / "x.txt").read_text() == "made"
    finally:
        shutil.rmtree(folder / "10_more")
        (folder / "1.caption").unlink()
        (folder / "2.txt").unlink()


def test_thumbnails_are_small_pictures_of_the_folder_alone(asker: Asker, folder: Path) -> None:
    question = {"folder": str(folder), "name": "0.png"}
    answer = asker.client.get(f"{ROUTE}/captions/picture", params=question)
    assert answer.headers["content-type"] == "image/jpeg"
    for name in ("../config.json", "/etc/passwd", "nothing.png", "..\\x.png"):
        answer = asker.client.get(f"{ROUTE}/captions/picture", params={**question, "name": name})
        assert answer.status_code in (403, 404), name
        body = {"folder": str(folder), "name": name, "text": "x"}
        assert asker.refused(f"{ROUTE}/captions", body)


def test_a_captioner_that_is_not_there_says_what_to_do(asker: Asker, folder: Path) -> None:
    body = {"folder": str(folder), "captioner": "BLIP", "job": "task(no)"}
    assert re.search(r"BLIP.*(fetch|put)", asker.refused(f"{ROUTE}/captions/describe", body), re.IGNORECASE | re.DOTALL)


# A1111's own tab


@pytest.mark.parity
def test_the_train_tab_has_a1111s_fields_under_its_ids(asker: Asker, parity: Path) -> None:
    tree = (parity / "ui-tree.txt").read_text()
    start = tree.index("tabitem label='Train' elem_id='tab_train'")
    section = tree[start : tree.index("tabitem label='Settings'", start)]
    pattern = r"""(?:textbox|slider|checkbox|checkboxgroup|dropdown|number|radio) label=(['"])(.*?)\1 elem_id='(\w+)'"""
    theirs = {(elem_id, label) for _, label, elem_id in re.findall(pattern, section)}
    ours = {
        (field["elem_id"], field["label"])
        for name in ("create_embedding", "create_hypernetwork", "train")
        for form in asker.get(f"{ROUTE}/form", name=name)["sections"]
        for field in form["fields"]
    }
    assert len(theirs) > 30
    assert theirs <= ours
