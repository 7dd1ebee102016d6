"""A training's plan: mistakes answered before the start, rates over the steps, what it will take."""

from __future__ import annotations

import math

import pytest

from tests.tiny import tiny_checkpoint
from tests.training.conftest import pictures
from tools.random_checkpoint import FULL_SIZES, TINY_SIZES, checkpoint_shapes, write_checkpoint
from webui.core.errors import WebuiError
from webui.core.flags import parse_flags
from webui.core.training import (
    DreamBoothOptions,
    LoraOptions,
    LossOptions,
    Numerics,
    Optimization,
    Samples,
    TrainingRequest,
)
from webui.core.training_data import DataRequest
from webui.planning.learning_rates import SCHEDULE_NAMES, Schedule, read_rates
from webui.planning.training_memory import estimate_memory
from webui.services.building import build_services
from webui.services.services import Services
from webui.services.training import plan_training


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    folder = tmp_path_factory.mktemp("data")
    checkpoints = folder / "models" / "Stable-diffusion"
    tiny_checkpoint(checkpoints)
    for family in ("sd1-inpaint", "sd3", "sdxl"):
        write_checkpoint(checkpoints / f"{family}.safetensors", TINY_SIZES[family], "F16", 0)
    pictures(folder / "train" / "3_sks thing", 4)
    built = build_services(parse_flags(["--data-dir", str(folder), "--device", "cpu"], {})[0])
    built.settings.update({"sd_model_checkpoint": "tiny"})
    (folder / "models" / "Lora" / "there.safetensors").write_bytes(b"not read")
    built.networks.refresh()
    return built


def ask(services: Services, **groups: object) -> TrainingRequest:
    data = DataRequest(train_data_dir=str(services.paths.data / "train"), resolution="64", min_bucket_reso=64)
    return TrainingRequest.checked(**{"name": "x", "data": data, **groups})


