"""SparseCtrl: networks of both kinds in both layouts, the same as diffusers'."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.extensions.animatediff.conftest import Clips
from tests.extensions.animatediff.motion_files import ORIGINAL_NAMES, adapter
from tests.extensions.animatediff.test_modules import AS_DIFFUSERS, apart, plain_text
from webui.core.errors import BadModelFile, InvalidRequest, NotFound

torch = pytest.importorskip("torch")

from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel  # noqa: E402
from diffusers.models.unets.unet_motion_model import UNetMotionModel  # noqa: E402
from diffusers.pipelines.animatediff.pipeline_animatediff_sparsectrl import (  # noqa: E402
    AnimateDiffSparseControlNetPipeline,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

MOTION = "AnimateDiff v3"


def picture(seed: int) -> Image.Image:
    levels = torch.randint(0, 255, (8, 8, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(levels.numpy()).resize((64, 64), Image.Resampling.BICUBIC)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def network(unet: Any, *, rgb: bool) -> SparseControlNetModel:
    torch.manual_seed(2)
    config = unet.config
    made = SparseControlNetModel(
        conditioning_channels=4 if rgb else 3,
        block_out_channels=config.block_out_channels,
        norm_num_groups=config.norm_num_groups,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
        use_simplified_condition_embedding=rgb,
    )
    for weight in made.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5 * weight[0].numel() ** -0.5)
    return made.eval()


def write(made: SparseControlNetModel, path: Path, layout: str) -> None:
    stored = {}
    for name, tensor in made.state_dict().items():
        if layout == "original" and ".motion_modules." in name:
            before, middle, after = name.partition(".motion_modules.")
            index, _, rest = after.partition(".")
            rest = rest.replace("pos_embed.", "attention_blocks.0.pos_encoder.")
            for theirs, original in ORIGINAL_NAMES:
                rest = rest.replace(f".{theirs}", f".{original}")
            name = f"{before}{middle}{index}.temporal_transformer.{rest}"
        stored["module." * (layout == "original") + name] = tensor.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, path)


@pytest.mark.parametrize(("rgb", "layout"), [(True, "original"), (True, "diffusers"), (False, "original")])
def test_a_clip_of_key_frames_is_that_of_diffusers(clips: Clips, rgb: bool, layout: str) -> None:
    engine, frames, places = clips.engine, 8, (0, 5)
    name = f"sparse-{'rgb' if rgb else 'scribble'}-{layout}"
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        control = network(model.unet, rgb=rgb)
        write(control, engine.paths.models / "ControlNet" / f"{name}.safetensors", layout)
        shown = [picture(place) for place in places]
        asked = {
            "video_length": frames, "batch_size": frames, "sparse_model": name, "sparse_frames": "0, 5",
            "sparse_weight": 0.8,
        }  # fmt: skip
        request = clips.request(asked, AS_DIFFUSERS)
        group = request.extensions["AnimateDiff"].replace(sparse_pictures=tuple(map(encoded, shown)))
        ours = clips.latents_of(
            request.replace(extensions={"AnimateDiff": group}, steps=4, negative_prompt="a dog", seed=3, cfg_scale=1.5)
        )
        text = plain_text(engine, model, engine.plan(clips.request({})))
        pipeline = AnimateDiffSparseControlNetPipeline(
            vae=model.vae.module,
            text_encoder=None,
            tokenizer=None,
            unet=UNetMotionModel.from_unet2d(model.unet, adapter(MOTION)).eval(),
            motion_adapter=None,
            controlnet=control,
            scheduler=EulerDiscreteScheduler(
                beta_schedule="linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="linspace"
            ),
        )
        pipeline.set_progress_bar_config(disable=True)
        seeds = range(3, 3 + frames)
        drawn = [torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        theirs = pipeline(
            prompt_embeds=text.encode(["a cat"])[0],
            negative_prompt_embeds=text.encode(["a dog"])[0],
            num_frames=frames,
            height=64,
            width=64,
            num_inference_steps=4,
            guidance_scale=1.5,
            conditioning_frames=shown,
            controlnet_frame_indices=list(places),
            controlnet_conditioning_scale=0.8,
            latents=torch.cat(drawn).transpose(0, 1)[None].clone(),
            output_type="latent",
        ).frames[0]
    assert apart(ours, theirs.transpose(0, 1)) < (1e-3 if rgb else 1e-4)  # the encoder's noise is each program's own


def test_contexts_and_a_second_pass_see_the_key_frames(clips: Clips) -> None:
    engine = clips.engine
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        write(network(model.unet, rgb=True), engine.paths.models / "ControlNet" / "sparse.safetensors", "original")
    made = []
    for colour in ("red", "blue"):
        shown = (encoded(Image.new("RGB", (64, 64), colour)),)
        request = clips.request({"video_length": 6, "batch_size": 4, "sparse_model": "sparse"})
        group = request.extensions["AnimateDiff"].replace(sparse_pictures=shown)
        made.append(clips.made_of(request.replace(extensions={"AnimateDiff": group})))
    assert made[0].images[0].data != made[1].images[0].data
    assert "sparse_model: sparse, sparse_weight: 1.0, sparse_frames: 0" in made[0].images[0].infotext


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"sparse_model": "nosuch", "sparse_frames": ""}, NotFound, 'no SparseCtrl model "nosuch"'),
        ({"sparse_model": "sparse", "sparse_frames": "first"}, InvalidRequest, "names no frames"),
        ({"sparse_model": "sparse", "sparse_frames": "0, 1"}, InvalidRequest, "0 pictures for 2 frames"),
        ({"sparse_model": "AnimateDiff v3", "sparse_frames": "9"}, InvalidRequest, "lies beyond the clip"),
        ({"sparse_model": "AnimateDiff v3", "sparse_frames": "0"}, BadModelFile, "is no SparseCtrl model"),
    ],
)
def test_mistakes_are_sentences(clips: Clips, asked: dict[str, Any], error: type[Exception], says: str) -> None:
    request = clips.request(asked)
    group = request.extensions["AnimateDiff"]
    if asked["sparse_model"] == "AnimateDiff v3":
        group = group.replace(sparse_pictures=(encoded(picture(1)),))
    with pytest.raises(error, match=says):
        clips.made_of(request.replace(extensions={"AnimateDiff": group}))
