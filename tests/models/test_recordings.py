"""The original program's pictures from the recorded SD 1.x checkpoint, with an Euler loop of ten lines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from webui.catalog.checkpoints import Checkpoint
from webui.diffusion.denoiser import Cond
from webui.diffusion.schedules import NoiseTable
from webui.models.devices import placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.registry import open_checkpoint
from webui.prompts.tokenizer import ClipTokenizer

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def recorded(
    parity: Path, tmp_path_factory: pytest.TempPathFactory, described: Callable[[Path], Checkpoint]
) -> LoadedModel:
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "models").mkdir()
    shutil.copy(parity / "unpack.py", folder)
    (folder / "models" / "tinyA.safetensors.pack").symlink_to(parity / "models" / "tinyA.safetensors.pack")
    shutil.copy(parity / "models" / "tinyA.yaml", folder / "models")
    subprocess.run([sys.executable, folder / "unpack.py"], check=True, stdout=subprocess.DEVNULL)
    return open_checkpoint(described(folder / "models" / "tinyA.safetensors")).load(placement_on_cpu(torch.float32))


def encode(model: LoadedModel, text: str) -> torch.Tensor:
    """(1, 77, D) for a text of one chunk."""
    ids = [49406, *ClipTokenizer().encode(text)]
    with torch.inference_mode():
        return model.text_encoders[0].encode(torch.tensor([ids + [49407] * (77 - len(ids))])).vectors


def sample_euler(model: LoadedModel, asked: dict[str, Any]) -> torch.Tensor:
    """Euler over log-linear sigmas with classifier-free guidance, written out to check the network alone."""
    table = NoiseTable(model.alphas_cumprod)
    times = np.linspace(999, 0, asked["steps"])
    sigmas = [*np.exp(np.interp(times, np.arange(1000), table.log_sigmas.numpy())), 0.0]
    context = torch.cat([encode(model, asked["prompt"]), encode(model, asked["negative_prompt"])])
    shape = (1, 4, asked["height"] // 8, asked["width"] // 8)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(asked["seed"])) * float(sigmas[0])
    for sigma, following in zip(sigmas, sigmas[1:], strict=False):
        timestep = torch.full((2,), table.timestep(float(sigma)))
        scaled = x.expand(2, -1, -1, -1) / float(sigma**2 + 1) ** 0.5
        cond, uncond = model.network(scaled, timestep, Cond(context)).split(1)
        x = x + (uncond + asked["cfg_scale"] * (cond - uncond)) * float(following - sigma)
    return x


@pytest.mark.parametrize("case", ["sampler-euler", "size-64x64", "size-72x104", "size-136x88", "size-200x64"])
def test_pictures_equal_the_recordings(case: str, recorded: LoadedModel, parity: Path) -> None:
    said = json.loads((parity / "manifest.json").read_text())[case]
    latent = sample_euler(recorded, said["payload"])
    with np.load(parity / said["latents"]) as archive:
        expected = torch.from_numpy(archive[archive.files[0]])
    assert (latent.reshape(expected.shape) - expected).abs().max() < 2e-3
    picture = ((recorded.decode(latent)[0] + 1) / 2).clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
    expected_picture = np.asarray(Image.open(parity / "images" / said["files"][0]).convert("RGB"))
    assert np.abs(picture.astype(int) - expected_picture).max() <= 1


def test_the_layout_written_for_tests_is_the_recorded_one(recorded: LoadedModel, parity: Path) -> None:
    """Key for key and shape for shape, so that what the tiny checkpoint shows holds for real files."""
    from tools.random_checkpoint import Layout, checkpoint_shapes
    from webui.models.safetensors_file import SafetensorsFile

    layout = Layout(
        unet_widths=(32, 64, 128, 128), vae_widths=(32, 64, 128, 128), text_width=64, text_layers=4, unet_heads=4
    )
    real = SafetensorsFile(recorded.checkpoint.path).shapes
    learned = {key: shape for key, shape in real.items() if "model." in key and not key.endswith("position_ids")}
    assert checkpoint_shapes(layout) == learned
