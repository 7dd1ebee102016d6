"""What pictures show, in words: each network through the job, held against a second computation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.describers import TAGS, WORDS, small_blip, small_clip, small_deepbooru, small_tagger
from webui.core.choices import Captioner
from webui.core.describing import DescribePlan, Description
from webui.core.errors import BadModelFile, InvalidRequest, NotFound
from webui.core.extras import PictureSource
from webui.core.flags import parse_flags
from webui.core.pictures import encode_image
from webui.jobs.context import JobContext
from webui.pipeline.describing import run
from webui.pipeline.engine import Engine, build
from webui.services.building import build_services

LINES = ["red", "green", "blue", "wide", "flat"]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).resize((96, 96))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    models = data / "models"
    small_blip(models / "BLIP" / "small")
    small_clip(models / "CLIP" / "small", LINES)
    small_deepbooru(models / "torch_deepdanbooru" / "model-resnet_custom_v3.pt")
    small_tagger(models / "wd-tagger" / "wd-small")
    (data / "interrogate").mkdir()
    (data / "interrogate" / "colours.top2.txt").write_text("red\n\ngreen\nblue\n")
    (data / "interrogate" / "shapes.txt").write_text("wide\nflat\n")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


def described(
    engine: Engine, captioner: str, *sources: PictureSource, folder: Path | None = None, **settings: Any
) -> Description:
    given = sources or (PictureSource("a.png", encode_image(PICTURE, "png", None)),)
    plan = DescribePlan(given, captioner, engine.settings.snapshot().replace(**settings), folder)
    return run(engine, plan, JobContext.alone())


def words(engine: Engine, captioner: str, **settings: Any) -> str:
    return described(engine, captioner, **settings).texts[0]


ALL_TAGS = {"interrogate_deepbooru_score_threshold": 0.0}


def test_everything_is_listed_by_name_and_alias(engine: Engine) -> None:
    assert engine.choices.names(Captioner) == ("BLIP", "Deepbooru", "wd-small")
    assert engine.choices.find_captioner("CLIP").name == "BLIP"
    assert engine.choices.find_captioner("deepdanbooru").name == "Deepbooru"
    with pytest.raises(NotFound, match='"deepboru"'):
        engine.choices.find_captioner("deepboru")


def test_blip_writes_what_transformers_generates(engine: Engine, tmp_path: Path) -> None:
    model = small_blip(tmp_path / "again")
    pixels = np.asarray(PICTURE.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    given = torch.from_numpy((pixels - mean) / spread).float().permute(2, 0, 1)[None]
    for beams, least, most in ((1, 4, 9), (3, 2, 12)):
        found = model.generate(pixel_values=given, num_beams=beams, min_length=least, max_length=most)[0]
        expected = " ".join(WORDS[number] for number in found.tolist() if WORDS[number][0] != "[")
        lengths = {"interrogate_clip_min_length": least, "interrogate_clip_max_length": most}
        skipped = {"interrogate_clip_skip_categories": ("colours.top2", "shapes")}
        text = words(engine, "BLIP", interrogate_clip_num_beams=beams, **lengths, **skipped)
        assert text == expected
        assert text


def test_clip_adds_the_lines_that_suit_best(engine: Engine, tmp_path: Path) -> None:
    model = small_clip(tmp_path / "again", LINES)
    pixels = np.asarray(PICTURE.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    given = torch.from_numpy((pixels - mean) / spread).float().permute(2, 0, 1)[None]

    def shares(lines: list[str]) -> list[tuple[str, float]]:
        tokens = torch.tensor([[2 + LINES.index(line)] for line in lines])
        with torch.no_grad():
            cosines = model(input_ids=tokens, pixel_values=given).logits_per_image[0] / model.logit_scale.exp()
        found = (100 * cosines).softmax(0).tolist()
        return sorted(zip(lines, found, strict=True), key=lambda item: -item[1])

    plain = words(engine, "clip", interrogate_clip_skip_categories=("colours.top2", "shapes"))
    colours, shapes = shares(["red", "green", "blue"])[:2], shares(["wide", "flat"])[:1]
    assert words(engine, "clip") == ", ".join([plain, *(line for line, _ in (*colours, *shapes))])
    ranked = words(engine, "clip", interrogate_return_ranks=True)
    assert ranked == ", ".join([plain, *(f"({line}:{share:.3f})" for line, share in (*colours, *shapes))])
    first_line = words(engine, "clip", interrogate_clip_dict_limit=1)
    assert first_line == f"{plain}, red, wide"


def test_deepbooru_scores_as_the_network_does(engine: Engine, tmp_path: Path) -> None:
    model = small_deepbooru(tmp_path / "again.pt")
    square = PICTURE.resize((512, 512), Image.Resampling.LANCZOS)
    given = torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        scores = dict(zip(TAGS, model(given).tolist(), strict=True))
    text = words(engine, "Deepbooru", **ALL_TAGS, interrogate_return_ranks=True, deepbooru_escape=False)
    expected = sorted(tag for tag in TAGS if ":" not in tag)
    assert text == ", ".join(f"({tag.replace('_', ' ')}:{scores[tag]:.3f})" for tag in expected)


@pytest.mark.parametrize("captioner", ["Deepbooru", "wd-small"])
def test_tags_are_written_as_the_settings_say(engine: Engine, captioner: str) -> None:
    plain = words(engine, captioner, **ALL_TAGS)
    assert plain == r"1girl, cat ears, sky, smile \(grin\)"
    assert words(engine, captioner, **ALL_TAGS, deepbooru_use_spaces=False) == r"1girl, cat_ears, sky, smile_\(grin\)"
    assert words(engine, captioner, **ALL_TAGS, deepbooru_escape=False) == "1girl, cat ears, sky, smile (grin)"
    assert words(engine, captioner, **ALL_TAGS, deepbooru_filter_tags="cat ears, sky") == r"1girl, smile \(grin\)"
    assert words(engine, captioner, interrogate_deepbooru_score_threshold=1.0) == ""
    by_score = words(engine, captioner, **ALL_TAGS, deepbooru_sort_alpha=False, interrogate_return_ranks=True)
    scores = [float(part.rpartition(":")[2].rstrip(")")) for part in by_score.split(", ")]
    assert scores == sorted(scores, reverse=True)


def test_a_tagger_sees_blue_green_red_in_a_white_square(engine: Engine) -> None:
    flat = Image.new("RGB", (64, 32), (200, 100, 0))
    source = PictureSource("flat.png", encode_image(flat, "png", None))
    asked = {**ALL_TAGS, "interrogate_return_ranks": True, "deepbooru_use_spaces": False, "deepbooru_escape": False}
    text = described(engine, "wd-small", source, **asked).texts[0]
    mean = (np.array([0, 100, 200]) + 255) / 2
    logits = mean @ (np.linspace(-1, 1, 15).reshape(3, 5) / 100)
    expected = dict(zip(TAGS, 1 / (1 + np.exp(-logits)), strict=True))
    found = dict(part.strip("()").rsplit(":", 1) for part in text.split("), ("))
    assert set(found) == {tag if tag != "smile_(grin)" else "smile_(grin)" for tag in TAGS if ":" not in tag}
    for tag, share in found.items():
        assert abs(float(share) - expected[tag]) < 0.01


def test_networks_stay_in_memory_only_if_that_is_wished(engine: Engine) -> None:
    def kept() -> list[str]:
        return [loaded.name for loaded in engine.models.peek() if "captioner" in loaded.name]

    words(engine, "Deepbooru")
    assert kept() == []
    words(engine, "Deepbooru", interrogate_keep_models_in_memory=True)
    assert len(kept()) == 1
    engine.models.forget("captioner")


def test_a_folder_is_described_beside_its_pictures_and_faults_are_told(engine: Engine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        PICTURE.save(tmp_path / f"{name}.png")
    (tmp_path / "one.txt").write_text("mine\n")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    names = ("bad.png", "gone.png", "one.png", "two.png")
    sources = [PictureSource(name, path=tmp_path / name) for name in names]
    result = described(engine, "wd-small", *sources, folder=tmp_path, **ALL_TAGS)
    assert result.message == f"2 of 4 pictures are described in {tmp_path}."
    assert [comment.split(":")[0] for comment in result.comments] == ["bad.png", "gone.png"]
    assert (tmp_path / "one.txt").read_text() == f"mine\n{result.texts[0]}\n"
    assert (tmp_path / "two.txt").read_text() == f"{result.texts[1]}\n"


def broken(engine: Engine, name: str) -> str:
    with pytest.raises(BadModelFile) as error:
        words(engine, name)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_files_that_hold_something_else_are_told_in_a_sentence(engine: Engine) -> None:
    root = engine.paths.models / "wd-tagger"
    small_tagger(root / "cut-off")
    whole = (root / "cut-off" / "model.onnx").read_bytes()
    (root / "cut-off" / "model.onnx").write_bytes(whole[: len(whole) // 2])
    small_tagger(root / "empty")
    (root / "empty" / "model.onnx").write_bytes(b"")
    small_tagger(root / "channels-first", channels_last=False)
    small_tagger(root / "other-count", scores=4)
    small_tagger(root / "no-names")
    (root / "no-names" / "selected_tags.csv").write_text("a,b\n1,2\n")
    small_tagger(root / "no-list")
    (root / "no-list" / "selected_tags.csv").unlink()
    try:
        assert "model.onnx can't be loaded as an ONNX network" in broken(engine, "cut-off")
        assert "model.onnx can't be loaded as an ONNX network" in broken(engine, "empty")
        assert "should take one picture of (1, side, side, 3)" in broken(engine, "channels-first")
        assert "scores 4 tags, and its list names 5" in broken(engine, "other-count")
        assert "no list of tags" in broken(engine, "no-names")
        with pytest.raises(InvalidRequest, match=r"put selected_tags\.csv beside model\.onnx"):
            words(engine, "no-list")
    finally:
        for name in ("cut-off", "empty", "channels-first", "other-count", "no-names", "no-list"):
            for file in (root / name).iterdir():
                file.unlink()


def test_damaged_networks_of_the_other_kinds_are_told(tmp_path: Path) -> None:
    models = tmp_path / "models"
    small_blip(models / "BLIP" / "small", pickled=True)
    booru = models / "torch_deepdanbooru" / "model.pt"
    booru.parent.mkdir()
    torch.save({"n_Conv_0.weight": torch.zeros(8, 3, 3, 3), "tags": ["a"]}, booru)
    flags, _ = parse_flags(["--data-dir", str(tmp_path), "--device", "cpu"], {})
    services = build_services(flags)
    engine = build(services)
    try:
        assert "no DeepDanbooru" in broken(engine, "Deepbooru")
        torch.save({"n_Conv_0.weight": torch.zeros(8, 3, 7, 7)}, booru)
        assert "names no tags" in broken(engine, "Deepbooru")
        booru.write_bytes(b"\x80\x02garbage")
        broken(engine, "Deepbooru")
        assert words(engine, "BLIP")
        weights = models / "BLIP" / "small" / "pytorch_model.bin"
        state = torch.load(weights, weights_only=True)
        torch.save({name: tensor for name, tensor in state.items() if "layer.1" not in name}, weights)
        assert "lacks" in broken(engine, "BLIP")
        (models / "BLIP" / "small" / "config.json").write_text('{"model_type": "clip"}')
        assert "is a clip, not a blip" in broken(engine, "BLIP")
        (models / "BLIP" / "small" / "config.json").write_text("[")
        assert "describes no blip" in broken(engine, "BLIP")
    finally:
        services.checkpoints.close()


def test_captions_of_extras_stand_beside_the_results(engine: Engine, tmp_path: Path) -> None:
    from tests.extensions.test_training_pictures import operated

    path = tmp_path / "in" / "cat.png"
    path.parent.mkdir()
    PICTURE.save(path)
    (tmp_path / "in" / "cat.txt").write_text(" mine ")
    caption = words(engine, "wd-small")
    assert caption

    def text(action: str, output: str, option: tuple[str, ...] = ("wd-small",)) -> str:
        settings = {"postprocessing_existing_caption_action": action}
        given = {"sources": (PictureSource("cat.png", path=path),), "save": True, "keep_names": True}
        values = {**given, "output": tmp_path / output, "PictureCaption": {"enabled": True, "option": option}}
        result = operated(engine, PICTURE, settings, **values)
        written = Path(str(result.images[0].path)).with_suffix(".txt").read_text()
        assert result.comments == (f"cat.png: described as {written}",)
        return written

    assert text("Ignore", "ignored") == caption
    assert text("Keep", "kept") == "mine"
    assert text("Prepend", "before") == f"mine {caption}"
    assert text("Append", "after") == f"{caption} mine"
    assert text("Append", "after") == f"{caption} {caption} mine"
    tags = words(engine, "Deepbooru")
    assert text("Ignore", "both", ("Deepbooru", "wd-small")) == ", ".join(part for part in (tags, caption) if part)
    assert (tmp_path / "in" / "cat.txt").read_text() == " mine "
    with Image.open(io.BytesIO((tmp_path / "kept" / "cat.png").read_bytes())) as image:
        assert image.size == PICTURE.size


@pytest.mark.parametrize("captioner", ["BLIP", "wd-small"])
def test_batches_describe_as_one_after_the_other_does(engine: Engine, captioner: str, tmp_path: Path) -> None:
    """In order, with a broken picture among them that is told, each beside its picture, also in a folder below."""
    sources = []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        picture = encode_image(Image.fromarray(pixels).resize((64 + 8 * number, 64)), "png", None)
        sources.append(PictureSource(f"10_x/{number}.png", picture if number != 1 else picture[:60]))
    settings = engine.settings.snapshot().replace(**ALL_TAGS)
    results = []
    for size, workers in ((1, 1), (3, 2), (8, 4)):
        folder = tmp_path / f"{size}"
        plan = DescribePlan(tuple(sources), captioner, settings, folder, size, workers)
        results.append(run(engine, plan, JobContext.alone()))
        written = {file.name: file.read_text() for file in (folder / "10_x").iterdir()}
        assert [written[f"{number}.txt"] for number in (0, 2, 3, 4)] == [f"{text}\n" for text in results[-1].texts]
    assert results[0].texts == results[1].texts == results[2].texts
    assert captioner != "BLIP" or len(set(results[0].texts)) > 1
    for result in results:
        (told,) = result.comments
        assert told.startswith("10_x/1.png: ")
