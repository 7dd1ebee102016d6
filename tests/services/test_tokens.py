from __future__ import annotations

import torch
from safetensors.torch import save_file

from webui.prompts.chunks import TokenCount
from webui.services.services import Services
from webui.services.tokens import count_prompt_tokens


def test_styles_count_unless_switched_off(services: Services) -> None:
    assert count_prompt_tokens(services, "a cat", [], 20) == TokenCount(2, 75)
    assert count_prompt_tokens(services, "a cat", ["ink"], 20) == TokenCount(5, 75)
    assert count_prompt_tokens(services, "", ["ink"], 20, negative=True) == TokenCount(1, 75)
    services.settings.update({"include_styles_into_token_counters": False})
    assert count_prompt_tokens(services, "a cat", ["ink"], 20) == TokenCount(2, 75)


def test_a_long_prompt_needs_more_room(services: Services) -> None:
    assert count_prompt_tokens(services, "cat " * 76, [], 20) == TokenCount(76, 150)


def test_zero_steps_still_count(services: Services) -> None:
    assert count_prompt_tokens(services, "[a:b c:0.5]", [], 0).count >= 1


def test_an_embedding_counts_as_many_as_it_has_vectors(services: Services) -> None:
    save_file({"emb_params": torch.ones(6, 32)}, services.paths.embeddings / "cat-style.safetensors")
    services.networks.embeddings.refresh()
    assert count_prompt_tokens(services, "a Cat-Style house", [], 20) == TokenCount(8, 75)
    services.networks.embeddings.fit_to((768,))
    assert count_prompt_tokens(services, "a Cat-Style house", [], 20) == TokenCount(5, 75)
