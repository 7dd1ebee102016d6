"""A pass with units is what diffusers' own pipelines sample, to rounding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    ControlNetModel,
    ControlNetUnionModel,
    MultiControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
)
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint  # noqa: E402
from safetensors import safe_open  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection  # noqa: E402

from tests.extensions.controlnet import nets  # noqa: E402
from tests.extensions.controlnet.workbench import STEPS, Bench, hint, picture, scheduler, sent  # noqa: E402
from tools.random_checkpoint import unet_shapes  # noqa: E402

NEAR = 1e-4
"""Of the largest value: how far rounding may lead."""
SOFT = [0.825 ** (12 - place) for place in range(13)]
LITE = {
    "lllite_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q": "down_blocks.0.attentions.0.{}.attn1.to_q",
    "lllite_unet_input_blocks_5_1_transformer_blocks_0_attn2_to_q": "down_blocks.1.attentions.1.{}.attn2.to_q",
    "lllite_unet_middle_block_1_transformer_blocks_0_attn1_to_k": "mid_block.attentions.0.{}.attn1.to_k",
    "lllite_unet_output_blocks_10_1_transformer_blocks_0_attn1_to_v": "up_blocks.3.attentions.1.{}.attn1.to_v",
}
"""Some of kohya's names -> the layers of diffusers' U-Net."""
FIRST, SECOND = picture(1), picture(2)


def assert_near(ours: Tensor, theirs: Tensor, plain: Tensor) -> None:
    """plain: without units, which must be something else."""
    scale = theirs.abs().max()
    assert (ours - theirs).abs().max() <= NEAR * scale
    assert (plain - theirs).abs().max() >= 100 * NEAR * scale


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("sd1"))
    for seed, name in enumerate(("first", "second")):
        weights = nets.random_weights(nets.control_shapes(bench.layout), seed)
        nets.write(bench.nets / f"{name}.safetensors", {f"control_model.{key}": part for key, part in weights.items()})
    nets.write(bench.nets / "adapter.safetensors", nets.random_weights(nets.t2i_shapes(bench.layout)))
    write_image_prompts(bench)
    nets.write(bench.nets / "lora.safetensors", nets.random_weights(nets.control_lora_shapes(bench.layout)))
    lite = nets.random_weights(nets.lllite_shapes(bench.layout))
    nets.write(
        bench.nets / "lite.safetensors",
        {name: weight for name, weight in lite.items() if name.partition(".")[0] in LITE},
    )
    yield bench
    bench.close()


def write_image_prompts(bench: Bench) -> None:
    for projection, width in (("plain", 24), ("plus", 32), ("full", 32)):
        shapes = nets.ip_adapter_shapes(bench.layout, projection, width)
        nets.write(bench.nets / f"ip-{projection}.safetensors", nets.random_weights(shapes))
    encoders = bench.nets.parent / "clip_vision"
    nets.write(encoders / "other.safetensors", nets.random_weights(nets.vision_shapes(width=64, summary=48)))
    nets.write(encoders / "small.safetensors", nets.random_weights(nets.vision_shapes()))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("sdxl"), "sdxl")
    nets.write(bench.nets / "control.safetensors", nets.random_weights(nets.control_shapes(bench.layout)))
    for kinds, name in ((6, "union"), (8, "promax")):
        nets.write(
            bench.nets / f"{name}.safetensors", nets.random_weights(nets.union_shapes(bench.layout, kinds), kinds)
        )
    write_image_prompts(bench)
    yield bench
    bench.close()


def parts(pipeline: Any) -> dict[str, None]:
    """The components that nothing here needs."""
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "safety_checker", "feature_extractor")
    return {name: None for name in names if name in pipeline.__init__.__code__.co_varnames}


def plain_network(bench: Bench, seed: int, kinds: int = 0) -> Any:
    """diffusers' ControlNet with the weights of the file that was made with the seed. kinds: of maps, for a union."""
    unet = dict(bench.unet().config)
    kind = ControlNetUnionModel if kinds else ControlNetModel
    config = {name: unet[name] for name in inspect.signature(kind.__init__).parameters if name in unet}
    union = {"num_control_type": kinds, "num_trans_channel": 32, "num_proj_channel": 32, "addition_time_embed_dim": 256}
    network = kind(**config | {"conditioning_embedding_out_channels": (16, 32, 96, 256)} | (union if kinds else {}))
    shapes = nets.union_shapes(bench.layout, kinds) if kinds else nets.control_shapes(bench.layout)
    weights = nets.random_weights(shapes, seed)
    return filled(network, weights)


def filled(network: Any, weights: dict[str, Tensor]) -> Any:
    """weights: in LDM's names, which diffusers' converter knows but for the union's own and SDXL's vector."""
    own = {name: weight for name, weight in weights.items() if name in network.state_dict()}
    for number, ldm in ((1, "label_emb.0.0"), (2, "label_emb.0.2")):
        for end in ("weight", "bias"):
            if f"{ldm}.{end}" in weights:
                own[f"add_embedding.linear_{number}.{end}"] = weights[f"{ldm}.{end}"]
    network.load_state_dict(convert_controlnet_checkpoint(dict(weights), config=dict(network.config)) | own)
    return network.eval().requires_grad_(False)


