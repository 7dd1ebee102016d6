"""LoRAs: trained through the queue, stopped and resumed, in files as kohya writes them, which our engine reads."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.training.conftest import Ask
from webui.core.errors import WebuiError
from webui.core.request import GenerationRequest
from webui.core.training import LoraOptions, Numerics, Samples, Saving, TrainingRequest
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.planning.training import TrainingPlan
from webui.services.generation import submit_generation
from webui.services.services import Services
from webui.services.training import submit_training
from webui.services.training_log import log_from
from webui.training import job as training

Plan = Callable[[TrainingRequest], TrainingPlan]


class Killed(BaseException):
    """The server died here."""


@pytest.fixture(scope="module")
def engine(services: Services) -> Engine:
    return build(services)


@pytest.fixture(scope="module")
def working(services: Services) -> Services:
    """With the worker at work."""
    services.jobs.start()
    return services


def train(engine: Engine, plan: TrainingPlan, stop_after: int | None = None) -> None:
    job = JobContext.alone(engine=engine)
    if stop_after is None:
        training.run(engine, plan, job)
        return
    pauses = 0

    def pause_point() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == stop_after:
            raise Killed

    job.pause_point = pause_point  # type: ignore[method-assign]
    with pytest.raises(Killed):
        training.run(engine, plan, job)


def test_a_lora_goes_through_the_queue_and_changes_pictures(working: Services, ask: Ask) -> None:
    request = ask("queued", steps=6, saving=Saving(save_every_n_steps=3))
    progress = working.jobs.wait(submit_training(working, request), 300)
    assert progress.state == "done", progress.error
    result = working.jobs.result(progress.job_id)
    assert (result.steps, result.planned) == (6, 6)
    assert [Path(name).name for name in result.files] == ["queued-step00000003.safetensors", "queued.safetensors"]
    assert math.isfinite(result.loss)
    rows = Path(result.log).read_text(encoding="utf-8").splitlines()
    assert rows[0] == "step,epoch,loss,lr,grad_norm"
    assert [row.split(",")[0] for row in rows[1:]] == list("123456")
    made = []
    for prompt in ("sks thing", "sks thing <lora:queued:1>"):
        job = submit_generation(working, GenerationRequest(prompt=prompt, steps=2, width=64, height=64, seed=1))
        assert working.jobs.wait(job, 300).state == "done"
        picture = working.jobs.result(job)
        assert not any("queued" in comment for comment in picture.comments)
        made.append(picture.images[0].data)
    assert made[0] != made[1]


def test_killed_at_a_step_and_resumed_the_weights_are_those_of_an_undisturbed_run(
    engine: Engine, plan: Plan, ask: Ask
) -> None:
    saving = Saving(save_state_every=2, save_precision="float")
    options = LoraOptions(network_dropout=0.3)
    whole = plan(ask("whole", steps=7, saving=saving, lora=options))
    train(engine, whole)
    for killed_at in (1, 5):
        name = f"killed-{killed_at}"
        cut = plan(ask(name, steps=7, saving=saving, lora=options))
        train(engine, cut, stop_after=killed_at)
        assert not cut.target.exists()
        train(engine, cut)
        first, second = load_file(whole.target), load_file(cut.target)
        assert all(first[key].equal(second[key]) for key in first)
        assert len((cut.folder / "log.csv").read_text().splitlines()) == 8
        assert not (cut.folder / "state.pt").exists()


def test_a_training_that_is_stopped_saves_what_it_has(engine: Engine, plan: Plan, ask: Ask) -> None:
    cut = plan(ask("stopped", steps=50))
    job = JobContext.alone(engine=engine)
    pauses = 0

    def pause_point() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 2:
            job._record.publish(interrupted=True)

    job.pause_point = pause_point  # type: ignore[method-assign]
    result = training.run(engine, cut, job)
    assert result.steps == 2
    assert "stopped at step 2 of 50" in result.message
    assert cut.target.exists()


def test_a_loss_that_is_no_number_ends_the_training_in_a_sentence_and_saves_the_last_good_weights(
    engine: Engine, plan: Plan, ask: Ask
) -> None:
    # A rate at which weights grow beyond all numbers; the state of the first steps is still good.
    bad = plan(ask("bad", steps=60, rate=1000.0, saving=Saving(save_state_every=1)))
    with pytest.raises(WebuiError, match=r"no number for 5 steps.*saved as bad-step\d+\.safetensors"):
        train(engine, bad)
    (saved,) = bad.target.parent.glob("bad-step*.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in load_file(saved).values())


def test_files_have_kohyas_names_and_metadata(engine: Engine, plan: Plan, ask: Ask) -> None:
    plain = plan(ask("plain", steps=1, lora=LoraOptions(network_dim=3, network_alpha=1.5)))
    train(engine, plain)
    with safe_open(plain.target, "pt") as file:
        keys, metadata = set(file.keys()), file.metadata()
        assert file.get_tensor("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha").item() == 1.5
        down = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
        assert file.get_tensor(down).shape == (3, 32)
        assert file.get_tensor(down).dtype == torch.float16
    modules = {key.split(".")[0] for key in keys}
    assert {key.split(".", 1)[1] for key in keys} == {"lora_up.weight", "lora_down.weight", "alpha"}
    unet = sorted(name for name in modules if name.startswith("lora_unet_"))
    assert len(unet) == 192  # as of SD 1.5: 16 transformers of 12 layers
    assert len(modules) - len(unet) == 6 * 2  # q, k, v, out, fc1, fc2 of two layers
    assert metadata["ss_network_module"] == "networks.lora"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("3", "1.5")
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["ss_optimizer"] == "torch.optim.adamw.AdamW"
    assert json.loads(metadata["ss_tag_frequency"])
    assert set(KOHYA.split()) <= {key.removeprefix("ss_") for key in metadata}
    content = plain.target.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    assert metadata["sshs_model_hash"] == hashlib.sha256(content[begin:]).hexdigest()
    assert len(metadata["sshs_legacy_hash"]) == 8


KOHYA = """
session_id training_started_at training_finished_at output_name learning_rate text_encoder_lr unet_lr
num_train_images num_validation_images num_reg_images num_batches_per_epoch num_epochs epoch steps max_train_steps
batch_size_per_device total_batch_size gradient_checkpointing gradient_accumulation_steps lr_warmup_steps lr_scheduler
optimizer max_grad_norm network_module network_dim network_alpha network_dropout network_args mixed_precision full_fp16
fp8_base fp8_base_unet v2 base_model_version clip_skip max_token_length cache_latents seed lowram noise_offset
noise_offset_random_strength multires_noise_iterations multires_noise_discount adaptive_noise_scale zero_terminal_snr
ip_noise_gamma ip_noise_gamma_random_strength min_snr_gamma debiased_estimation loss_type huber_schedule huber_scale
huber_c scale_weight_norms prior_loss_weight caption_dropout_rate caption_dropout_every_n_epochs
caption_tag_dropout_rate face_crop_aug_range resize_interpolation validation_seed validation_split
validate_every_n_epochs validate_every_n_steps resolution color_aug flip_aug random_crop shuffle_caption keep_tokens
enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso bucket_info dataset_dirs reg_dataset_dirs tag_frequency
sd_model_name sd_model_hash new_sd_model_hash vae_name vae_hash new_vae_hash sd_scripts_commit_hash
training_comment
"""


def test_a_short_job_passes_a_training_which_is_then_stopped(working: Services, ask: Ask) -> None:
    long = submit_training(working, ask("passed", steps=5000))
    short = submit_generation(working, GenerationRequest(prompt="sks", steps=1, width=64, height=64, seed=1))
    assert working.jobs.wait(short, 300).state == "done"
    running = working.jobs.progress(long)
    assert (running.state, running.text.partition(",")[0][:4]) == ("running", "Step")
    so_far = log_from(working, long)
    assert so_far["rows"][0][0] == 1
    assert not so_far["ended"]
    working.jobs.interrupt(long)
    assert working.jobs.wait(long, 300).state == "done"
    rest = log_from(working, long, so_far["offset"])["rows"]
    steps = [row[0] for row in (*so_far["rows"], *rest)]
    assert steps == list(range(1, len(steps) + 1))
    assert "stopped at step" in working.jobs.result(long).message


def test_sample_pictures_are_made_by_the_model_in_training(engine: Engine, plan: Plan, ask: Ask) -> None:
    other = plan(ask("other", steps=1, rate=0.5))
    train(engine, other)
    engine.networks.catalogs.loras.refresh()
    prompt = "sks thing <lora:other:1> --s 2 --w 64 --h 64 --d 3"  # the other one comes off again
    samples = Samples(prompts=prompt, every_n_steps=2, at_first=True)
    made = plan(ask("sampled", steps=4, rate=0.5, samples=samples))
    train(engine, made)
    files = sorted((made.folder / "samples").glob("*.png"))
    assert [file.name for file in files] == [f"sampled-{step:06d}-00.png" for step in (0, 2, 4)]
    assert len({file.read_bytes() for file in files}) == 3
    # Samples leave no trace in the weights.
    plain = plan(ask("unsampled", steps=4, rate=0.5))
    train(engine, plain)
    first, second = load_file(made.target), load_file(plain.target)
    assert all(first[key].equal(second[key]) for key in first)


def test_tensorboard_gets_the_curves_and_the_sample_pictures(engine: Engine, plan: Plan, ask: Ask) -> None:
    event_files = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    wanted = {"training_enable_tensorboard": True, "training_tensorboard_save_images": True}
    made = plan(ask("boarded", steps=4, samples=Samples(prompts="sks --s 2 --w 64 --h 64", every_n_steps=3)))
    made = replace(made, settings=made.settings.replace(**wanted))
    with_state = replace(made, request=made.request.replace(saving=Saving(save_state_every=2)))
    train(engine, with_state, stop_after=3)
    train(engine, with_state)
    found = event_files.EventAccumulator(str(made.folder / "tensorboard"))
    found.Reload()
    rows = [row.split(",") for row in (made.folder / "log.csv").read_text().splitlines()[1:]]
    losses = found.Scalars("loss/current")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert [event.value for event in losses] == pytest.approx([float(row[2]) for row in rows], rel=1e-4)
    assert [event.value for event in found.Scalars("lr/unet")] == pytest.approx([0.01] * 4)
    assert [event.step for event in found.Images("samples/1")] == [3]


def test_without_tensorboard_a_sentence_says_what_to_install(
    engine: Engine, plan: Plan, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    made = plan(ask("unboarded", steps=1))
    made = replace(made, settings=made.settings.replace(training_enable_tensorboard=True))
    told = training.run(engine, made, JobContext.alone(engine=engine)).message
    assert "the package tensorboard isn't installed" in told
    assert not (made.folder / "tensorboard").exists()


def test_options_of_memory_and_speed_change_no_weights_but_in_the_last_digits(
    engine: Engine, plan: Plan, ask: Ask
) -> None:
    saving = Saving(save_precision="float")
    made = {}
    for name, options in (
        ("usual", Numerics()),
        ("checkpointed", Numerics(gradient_checkpointing=True)),
        ("on-disk", Numerics(cache_latents_to_disk=True)),
        ("from-disk", Numerics(cache_latents_to_disk=True)),
        ("bf16", Numerics(mixed_precision="bf16")),
    ):
        request = ask(name, steps=2, rate=1.0, saving=saving, numerics=options)
        plain = request.optimization.replace(optimizer_type="SGDNesterov")  # AdamW would blow last digits up
        one = plan(request.replace(optimization=plain))
        train(engine, one)
        made[name] = load_file(one.target)
    for name in ("on-disk", "from-disk"):
        assert all(made["usual"][key].equal(made[name][key]) for key in made["usual"])
    learned = [key for key in made["usual"] if key.endswith("lora_up.weight")]  # which begin at 0
    for name, most in (("checkpointed", 1e-3), ("bf16", 0.2)):
        whole = torch.cat([made["usual"][key].flatten() for key in learned])
        other = torch.cat([made[name][key].flatten() for key in learned])
        assert float(whole.norm()) > 0
        assert float((whole - other).norm() / whole.norm()) < most
    assert list((engine.paths.cache / "latents").rglob("*.safetensors"))


def test_a_lora_is_gone_on_with(engine: Engine, plan: Plan, ask: Ask) -> None:
    saving = Saving(save_precision="float")
    first = plan(ask("first", steps=2, saving=saving))
    train(engine, first)
    engine.networks.catalogs.loras.refresh()
    more = plan(ask("more", steps=1, rate=1e-9, saving=saving, lora=LoraOptions(network_weights="first")))
    train(engine, more)
    before, after = load_file(first.target), load_file(more.target)
    assert all(torch.allclose(before[key], after[key], atol=1e-7) for key in before)
    assert any(before[key].abs().max() > 0 for key in before if key.endswith("lora_up.weight"))
    other = plan(ask("other-dim", steps=1, lora=LoraOptions(network_weights="first", network_dim=2)))
    with pytest.raises(WebuiError, match="can't be gone on from"):
        train(engine, other)