REFUSED = [
    ({"name": ""}, "Give the training a name"),
    ({"name": "a/b"}, "can't be the name of a file"),
    ({"name": "there"}, "choose another name"),
    ({"checkpoint": "nothing like it"}, "No checkpoint|no checkpoint"),
    ({"checkpoint": "sd3"}, "Stable Diffusion 3 checkpoint, which Easel can't train"),
    ({"checkpoint": "sd1-inpaint"}, "inpaint model"),
    ({"checkpoint": "sdxl", "kind": "embedding"}, "Train a LoRA instead"),
    ({"optimization": Optimization(optimizer_type="AdamX")}, 'no optimizer "AdamX"; the closest is "AdamW"'),
    ({"optimization": Optimization(optimizer_type="os.system")}, 'no optimizer "os.system"'),
    ({"optimization": Optimization(optimizer_type="AdamW8bit")}, "needs the package bitsandbytes"),
    ({"optimization": Optimization(optimizer_type="Prodigy")}, "needs the package prodigyopt"),
    ({"optimization": Optimization(optimizer_args="weight_decay=__import__('os')")}, "can't be read"),
    ({"optimization": Optimization(lr_warmup_steps=10)}, '"constant" has no warm-up'),
    ({"optimization": Optimization(lr_scheduler="cosinus")}, 'the closest is "cosine"'),
    ({"optimization": Optimization(schedule="0.1:x")}, "can't be read"),
    ({"optimization": Optimization(learning_rate=0)}, "Both learning rates are 0"),
    ({"loss": LossOptions(min_timestep=500, max_timestep=500)}, "none is left"),
    ({"lora": LoraOptions(network_train_unet_only=True, network_train_text_encoder_only=True)}, "at once"),
    ({"lora": LoraOptions(algo="locon")}, "needs a dim of convolutions"),
    ({"lora": LoraOptions(algo="loha", network_dropout=0.1)}, "Dropout"),
    ({"lora": LoraOptions(block_dims="1,2")}, "25 numbers"),
    ({"lora": LoraOptions(network_weights="ther")}, 'no LoRA "ther" to go on from; the closest is "there"'),
    ({"numerics": Numerics(cache_text_encoder_outputs=True)}, "while the text encoder is trained"),
    ({"kind": "dreambooth", "dreambooth": DreamBoothOptions(te_steps=0, unet_steps=0)}, "0 steps"),
    ({"kind": "dreambooth", "dreambooth": DreamBoothOptions(class_dir="/x")}, "class prompt"),
    ({"samples": Samples(every_n_steps=5)}, "no prompt for them"),
    ({"samples": Samples(prompts="a cat --q 3")}, "--q"),
    ({"samples": Samples(prompts="a cat --s many")}, "must be a number"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[sentence[:30] for _, sentence in REFUSED])
def test_mistakes_are_answered_in_a_sentence(services: Services, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(WebuiError, match=sentence):
        plan_training(services, ask(services, **changes))


def test_steps_come_from_pictures_repeats_and_epochs(services: Services) -> None:
    epochs = Optimization(max_train_epochs=3, train_batch_size=5, gradient_accumulation_steps=2)
    plan = plan_training(services, ask(services, optimization=epochs))
    assert (plan.steps, plan.epochs) == (3 * math.ceil(math.ceil(12 / 5) / 2), 3)
    assert 0 <= plan.seed < 2**32
    assert plan.target == services.paths.lora / "x.safetensors"


def test_sample_prompts_are_read_as_kohya_writes_them(services: Services) -> None:
    text = "# a comment\na cat --n bad, worse --w 96 --h 64 --d 7 --l 5.5 --s 12 --ss k_euler_a\n\na well-kept dog"
    first, second = plan_training(services, ask(services, samples=Samples(prompts=text))).samples
    assert (first.prompt, first.negative, first.width, first.height) == ("a cat", "bad, worse", 96, 64)
    assert (first.seed, first.cfg_scale, first.steps, first.sampler) == (7, 5.5, 12, "Euler a")
    assert (second.prompt, second.width, second.sampler) == ("a well-kept dog", 64, "DDIM")


def test_rates_follow_their_formulas() -> None:
    linear = Schedule("linear", 3300)
    assert linear.rate(1650, 2e-6) == pytest.approx(1e-6)
    warm = Schedule("cosine", 110, warmup=10)
    assert [warm.rate(step, 1.0) for step in (0, 5, 10, 60, 110)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    restarts = Schedule("cosine_with_restarts", 100, cycles=2)
    assert [restarts.rate(step, 1.0) for step in (0, 25, 50, 75)] == pytest.approx([1, 0.5, 1, 0.5])
    polynomial = Schedule("polynomial", 100, power=2)
    assert polynomial.rate(50, 1e-3) == pytest.approx((1e-3 - 1e-7) * 0.25 + 1e-7)
    stable = Schedule("warmup_stable_decay", 100, warmup=10, decay=20, lowest=0.1)
    assert [stable.rate(step, 1.0) for step in (5, 50, 80, 100)] == pytest.approx([0.5, 1, 1, 0.1])
    for name in SCHEDULE_NAMES:
        assert all(0 <= Schedule(name, 50, warmup=5, decay=5).rate(step, 1.0) <= 1 for step in range(50))


def test_a1111s_schedule_is_read() -> None:
    rates = read_rates("0.005:100, 1e-3:1000, 1e-5")
    assert [rates.at(step) for step in (0, 99, 100, 999, 1000, 10**6)] == [0.005, 0.005, 1e-3, 1e-3, 1e-5, 1e-5]
    ends = read_rates("0.1:10")
    assert (ends.at(9), ends.at(10), ends.end) == (0.1, None, 10)
    assert read_rates("5e-3:-1, 7").parts == ((5e-3, None),)


def test_memory_is_estimated_near_what_was_measured() -> None:
    """Source of the figures: ShivamShrirao/diffusers' DreamBooth, LyCORIS' guidelines; see the sheet of anchors."""
    shapes = checkpoint_shapes(FULL_SIZES["sd1"])
    fast = TrainingRequest(
        kind="dreambooth",
        numerics=Numerics(mixed_precision="fp16"),
        optimization=Optimization(optimizer_type="AdamW8bit"),
    )
    lean = fast.replace(numerics=fast.numerics.replace(gradient_checkpointing=True))
    lora = TrainingRequest(
        lora=LoraOptions(network_dim=32),
        numerics=fast.numerics,
        optimization=Optimization(optimizer_type="AdamW8bit", train_batch_size=8),
    )
    for request, measured in ((fast, 11.17), (lean, 9.92), (lora, 15.4)):
        estimate = estimate_memory(request, shapes, (512, 512), unet=True, text=request.kind == "lora")
        assert estimate.total / 1e9 == pytest.approx(measured, rel=0.1)
