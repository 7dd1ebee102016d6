"""txt2img over HTTP: pictures with their text, A1111's answer, and a sentence for every mistake."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.conftest import Running, content_of, pictures
from tests.running import ENDLESS

SMALL: dict[str, Any] = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1}


def post(easel: Running, **fields: Any) -> httpx.Response:
    return easel.client.post("/sdapi/v1/txt2img", json={**SMALL, **fields})


def generated(easel: Running, **fields: Any) -> dict[str, Any]:
    return content_of(post(easel, **fields))


def files(data: Path) -> list[Path]:
    return sorted((data / "outputs").rglob("*.png"))


def test_a_picture_carries_its_infotext_and_is_not_saved(easel: Running, data: Path) -> None:
    before = files(data)
    content = generated(easel, width=128, cfg_scale=5)
    [picture] = pictures(content)
    info = json.loads(content["info"])
    assert picture.size == (128, 64)
    assert picture.info["parameters"] == info["infotexts"][0]
    assert info["infotexts"][0].startswith("a cat\nSteps: 2, Sampler: Euler, Schedule type: Automatic, CFG scale: 5.0")
    assert files(data) == before


@pytest.mark.parity
def test_the_answer_has_a1111s_keys(easel: Running, parity: Path) -> None:
    content = generated(easel)
    cases = json.loads((parity / "api" / "error-cases.json").read_text())
    assert sorted(content) == ["images", "info", "parameters"]
    assert sorted(content["parameters"]) == cases["bad-sampler"]["parameters_keys"]
    keys = {
        "prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed",
        "all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size",
        "restore_faces", "face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash",
        "seed_resize_from_w", "seed_resize_from_h", "denoising_strength", "extra_generation_params",
        "index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip",
        "is_using_inpainting_conditioning", "version",
    }  # fmt: skip
    assert set(json.loads(content["info"])) == keys


def test_the_same_seed_gives_the_same_picture_and_parameters_echo_the_request(easel: Running) -> None:
    first, second = generated(easel), generated(easel)
    assert first["images"] == second["images"]
    assert first["parameters"] == second["parameters"]
    assert {key: first["parameters"][key] for key in SMALL} == SMALL


def test_a_batch_has_a_grid_first(easel: Running) -> None:
    content = generated(easel, batch_size=2, n_iter=2)
    info = json.loads(content["info"])
    assert len(content["images"]) == len(info["infotexts"]) == 4 + info["index_of_first_image"]
    assert info["all_seeds"] == [1, 2, 3, 4]


def test_pictures_are_saved_and_left_out_on_wish(easel: Running, data: Path) -> None:
    before = files(data)
    assert generated(easel, save_images=True, send_images=False)["images"] == []
    [new] = set(files(data)) - set(before)
    assert new.parent.parent.name == "txt2img-images"


def test_what_went_otherwise_than_asked_is_told(easel: Running, data: Path) -> None:
    (data / "a-file").write_text("not a folder")
    (data / "models" / "Lora").mkdir(parents=True, exist_ok=True)
    (data / "models" / "Lora" / "torn.safetensors").write_bytes(b"torn")
    easel.services.networks.refresh()
    easel.services.settings.update({"outdir_txt2img_samples": "a-file"})
    try:
        content = generated(easel, prompt="a cat <lora:nope:1> <lora:torn:1>", save_images=True)
    finally:
        easel.services.settings.update({"outdir_txt2img_samples": "outputs/txt2img-images"})
        (data / "models" / "Lora" / "torn.safetensors").unlink()
    comments = " ".join(json.loads(content["info"])["comments"])
    for word in ("nope", "torn", "a-file", "rescued"):
        assert word in comments


def test_settings_of_one_job_do_not_stay(easel: Running) -> None:
    content = generated(easel, override_settings={"CLIP_stop_at_last_layers": 2})
    assert json.loads(content["info"])["clip_skip"] == 2
    assert json.loads(generated(easel)["info"])["clip_skip"] == 1


def test_settings_of_one_job_stay_on_wish(easel: Running) -> None:
    overrides = {"CLIP_stop_at_last_layers": 2}
    generated(easel, override_settings=overrides, override_settings_restore_afterwards=False)
    assert easel.client.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 2
    assert json.loads(generated(easel)["info"])["clip_skip"] == 2
    easel.client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})


def test_another_checkpoint_for_one_job(easel: Running) -> None:
    content = generated(easel, override_settings={"sd_model_checkpoint": "second"})
    assert json.loads(content["info"])["sd_model_name"] == "second"
    assert json.loads(generated(easel)["info"])["sd_model_name"] == "first"


INFOTEXT = "a dog\nNegative prompt: cat\nSteps: 3, Sampler: DDIM, CFG scale: 4, Seed: 9, Size: 64x128, Clip skip: 2"


def test_an_infotext_fills_what_is_not_given(easel: Running) -> None:
    answer = easel.client.post("/sdapi/v1/txt2img", json={"infotext": INFOTEXT, "steps": 1})
    [text] = json.loads(answer.json()["info"])["infotexts"]
    assert text.startswith(
        "a dog\nNegative prompt: cat\nSteps: 1, Sampler: DDIM, Schedule type: Automatic, CFG scale: 4.0"
    )
    assert "Seed: 9, Size: 64x128" in text
    assert "Clip skip: 2" in text
    assert json.loads(generated(easel)["info"])["clip_skip"] == 1


def test_given_fields_win_over_the_infotext(easel: Running) -> None:
    content = generated(
        easel, infotext=INFOTEXT, sampler_index="Heun", override_settings={"CLIP_stop_at_last_layers": 1}
    )
    info = json.loads(content["info"])
    assert (info["prompt"], info["sampler_name"], info["clip_skip"], info["seed"]) == ("a cat", "Heun", 1, 1)
    assert info["negative_prompt"] == "cat"


def test_an_infotext_with_hires_fix_turns_it_on(easel: Running) -> None:
    hires = f"{INFOTEXT}, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 1, Hires upscaler: Latent"
    [picture] = pictures(generated(easel, infotext=hires))
    assert picture.size == (128, 128)


@pytest.mark.parametrize("text", ["Size: 77x0", "a" * 1000, "x\nSteps: -4, Sampler: Nope, Seed: ten", ":" * 5000])
def test_any_text_is_an_infotext_or_a_refusal(easel: Running, text: str) -> None:
    assert post(easel, steps=1, infotext=text).status_code in (200, 422)


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"sampler_name": "Eular"}, 422, 'closest is "Euler"'),
        ({"scheduler": "Karas"}, 422, 'closest is "Karras"'),
        ({"width": 7}, 422, "width must be greater than or equal to 8, got 7"),
        ({"width": 0}, 422, "width must be"),
        ({"steps": 0}, 422, "steps must be"),
        ({"steps": "many"}, 422, "steps must be"),
        ({"steps": 10**9}, 422, "steps must be"),
        ({"batch_size": 10**6}, 422, "batch_size must be"),
        ({"n_iter": 10**9}, 422, "n_iter must be"),
        ({"width": 16384, "height": 16384, "batch_size": 64}, 422, "64"),
        ({"prompt": "x" * 300_000}, 422, "prompt must"),
        ({"prompt": "[a|b]" * 20_000}, 422, "use fewer"),
        ({"prompt": "(a " * 33_000}, 422, "nests"),
        ({"prompt": "a AND " * 16_000}, 422, "joined"),
        ({"prompt": "é" * 100_000}, 422, "1000 chunks"),
        ({"enable_hr": True, "hr_upscaler": "Nope"}, 422, "Nope"),
        ({"override_settings": {"eta_ancestral": 7}}, 422, "eta_ancestral"),
        ({"override_settings": {"outdir_samples": "/etc"}}, 403, "outdir_samples"),
        ({"override_settings": {"sd_model_checkpoint": "frist.safetensors"}}, 404, 'closest is "first'),
        ({"override_settings": {"sd_model_checkpoint": "broken"}}, 422, "broken.safetensors"),
        ({"script_name": "nope"}, 422, "Script 'nope' not found"),
        ({"alwayson_scripts": {"nope": {"args": []}}}, 422, "Script 'nope' not found"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_next_job_works(
    easel: Running, fields: dict[str, Any], status: int, says: str
) -> None:
    settings = easel.services.settings.snapshot()
    answer = post(easel, **fields)
    assert answer.status_code == status
    assert says in answer.json()["errors"]
    assert "Traceback" not in answer.text
    assert easel.services.settings.snapshot() == settings
    assert post(easel, steps=1).status_code == 200


@pytest.mark.parametrize("body", [b'{"width": 1e309}', b'{"cfg_scale": NaN}', b"[" * 100_000, b"{", b"[]", b"7"])
def test_a_body_that_is_no_request_is_422_in_valid_json(easel: Running, body: bytes) -> None:
    answer = easel.client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    json.loads(answer.content, parse_constant=lambda word: pytest.fail(word))


def test_a_job_goes_on_when_its_client_goes_away(easel: Running) -> None:
    job, place = "task(left alone)", urlsplit(easel.url)
    body = json.dumps({**SMALL, **ENDLESS, "force_task_id": job}).encode()
    head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    try:
        with socket.create_connection((place.hostname, place.port), 60) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            easel.wait_for_step(job, 1)
        done = easel.services.jobs.progress(job).step
        easel.wait_for_step(job, done + 30)
        assert not easel.services.jobs.progress(job).interrupted
    finally:
        easel.services.jobs.interrupt(job)
    assert easel.services.jobs.wait(job, 60).state == "done"
    assert len(easel.services.jobs.result(job).images) == 1  # type: ignore[attr-defined]


def test_an_id_in_use_is_refused(easel: Running) -> None:
    assert post(easel, force_task_id="task(mine)").status_code == 200
    assert post(easel, force_task_id="task(mine)").status_code == 422


def test_parallel_requests_each_get_their_own_picture(easel: Running) -> None:
    alone = {seed: generated(easel, seed=seed)["images"] for seed in (1, 2, 3, 4)}
    found: dict[int, Any] = {}

    def ask(seed: int) -> None:
        found[seed] = httpx.post(easel.url + "/sdapi/v1/txt2img", json={**SMALL, "seed": seed}, timeout=240).json()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {seed: content["images"] for seed, content in found.items()} == alone
