import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import ENOUGH, cpu_seconds
from webui.core.errors import InvalidRequest, NotFound, WebuiError
from webui.prompts.styles import StyleStore, merge_style

RECORDED = Path(__file__).parents[1] / "fixtures/prompts/styles.csv"
PROMPT, NEGATIVE = "a photo of a cat on a red chair", "blurry, ugly"


@pytest.fixture
def store(tmp_path):
    shutil.copyfile(RECORDED, tmp_path / "styles.csv")
    return StyleStore([tmp_path / "styles.csv"])


def test_reads_a1111s_file(store):
    assert [(style.name, style.prompt, style.negative_prompt) for style in store.all()] == [
        ("stA", "masterpiece, best quality", "lowres, blurry"),
        ("stB", "watercolor of {prompt}, soft light", "ugly"),
        ("stC", "", "text, watermark"),
    ]


@pytest.mark.parametrize(
    ("names", "prompt", "negative", "missing"),
    [  # recorded
        (["stA"], f"{PROMPT}, masterpiece, best quality", f"{NEGATIVE}, lowres, blurry", ()),
        (
            ["stA", "stB", "stC"],
            f"watercolor of {PROMPT}, masterpiece, best quality, soft light",
            f"{NEGATIVE}, lowres, blurry, ugly, text, watermark",
            (),
        ),
        (["nope", "stB"], f"watercolor of {PROMPT}, soft light", f"{NEGATIVE}, ugly", ("nope",)),
    ],
)
def test_styles_apply_in_order(store, names, prompt, negative, missing):
    assert store.apply(PROMPT, names) == prompt
    assert store.apply_negative(NEGATIVE, names) == negative
    assert store.missing(names) == missing
    assert store.extract(prompt, negative) == (tuple(n for n in names if n != "nope"), PROMPT, NEGATIVE)


@given(
    st.text("abc ,(", max_size=12),
    st.lists(st.sampled_from(["stA", "stB", "stC"]), unique=True),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_extracting_undoes_applying(store, prompt, names):
    applied, applied_negative = store.apply(prompt, names), store.apply_negative("", names)
    extracted = store.extract(applied, applied_negative)
    assert sorted(extracted.names) == sorted(names)
    assert store.apply(extracted.prompt, extracted.names).split() == applied.split()


def test_a_style_fits_only_if_both_its_texts_do(store):
    assert store.extract("a, masterpiece, best quality", "ugly") == ((), "a, masterpiece, best quality", "ugly")
    assert store.extract("watercolor of, soft light", "ugly").names == ()


def test_merge_style():
    assert merge_style("{prompt} and {prompt}", "a") == "a and a"
    assert merge_style("", " a ") == "a"
    assert merge_style(" b ", "") == "b"


def test_changes_are_saved_and_the_old_file_kept(store, tmp_path):
    before = (tmp_path / "styles.csv").read_bytes()
    store.put("new, one", 'a "quoted"\nline', "猫")
    store.put("stA", "better", "")
    store.delete("stC")
    again = StyleStore([tmp_path / "styles.csv"])
    assert again.all() == store.all()
    assert [style.name for style in again.all()] == ["stA", "stB", "new, one"]
    assert again.get("new, one").prompt == 'a "quoted"\nline'
    assert (tmp_path / "styles.csv").read_bytes().startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert (tmp_path / "styles.csv.bak").read_bytes() != before
    store.reload()
    assert store.all() == again.all()


def test_bad_names(store):
    with pytest.raises(NotFound, match='closest is "stA"'):
        store.get("sta1")
    with pytest.raises(NotFound):
        store.delete("")
    for name in ("", "  ", "# x"):
        with pytest.raises(InvalidRequest):
            store.put(name, "a", "b")


def test_legacy_column_comments_and_short_rows(tmp_path):
    (tmp_path / "styles.csv").write_text("name,text\nold,some text\n# comment,x\n,nameless\nshort\n", "utf-8")
    styles = StyleStore([tmp_path / "styles.csv"]).all()
    assert [(s.name, s.prompt, s.negative_prompt) for s in styles] == [("old", "some text", ""), ("short", "", "")]


def test_several_files_keep_their_styles(tmp_path):
    (tmp_path / "more-1.csv").write_text("name,prompt,negative_prompt\nx,1,\n", "utf-8")
    (tmp_path / "more-2.csv").write_text("name,prompt,negative_prompt\ny,2,\nx,3,\n", "utf-8")
    store = StyleStore([tmp_path / "styles.csv", tmp_path / "more-*.csv"])
    assert {style.name: style.prompt for style in store.all()} == {"x": "3", "y": "2"}
    store.put("y", "4", "")
    store.put("z", "5", "")
    assert (tmp_path / "more-1.csv").read_text("utf-8").count("x,1,") == 1
    assert (tmp_path / "more-2.csv").read_bytes().decode("utf-8-sig").split() == [
        *("name,prompt,negative_prompt", "y,4,", "x,3,"),
    ]
    assert "z,5," in (tmp_path / "styles.csv").read_text("utf-8-sig")
    store.delete("x")
    assert store.get("x").prompt == "1"
    assert [style.name for style in store.all()] == ["z", "x", "y"]


def test_an_unreadable_file_is_named_and_left_alone(tmp_path):
    (tmp_path / "styles.csv").write_bytes("name,prompt\nx,café\n".encode("latin-1"))
    store = StyleStore([tmp_path / "styles.csv"])
    assert store.all() == ()
    assert "styles.csv" in store.problems[0]
    with pytest.raises(WebuiError, match="UTF-8"):
        store.put("y", "a", "b")
    assert (tmp_path / "styles.csv").read_bytes() == "name,prompt\nx,café\n".encode("latin-1")


def test_styles_that_double_the_prompt_again_and_again_are_refused(tmp_path):
    store = StyleStore((tmp_path / "styles.csv",))
    store.put("twice", "{prompt}, {prompt}", "")
    assert store.apply("a", ["twice"] * 2) == "a, a, a, a"
    with pytest.raises(InvalidRequest, match="characters long"):
        store.apply("a" * 1000, ["twice"] * 1000)


def test_extracting_from_long_prompts_takes_linear_time(tmp_path):
    store = StyleStore((tmp_path / "styles.csv",))
    lines = "".join(f"style {number},some words {number},\n" for number in range(2000))
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\n" + lines)
    store.reload()
    prompt = "a  cat, " * 12_000
    assert cpu_seconds(lambda: store.extract(prompt, prompt)) < ENOUGH
