"""The Train tab's forms: presets, fields from declarations, kohya's config files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from webui.core.errors import InvalidRequest, NotFound
from webui.core.training import TrainingRequest
from webui.services.kohya_config import export_config, import_config
from webui.services.services import Services
from webui.services.train_tab import TrainTab, from_api, training_of
from webui.services.training_form import SECTIONS, form_of, request_of
from webui.services.training_page import Trainings, wanted_run
from webui.services.training_presets import DREAMBOOTH_RUN, LORA_RUN, PRESETS


def test_the_lora_preset_is_the_reference_run() -> None:
    request = request_of(PRESETS["lora"][LORA_RUN])
    data, every, how = request.data, request.data.every, request.optimization
    assert (data.resolution, data.enable_bucket) == ("512", True)
    assert (data.min_bucket_reso, data.max_bucket_reso, data.bucket_reso_steps) == (256, 1024, 64)
    assert (every.caption_dropout_rate, every.caption_tag_dropout_rate, every.caption_dropout_every_n_epochs) == (
        0,
        0,
        0,
    )
    assert (every.shuffle_caption, every.keep_tokens) == (True, 0)
    assert (how.optimizer_type, how.learning_rate, how.unet_lr, how.text_encoder_lr) == ("AdamW", 1e-4, None, None)
    assert (how.lr_scheduler, how.lr_warmup_steps, how.max_grad_norm) == ("constant", 0, 1.0)
    assert (how.train_batch_size, how.max_train_epochs, how.gradient_accumulation_steps) == (3, 25, 1)
    assert (request.saving.save_every_n_epochs, request.saving.save_precision) == (5, "fp16")
    assert (request.numerics.mixed_precision, request.numerics.clip_skip) == ("fp16", 2)
    assert request.numerics.max_token_length == 225
    assert (request.lora.network_dim, request.lora.network_alpha) == (32, 16)
    assert request.loss.prior_loss_weight == 1


def test_the_dreambooth_preset_is_the_reference_run() -> None:
    request = request_of({"kind": "dreambooth", **PRESETS["dreambooth"][DREAMBOOTH_RUN]})
    options = request.dreambooth
    assert (options.te_mode, options.te_steps, options.te_learning_rate) == ("sequential", 350, 1e-6)
    assert (options.unet_steps, options.unet_learning_rate) == (3300, 2e-6)
    assert (request.data.resolution, request.data.crop, request.data.enable_bucket) == ("512", "focal", False)
    assert request.data.caption_from == "name"
    assert (request.optimization.train_batch_size, request.optimization.optimizer_type) == (1, "AdamW8bit")
    assert (request.numerics.mixed_precision, request.loss.noise_offset) == ("fp16", 0)


def test_presets_say_what_this_machine_makes_of_them(services: Services) -> None:
    shown = Trainings(services).form("dreambooth")["presets"][DREAMBOOTH_RUN]
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        assert shown["values"]["optimization.optimizer_type"] == "AdamW"
        assert any("AdamW8bit" in note for note in shown["notes"])
    else:
        assert shown["values"]["optimization.optimizer_type"] == "AdamW8bit"


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_parameter_that_counts_is_in_the_form(services: Services, kind: str) -> None:
    shown = {field["path"]: field for section in form_of(services, kind) for field in section["fields"]}
    groups = {"optimization", "loss", "numerics", "saving", "samples", kind}
    hidden = {"data.every.image_dir", "data.every.is_reg", "data.every.face_crop_aug_range"}
    hidden |= {"optimization.gradient_clipping", "optimization.gradient_clip"}
    wanted = {
        spec.dotted
        for spec in TrainingRequest.specs()
        if (
            spec.path[0] in groups
            or spec.path[:2] == ("data", "every")
            or (spec.path[0] == "data" and len(spec.path) == 2)
        )
    }
    assert wanted - set(shown) == hidden & wanted
    for path, field in shown.items():
        assert field["label"], path
        assert "default" in field, path


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_forms_own_values_make_the_default_request(services: Services, kind: str) -> None:
    values = {field["path"]: field["default"] for section in form_of(services, kind) for field in section["fields"]}
    assert request_of(values) == TrainingRequest()


def test_limits_and_choices_reach_the_form(services: Services) -> None:
    shown = {field["path"]: field for section in form_of(services, "lora") for field in section["fields"]}
    assert (shown["optimization.train_batch_size"]["min"], shown["optimization.train_batch_size"]["max"]) == (1, 256)
    assert "AdamW" in shown["optimization.optimizer_type"]["choices"]
    assert shown["optimization.unet_lr"]["optional"]
    assert shown["samples.prompts"]["kind"] == "longtext"
    assert "DDIM" in shown["samples.sampler"]["choices"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"optimization.train_batch_size": 0}, r"Batch size .*greater than or equal to 1, got 0"),
        ({"optimization.nothing": 1}, "has no parameter"),
        ({"optimization.learning_rate": "fast"}, "Learning rate"),
        ({"lora.algo": "lora", "lora.algo.x": 1}, "no parameter lora.algo.x"),
    ],
)
def test_values_that_cannot_be_are_told(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        request_of(values)


# The trigger word


@pytest.fixture
def folder(services: Services) -> Path:
    place = services.paths.data / "my pictures"
    place.mkdir()
    for name in ("a.png", "b.png"):
        (place / name).write_bytes(b"")
    return place


def test_without_captions_the_trigger_word_is_the_caption(services: Services, folder: Path) -> None:
    request = wanted_run(services, "lora", {"data.train_data_dir": "my pictures"}, "  sks \n man ")
    assert request.data.train_data_dir == str(folder)
    assert (request.data.every.class_tokens, request.data.every.caption_prefix) == ("sks man", "")
    assert request.name == "sks man"


def test_captions_without_the_trigger_word_get_it_in_front(services: Services, folder: Path) -> None:
    (folder / "a.txt").write_text("a hat")
    every = wanted_run(services, "lora", {"data.train_data_dir": str(folder)}, "sks").data.every
    assert (every.caption_prefix, every.keep_tokens) == ("sks,", 1)
    (folder / "a.txt").write_text("SKS with a hat")
    assert wanted_run(services, "lora", {"data.train_data_dir": str(folder)}, "sks").data.every.caption_prefix == ""


def test_the_folder_gives_the_name_where_there_is_no_trigger_word(services: Services, folder: Path) -> None:
    assert wanted_run(services, "lora", {"data.train_data_dir": str(folder)}).name == "my pictures"
    of_a_file = {"data.folders": [{"image_dir": str(folder)}]}
    assert wanted_run(services, "lora", of_a_file).name == "my pictures"
    assert wanted_run(services, "lora", {"name": "x", "data.train_data_dir": str(folder)}, "sks").name == "x"


# kohya's config


def test_a_config_of_kohyas_fills_the_form() -> None:
    text = """
