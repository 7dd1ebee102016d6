"""The text of a picture, made anew at each drawing."""

from __future__ import annotations

import random

import pytest

from webui.datasets.captions import CaptionRules, caption_of_name

TAGS = "sks man, red hat, beach, sunset, smiling"


def made(rules: CaptionRules, text: str = TAGS, seed: int = 0, **when: int) -> str:
    return rules.caption(text, random.Random(seed), **when)


def drawn(rules: CaptionRules, text: str = TAGS, times: int = 400) -> list[str]:
    rng = random.Random(1)
    return [rules.caption(text, rng) for _ in range(times)]


def test_a_caption_is_its_first_line() -> None:
    assert made(CaptionRules(), "  a cat \nnotes of mine") == "a cat"
    assert not CaptionRules().changes


def test_prefix_and_suffix_stand_around_it() -> None:
    assert made(CaptionRules(prefix="sks,", suffix=", best"), "a cat") == "sks, a cat , best"


def test_shuffling_keeps_the_first_tags_and_loses_none() -> None:
    rules = CaptionRules(shuffle=True, keep_tokens=2)
    captions = drawn(rules)
    assert len(set(captions)) > 3
    assert all(caption.startswith("sks man, red hat, ") for caption in captions)
    assert all(sorted(caption.split(", ")) == sorted(TAGS.split(", ")) for caption in captions)


def test_the_keep_separator_fixes_both_ends() -> None:
    rules = CaptionRules(shuffle=True, keep_separator="|||")
    captions = drawn(rules, "sks man ||| a, b, c ||| photo")
    assert {caption.split(", ")[0] for caption in captions} == {"sks man"}
    assert {caption.split(", ")[-1] for caption in captions} == {"photo"}
    assert len(set(captions)) == 6


def test_the_keep_separator_never_stays_in_a_caption() -> None:
    assert made(CaptionRules(keep_separator="|||"), "sks man ||| a, b") == "sks man, a, b"


def test_tags_joined_by_the_secondary_separator_move_together() -> None:
    rules = CaptionRules(shuffle=True, secondary_separator=";;;")
    assert all("red hat,big" in caption for caption in drawn(rules, "a, red hat;;;big, c, d"))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_leaves_so_many_empty(rate: float) -> None:
    empty = drawn(CaptionRules(dropout=rate), times=4000).count("") / 4000
    assert empty == pytest.approx(rate, abs=0.04)


def test_every_nth_epoch_is_empty() -> None:
    rules = CaptionRules(dropout_every=3)
    assert [bool(made(rules, epoch=epoch)) for epoch in range(1, 7)] == [True, True, False, True, True, False]


def test_tag_dropout_spares_kept_tags() -> None:
    captions = drawn(CaptionRules(tag_dropout=0.5, keep_tokens=1), times=2000)
    assert all(caption.startswith("sks man") for caption in captions)
    assert sum(caption.count("beach") for caption in captions) / 2000 == pytest.approx(0.5, abs=0.05)
    assert made(CaptionRules(tag_dropout=1.0), TAGS) == ""


def test_wildcards_choose_and_escaped_braces_stay() -> None:
    rules = CaptionRules(wildcards=True)
    assert set(drawn(rules, "a {red|blue} {{x}}")) == {"a red {x}", "a blue {x}"}
    assert set(drawn(rules, "a {big {red|blue}|small} hat")) == {"a big red hat", "a big blue hat", "a small hat"}
    assert set(drawn(rules, "one\ntwo")) == {"one", "two"}


def test_tags_grow_with_the_steps() -> None:
    rules = CaptionRules(warmup_steps=100, warmup_min=1)
    counts = [len(made(rules, step=step, steps=1000).split(", ")) for step in (0, 25, 50, 99, 100, 500)]
    assert counts == [1, 2, 3, 4, 5, 5]
    share = CaptionRules(warmup_steps=0.1)
    assert len(made(share, step=50, steps=1000).split(", ")) == 3


def test_replacements_come_last() -> None:
    assert made(CaptionRules(replacements={"sks": "sks0 sks1"})) == TAGS.replace("sks", "sks0 sks1")


def test_the_same_seed_gives_the_same_caption() -> None:
    rules = CaptionRules(shuffle=True, tag_dropout=0.3)
    assert made(rules, seed=5) == made(rules, seed=5)


@pytest.mark.parametrize(
    ("stem", "caption"),
    [("sks man (7)", "sks man"), ("sks_man-12", "sks man"), ("007", ""), ("sks (1) (2)", "sks"), ("zwx_cat", "zwx cat")],
)
def test_captions_of_names(stem: str, caption: str) -> None:
    assert caption_of_name(stem) == caption
