"""Hypertile: attention sees one tile at a time, the tiles follow from the seed, and off nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run

torch = pytest.importorskip("torch")

WIDTH, HEIGHT = 256, 384
UNET = {"hypertile_enable_unet": True, "hypertile_max_tile_unet": 128}
VAE = {"hypertile_enable_vae": True}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("hypertile")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    with exact_engine(data) as made:
        yield made


def made(engine: Engine, **settings: Any) -> Any:
    """The picture's file and its infotext."""
    request = GenerationRequest(
        prompt="tiles", seed=5, steps=1, width=WIDTH, height=HEIGHT, save_samples=False, overrides=settings
    )
    (image,) = run(engine, engine.plan(request), JobContext.alone()).images
    return image


def processors(engine: Engine) -> list[str]:
    checkpoint = engine.checkpoints.default("tiny")
    with engine.models.lease(checkpoint) as model:
        networks = (model.unet, model.vae.module)
        return [
            type(part.processor).__name__
            for network in networks
            for part in network.modules()
            if hasattr(part, "processor")
        ]


def test_off_is_bit_equal_and_on_is_told_drawn_by_the_seed_and_undone(engine: Engine) -> None:
    before = made(engine)
    names = processors(engine)
    tiled = made(engine, **UNET)
    assert tiled.data != before.data
    assert "Hypertile U-Net: True, Hypertile U-Net max tile size: 128" in tiled.infotext
    assert made(engine, **UNET).data == tiled.data
    decoded = made(engine, **VAE)
    assert decoded.data not in (before.data, tiled.data)
    assert "Hypertile VAE: True" in decoded.infotext
    assert processors(engine) == names
    after = made(engine, hypertile_max_depth_unet=1, hypertile_swap_size_vae=7)  # its other settings do nothing alone
    assert after.data == before.data
    assert after.infotext == before.infotext


def test_a_tile_is_attended_to_as_if_it_were_alone() -> None:
    """Tokens and pictures alike; each part lands where it came from."""
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0

    from extensions.hypertile import tiles

    tiling = tiles.Tiling(128, 1, seed=1)
    attention = Attention(query_dim=8, heads=2, dim_head=4).eval()
    hook = SimpleNamespace(size=(32, 48), tiling=tiling)
    x = torch.randn(2, 32 * 48, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seen = tiles.TiledTokens(hook, AttnProcessor2_0(), 0, 1)(attention, x).unflatten(1, (32, 48))
        for top in (0, 16):
            for left in (0, 16, 32):
                part = x.unflatten(1, (32, 48))[:, top : top + 16, left : left + 16].flatten(1, 2)
                alone = attention(part).unflatten(1, (16, 16))
                assert torch.allclose(seen[:, top : top + 16, left : left + 16], alone, atol=1e-6)
        picture = x.unflatten(1, (32, 48)).movedim(3, 1)
        square = tiles.TiledPicture(tiling, AttnProcessor2_0())(attention, picture)
    assert torch.allclose(square.movedim(1, 3), seen, atol=1e-6)


@pytest.mark.parametrize(("length", "least", "parts"), [(64, 16, {4}), (64, 100, {1}), (48, 17, {2}), (13, 5, {1})])
def test_parts_are_equal_and_not_too_small(length: int, least: int, parts: set[int]) -> None:
    from extensions.hypertile.tiles import Tiling

    tiling = Tiling(128, 1, seed=1)
    tiling.latent_tile = least
    assert {tiling.cuts(length, length)[0] for _ in range(5)} == parts
