"""Motion modules: recognised in every layout, the same as diffusers', and gone without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extensions.animatediff.motion.layers import MotionModule, averaged, sinusoids
from extensions.animatediff.motion.names import family_of, placed_all
from tests.extensions.animatediff.conftest import Clips
from tests.extensions.animatediff.motion_files import FAMILIES, SDXL, adapter, tensors_of, write_motion
from webui.core.errors import BadModelFile, InvalidRequest

torch = pytest.importorskip("torch")

from diffusers.models.unets.unet_motion_model import UNetMotionModel  # noqa: E402
from diffusers.pipelines.animatediff.pipeline_animatediff import AnimateDiffPipeline  # noqa: E402
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler  # noqa: E402

AS_DIFFUSERS = {"animatediff_norm_over_clip": True, "pad_cond_uncond": True, "cross_attention_optimization": "sdp"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_files_of_every_family_are_recognised_in_both_layouts(family: str, layout: str) -> None:
    made = adapter(family)
    places = placed_all(tensors_of(made, family, layout))
    found = family_of({place: {n: t.shape for n, t in part.items()} for place, part in places.items()})
    facts = FAMILIES[family]
    assert (found.name, found.positions, found.widths) == (family, facts["positions"], facts["widths"])
    assert (found.base == "SDXL") == (facts["widths"] == SDXL)
    assert found.norms_clips == (facts["positions"] == 24)
    modules = 5 * len(facts["widths"]) + facts["middle"]
    assert len(places) == modules
    names = {name for part in places.values() for name in part if not name.endswith(".pe")}
    assert names == {name for name in MotionModule(32, 1, 24).state_dict() if not name.endswith(".pe")}


def test_positions_have_the_published_values() -> None:
    pe = sinusoids(24, 320)[0]
    torch.testing.assert_close(pe[1, :4], torch.tensor([0.841471, 0.540302, 0.809946, 0.586504]), atol=1e-5, rtol=0)
    wanted = torch.tensor([-0.999969, 0.007915, -0.967377, -0.253343])
    torch.testing.assert_close(pe[5, 2:6], wanted, atol=1e-5, rtol=0)


def test_a_fresh_module_changes_nothing() -> None:
    x = torch.randn(8, 32, 4, 4)
    assert torch.equal(MotionModule(32, 1, 24)(x, 4), x)


def test_averages_of_equal_answers_are_exact() -> None:
    like = torch.zeros(2, 20, 3)
    windows = [list(range(start, start + 8)) for start in (0, 5, 10, 12)]
    same = averaged(lambda frames: torch.ones(2, len(frames), 3) * 0.3, windows, like, axis=1)
    torch.testing.assert_close(same, torch.full_like(like, 0.3))
    rising = averaged(
        lambda frames: torch.tensor(frames).float().view(1, -1, 1).expand(2, -1, 3), windows, like, axis=1
    )
    torch.testing.assert_close(rising[0, :, 0], torch.arange(20.0))


@pytest.mark.parametrize("family", ["AnimateDiff v2", "AnimateDiff v3", "AnimateLCM"])
def test_a_clip_is_that_of_diffusers_pipeline(clips: Clips, family: str) -> None:
    """16 frames by the tiny checkpoint, whose U-Net diffusers gets as it is."""
    asked = {"model": family, "video_length": 16, "batch_size": 16}
    ours = clips.latents(asked, AS_DIFFUSERS, steps=4, negative_prompt="a dog", seed=3, cfg_scale=1.5)
    assert apart(ours, by_diffusers(clips, family, adapter(family), 16, 3)) < 1e-4


def apart(ours: Any, theirs: Any) -> float:
    """The largest difference, as a share of how far the latents of these random weights spread."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.std())


