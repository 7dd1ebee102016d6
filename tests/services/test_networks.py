"""Pasting a prompt from elsewhere finds a LoRA that is called otherwise here."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from webui.catalog.hashes import HashCache
from webui.services.infotexts import fields_of
from webui.services.networks import with_local_names
from webui.services.services import Services


@pytest.fixture
def digits(services: Services) -> str:
    """A LoRA "mine", whose hash is known."""
    metadata = {"sshs_model_hash": "0123456789abcdef" * 4, "ss_output_name": "my-alias"}
    save_file({"lora_unet_conv_in.diff_b": torch.ones(2)}, services.paths.lora / "mine.safetensors", metadata)
    save_file({"lora_unet_conv_in.diff_b": torch.ones(3)}, services.paths.lora / "other.safetensors")
    services.networks.loras.refresh()
    return "0123456789ab"


def test_a_lora_is_found_by_its_hash(services: Services, digits: str) -> None:
    loras, hashes = services.networks.loras, f"theirs: {digits}, gone: ffffffffffff, other: {digits}"
    prompt = "<lora:theirs:0.5> <lyco:theirs> <lora:gone:1> <lora:unknown:1> <lora:other:1> <lora:mine:1>"
    expected = "<lora:my-alias:0.5> <lyco:my-alias> <lora:gone:1> <lora:unknown:1> <lora:my-alias:1> <lora:mine:1>"
    assert with_local_names(prompt, hashes, loras, "Alias from file") == expected
    assert with_local_names("<lora:theirs:1>", hashes, loras, "Filename") == "<lora:mine:1>"
    assert with_local_names("<lora:mine:1>", f"mine: {digits}", loras, "Alias from file") == "<lora:mine:1>"


def test_an_infotext_names_it_as_it_is_called_here(services: Services, digits: str) -> None:
    text = f'a cat <lora:theirs:1>\nSteps: 2, Sampler: Euler, CFG scale: 7, Lora hashes: "theirs: {digits}"'
    assert fields_of(text, services)["Prompt"] == "a cat <lora:my-alias:1>"


def test_hashes_of_any_form_are_harmless(services: Services, digits: str) -> None:
    assert isinstance(services.networks.loras.hashes, HashCache)
    for hashes in ("", ":", "a", "theirs:", "theirs: 0", "theirs: , , "):
        assert with_local_names("<lora:theirs:1>", hashes, services.networks.loras, "Filename") == "<lora:theirs:1>"
