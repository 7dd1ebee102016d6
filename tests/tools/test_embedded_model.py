"""The embedded model's tool: captions, backgrounds, token packing, key names, and the file that is shipped."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from tools.embedded_model import data
from tools.embedded_model.captions import Captioner
from tools.embedded_model.config import COLOURS, PRESETS, NetworkSizes
from tools.embedded_model.export import CHECKPOINT, fold_latent_scale, from_ldm, to_ldm
from tools.embedded_model.loop import backward_in_parts
from tools.embedded_model.networks import BEGIN, END, VOCABULARY, build_text, build_unet, build_vae, start_as_skip
from tools.embedded_model.tokens import PackedTokens, frame
from tools.embedded_model.unet import alpha_bars

TINY = NetworkSizes(
    unet=(32, 32, 64, 64), unet_heads=4, unet_groups=32, vae=(8, 8, 16, 16), vae_groups=4,
    text=16, text_layers=1, text_heads=2,
)  # fmt: skip
FIRST = PRESETS["cpu-first"]
HEART = data.Scene(style="flat", hexcode="2764", background="green", scale=0.8, x=0.5, y=0.5)


def test_captions_repeat_with_the_same_generator_and_vary_with_another():
    writer = Captioner(FIRST)
    texts = [writer.write(HEART, np.random.default_rng(seed)) for seed in range(50)]
    assert texts == [writer.write(HEART, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(texts)) > 20


def test_captions_name_what_is_seen_and_nothing_else():
    writer, rng = Captioner(FIRST), np.random.default_rng(0)
    texts = [writer.write(HEART, rng) for _ in range(400)]
    assert all("heart" in text for text in texts)
    assert np.mean(["green" in text for text in texts]) > 0.9
    assert np.mean(["red" in text for text in texts]) > 0.8
    wrong = set(COLOURS) - {"red", "green"}
    assert not any(word in text.replace(",", "").split() for text in texts for word in wrong)


def test_captions_say_where_a_small_picture_lies():
    writer, rng = Captioner(FIRST), np.random.default_rng(0)
    texts = [writer.write(replace(HEART, scale=0.45, x=0.25, y=0.75), rng) for _ in range(100)]
    assert np.mean(["at the bottom left" in text for text in texts]) > 0.7


def test_compose_shows_the_background_where_the_picture_is_clear():
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[8:24, 8:24] = (255, 0, 0, 255)
    frame_ = data.compose(picture, COLOURS["blue"], scale=1.0, x=0.5, y=0.5)
    assert tuple(frame_[0, 0]) == COLOURS["blue"]
    assert tuple(frame_[16, 16]) == (255, 0, 0)


def test_scenes_lie_on_the_latent_grid():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = data.draw_scene(FIRST, rng, "flat", "2764")
        assert (scene.x * 16).is_integer()
        assert (scene.y * 16).is_integer()
        assert scene.background in FIRST.colours


def test_packed_tokens_give_unused_words_the_unknown_row():
    tokens = PackedTokens({320, 2368})
    table = torch.randn(tokens.rows, 3)
    full = tokens.unpack(table)
    assert full.shape == (VOCABULARY, 3)
    assert torch.equal(full[tokens.used], table[1:])
    assert torch.equal(full[777], table[0])
    ids = torch.tensor([frame([320, 777, 2368])])
    assert ids.shape == (1, 77)
    assert ids[0, :6].tolist() == [BEGIN, 320, 777, 2368, END, END]
    assert torch.equal(full[ids], table[tokens.pack(ids)])


def test_schedule_is_sd1s():
    abar = alpha_bars()
    assert float(abar[0]) == pytest.approx(1 - 0.00085)
    assert float(abar[-1]) == pytest.approx(0.0046600, rel=1e-4)


def test_gradients_of_shares_add_up_to_the_batchs():
    weight = torch.nn.Parameter(torch.ones(3))
    x = torch.arange(12.0).reshape(4, 3)

    def gradient(parts: int) -> torch.Tensor:
        weight.grad = None
        shares = x.chunk(parts)
        backward_in_parts(parts, lambda part: ((shares[part] @ weight).square().mean(), []))
        return weight.grad.clone()

    threads = torch.get_num_threads()
    try:
        assert torch.allclose(gradient(1), gradient(2))
    finally:
        torch.set_num_threads(threads)


def test_ldm_names_round_trip_and_are_sd1s():
    torch.manual_seed(0)
    networks = build_unet(TINY), build_vae(TINY), build_text(TINY)
    again = build_unet(TINY), build_vae(TINY), build_text(TINY)
    state = to_ldm(*networks)
    assert len(state) == sum(len(network.state_dict()) for network in networks)
    from_ldm(state, *again)
    for network, copy in zip(networks, again, strict=True):
        pairs = zip(network.state_dict().values(), copy.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    check_layout({key: tuple(value.shape) for key, value in state.items()}, TINY)


def test_folding_the_latent_scale_keeps_the_pictures():
    torch.manual_seed(0)
    vae = build_vae(TINY).eval()
    torch.nn.init.normal_(vae.quant_conv.bias)
    x, shift, spread = torch.randn(1, 3, 32, 32), torch.randn(4), torch.rand(4) + 0.5
    with torch.no_grad():
        before = vae.encode(x).latent_dist
        picture = vae.decode(before.mean).sample
        fold_latent_scale(vae, shift, spread)
        after = vae.encode(x).latent_dist
        white = (before.mean - shift[:, None, None]) / spread[:, None, None]
        assert torch.allclose(after.mean * 0.18215, white, atol=1e-5)
        assert torch.allclose(after.std * 0.18215, before.std / spread[:, None, None], rtol=1e-4)
        assert torch.allclose(vae.decode(after.mean).sample, picture, atol=1e-4)


def test_a_fresh_denoiser_predicts_nothing():
    unet = build_unet(TINY)
    start_as_skip(unet)
    with torch.no_grad():
        assert not unet(torch.randn(1, 4, 8, 8), 10, torch.randn(1, 77, TINY.text)).sample.any()


def check_layout(shapes: dict[str, tuple[int, ...]], sizes: NetworkSizes) -> None:
    """The names and shapes by which SD 1.x files are told."""
    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
    first = sizes.unet[0]
    expected = {
        f"{unet}input_blocks.0.0.weight": (first, 4, 3, 3),
        f"{unet}input_blocks.1.1.proj_in.weight": (first, first, 1, 1),
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (first, sizes.text),
        f"{unet}input_blocks.9.0.op.weight": (sizes.unet[2], sizes.unet[2], 3, 3),
        f"{unet}middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (8 * sizes.unet[3], sizes.unet[3]),
        f"{unet}output_blocks.2.1.conv.weight": (sizes.unet[3], sizes.unet[3], 3, 3),
        f"{unet}output_blocks.5.2.conv.weight": (sizes.unet[2], sizes.unet[2], 3, 3),
        f"{unet}out.2.weight": (4, first, 3, 3),
        f"{vae}encoder.down.0.downsample.conv.weight": (sizes.vae[0], sizes.vae[0], 3, 3),
        f"{vae}decoder.mid.attn_1.q.weight": (sizes.vae[3], sizes.vae[3], 1, 1),
        f"{vae}decoder.up.0.block.2.conv2.weight": (sizes.vae[0], sizes.vae[0], 3, 3),
        f"{vae}quant_conv.weight": (8, 8, 1, 1),
        f"{text}embeddings.token_embedding.weight": (VOCABULARY, sizes.text),
        f"{text}encoder.layers.0.self_attn.q_proj.weight": (sizes.text, sizes.text),
        f"{text}final_layer_norm.weight": (sizes.text,),
    }
    assert {key: shapes.get(key) for key in expected} == expected
    assert {key.split(".")[0] for key in shapes} == {"model", "first_stage_model", "cond_stage_model"}


def test_the_shipped_checkpoint_has_sd1s_layout_and_tells_what_shapes_cannot():
    with safe_open(CHECKPOINT, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["easel"])
    sizes = PRESETS[facts["preset"]].sizes
    check_layout({key: tuple(view.get_shape()) for key, view in slices.items()}, sizes)
    assert {view.get_dtype() for view in slices.values()} == {"F16"}
    assert CHECKPOINT.stat().st_size < 48e6
    assert facts["num_heads"] == sizes.unet_heads
    assert facts["norm_num_groups"] == sizes.unet_groups
    assert facts["vae_norm_num_groups"] == sizes.vae_groups
    assert facts["text_heads"] == sizes.text_heads
    assert facts["native_size"] == PRESETS[facts["preset"]].native_size
    assert facts["licence"]


def test_the_sidecar_agrees_with_the_metadata():
    with safe_open(CHECKPOINT, "pt") as file:
        facts = json.loads(file.metadata()["easel"])
    params = yaml.safe_load(CHECKPOINT.with_suffix(".yaml").read_text())["model"]["params"]
    assert params["native_size"] == facts["native_size"]
    assert params["scale_factor"] == 0.18215
    assert params["unet_config"]["params"]["num_heads"] == facts["num_heads"]
    assert params["unet_config"]["params"]["norm_num_groups"] == facts["norm_num_groups"]
    assert params["first_stage_config"]["params"]["ddconfig"]["norm_num_groups"] == facts["vae_norm_num_groups"]
    assert params["cond_stage_config"]["params"]["num_attention_heads"] == facts["text_heads"]
