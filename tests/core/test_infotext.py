import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import ENOUGH, cpu_seconds
from webui.core import infotext
from webui.prompts.attention import uses_emphasis
from webui.prompts.styles import StyleStore

FIXTURES = Path(__file__).parents[1] / "fixtures/prompts"
RECORDED = json.loads((FIXTURES / "infotext-parse.json").read_text("utf-8"))
PARITY = Path(os.environ.get("EASEL_PARITY", Path(__file__).parents[2].parent / "shared/parity"))


@pytest.fixture(scope="module")
def styles():
    return StyleStore([FIXTURES / "styles.csv"])


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["text"][:40])
def test_recorded_fields(case, styles):
    fields = infotext.parse(case["text"], styles=styles, uses_emphasis=uses_emphasis)
    assert fields == case["parsed"]
    assert list(fields) == list(case["parsed"])


@pytest.mark.parity
@pytest.mark.skipif(not (PARITY / "manifest.json").exists(), reason="the recordings are not here")
@pytest.mark.parametrize("folder", [".", "more"])
def test_recorded_infotexts_come_out_byte_equal(folder):
    cases = json.loads((PARITY / folder / "manifest.json").read_text("utf-8")).values()
    texts = {text for case in cases for text in case.get("infotexts", [])}
    assert len(texts) > 50
    for text in texts:
        parsed = infotext.parse(text, fill_defaults=False)
        prompt, negative = parsed.pop("Prompt"), parsed.pop("Negative prompt")
        for key in [key for key in parsed if key.endswith("-1")]:
            parsed[key] = f"{parsed[key]}x{parsed[key[:-1] + '2']}"
        joined = {key.removesuffix("-1"): value for key, value in parsed.items() if not key.endswith("-2")}
        stripped = "\n".join(line.strip() for line in text.split("\n"))
        stripped = re.sub(r", [\w ]+: (?=,)", "", stripped)  # the parser drops empty values
        assert infotext.render(prompt, negative, infotext.ordered(joined)) == stripped


PROMPTS = st.text("ab ,()[]:\nNegative é猫", max_size=30).map(
    lambda t: "\n".join(map(str.strip, t.strip().split("\n")))
)
KEYS = st.text("abc XY-/_1", min_size=2, max_size=12).filter(lambda k: re.fullmatch(r"[aXb1c_Y][\w \-/]*[a-zX]", k))
VALUES = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=15))


@given(PROMPTS, PROMPTS, st.dictionaries(KEYS, VALUES, min_size=3, max_size=8))
def test_parsing_returns_what_was_rendered(prompt, negative, fields):
    """But for what the format can't tell: a value that is empty, equals its key, looks like a size or is in quotes;
    space around one without a comma."""
    fields = {
        key: value
        for key, value in fields.items()
        if str(value).strip() == str(value) != "" and value != key and not re.search(r'^\d+x\d+$|^".*"$|\r', str(value))
    }
    if len(fields) < infotext.MIN_FIELDS or infotext.NEGATIVE in prompt + negative:
        return
    parsed = infotext.parse(infotext.render(prompt, negative, fields), fill_defaults=False)
    assert parsed.pop("Prompt") == prompt
    assert parsed.pop("Negative prompt") == negative
    assert parsed == {key: str(value) for key, value in fields.items()}


def test_render():
    fields = {"Steps": 20, "CFG scale": 7.0, "Seed": None, "X Values": "1,2", "Script": "Script", "Tiling": True}
    assert infotext.render("a", "", fields) == 'a\nSteps: 20, CFG scale: 7.0, X Values: "1,2", Script, Tiling: True'
    assert infotext.render("", "b", {}) == "Negative prompt: b"
    assert infotext.quote('a: "é"\n') == '"a: \\"é\\"\\n"'
    assert infotext.hash_list([("a,b:c", "0123456789abcdef"), ("d", "1")]) == "abc: 0123456789ab, d: 1"


def test_ordered():
    fields = {"Version": "v1", "Extra": 1, "User": "u", "Seed": 2, "Steps": 3, "Another": 4}
    assert list(infotext.ordered(fields)) == ["Steps", "Seed", "Extra", "Another", "Version", "User"]


TAIL = "\nSteps: 2, Sampler: Euler, Size: 8x8"


def test_emphasis_is_filled_in_where_a_prompt_has_weights():
    assert infotext.parse("a (b)" + TAIL, uses_emphasis=uses_emphasis)["Emphasis"] == "Original"
    assert "Emphasis" not in infotext.parse("a (b:1)" + TAIL, uses_emphasis=uses_emphasis)
    assert infotext.parse("(b)" + TAIL + ", Emphasis: None", uses_emphasis=uses_emphasis)["Emphasis"] == "None"


