"""Patterns typed by users."""

from __future__ import annotations

import pytest

from webui.core.errors import InvalidRequest
from webui.pipeline.saving import matching
from webui.pipeline.saving.matching import discarded

NAMES = ("model_ema.decay", "model.diffusion_model.out.2.weight", "first_stage_model.quant_conv.bias", "betas")


@pytest.mark.parametrize(
    ("pattern", "count"), [("model_ema", 1), ("first_stage_model|^betas", 2), (r"^model\.", 1), ("x", 0), (".", 4)]
)
def test_a_pattern_is_looked_for_anywhere_in_a_name(pattern: str, count: int) -> None:
    assert len(discarded(pattern, NAMES)) == count


@pytest.mark.parametrize("pattern", ["([", "*", "(?P<a", "a{9999999999999}"])
def test_a_broken_pattern_is_one_sentence(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a regular expression"):
        discarded(pattern, NAMES)


def test_a_pattern_that_would_take_years_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "SECONDS", 1.0)
    with pytest.raises(InvalidRequest, match="takes too long"):
        discarded(r"^(.+)+$\n", ["a" * 60])