class Scaled(ControlNetModel):
    """A ControlNet whose residuals have weights of their own, and which may leave negative prompts alone."""

    weights: list[float]
    spares_negative = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        down, middle = super().forward(*args, **kwargs)
        sides = torch.tensor([0.0 if self.spares_negative else 1.0, 1.0]).view(2, 1, 1, 1)
        *scaled, last = (part * weight * sides for part, weight in zip([*down, middle], self.weights, strict=True))
        return scaled, last


def sampled(bench: Bench, network: Any, images: Any, **more: Any) -> Tensor:
    pipeline = StableDiffusionXLControlNetPipeline if bench.layout.vector else StableDiffusionControlNetPipeline
    made = pipeline(unet=bench.unet(), controlnet=network, scheduler=scheduler(), **parts(pipeline))
    made.set_progress_bar_config(disable=True)
    return made(image=images, **bench.given().arguments, **more).images


def unit(model: str, image: Any = FIRST, **more: Any) -> dict[str, Any]:
    return {"model": model, "image": sent(image), **more}


def test_one_unit(sd1: Bench) -> None:
    ours = sd1.latents(unit("first", weight=0.8))
    theirs = sampled(sd1, plain_network(sd1, 0), hint(FIRST), controlnet_conditioning_scale=0.8)
    assert_near(ours, theirs, sd1.latents())


def test_two_units_with_ranges(sd1: Bench) -> None:
    # A step counts from its predecessor's end: up to 0.25 are the first, second and third of four, from 0.4 the last.
    ours = sd1.latents(unit("first", guidance_end=0.25), unit("second", SECOND, weight=1.3, guidance_start=0.4))
    theirs = sampled(
        sd1,
        MultiControlNetModel([plain_network(sd1, 0), plain_network(sd1, 1)]),
        [hint(FIRST), hint(SECOND)],
        controlnet_conditioning_scale=[1.0, 1.3],
        control_guidance_start=[0.0, 0.75],
        control_guidance_end=[0.75, 1.0],
    )
    assert STEPS == 4
    assert_near(ours, theirs, sd1.latents())


@pytest.mark.parametrize(
    ("mode", "spares"), [("My prompt is more important", False), ("ControlNet is more important", True)]
)
def test_modes_weigh_the_residuals(sd1: Bench, mode: str, spares: bool) -> None:
    network = plain_network(sd1, 0)
    network.__class__ = Scaled
    network.weights, network.spares_negative = [0.7 * share for share in SOFT], spares
    ours = sd1.latents(unit("first", weight=0.7, control_mode=mode))
    assert_near(ours, sampled(sd1, network, hint(FIRST)), sd1.latents())


def test_one_unit_of_sdxl(sdxl: Bench) -> None:
    ours = sdxl.latents(unit("control"))
    assert_near(ours, sampled(sdxl, plain_network(sdxl, 0), hint(FIRST)), sdxl.latents())


@pytest.mark.parametrize(
    ("model", "kinds", "asked", "number"),
    [("union", 6, "Depth", 1), ("promax", 8, "Tile", 6), ("promax", 8, "Hard Edge", 3)],
)
def test_union_models_are_told_the_kind_of_map(sdxl: Bench, model: str, kinds: int, asked: str, number: int) -> None:
    pipeline = StableDiffusionXLControlNetUnionPipeline
    network = plain_network(sdxl, kinds, kinds)
    made = pipeline(unet=sdxl.unet(), controlnet=network, scheduler=scheduler(), **parts(pipeline))
    made.set_progress_bar_config(disable=True)
    theirs = made(control_image=[hint(FIRST)], control_mode=[number], **sdxl.given().arguments).images
    assert_near(sdxl.latents(unit(model, union_control_type=asked)), theirs, sdxl.latents())


def test_t2i_adapter(sd1: Bench) -> None:
    adapter = T2IAdapter(in_channels=3, channels=sd1.layout.unet_widths, num_res_blocks=2, downscale_factor=8)
    renamed = {}
    for name, weight in nets.random_weights(nets.t2i_shapes(sd1.layout)).items():
        if name.startswith("body."):
            _, number, rest = name.split(".", 2)
            block = "in_conv" if rest.startswith("in_conv") else f"resnets.{int(number) % 2}.{rest.partition('.')[0]}"
            name = f"body.{int(number) // 2}.{block}.{rest.rpartition('.')[2]}"
        renamed[f"adapter.{name}"] = weight
    adapter.load_state_dict(renamed)
    pipeline = StableDiffusionAdapterPipeline
    made = pipeline(unet=sd1.unet(), adapter=adapter, scheduler=scheduler(), **parts(pipeline))
    made.set_progress_bar_config(disable=True)
    theirs = made(image=FIRST, adapter_conditioning_scale=0.9, **sd1.given().arguments).images
    assert_near(sd1.latents(unit("adapter", weight=0.9)), theirs, sd1.latents())


