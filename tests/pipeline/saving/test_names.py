"""File names: the recorded ones, and that no prompt can leave its folder."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.pipeline.saving.names import NameFacts, fill_pattern, safe_part

PROMPT = "a (cat:1.2), red [chair]: <b> *x* 猫/dog? <lora:rlora:0.5>"
RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "pipeline" / "filenames.json").read_text())
STRANGE = {"[vae_filename]"}  # recorded as "NoneType", a fault

FACTS = NameFacts(
    values={
        "seed": "77",
        "seed_first": "77",
        "seed_last": None,
        "steps": "3",
        "cfg": "6.5",
        "width": "64",
        "height": "64",
        "styles": "stA",
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "sampler_scheduler": "DPM++ 2M Karras",
        "model_name": "tinyA",
        "job_timestamp": "20261123021538",
        "batch_number": None,
        "batch_size": "1",
        "generation_number": None,
        "clip_skip": "1",
        "denoising": None,
    },
    prompt=f"{PROMPT}, masterpiece, best quality",
    prompt_without_styles=PROMPT,
    negative_prompt="ugly",
    image_bytes=lambda: b"picture",
    now=datetime.datetime(2026, 11, 23, 2, 15, 38),
)


def recorded_patterns() -> list[tuple[str, str]]:
    rows = []
    for case in RECORDED:
        pattern = case["override"].get("samples_filename_pattern")
        if pattern and pattern not in STRANGE:
            name = re.fullmatch(r"00000-(.*)\.png", case["files"][0].rsplit("/", 1)[1])
            assert name
            rows.append((pattern, name.group(1)))
    return rows


@pytest.mark.parametrize(("pattern", "expected"), recorded_patterns())
def test_patterns_are_filled_as_recorded(pattern: str, expected: str) -> None:
    assert fill_pattern(pattern, FACTS) == expected


def test_words_of_the_prompt() -> None:
    assert fill_pattern("[prompt_words]", FACTS) == "a cat 1 2 red chair b x"


@given(st.text(max_size=400))
def test_no_prompt_leaves_its_folder(prompt: str) -> None:
    facts = replace(FACTS, prompt=prompt, prompt_without_styles=prompt)
    for pattern in ("[prompt]", "[prompt_spaces]", "[prompt_words]", "[hasprompt<a|b>]"):
        name = fill_pattern(pattern, facts)
        assert not set(name) & set('/\\:*?"<>|\n\r\0')
        assert not name.endswith((" ", "."))
        assert len(name.encode()) <= 241


@pytest.mark.parametrize("name", ["CON", "nul", "com1.txt", "..", ".", "a/../../b", "x" * 5000, "\u202egnp.exe"])
def test_dangerous_names_become_harmless(name: str) -> None:
    safe = safe_part(name)
    assert safe not in ("..", ".")
    assert not re.match(r"(?i)(con|nul|com1)(\.|$)", safe)
    assert "/" not in safe
    assert "\u202e" not in safe
    assert len(safe) <= 129


def test_dates_take_a_format_and_a_time_zone() -> None:
    assert fill_pattern("[datetime<%Y><Asia/Tokyo>]", FACTS) == "2026"
