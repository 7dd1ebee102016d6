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


A = ("A", "one, two {prompt}", "n1, n2")
B = ("B", "x", "y")
DIALECTS = [
    b'name,prompt,negative_prompt\nA, "one, two {prompt}", "n1, n2"\nB,x,y\n',
    b'name, prompt, negative_prompt\nA, "one, two {prompt}", "n1, n2"\nB, x, y\n',
    b"name;prompt;negative_prompt\r\nA;one, two {prompt};n1, n2\r\nB;x;y\r\n",
    b'\xef\xbb\xbf"name";"prompt";"negative_prompt"\r\n"A";"one, two {prompt}";"n1, n2"\r\n"B";"x";"y"\r\n',
    b"name\tprompt\tnegative_prompt\nA\tone, two {prompt}\tn1, n2\nB\tx\ty\n",
    b"sep=;\r\nname;prompt;negative_prompt\r\nA;one, two {prompt};n1, n2\r\nB;x;y\r\n",
    "name\tprompt\tnegative_prompt\r\nA\tone, two {prompt}\tn1, n2\r\nB\tx\ty\r\n".encode("utf-16"),
    b'Name , Prompt ,NEGATIVE_PROMPT\nA,"one, two {prompt}","n1, n2"\nB,x,y\n',
    b'\x00name\x00,prompt\x00,negative_prompt,\nA,"one, two {prompt}","n1, n2",\nB,x,y,\n',
    b'negative_prompt,more,name,prompt\n"n1, n2",z,A,"one, two {prompt}"\ny,,B,x\n',
    "\ufeff\ufeffname,prompt,negative_prompt\nA,\"one, two {prompt}\",\"n1, n2\"\nB,x,y\n".encode(),
    b'name,prompt,negative_prompt\r\rA,"one, two {prompt}","n1, n2"\rB,x,y\r',
]  # fmt: skip
BAFFLING = [
    b"A;one;two\nB;x;y\n",
    b"this is a letter\nto somebody\n",
    b"\x00\x01\x02\xff\xfe",
    b"PK\x03\x04 a spreadsheet",
    b'{"styles": []}\n',
    b'name,prompt,negative_prompt\nA,"one, two,three\nB,x,y\n',
    "name,prompt\nx,café\n".encode("cp1252"),
    b"style,text of the prompt\nA,b\n",
    b"name\nA\n",
]


def found(store):
    return [(style.name, style.prompt, style.negative_prompt) for style in store.all()]


@pytest.mark.parametrize("data", DIALECTS, ids=range(len(DIALECTS)))
def test_dialects_of_csv_are_read_and_the_original_stays(tmp_path, data):
    path = tmp_path / "styles.csv"
    path.write_bytes(data)
    store = StyleStore([path])
    assert found(store) == [A, B]
    assert store.problems == ()
    for name in "CDE":
        store.put(name, "new", "")
    assert found(StyleStore([path])) == [A, B, ("C", "new", ""), ("D", "new", ""), ("E", "new", "")]
    assert (tmp_path / "styles.csv.original").read_bytes() == data
    assert not (tmp_path / "styles.csv.original-1").exists()


@pytest.mark.parametrize("data", BAFFLING, ids=range(len(BAFFLING)))
def test_what_is_not_understood_is_said_and_never_written_over(tmp_path, caplog, data):
    path = tmp_path / "styles.csv"
    path.write_bytes(data)
    store = StyleStore([path])
    assert found(store) == []
    (problem,) = store.problems
    assert str(path) in problem
    assert problem in caplog.text
    for name in "CD":
        with pytest.raises(WebuiError, match=r"styles\.csv"):
            store.put(name, "new", "")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"styles.csv": data}


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", b"name,prompt,negative_prompt\r\n"])
def test_an_empty_file_takes_styles(tmp_path, data):
    (tmp_path / "styles.csv").write_bytes(data)
    StyleStore([tmp_path / "styles.csv"]).put("C", "new", "half \ud800")
    assert found(StyleStore([tmp_path / "styles.csv"])) == [("C", "new", "half \ufffd")]


def test_what_is_edited_while_the_program_runs_is_kept(tmp_path):
    path = tmp_path / "styles.csv"
    store = StyleStore([path])
    store.put("mine", "a", "")
    path.write_bytes(path.read_bytes() + b"# my notes,,\r\ntheirs,b,\r\n")
    store.put("more", "c", "")
    assert [style.name for style in store.all()] == ["mine", "theirs", "more"]
    assert b"# my notes" in (tmp_path / "styles.csv.original").read_bytes()
