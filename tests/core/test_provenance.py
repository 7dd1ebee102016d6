from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.core.provenance import Provenance

HERE = Provenance("0.1.0", "bf16", "fp32", "cpu", "2.14.1", "sdpa")


def test_what_was_written_is_read_back() -> None:
    assert Provenance.from_text(HERE.to_text()) == HERE


@given(st.text())
def test_any_other_text_says_nothing(text: str) -> None:
    assert Provenance.from_text(text) is None


@pytest.mark.parametrize("text", [None, "", "[]", '{"version": 1}', "[" * 3000, HERE.to_text() + " " * 5000])
def test_hostile_texts_say_nothing(text: str | None) -> None:
    assert Provenance.from_text(text) is None


def test_long_values_are_cut() -> None:
    long = Provenance.from_text(HERE.to_text().replace("cpu", "c" * 200))
    assert long is not None
    assert long.device == "c" * 60
