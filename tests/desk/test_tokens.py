from __future__ import annotations

from webui.desk.services import Services
from webui.desk.tokens import count_prompt_tokens
from webui.prompts.chunks import TokenCount


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