@pytest.mark.parametrize(
    ("version", "added"),
    [
        ("v1.5.2-12-gabc", {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod"}),
        ("1.6.0-RC", {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod"}),
        ("v1.7.0-224-gabc", {"Downcast alphas_cumprod"}),
        ("v1.7.0-225-gabc", set()),
        ("v1.10.1", set()),
        ("f2.0.1v1.5.0-previous-1-gabc", set()),
        ("", set()),
    ],
)
def test_settings_for_pictures_of_older_versions(version, added):
    text = "a [b:c:3]\nSteps: 2, Sampler: DDIM, Refiner: x, Version: " + version
    fields = infotext.parse(text)
    assert fields.keys() - infotext.parse(text, backcompat=False).keys() == added
    assert fields["Refiner switch by sampling steps"] is (version[:4].strip("v")[:3] in ("1.5", "1.6", "1.7"))


def test_first_pass_size_becomes_hires_resize():
    fields = infotext.parse("a\nSteps: 2, Sampler: Euler, Size: 1024x768, First pass size: 0x0")
    assert [fields[key] for key in ("Size-1", "Size-2", "Hires resize-1", "Hires resize-2")] == [640, 448, 1024, 768]
    fields = infotext.parse("a\nSteps: 2, Size: 1024x768, First pass size: 512x384, Size-1: wide")
    assert fields["Size-1"] == "wide"


@pytest.mark.parametrize(
    ("mode", "names", "prompt"),
    [
        ("Apply if any", ["stB"], "a"),
        ("Apply", ["stB"], "a"),
        ("Discard", None, "a"),
        ("Ignore", None, "watercolor of a, soft light"),
    ],
)
def test_styles_modes(styles, mode, names, prompt):
    text = "watercolor of a, soft light\nNegative prompt: ugly" + TAIL
    fields = infotext.parse(text, styles=styles, styles_mode=mode)
    assert (fields.get("Styles array"), fields["Prompt"]) == (names, prompt)


def test_styles_are_taken_out_of_hires_prompts_if_they_are_the_same(styles):
    text = "watercolor of a, soft light\nNegative prompt: ugly" + TAIL
    same = infotext.parse(text + ', Hires prompt: "watercolor of b, soft light"', styles=styles)
    assert [same[key] for key in ("Styles array", "Prompt", "Hires prompt")] == [["stB"], "a", "b"]
    other = infotext.parse(text + ", Hires prompt: b", styles=styles)
    assert "Styles array" not in other
    assert [other[key] for key in ("Prompt", "Hires prompt")] == ["watercolor of a, soft light", "b"]


def test_skipped_keys_are_left_out():
    assert "Clip skip" not in infotext.parse("a", skip=["Clip skip", "unknown"])


@given(st.text('ab, :"\\\n-/x1', max_size=60))
def test_any_text_parses(text):
    fields = infotext.parse(text, uses_emphasis=uses_emphasis)
    assert {"Prompt", "Negative prompt", "RNG"} <= fields.keys()


@given(st.text('ab, :"\\-/x1_', max_size=60))
def test_pairs_are_those_of_the_pattern(line):
    pattern = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    assert list(infotext._pairs(line)) == pattern.findall(line)


@pytest.mark.parametrize(
    "text",
    ["word " * 20_000, "a:" * 50_000, "ab: " * 25_000, 'ab: "' * 20_000, "ab:" + " " * 100_000, "\n" * 100_000]
    + ['ab: "x\\", ' * 10_000, "Negative prompt:\n" * 6_000, "-" * 100_000 + ":"],
    ids=lambda text: text[:8],
)
def test_long_texts_take_linear_time(text):
    assert cpu_seconds(lambda: infotext.parse(text)) < ENOUGH  # seen: 0.03


LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 0123456789"


@pytest.mark.parametrize(
    "below",
    [
        "\nTemplate: a {cat|dog}\nNegative Template: ugly",
        "\n\nTime taken: 12.5 sec.",
        "\nTemplate: {a: 1, b: 2, c: 3}, d: 4",
        "\nTime taken: 1 min. 2.5 sec.\nA: 1.20 GB, R: 1.40 GB, Sys: 2.0/24 GB (8.3%)",
        "\n\n\n",
        "\r\nmade by: me",
        '\nTemplate: "x"\nNegative Template: y, Sampler of salt: z',
    ],
)
def test_lines_after_the_fields_are_left_out(below):
    fields = infotext.parse(f"a cat\nNegative prompt: ugly\n{LINE}{below}", fill_defaults=False)
    wanted = {"Prompt": "a cat", "Negative prompt": "ugly", "Steps": "20", "Sampler": "Euler a", "Seed": "1"}
    assert {key: fields.get(key) for key in wanted} == wanted
    assert fields["Size-1"] == "512"
    assert not any("Template" in key for key in fields)


def test_a_prompt_that_quotes_a_line_of_fields_keeps_it():
    text = f"before\n{LINE}\nafter\nSteps: 5, Sampler: DDIM, Seed: 3"
    fields = infotext.parse(text, fill_defaults=False)
    assert (fields["Steps"], fields["Seed"]) == ("5", "3")
    assert fields["Prompt"] == f"before\n{LINE}\nafter"
    assert infotext.parse("cat\nSteps: 20, Sampler: Euler a\nmore", fill_defaults=False)["Prompt"].endswith("more")
    assert infotext.parse("cat\nSteps: many, a: b, c: d\nmore", fill_defaults=False).keys() == {
        "Prompt",
        "Negative prompt",
    }