pretrained_model_name_or_path = '/models/base.safetensors'
output_name = "mine"
[training]
learning_rate = 5e-5
unet_lr = 1e-4
optimizer_args = ["weight_decay=0.1", "betas=.9,.99"]
network_dim = 16
network_alpha = 8
network_args = ["conv_dim=4", "conv_alpha=1", "algo=loha", "use_tucker=True"]
xformers = true
sample_every_n_epochs = 2
v_pred_shift = 3
[general]
shuffle_caption = true
[[datasets]]
resolution = 768
batch_size = 2
[[datasets.subsets]]
image_dir = '/pictures'
num_repeats = 4
"""
    found = import_config(text)
    assert found["name"] == "mine"
    assert found["comments"] == ["1 folders are taken from the file: /pictures.", "Not used here: v_pred_shift."]
    request = request_of(found["values"])
    assert request.checkpoint == "base.safetensors"
    assert (request.optimization.learning_rate, request.optimization.unet_lr) == (5e-5, 1e-4)
    assert request.optimization.optimizer_args == "weight_decay=0.1 betas=.9,.99"
    assert (request.lora.network_dim, request.lora.network_alpha, request.lora.conv_dim) == (16, 8, 4)
    assert (request.lora.algo, request.lora.use_tucker, request.lora.conv_alpha) == ("loha", True, 1)
    assert request.samples.every_n_epochs == 2
    assert (request.data.resolution, request.optimization.train_batch_size) == ("768", 2)
    (subset,) = request.data.folders
    assert (subset.image_dir, subset.num_repeats, subset.shuffle_caption) == ("/pictures", 4, True)


def test_what_is_exported_is_imported_again(services: Services, folder: Path) -> None:
    values = {
        **PRESETS["lora"][LORA_RUN],
        "name": "mine",
        "data.train_data_dir": str(folder),
        "lora.conv_dim": 4,
        "lora.rank_dropout": 0.25,
        "optimization.optimizer_args": "weight_decay=0.1",
        "data.every.caption_extension": ".txt",
    }
    request = wanted_run(services, "lora", values)
    config, dataset = export_config(request)
    assert (config["name"], dataset["name"]) == ("mine.toml", "mine-dataset.toml")
    again = import_config(config["text"] + dataset["text"])
    assert not [comment for comment in again["comments"] if comment.startswith("Not used")]
    read = request_of({**again["values"], "name": again["name"], "kind": "lora"})
    for group in ("optimization", "loss", "numerics", "saving", "lora"):
        assert getattr(read, group) == getattr(request, group), group
    (subset,) = read.data.folders
    assert subset == request.data.every.replace(image_dir=str(folder))


# A1111's tab


@pytest.mark.parametrize(
    ("kind", "args", "told"),
    [
        ("embedding", {"learn": 1}, 'no parameter "?learn'),
        ("embedding", {"hypernetwork_name": "x"}, "hypernetwork_name is no argument"),
        ("hypernetwork", {"save_embedding_every": 5}, "save_embedding_every is no argument"),
        ("embedding", {"batch_size": 0}, "Batch size"),
    ],
)
def test_wrong_arguments_are_told(kind: Any, args: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        from_api(kind, args)


@pytest.mark.parametrize(
    ("tab", "told"),
    [
        (TrainTab(), "Choose the embedding to train"),
        (TrainTab(embedding_name="mine"), 'There is no embedding "mine"'),
    ],
)
def test_what_is_missing_is_told(services: Services, tab: TrainTab, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        training_of(services, "embedding", tab)


def test_the_tabs_values_become_a_training(services: Services) -> None:
    (services.paths.embeddings).mkdir(exist_ok=True)
    (services.paths.embeddings / "mine.pt").write_bytes(b"x")
    services.networks.refresh()
    tab = from_api(
        "embedding",
        {
            "embedding_name": "mine",
            "learn_rate": "0.005:100, 1e-3",
            "data_root": "pictures",
            "training_width": 384,
            "training_height": 640,
            "clip_grad_mode": "norm",
            "clip_grad_value": 0.5,
            "gradient_step": 2,
            "steps": 7,
            "save_embedding_every": 3,
            "create_image_every": 4,
            "template_filename": "subject.txt",
            "shuffle_tags": True,
            "tag_drop_out": 0.2,
            "use_weight": True,
            "latent_sampling_method": "random",
            "log_directory": "logs",
        },
    )
    request = training_of(services, "embedding", tab)
    assert (request.kind, request.name, request.optimization.schedule) == ("embedding", "mine", "0.005:100, 1e-3")
    assert (request.data.resolution, request.data.enable_bucket) == ("384,640", False)
    assert request.data.train_data_dir == str(services.paths.data / "pictures")
    assert (request.optimization.gradient_clipping, request.optimization.gradient_clip) == ("norm", "0.5")
    assert (request.optimization.gradient_accumulation_steps, request.optimization.max_train_steps) == (2, 7)
    assert (request.saving.save_every_n_steps, request.samples.every_n_steps) == (3, 4)
    assert request.saving.log_dir == str(services.paths.data / "logs")
    assert "[name]" in request.embedding.template
    assert request.samples.prompts.endswith("--s 20 --w 384 --h 640")
    assert "mine" in request.samples.prompts
    assert (request.embedding.shuffle_tags, request.embedding.tag_drop_out) == (True, 0.2)
    assert request.data.every.alpha_mask
    assert request.loss.latent_sampling == "random"
    with pytest.raises(NotFound, match='no prompt template "subjekt.txt"; the closest is "subject.txt"'):
        training_of(services, "embedding", tab.replace(template_filename="subjekt.txt"))


def test_ones_own_templates_are_offered_and_taken(services: Services) -> None:
    place = services.paths.data / "textual_inversion_templates"
    place.mkdir()
    (place / "mine.txt").write_text("[name] on the moon")
    (field,) = [
        field
        for section in Trainings(services).form("train")["sections"]
        for field in section["fields"]
        if field["path"] == "template_filename"
    ]
    assert "mine.txt" in field["choices"]
    assert "style_filewords.txt" in field["choices"]
