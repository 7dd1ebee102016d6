"""The text of a picture, made anew at each drawing."""

from __future__ import annotations

import random

import pytest

from webui.core.training_data import DataFolder
from webui.datasets.captions import caption_of_name, caption_varies, draw_caption

TAGS = "sks man, red hat, beach, sunset, smiling"


def made(rules: DataFolder, text: str = TAGS, seed: int = 0, **when: int) -> str:
    return draw_caption(text, rules, random.Random(seed), **when)


def drawn(rules: DataFolder, text: str = TAGS, times: int = 400) -> list[str]:
    rng = random.Random(1)
    return [draw_caption(text, rules, rng) for _ in range(times)]


def test_a_caption_is_its_first_line() -> None:
    assert made(DataFolder(), "  a cat \nnotes of mine") == "a cat"


def test_prefix_and_suffix_stand_around_it() -> None:
    assert made(DataFolder(caption_prefix="sks,", caption_suffix=", best"), "a cat") == "sks, a cat , best"


def test_shuffling_keeps_the_first_tags_and_loses_none() -> None:
    rules = DataFolder(shuffle_caption=True, keep_tokens=2)
    captions = drawn(rules)
    assert len(set(captions)) > 3
    assert all(caption.startswith("sks man, red hat, ") for caption in captions)
    assert all(sorted(caption.split(", ")) == sorted(TAGS.split(", ")) for caption in captions)


def test_the_keep_separator_fixes_both_ends() -> None:
    rules = DataFolder(shuffle_caption=True, keep_tokens_separator="|||")
    captions = drawn(rules, "sks man ||| a, b, c ||| photo")
    assert {caption.split(", ")[0] for caption in captions} == {"sks man"}
    assert {caption.split(", ")[-1] for caption in captions} == {"photo"}
    assert len(set(captions)) == 6


def test_the_keep_separator_never_stays_in_a_caption() -> None:
    assert made(DataFolder(keep_tokens_separator="|||"), "sks man ||| a, b") == "sks man, a, b"


def test_tags_joined_by_the_secondary_separator_move_together() -> None:
    rules = DataFolder(shuffle_caption=True, secondary_separator=";;;")
    assert all("red hat,big" in caption for caption in drawn(rules, "a, red hat;;;big, c, d"))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_leaves_so_many_empty(rate: float) -> None:
    empty = drawn(DataFolder(caption_dropout_rate=rate), times=4000).count("") / 4000
    assert empty == pytest.approx(rate, abs=0.04)


def test_every_nth_epoch_is_empty() -> None:
    rules = DataFolder(caption_dropout_every_n_epochs=3)
    assert [bool(made(rules, epoch=epoch)) for epoch in range(6)] == [True, True, False, True, True, False]


def test_tag_dropout_spares_kept_tags() -> None:
    captions = drawn(DataFolder(caption_tag_dropout_rate=0.5, keep_tokens=1), times=2000)
    assert all(caption.startswith("sks man") for caption in captions)
    assert sum(caption.count("beach") for caption in captions) / 2000 == pytest.approx(0.5, abs=0.05)
    assert made(DataFolder(caption_tag_dropout_rate=1.0), TAGS) == ""


def test_wildcards_choose_and_escaped_braces_stay() -> None:
    rules = DataFolder(enable_wildcard=True)
    assert set(drawn(rules, "a {red|blue} {{x}}")) == {"a red {x}", "a blue {x}"}
    assert set(drawn(rules, "a {big {red|blue}|small} hat")) == {"a big red hat", "a big blue hat", "a small hat"}
    assert set(drawn(rules, "one\ntwo")) == {"one", "two"}


def test_tags_grow_with_the_steps() -> None:
    rules = DataFolder(token_warmup_step=100, token_warmup_min=1)
    counts = [len(made(rules, step=step, steps=1000).split(", ")) for step in (0, 25, 50, 99, 100, 500)]
    assert counts == [1, 2, 3, 4, 5, 5]
    share = DataFolder(token_warmup_step=0.1)
    assert len(made(share, step=50, steps=1000).split(", ")) == 3


@pytest.mark.parametrize(
    "name", ["shuffle_caption", "enable_wildcard", "caption_dropout_rate", "caption_tag_dropout_rate"]
)
def test_what_makes_captions_vary_is_known(name: str) -> None:
    assert not caption_varies(DataFolder())
    assert caption_varies(DataFolder().replace(**{name: 1}))


def test_the_same_seed_gives_the_same_caption() -> None:
    rules = DataFolder(shuffle_caption=True, caption_tag_dropout_rate=0.3)
    assert made(rules, seed=5) == made(rules, seed=5)


@pytest.mark.parametrize(
    ("stem", "caption"),
    [
        ("sks man (7)", "sks man"),
        ("sks_man-12", "sks man"),
        ("007", ""),
        ("sks (1) (2)", "sks"),
        ("zwx_cat", "zwx cat"),
    ],
)
def test_captions_of_names(stem: str, caption: str) -> None:
    assert caption_of_name(stem) == caption