def by_diffusers(
    clips: Clips, family: str, motion: Any, frames: int, seed: int, free: int = 0, noise: Any = None
) -> Any:
    """What diffusers' pipeline makes of the same noise, prompts and weights; 4 steps of Euler, (F, C, h, w).

    free: frames of a context of FreeNoise. noise: in the place of that of the seeds.
    """
    engine = clips.engine
    checkpoint = engine.checkpoints.find("tiny")
    with engine.models.lease(checkpoint) as model:
        unet = UNetMotionModel.from_unet2d(model.unet, motion, load_weights=True).eval()
        plan = engine.plan(clips.request({}, negative_prompt="a dog"))
        text = plain_text(engine, model, plan)
        context = [text.encode([prompt])[0] for prompt in ("a cat", "a dog")]
        scheduler = EulerDiscreteScheduler(
            beta_schedule="linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="linspace"
        )
        pipeline = AnimateDiffPipeline(
            vae=model.vae.module,
            text_encoder=None,
            tokenizer=None,
            unet=unet,
            motion_adapter=motion,
            scheduler=scheduler,
        )
        pipeline.set_progress_bar_config(disable=True)
        if free:
            pipeline.enable_free_noise(context_length=free, context_stride=4, noise_type="random")
            pipeline._free_noise_context_length = None  # so that it takes finished prompts and noise
        seeds = range(seed, seed + frames)
        drawn = [torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(number)) for number in seeds]
        noise = torch.cat(drawn) if noise is None else noise
        made = pipeline(
            prompt_embeds=context[0],
            negative_prompt_embeds=context[1],
            num_frames=frames,
            height=64,
            width=64,
            num_inference_steps=4,
            guidance_scale=1.5,
            latents=noise.transpose(0, 1)[None].clone(),
            output_type="latent",
        ).frames
    return made[0].transpose(0, 1)


def plain_text(engine: Any, model: Any, plan: Any) -> Any:
    from webui.pipeline.conditioning import TextEncoding, TextOptions

    return TextEncoding(model, engine.tokenizer, TextOptions.of(plan.settings), (64, 64), None)


@pytest.mark.parametrize("family", ["AnimateDiff v1", "AnimateDiff v2"])
def test_the_unet_is_bit_for_bit_what_it_was(clips: Clips, family: str) -> None:
    engine = clips.engine
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
        plain = clips.make({"enable": False}, batch_size=4)
        moving = clips.make({"model": family})
        after = clips.make({"enable": False}, batch_size=4)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())
        hooks = [h for m in model.unet.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
        assert hooks == []
    assert [file.data for file in plain.images] == [file.data for file in after.images]
    assert moving.images[0].data != plain.images[1].data


def test_what_fails_within_leaves_nothing_on(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = clips.engine
    before = clips.make({"enable": False}, batch_size=4)
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        broken = model.unet.conv_out.register_forward_hook(lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            clips.make({})
        broken.remove()
    after = clips.make({"enable": False}, batch_size=4)
    assert [file.data for file in before.images] == [file.data for file in after.images]


def test_modules_that_are_the_identity_change_no_picture(clips: Clips) -> None:
    made = adapter("AnimateDiff v3", seed=1)
    for name, weight in made.named_parameters():
        if "proj_out" in name:
            torch.nn.init.zeros_(weight)
    from safetensors.torch import save_file

    folder = clips.engine.paths.models / "AnimateDiff"
    save_file(tensors_of(made, "AnimateDiff v3", "original"), folder / "identity.safetensors")
    same = {"animatediff_noise_levels": "As the checkpoint"}
    still = clips.make({"model": "identity", "video_length": 6, "format": ("PNG",)}, same, batch_size=1)
    plain = clips.make({"enable": False}, batch_size=6)
    assert [p.tobytes() for p in still.pictures] == [p.tobytes() for p in plain.pictures]


@pytest.mark.parametrize("family", ["AnimateDiff-SDXL", "HotShot-XL"])
def test_sdxl_has_modules_of_its_own(clips: Clips, family: str) -> None:
    own = {"sd_model_checkpoint": "tinyxl"}
    made = clips.make({"model": family}, own)
    assert len(made.images) == 4
    with pytest.raises(InvalidRequest, match="AnimateDiff v3 for SD 1.x and doesn't fit the checkpoint"):
        clips.make({}, own)
    with pytest.raises(InvalidRequest, match=f"{family} for SDXL and doesn't fit"):
        clips.make({"model": family})


def test_files_that_are_none_are_told(clips: Clips) -> None:
    from safetensors.torch import save_file

    folder: Path = clips.engine.paths.models / "AnimateDiff"
    save_file({"a": torch.ones(2)}, folder / "nothing.safetensors")
    half = {
        k: v for k, v in tensors_of(adapter("AnimateDiff v3"), "AnimateDiff v3", "original").items() if "ff" not in k
    }
    save_file(half, folder / "half.safetensors")
    for name, says in (("nothing", "holds no motion module"), ("half", "isn't whole")):
        with pytest.raises(BadModelFile, match=says):
            clips.make({"model": name})


def test_both_layouts_make_the_same_clip(clips: Clips) -> None:
    write_motion(clips.engine.paths.models / "AnimateDiff", "AnimateDiff v3", "diffusers", name="converted")
    made = [clips.make({"model": name}).pictures for name in ("AnimateDiff v3", "converted")]
    assert [p.tobytes() for p in made[0]] == [p.tobytes() for p in made[1]]
