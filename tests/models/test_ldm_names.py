"""diffusers' names against LDM's: every key of the real layouts is mapped, each to its own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tools.random_checkpoint import FULL, TINY, Layout, checkpoint_shapes
from webui.catalog.families import UNET as UNET_PREFIX
from webui.catalog.ldm_names import ldm_unet_keys, ldm_unet_modules, read_unet_layout
from webui.core.errors import BadModelFile
from webui.models.clip_text import build_text_encoder, read_text_layout, text_sources
from webui.models.families.unet import VAE_PREFIX
from webui.models.ldm_unet import build_unet
from webui.models.ldm_vae import build_vae, ldm_vae_keys, read_vae_layout

TEXT_PREFIX = "cond_stage_model.transformer."
NARROW = Layout(unet_widths=(32, 64), vae_widths=(32, 64, 64), text_width=64, text_layers=3)


@pytest.mark.parametrize(
    ("layout", "count"), [(FULL, 1130), (TINY, 964), (NARROW, None)], ids=["full", "tiny", "narrow"]
)
def test_every_key_of_a_checkpoint_is_used_once_and_fits(layout: Layout, count: int | None) -> None:
    shapes = checkpoint_shapes(layout)
    unet_layout = read_unet_layout(shapes, UNET_PREFIX, "x")
    vae_layout = read_vae_layout(shapes, VAE_PREFIX, "x")
    text_layout = read_text_layout(shapes, TEXT_PREFIX, "x")
    unet = build_unet(unet_layout, (1,) * len(layout.unet_widths), 1, 64).state_dict()
    vae = build_vae(vae_layout, 1, 1.0, 512).state_dict()
    text = build_text_encoder(text_layout, 1).state_dict()
    sources = [
        (key, module[target])
        for module, keys in (
            (unet, {k: UNET_PREFIX + v for k, v in ldm_unet_keys(unet_layout, unet).items()}),
            (vae, ldm_vae_keys(vae_layout, vae, VAE_PREFIX, shapes)),
            (text, {key: source.key for key, source in text_sources(text_layout, text, shapes).items()}),
        )
        for target, key in keys.items()
    ]
    assert sorted(key for key, _ in sources) == sorted(shapes)
    assert count is None or len(sources) == count
    for key, target in sources:
        assert target.numel() == math.prod(shapes[key]), key
        assert tuple(target.shape) == shapes[key][: target.ndim], key


def test_the_real_sizes_are_read_from_the_shapes() -> None:
    shapes = checkpoint_shapes(FULL)
    unet = read_unet_layout(shapes, UNET_PREFIX, "x")
    assert (unet.widths, unet.blocks, unet.middle_depth) == ((320, 640, 1280, 1280), 2, 1)
    assert (unet.down_depths, unet.up_depths[0]) == (((1, 1), (1, 1), (1, 1), (0, 0)), (0, 0, 0))
    assert (unet.in_channels, unet.out_channels, unet.context_width) == (4, 4, 768)
    text = read_text_layout(shapes, TEXT_PREFIX, "x")
    assert (text.width, text.layers, text.intermediate, text.usual_heads) == (768, 12, 3072, 12)
    vae = read_vae_layout(shapes, VAE_PREFIX, "x")
    assert (vae.widths, vae.blocks, vae.latent_channels) == ((128, 256, 512, 512), 2, 4)


@pytest.mark.parametrize(
    ("diffusers", "ldm"),
    [
        ("down_blocks.1.attentions.0", "input_blocks.4.1"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.3.resnets.1", "input_blocks.11.0"),
        ("mid_block.resnets.1", "middle_block.2"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("up_blocks.3.attentions.2", "output_blocks.11.1"),
    ],
)
def test_known_pairs(diffusers: str, ldm: str) -> None:
    layout = read_unet_layout(checkpoint_shapes(FULL), UNET_PREFIX, "x")
    assert ldm_unet_modules(layout)[diffusers] == ldm


def test_names_that_converters_left_in_a_vae_are_understood() -> None:
    shapes = {
        key.replace("mid.attn_1.q.", "mid.attn_1.to_q.").replace("mid.attn_1.proj_out.", "mid.attn_1.to_out.0."): shape
        for key, shape in checkpoint_shapes(TINY).items()
    }
    layout = read_vae_layout(shapes, VAE_PREFIX, "x")
    vae = build_vae(layout, 16, 1.0, 64).state_dict()
    assert set(ldm_vae_keys(layout, vae, VAE_PREFIX, shapes).values()) <= shapes.keys()


@pytest.mark.parametrize("layout", [replace(FULL, unet_widths=(32,) * 9), replace(FULL, vae_widths=(32,) * 9)])
def test_more_levels_than_any_model_has_are_refused(layout: Layout) -> None:
    shapes = checkpoint_shapes(layout)
    with pytest.raises(BadModelFile, match="9 levels"):
        _ = read_unet_layout(shapes, UNET_PREFIX, "x"), read_vae_layout(shapes, VAE_PREFIX, "x")


def test_more_text_layers_than_any_model_has_are_refused() -> None:
    shapes = checkpoint_shapes(replace(FULL, text_layers=500))
    with pytest.raises(BadModelFile, match="500 layers"):
        read_text_layout(shapes, TEXT_PREFIX, "x")