def embeddings(image: Any, *, layers: bool) -> Tensor:
    """(2, 1, ...) of nothing and of a picture, as diffusers' pipelines make them."""
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=128, projection_dim=24, num_hidden_layers=3, num_attention_heads=1,
        image_size=28, patch_size=14, hidden_act="gelu",
    )  # fmt: skip
    encoder = CLIPVisionModelWithProjection(config).eval()
    encoder.load_state_dict(nets.random_weights(nets.vision_shapes()), strict=False)
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    pixels = processor(image, return_tensors="pt").pixel_values
    with torch.inference_mode():
        if layers:
            both = [encoder(one, output_hidden_states=True).hidden_states[-2] for one in (pixels * 0, pixels)]
        else:
            found = encoder(pixels).image_embeds
            both = [found * 0, found]
    return torch.stack(both)


def prompted(bench: Bench, projection: str, image: Any, scale: float) -> Tensor:
    weights = nets.random_weights(nets.ip_adapter_shapes(bench.layout, projection, 24 if projection == "plain" else 32))
    state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        state[part][rest] = weight
    unet = bench.unet()
    unet._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
    pipeline = StableDiffusionXLPipeline if bench.layout.vector else StableDiffusionPipeline
    made = pipeline(unet=unet, scheduler=scheduler(), **parts(pipeline))
    made.set_progress_bar_config(disable=True)
    made.set_ip_adapter_scale(scale)
    embedded = embeddings(image, layers=projection != "plain")
    return made(ip_adapter_image_embeds=[embedded], **bench.given().arguments).images


@pytest.mark.parametrize("projection", ["plain", "plus", "full"])
def test_image_prompts(sd1: Bench, projection: str) -> None:
    ours = sd1.latents(unit(f"ip-{projection}", module="ip-adapter-auto", weight=0.6))
    assert_near(ours, prompted(sd1, projection, FIRST, 0.6), sd1.latents())


@pytest.mark.parametrize("projection", ["plain", "plus"])
def test_image_prompts_of_sdxl(sdxl: Bench, projection: str) -> None:
    ours = sdxl.latents(unit(f"ip-{projection}", SECOND, module="ip-adapter_clip_h"))
    assert_near(ours, prompted(sdxl, projection, SECOND, 1.0), sdxl.latents())


def test_control_lora_is_the_encoder_with_what_it_adds(sd1: Bench) -> None:
    weights = nets.random_weights(nets.control_lora_shapes(sd1.layout))
    with safe_open(next((sd1.nets.parent / "Stable-diffusion").glob("*.safetensors")), "pt") as file:
        base = {name: file.get_tensor(f"model.diffusion_model.{name}") for name in unet_shapes(sd1.layout)}
    for name in [name for name in base if not name.startswith(nets.ENCODER)]:
        del base[name]
    for name, weight in weights.items():
        stem, _, end = name.rpartition(".")
        if end == "up":
            whole = base[f"{stem}.weight"]
            base[f"{stem}.weight"] = whole + (weight @ weights[f"{stem}.down"].flatten(1)).reshape(whole.shape)
        elif end != "down" and name != "lora_controlnet":
            base[name] = weight
    network = filled(plain_network(sd1, 0), base)
    assert_near(sd1.latents(unit("lora")), sampled(sd1, network, hint(FIRST)), sd1.latents())


class Lite(torch.nn.Module):
    """kohya's module around a layer, by its formula."""

    def __init__(self, layer: Any, weights: dict[str, Tensor], image: Tensor) -> None:
        super().__init__()
        self.layer, self.own = layer, weights
        read = image * 2 - 1
        places = sorted(int(name.split(".")[1]) for name in weights if name.startswith("conditioning1."))[::2]
        for place in places:
            weight = weights[f"conditioning1.{place}.weight"]
            read = torch.conv2d(read, weight, weights[f"conditioning1.{place}.bias"], stride=weight.shape[-1])
            read = read if place == places[-1] else read.relu()
        self.read = read.flatten(2).transpose(1, 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.own[f"{name}.0.weight"].T + self.own[f"{name}.0.bias"]

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([self.read.repeat(len(x), 1, 1), self.linear("down", x).relu()], dim=2)
        return self.layer(x + 0.7 * self.linear("up", self.linear("mid", seen).relu()))


def test_lllite(sd1: Bench) -> None:
    unet, weights = sd1.unet(), nets.random_weights(nets.lllite_shapes(sd1.layout))
    for stem, place in LITE.items():
        parent, _, name = place.format("transformer_blocks.0").rpartition(".")
        own = {key.partition(".")[2]: weight for key, weight in weights.items() if key.startswith(stem + ".")}
        module = unet.get_submodule(parent)
        setattr(module, name, Lite(getattr(module, name), own, hint(FIRST)))
    made = StableDiffusionPipeline(unet=unet, scheduler=scheduler(), **parts(StableDiffusionPipeline))
    made.set_progress_bar_config(disable=True)
    theirs = made(**sd1.given().arguments).images
    assert_near(sd1.latents(unit("lite", weight=0.7)), theirs, sd1.latents())
