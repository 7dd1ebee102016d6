"""Extra networks of a job: what the tags ask for, what is told when it can't be had, and nothing left behind."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tests.tiny import tiny_checkpoint
from webui.core.flags import parse_flags
from webui.core.request import FromImage, GenerationRequest, GenerationResult, HiresFix, Inpaint
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.models.networks.matching import Strength
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.pipeline.networks import strengths
from webui.prompts.networks import cut_networks
from webui.services.building import build_services

WIDTH = 32


def lora(path: Path, seed: int, extra: dict[str, Tensor] | None = None) -> Path:
    random = torch.Generator().manual_seed(seed)
    tensors = dict(extra or {})
    for name, sizes in (
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v", (64, WIDTH)),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", (4 * WIDTH, WIDTH)),
    ):
        tensors[f"{name}.lora_up.weight"] = torch.randn(sizes[0], 2, generator=random)
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, sizes[1], generator=random)
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    loras, embeddings, hypernetworks = data / "models" / "Lora", data / "embeddings", data / "models" / "hypernetworks"
    for folder in (loras, embeddings, hypernetworks):
        folder.mkdir(parents=True)
    bundled = {
        "bundle_emb.zebra.string_to_param.*": torch.randn(2, WIDTH),
        "bundle_emb.wide.emb_params": torch.ones(1, 9),
    }
    lora(loras / "one.safetensors", 1)
    lora(loras / "two.safetensors", 2, bundled)
    (loras / "broken.safetensors").write_bytes(b"not a network")
    save_file({"lora_te2_text_model_x.lora_up.weight": torch.ones(2, 2)}, loras / "foreign.safetensors")
    save_file({"emb_params": torch.randn(3, WIDTH)}, embeddings / "striped.safetensors")
    save_file({"emb_params": torch.randn(3, 768)}, embeddings / "dotted.safetensors")
    save_file({"emb_params": torch.full((1, WIDTH), torch.nan)}, embeddings / "damaged.safetensors")
    state = {f"linear.{n}.{kind}": torch.randn(*size) for n, kind, size in _layers()}
    torch.save({WIDTH: (state, state)}, hypernetworks / "hyper.pt")
    torch.save(
        {7: ({f"linear.{n}.{kind}": torch.randn(*s) for n, kind, s in _layers(7)},) * 2}, hypernetworks / "odd.pt"
    )
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--device", "cpu"], {})
    services = build_services(flags)
    services.settings.update({"sd_model_checkpoint": "tiny"})
    yield build(services)
    services.checkpoints.close()


def _layers(width: int = WIDTH) -> list[tuple[int, str, tuple[int, ...]]]:
    sizes = ((0, width, 2 * width), (1, 2 * width, width))
    return [(n, k, (b, a) if k == "weight" else (b,)) for n, a, b in sizes for k in ("weight", "bias")]


def make(engine: Engine, prompt: str, **changes: object) -> GenerationResult:
    request = GenerationRequest(prompt=prompt, steps=2, width=64, height=64, seed=5, sampler="Euler")
    return run(engine, engine.plan(request.replace(**changes)), JobContext.alone())


def picture(engine: Engine, prompt: str, **changes: object) -> bytes:
    result = make(engine, prompt, **changes)
    assert not result.comments
    return result.images[0].data.split(b"IDAT", 1)[1]


def infotext(engine: Engine, prompt: str, **changes: object) -> str:
    return make(engine, prompt, **changes).images[0].infotext.splitlines()[-1]


def weights(model: LoadedModel) -> str:
    found = hashlib.sha256()
    for part in (model.unet, *(encoder.module for encoder in model.text_encoders)):
        for value in part.state_dict().values():
            found.update(value.float().numpy().tobytes())
    return found.hexdigest()


def test_a_network_changes_the_picture_and_is_gone_with_the_next(engine: Engine) -> None:
    bare = picture(engine, "a cat")
    with engine.models.lease(engine.checkpoints.default()) as model:
        before = weights(model)
    changed = picture(engine, "a cat <lora:one:0.8>")
    assert changed != bare
    assert picture(engine, "a cat<lyco:one:0.8>") == picture(engine, "a cat<lora:one:te=0.8:unet=0.8>")
    assert picture(engine, "a cat") == bare
    picture(engine, "a cat <lora:one> <lora:two:0.3>")
    with engine.models.lease(engine.checkpoints.default()) as model:
        assert weights(model) != before
    assert picture(engine, "a cat") == bare
    with engine.models.lease(engine.checkpoints.default()) as model:
        assert weights(model) == before
    assert picture(engine, "a cat <lora:one:0.8>") == changed
    engine.networks.release()
    assert picture(engine, "a cat") == bare
    assert picture(engine, "a cat <lora:one:0.8>") == changed


def test_a_network_named_twice_counts_with_the_sum(engine: Engine) -> None:
    assert picture(engine, "a cat<lora:one:0.5><lora:one:0.25>") == picture(engine, "a cat<lora:one:0.75>")


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


SHADES = [png(Image.new("RGB", (64, 64), (40 * shade, 90, 200))) for shade in range(4)]
MASK = png(Image.linear_gradient("L").resize((64, 64)))


@pytest.mark.parametrize(
    ("inputs", "changes"),
    [
        ([], {}),
        ([], {"hires": HiresFix(scale=2, upscaler="Latent")}),
        (SHADES[:1], {}),
        (SHADES, {}),
        (SHADES, {"inpaint": Inpaint(mask=MASK)}),
    ],
    ids=["text", "hires", "one picture", "pictures", "masked"],
)
def test_every_picture_of_a_batch_has_the_networks_it_names(
    engine: Engine, inputs: list[bytes], changes: dict[str, object]
) -> None:
    """An extension gave the pictures prompts of their own."""
    image = FromImage(images=tuple(inputs), inpaint=changes.get("inpaint")) if inputs else None
    request = GenerationRequest(
        prompt="a cat", steps=2, width=64, height=64, seed=5, sampler="Euler", hires=changes.get("hires"), image=image
    )
    prompts = ("a cat <lora:one:1>", "a cat <lora:one:1>", "a cat", "a dog <lora:two:0.5>")

    def made(size: int, own: tuple[str, ...], changed: GenerationRequest) -> GenerationResult:
        plan = engine.plan(changed.replace(batch_size=size, save_grid=False))
        second = plan.hires and replace(plan.hires, sampling=replace(plan.hires.sampling, prompts=own))
        return run(engine, replace(plan, first=replace(plan.first, prompts=own), hires=second), JobContext.alone())

    def pixels(result: GenerationResult) -> np.ndarray:
        return np.array([Image.open(io.BytesIO(item.data)) for item in result.images if not item.is_grid], np.int16)

    together = made(4, prompts, request)
    assert not together.comments
    texts = [item.infotext for item in together.images if not item.is_grid]
    named = [[name in text for name in ("Lora hashes", "one: ", "two: ")] for text in texts]
    assert named == [[True, True, False]] * 2 + [[False] * 3, [True, False, True]]
    for index, prompt in enumerate(prompts):
        of_one = image and image.replace(images=(inputs[index % len(inputs)],))
        alone = made(1, (prompt,), request.replace(seed=5 + index, image=of_one))
        assert np.abs(pixels(alone)[0] - pixels(together)[index]).max() <= 1  # two rows in a product round otherwise


def test_strength_zero_is_none(engine: Engine) -> None:
    assert picture(engine, "a cat<lora:one:0>") == picture(engine, "a cat")
    assert picture(engine, "a cat<hypernet:hyper:0>") == picture(engine, "a cat")


def test_only_the_positive_prompts_tags_count(engine: Engine) -> None:
    with_tag = make(engine, "a cat", negative_prompt="<lora:one:1>")
    assert "Lora hashes" not in with_tag.images[0].infotext


def test_disabled_networks_are_cut_and_not_used(engine: Engine) -> None:
    assert picture(engine, "a cat<lora:one>", disable_extra_networks=True) == picture(engine, "a cat")
    assert "Lora hashes" not in infotext(engine, "a cat<lora:one>", disable_extra_networks=True)


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("<lora:onee:1>", 'LoRA not found: "onee"; the closest is "one".'),
        ("<hypernet:nothing>", 'Hypernetwork not found: "nothing".'),
        ("<lora:broken>", "The LoRA 'broken' is not used: broken.safetensors is not a safetensors file"),
        ("<lora:foreign>", "The LoRA 'foreign' changes nothing: none of its 1 modules fits tiny."),
        ("<lora:one:loud>", '<lora:one:loud> is not used: "loud" is no number.'),
        ("<lora:one:unet=nan>", '<lora:one:unet=nan> is not used: "nan" is no number.'),
        ("<hypernet:hyper:x>", '<hypernet:hyper:x> is not used: "x" is no number.'),
        ("<hypernet:odd>", "The hypernetwork 'odd' changes nothing: the model has no context as wide as its 7."),
        ("<wildcard:one>", "<wildcard:one> has no effect: there are no networks of the kind 'wildcard'."),
        (" damaged", "The embedding 'damaged' is not used: damaged.safetensors is damaged"),
    ],
)
def test_what_cannot_be_used_is_told_and_the_picture_is_made(engine: Engine, tag: str, sentence: str) -> None:
    result = make(engine, "a cat" + tag)
    assert len(result.comments) == 1
    assert result.comments[0].startswith(sentence)
    if tag.startswith("<"):
        assert result.images[0].data.split(b"IDAT", 1)[1] == picture(engine, "a cat")


def test_a_file_added_or_changed_after_the_start_is_found(engine: Engine) -> None:
    path = engine.paths.lora / "late.safetensors"
    lora(path, 1)
    try:
        first = picture(engine, "a cat<lora:late>")
        assert first == picture(engine, "a cat<lora:one>")
        lora(path, 9, {"lora_unet_conv_in.diff_b": torch.ones(WIDTH)})
        engine.networks.catalogs.refresh()
        assert picture(engine, "a cat<lora:late>") != first
    finally:
        path.unlink()
        engine.networks.catalogs.refresh()


def test_hashes_in_the_infotext(engine: Engine) -> None:
    text = infotext(engine, "striped cat <lora:one:1><lora:two:1>")
    hashes = {file.stem: str(engine.networks.catalogs.loras.hash(file))[:12] for file in engine.networks.catalogs.loras}
    assert f'Lora hashes: "one: {hashes["one"]}, two: {hashes["two"]}"' in text
    (file,) = (file for file in engine.networks.catalogs.embeddings if file.stem == "striped")
    assert f'TI hashes: "striped: {str(engine.networks.catalogs.embeddings.hash(file))[:12]}"' in text
    off = {"lora_add_hashes_to_infotext": False, "textual_inversion_add_hashes_to_infotext": False}
    assert "hashes" not in infotext(engine, "striped cat <lora:one:1>", overrides=off)


def test_a_second_pass_names_its_own_networks(engine: Engine) -> None:
    hires = HiresFix(scale=2, upscaler="Latent", prompt="a dog <lora:two:1>")
    text = infotext(engine, "a cat <lora:one:1>", hires=hires)
    assert "one: " in text
    assert ", two: " in text
    with engine.models.lease(engine.checkpoints.default()) as model:
        (active,) = engine.networks._patches[model].active
        assert active.network.name == "two"


def test_embeddings_are_words_only_for_models_they_fit(engine: Engine) -> None:
    assert picture(engine, "striped cat") != picture(engine, "strip cat")
    assert picture(engine, "STRIPED cat") == picture(engine, "striped cat")
    assert "TI hashes" not in infotext(engine, "dotted cat")


def test_embeddings_bundled_with_a_lora(engine: Engine) -> None:
    assert 'TI hashes: "zebra: two"' in infotext(engine, "zebra <lora:two:1>")
    assert "TI hashes" not in infotext(engine, "zebra <lora:one:1>")
    told = {"lora_bundled_ti_to_infotext": False}
    assert "TI hashes" not in infotext(engine, "zebra <lora:two:1>", overrides=told)


def test_networks_that_the_settings_add(engine: Engine) -> None:
    overrides = {"sd_lora": "one", "sd_hypernetwork": "hyper", "extra_networks_default_multiplier": 0.5}
    result = make(engine, "a cat", overrides=overrides)
    assert result.images[0].infotext.startswith("a cat<hypernet:hyper:0.5><lora:one:0.5>\n")
    named = picture(engine, "a cat<hypernet:hyper:0.5><lora:one:0.5>")
    assert result.images[0].data.split(b"IDAT", 1)[1] == named
    once = make(engine, "a cat<lora:one:0.1>", overrides={"sd_lora": "one"})
    assert once.images[0].infotext.startswith("a cat<lora:one:0.1>\n")


def test_hypernetworks_compose_and_come_off(engine: Engine) -> None:
    one, both = (
        picture(engine, "a cat<hypernet:hyper:0.1>"),
        picture(engine, "a cat<hypernet:hyper:0.1><hypernet:hyper:0.1>"),
    )
    assert len({one, both, picture(engine, "a cat")}) == 3


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("<lora:a>", {"a": Strength(1, 1)}),
        ("<lora:a:0.5>", {"a": Strength(0.5, 0.5)}),
        ("<lora:a:0:1>", {"a": Strength(0, 1)}),
        ("<lora:a:1:1:2>", {"a": Strength(1, 1, 2)}),
        ("<lora:a:1:unet=0.5>", {"a": Strength(1, 0.5)}),
        ("<lora:a:unet=2:te=3:dyn=4>", {"a": Strength(3, 2, 4)}),
        ("<lora:a:dyn=-4>", {"a": Strength(1, 1, 0)}),
        ("<lora:a:-0.6><lora:b><lora:a:1>", {"a": Strength(0.4, 0.4), "b": Strength(1, 1)}),
        ("<lora:te=1>", {}),
        ("<lora:a:x:1><lora:a:1:1:x>", {}),
    ],
)
def test_tags_are_read_by_place_and_by_name(tags: str, expected: dict[str, Strength]) -> None:
    assert strengths(cut_networks(tags).tags, lambda _: None) == expected


def test_the_second_passs_text_may_be_read_with_the_first_ones_networks(engine: Engine) -> None:
    def second(hires_prompt: str, **overrides: object) -> bytes:
        hires = HiresFix(prompt=hires_prompt, steps=1, denoising_strength=0.5, scale=1.0)
        return picture(engine, "a cat <lora:one:0.8>", hires=hires, overrides=overrides)

    early = {"hires_fix_use_firstpass_conds": True}
    assert second("a dog <lora:two:0.8>", **early) != second("a dog <lora:two:0.8>")
    assert second("a dog <lora:one:0.8>", **early) == second("a dog <lora:one:0.8>")
