"""Prompts made to be slow: every reader is through with 100,000 characters at once, or refuses them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.effort import ENOUGH, cpu_seconds
from webui.core.errors import InvalidRequest
from webui.prompts.attention import parse_attention
from webui.prompts.chunks import chunk, old_chunk
from webui.prompts.comments import strip_comments
from webui.prompts.composition import split_composition
from webui.prompts.networks import cut_networks
from webui.prompts.schedule import parse_schedule
from webui.prompts.tokenizer import ClipTokenizer

LENGTH = 100_000
REPEATED = [
    *("a", " ", "(", "[", ")", "]", "|", ":", ",", "#", "\\", "<", "9", "é", "\n", "\x01", "猫", "&"),
    *(
        "([",
        "(a ",
        "[a|",
        "[a:",
        "[a:b:",
        "(a) ",
        "[a|b]",
        "[a:b:3]",
        "(a:1.1) ",
        "\\(",
        ":1.1)",
        ": ",
        "<lora:",
        "#\n",
    ),
    *("a AND ", "AND ", "a:1 AND ", "BREAK ", "BREAK", "<lora:a:1>", "[[a|b]:[c|d]:5]", "&amp;", "a\u0301", "__a__ "),
]
NESTED = [("(", ")"), ("[", "]"), ("(", ":1.0)"), ("[a|", "]"), ("[a:", ":5]"), ("[", ":b:5]"), ("[:", "|]")]
LONG = [
    *(half * (LENGTH // len(half)) for half in REPEATED),
    *(opening * (LENGTH // 6) + "a" + closing * (LENGTH // 6) for opening, closing in NESTED),
    *(
        "[" + "a|" * 50_000 + "b]",
        "[a:b:" + "9" * LENGTH + "]",
        "[a:b:" + " " * LENGTH + "5]",
        "(a:" + "." * LENGTH + ")",
    ),
    *(":" + " " * LENGTH + ")", "a:" + " " * LENGTH + "x", "[a:b:1e" + "9" * 1000 + "]", "<" + "a" * LENGTH),
]
CLIP = ClipTokenizer()
READERS: dict[str, tuple[Callable[[str], object], float, int]] = {
    "attention": (parse_attention, ENOUGH, 1),
    "editing": (lambda prompt: parse_schedule(prompt, 150), ENOUGH, 1),
    "AND": (split_composition, ENOUGH, 1),
    "comments": (strip_comments, ENOUGH, 1),
    "tags": (cut_networks, ENOUGH, 1),
    "chunks": (lambda prompt: chunk(prompt, CLIP), 2, 5),
    "old chunks": (lambda prompt: old_chunk(prompt, CLIP), 2, 7),
}
"""What reads a prompt, the CPU seconds that are enough for it, and every which prompt it is given."""


@pytest.mark.parametrize("reader", READERS)
def test_no_prompt_is_slow(reader: str) -> None:
    read, enough, every = READERS[reader]

    def read_or_refuse(prompt: str) -> None:
        with suppress(InvalidRequest):
            read(prompt)

    read_or_refuse("warm")
    slow = [prompt[:12] for prompt in LONG[::every] if cpu_seconds(lambda p=prompt: read_or_refuse(p), enough) > enough]
    assert not slow
