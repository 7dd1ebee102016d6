"""With tiling the networks live on a torus: rolling what goes in rolls what comes out, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from webui.extensions.host import Host
from webui.extensions.loader import load_extensions

torch = pytest.importorskip("torch")

ON, OFF = (SimpleNamespace(tiling=on, settings={"hypertile_enable_vae": False}) for on in (True, False))


@pytest.fixture(scope="module")
def host() -> Host:
    return load_extensions([Path(__file__).resolve().parents[2] / "extensions"], disable_all="extra")


@pytest.fixture(scope="module")
def model() -> Any:
    """The networks of a small SD 1.x with random weights."""
    from diffusers.models import AutoencoderKL, UNet2DConditionModel

    from webui.models.vae import Vae

    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()
    autoencoder = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    ).eval()
    return SimpleNamespace(unet=unet, vae=Vae(autoencoder, 0.18215))


def predict(model: Any, x: Any) -> Any:
    context = torch.linspace(-1, 1, 48).reshape(1, 3, 16)
    with torch.inference_mode():
        return model.unet(x, torch.tensor([500]), context).sample


def decode(model: Any, latents: Any) -> Any:
    return model.vae.decode(latents)


def latents() -> Any:
    return torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(2))


def modes(model: Any) -> list[str]:
    layers = [*model.unet.modules(), *model.vae.module.modules()]
    return [layer.padding_mode for layer in layers if isinstance(layer, torch.nn.Conv2d)]


def test_predictions_and_pictures_become_tori(host: Host, model: Any) -> None:
    x, shift = latents(), (4, 10)
    rolled = torch.roll(x, shift, (2, 3))
    with host.prepared_model(model, ON):
        torch.testing.assert_close(
            predict(model, rolled), torch.roll(predict(model, x), shift, (2, 3)), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            decode(model, rolled), torch.roll(decode(model, x), (8, 20), (2, 3)), atol=1e-4, rtol=1e-4
        )
    difference = predict(model, rolled) - torch.roll(predict(model, x), shift, (2, 3))
    assert difference.abs().max() > 1e-2


def test_everything_is_put_back(host: Host, model: Any) -> None:
    odd = model.unet.conv_out
    odd.padding_mode = "reflect"
    before = modes(model), predict(model, latents()), decode(model, latents())
    with host.prepared_model(model, ON):
        assert set(modes(model)) == {"circular"}
    assert modes(model) == before[0]
    assert odd.padding_mode == "reflect"
    assert torch.equal(predict(model, latents()), before[1])
    assert torch.equal(decode(model, latents()), before[2])
    odd.padding_mode = "zeros"


def test_without_the_option_nothing_is_touched(host: Host, model: Any) -> None:
    with host.prepared_model(model, OFF):
        assert set(modes(model)) == {"zeros"}


def test_two_passes_may_be_open_at_once(host: Host, model: Any) -> None:
    with host.prepared_model(model, ON):
        with host.prepared_model(model, ON):
            pass
        assert set(modes(model)) == {"circular"}
    assert set(modes(model)) == {"zeros"}
