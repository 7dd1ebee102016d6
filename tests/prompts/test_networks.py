import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import ENOUGH, cpu_seconds
from webui.prompts.networks import NetworkTag, cut_networks, with_default_tags


def test_tags_are_cut_out_in_order():
    cut = cut_networks("a <lora:x y:0.8> cat<hypernet:h> <lora:z:te=0.5:unet=1>")
    assert cut.text == "a  cat "
    assert cut.tags == (
        NetworkTag("lora", ("x y", "0.8"), {}),
        NetworkTag("hypernet", ("h",), {}),
        NetworkTag("lora", ("z",), {"te": "0.5", "unet": "1"}),
    )


def test_what_is_no_tag_stays():
    assert cut_networks("a < b > <lora> <:x> <lora:> 1:2 <lora:x").text == "a < b > <lora> <:x> <lora:> 1:2 <lora:x"


@given(st.lists(st.tuples(st.text("ab ,()[]", max_size=5), st.text("ab", min_size=1), st.text("cd:=", min_size=1))))
def test_text_between_tags_is_kept(parts):
    cut = cut_networks("".join(f"{text}<{kind}:{rest}>" for text, kind, rest in parts))
    assert cut.text == "".join(text for text, _, _ in parts)
    assert [tag.kind for tag in cut.tags] == [kind for _, kind, _ in parts]


@pytest.mark.parametrize("prompt", ["<a:" * 33_333, "<" * 100_000, "<" + "a" * 99_999, "<a:b>" * 20_000])
def test_long_prompts_take_linear_time(prompt):
    assert cpu_seconds(lambda: cut_networks(prompt)) < ENOUGH


def test_default_networks_are_added_unless_they_are_named():
    defaults = {"hypernet": "h", "lora": "x"}
    assert with_default_tags("a cat", defaults, 0.8) == "a cat<hypernet:h:0.8><lora:x:0.8>"
    assert with_default_tags("a<lora:x:0.1>", defaults, 1.0) == "a<lora:x:0.1><hypernet:h:1.0>"
    assert with_default_tags("a<hypernet:x>", {"hypernet": "None", "lora": None}, 1.0) == "a<hypernet:x>"
