"""The embedded model's tool: words, scenes, captions, painting, schedules, key names, and the file that is shipped."""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from tests.tools.embedded_model_art import small_preset, write_packages
from tools.embedded_model import card, data
from tools.embedded_model.canvas import Canvas, turn_hue
from tools.embedded_model.captions import Captioner, facts, known_facts
from tools.embedded_model.config import COLOURS, HUES, PRESETS, REPOSITORY, STYLES, Loop, NetworkSizes, Preset, Shares
from tools.embedded_model.export import (
    CHECKPOINT,
    fold_latent_scale,
    from_ldm,
    notice,
    shipped_bytes,
    sidecar,
    sizes_of,
    to_ldm,
)
from tools.embedded_model.judge import border_colour
from tools.embedded_model.loop import Clock, Schedule, Training, backward_in_parts, feed, fill, load_state
from tools.embedded_model.networks import BEGIN, END, VOCABULARY, build_text, build_unet, build_vae, start_as_skip
from tools.embedded_model.optimizer import Optimizer
from tools.embedded_model.scenes import (
    RELATIONS,
    SMALL,
    Scene,
    Subjects,
    boxes,
    draw_scene,
    general_scene,
    picture_held_out,
    place_single,
)
from tools.embedded_model.tokens import PackedTokens, frame
from tools.embedded_model.unet import CaptionReader, alpha_bars, echo, framed_caption, text_states, used_tokens
from tools.embedded_model.words import commonest, is_subject, named_emoji, nouns_of, plural
from webui.prompts.tokenizer import ClipTokenizer

TINY = NetworkSizes(
    unet=(32, 32, 64, 64), unet_heads=4, unet_groups=32, vae=(8, 8, 16, 16), vae_groups=4,
    text=16, text_layers=2, text_heads=2,
)  # fmt: skip
CPU = replace(PRESETS["cpu"], styles=("3d", "flat"))
HEART = Scene(style="flat", hexcode="2764", background="green", scale=0.8, x=0.5, y=0.5)
EVERYTHING = Shares(
    pair=0.15, pattern=0.1, many=0.1, counted=0.1, gradient=0.15, figure=0.2, landscape=0.25, small=0.2, large=0.1,
    recolour=0.5, fault=0.15, emphasis=0.3, general=0.3, tags=0.3, shuffled=0.3, clip_skip=0.25, held_out=0.05,
)  # fmt: skip


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    """A preset with art of its own and a share of everything."""
    folder = tmp_path_factory.mktemp("art")
    preset = replace(small_preset(folder), shares=EVERYTHING)
    data.run(preset, write_packages(folder / "node_modules"))
    return preset


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text)


# Words


def emoji(label: str, hexcode: str, group: int, order: int, *tags: str, subgroup: int = 0) -> dict[str, object]:
    return {
        "label": label, "hexcode": hexcode, "group": group, "order": order, "tags": list(tags), "subgroup": subgroup
    }  # fmt: skip


ITEMS = [
    emoji("red heart", "2764", 0, 1, "love"),
    emoji("green heart", "1F49A", 0, 2, "love", "lucky"),
    emoji("red apple", "1F34E", 4, 3, "fruit"),
    emoji("flag: France", "1F1EB", 9, 4, subgroup=98),
    emoji("keycap: 1", "31", 8, 5, subgroup=94),
    emoji("man running", "1F3C3-200D-2642", 1, 6),
    emoji("person running", "1F3C3", 1, 7),
    emoji("student", "1F9D1-200D-1F393", 1, 8),
    emoji("man student", "1F468-200D-1F393", 1, 9),
    emoji("family: man, girl", "1F468-200D-1F467", 1, 10),
    emoji("three o’clock", "1F552", 5, 11),
    emoji("dragon face", "1F432", 3, 12, "fairy tale"),
]


def test_names_are_cleaned_and_letters_flags_and_variants_left_out():
    nouns = named_emoji(ITEMS)
    assert [noun.name for noun in nouns.values()] == [
        "heart", "heart", "red apple", "person running", "student", "dragon face",
    ]  # fmt: skip
    assert [nouns[code].colour for code in ("2764", "1F49A", "1F34E")] == ["red", "green", ""]
    assert nouns["2764"].several
    assert nouns["1F432"].names == ("dragon face", "fairy tale")
    assert not is_subject({"label": "regional indicator A", "hexcode": "1F1E6"})


def test_the_commonest_are_in_most_styles_and_groups_take_turns(tmp_path: Path):
    (tmp_path / "emoji.json").write_text(json.dumps(ITEMS))
    preset = replace(PRESETS["full"], data=tmp_path)
    found = {"2764": 2, "1F49A": 2, "1F34E": 2, "1F432": 3, "1F3C3": 2}
    assert commonest(preset, found) == ["dragon face", "heart", "person running", "red apple"]


@pytest.mark.parametrize(
    ("one", "many"),
    [("cat", "cats"), ("cherry", "cherries"), ("box", "boxes"), ("glasses", "glasses"), ("key", "keys"),
     ("glass of milk", "glasses of milk"), ("octopus", "octopuses")],
)  # fmt: skip
def test_plurals(one: str, many: str):
    assert plural(one) == many


# Captions


def test_captions_repeat_with_the_same_generator_and_vary_with_another():
    writer = Captioner(CPU)
    texts = [writer.write(HEART, random.Random(seed)) for seed in range(50)]
    assert texts == [writer.write(HEART, random.Random(seed)) for seed in range(50)]
    assert len(set(texts)) > 20


def test_captions_name_what_is_seen_and_nothing_else():
    writer, rng = Captioner(CPU), random.Random(0)
    texts = [writer.write(HEART, rng) for _ in range(400)]
    assert all("heart" in text for text in texts)
    assert np.mean(["green" in text for text in texts]) > 0.9
    assert np.mean(["red" in text for text in texts]) > 0.8
    wrong = set(COLOURS) - {"red", "green"}
    assert not any(word in words_of(text) for text in texts for word in wrong)


def test_captions_say_where_a_small_picture_lies():
    writer, rng = Captioner(CPU), random.Random(0)
    texts = [writer.write(replace(HEART, scale=0.45, x=0.25, y=0.75), rng) for _ in range(100)]
    assert np.mean(["at the bottom left" in text for text in texts]) > 0.7


@pytest.mark.parametrize(
    ("scene", "pattern", "share"),
    [
        (replace(HEART, layout="left", other="1F431"), r"heart .*left of an? .*(cat|kitt)", 1.0),
        (replace(HEART, layout="above", other="1F431"), r"heart (above|over|on top of) an? ", 1.0),
        (replace(HEART, layout="pattern"), r"pattern", 1.0),
        (replace(HEART, layout="3"), r"(three|3) .*hearts", 1.0),
        (replace(HEART, layout="many"), r"(many|lots of|group of|several) .*hearts", 1.0),
        (replace(HEART, ground="gradient", second="pink"), r"green.* pink.*gradient|gradient.*green and pink", 0.9),
        (replace(HEART, ground="night"), r"night", 0.9),
        (replace(HEART, colour="blue"), r"\bblue\b", 1.0),
        (replace(HEART, fault="blurred"), r"blur", 1.0),
        (replace(HEART, fault="jpeg"), r"jpeg|low quality", 1.0),
        (replace(HEART, scale=0.98), r"large|big|huge|close-up", 0.8),
    ],
)  # fmt: skip
def test_captions_tell_everything_that_a_scene_can_have(scene: Scene, pattern: str, share: float):
    writer, rng = Captioner(CPU), random.Random(0)
    texts = [writer.write(scene, rng) for _ in range(100)]
    assert np.mean([bool(re.search(pattern, text)) for text in texts]) >= share, texts[:9]


def test_quality_words_only_praise_clean_pictures():
    writer, rng = Captioner(CPU), random.Random(0)
    texts = [writer.write(replace(HEART, fault="blurred"), rng) for _ in range(300)]
    assert not any(word in text for text in texts for word in ("masterpiece", "best quality", "sharp"))


def test_the_vocabulary_has_every_word_of_the_captions(rich: Preset):
    plain = replace(rich, shares=replace(rich.shares, unknown=0.0))
    subjects, writer, tokenizer = data.load_art(rich).subjects(rich), Captioner(plain), ClipTokenizer()
    known, rng = used_tokens(writer, tokenizer) | {BEGIN, END}, random.Random(0)
    for number in range(1500):
        scene = draw_scene(subjects, "words", number)
        ids, _ = framed_caption(tokenizer, writer, scene, rng)
        assert set(ids) <= known, scene


# Scenes


def test_a_scene_is_always_the_same_and_the_shares_are_kept(rich: Preset):
    subjects = data.load_art(rich).subjects(rich)
    scenes = [draw_scene(subjects, "test", number) for number in range(3000)]
    assert scenes[:50] == [draw_scene(subjects, "test", number) for number in range(50)]
    assert scenes[:50] != [draw_scene(subjects, "other", number) for number in range(50)]
    shares = rich.shares
    layouts = Counter("pair" if scene.layout in RELATIONS else scene.layout for scene in scenes)
    assert layouts["pair"] / 3000 == pytest.approx(shares.pair, abs=0.03)
    assert sum(layouts[count] for count in "234") / 3000 == pytest.approx(shares.counted, abs=0.03)
    assert sum(bool(scene.fault) for scene in scenes) / 3000 == pytest.approx(shares.fault, abs=0.03)
    assert sum(scene.ground != "plain" for scene in scenes) / 3000 == pytest.approx(0.6, abs=0.03)
    by_noun = Counter(subjects.nouns[scene.hexcode].name for scene in scenes)
    assert max(by_noun.values()) < 1.1 * min(by_noun.values())


def test_every_scene_has_facts_that_the_reader_knows(rich: Preset):
    subjects, known = data.load_art(rich).subjects(rich), known_facts(rich)
    for number in range(1000):
        scene = draw_scene(subjects, "facts", number)
        assert all(fact in values for fact, values in zip(facts(scene), known, strict=True)), scene


def test_held_out_pairs_are_never_drawn_and_are_about_the_share():
    codes = [f"{code:X}" for code in range(0x1F300, 0x1F500)]
    many = replace(
        PRESETS["full"], styles=("3d", "flat", "noto"), subjects={code: {code: ""} for code in codes},
        shares=replace(EVERYTHING, recolour=0.0),
    )  # fmt: skip
    subjects = Subjects(many, {(style, code) for style in many.styles for code in codes})
    assert len(subjects.held_out) / (3 * len(codes)) == pytest.approx(0.05, abs=0.015)
    drawn = {(scene.hexcode, scene.style) for n in range(4000) for scene in (draw_scene(subjects, "x", n),)}
    assert not drawn & set(subjects.held_out)
    assert len(drawn) > 0.9 * len(subjects.trained)


def test_the_vae_never_sees_held_out_emoji_among_its_general_pictures(rich: Preset):
    subjects = data.load_art(rich).subjects(rich)
    codes = {general_scene(subjects, "vae", number).hexcode for number in range(300)}
    assert not any(picture_held_out(code) for code in codes)
    assert all(picture_held_out(general_scene(subjects, "t", number, test=True).hexcode) for number in range(5))


def test_single_subjects_lie_on_the_latent_grid(rich: Preset):
    preset = replace(rich, shares=Shares(small=0.2), colours=("red", "blue"))
    subjects = data.load_art(preset).subjects(preset)
    for number in range(50):
        scene = draw_scene(subjects, "grid", number)
        assert (scene.x * 16).is_integer()
        assert (scene.y * 16).is_integer()
        assert scene.background in preset.colours
        assert (scene.ground, scene.layout, scene.fault, scene.colour) == ("plain", "", "", "")


@pytest.mark.parametrize(
    ("relation", "axis", "sign"), [("left", 0, 1), ("right", 0, -1), ("above", 1, 1), ("below", 1, -1)]
)
def test_relations_place_the_first_subject_so(relation: str, axis: int, sign: int):
    first, second = boxes(replace(HEART, layout=relation, other="1F431"))
    difference = (second.x - first.x, second.y - first.y)
    assert sign * difference[axis] > 0.3
    assert difference[1 - axis] == 0
    assert (first.hexcode, second.hexcode) == ("2764", "1F431")


# Painting


def test_a_code_that_occurs_twice_shifts_no_other(rich: Preset, tmp_path: Path):
    preset = replace(rich, data=tmp_path)
    folder = data.art_folder(preset)
    folder.mkdir(parents=True)
    pixels = np.stack([np.full((64, 64, 4), level, np.uint8) for level in (10, 20, 30)])
    np.save(folder / "3d.npy", pixels)
    (folder / "3d.json").write_text(json.dumps(["2764", "2764", "1F534"]))
    art = data.load_art(preset)
    assert art.pixels[art.rows["3d", "1F534"]].max() == 30
    assert art.pixels[art.rows["3d", "2764"]].max() == 10


def test_painting_shows_the_background_and_the_picture(rich: Preset):
    canvas = Canvas(data.load_art(rich), torch.device("cpu"))
    disc = Scene("3d", "1F534", "blue", 0.8, 0.5, 0.5)
    picture = canvas.pictures([disc])[0]
    assert np.abs(picture[1, 1].astype(int) - COLOURS["blue"]).max() <= 1
    assert border_colour(picture, tuple(COLOURS))[0] == "blue"
    middle = picture[rich.native_size // 2, rich.native_size // 2].astype(int)
    assert middle[0] > 180
    assert middle[1:].max() < 90
    right = canvas.pictures([replace(disc, scale=0.45, x=0.75)])[0].astype(int)
    redness = (right[..., 0] - right[..., 2]).clip(0)
    assert redness[:, 40:].sum() > 20 * redness[:, :24].sum()


def test_painting_all_kinds_of_scenes_gives_pictures_of_their_own(rich: Preset):
    art = data.load_art(rich)
    canvas, subjects = Canvas(art, torch.device("cpu")), art.subjects(rich)
    scenes = [draw_scene(subjects, "kinds", number) for number in range(200)]
    pictures = canvas.pictures(scenes)
    assert pictures.shape == (200, rich.native_size, rich.native_size, 3)
    assert len({picture.tobytes() for picture in pictures}) > 190
    again = canvas.pictures(scenes[7:9])
    assert np.array_equal(again, pictures[7:9])
    kinds = {scene.ground for scene in scenes} | {scene.fault for scene in scenes} | {scene.layout for scene in scenes}
    assert {"stripes", "dots", "checkers", "meadow", "night", "beach", "snow", "sunset", "gradient", "blurred", "jpeg",
            "pixelated", "pattern", "many", "left", "beside", "2", "3", "4"} <= kinds  # fmt: skip


@pytest.mark.parametrize("side", [0.45, 0.8])
def test_emphasis_sets_the_size_of_the_subject(rich: Preset, side: float):
    canvas = Canvas(data.load_art(rich), torch.device("cpu"))
    disc = Scene("3d", "1F534", "blue", side, 0.5, 0.5)
    weights = (0.4, 0.5, 0.8, 1.0, 1.25)
    pictures = canvas.pictures([replace(disc, emphasis=weight) for weight in weights])
    widths = [int((picture[..., 0] > 150).any(0).sum()) for picture in pictures]
    assert widths == sorted(set(widths)), widths
    assert widths[1] == pytest.approx(widths[3] / 2, abs=1)


@pytest.mark.parametrize("side", [0.45, 0.8])
def test_what_is_emphasised_stays_whole(rich: Preset, side: float):
    canvas = Canvas(data.load_art(rich), torch.device("cpu"))
    corner = Scene("3d", "1F534", "blue", side, 0.75, 0.75)
    before, after = (
        canvas.pictures([replace(corner, emphasis=weight)])[0, ..., 0].astype(int) > 150 for weight in (1.0, 1.5)
    )
    assert after.sum() > 1.3 * before.sum()
    rows, columns = after.any(1).sum(), after.any(0).sum()
    assert rows == pytest.approx(columns, abs=1), "a disc is cut off"
    edges = np.concatenate([after[0], after[-1], after[:, 0], after[:, -1]])
    assert not edges.any(), "no air around it"


def test_half_of_the_small_subjects_lie_in_the_middle():
    rng = random.Random(0)
    places = [place_single(CPU, rng) for _ in range(20_000)]
    small = [(x, y) for scale, x, y in places if scale == SMALL]
    assert len(small) == pytest.approx(20_000 * CPU.shares.small, rel=0.1)
    counts = Counter(small)
    assert len(counts) == 9
    assert counts.pop((0.5, 0.5)) / len(small) == pytest.approx(0.5 + 0.5 / 9, abs=0.03)
    assert min(counts.values()) > 0.5 * max(counts.values())


@pytest.mark.parametrize("emphasis", [0.5, 1.0])
def test_emphasis_weighs_the_subjects_noun_and_no_other_token(rich: Preset, emphasis: float):
    writer, tokenizer = Captioner(CPU), ClipTokenizer()
    cat = replace(HEART, hexcode="1F431", emphasis=emphasis)
    names = {tuple(tokenizer.encode(name)) for name in writer.nouns["1F431"].names}
    seen = set()
    for seed in range(60):
        ids, nouns = framed_caption(tokenizer, writer, cat, random.Random(seed))
        assert (len(ids), len(nouns)) == (77, 77)
        seen.add(tuple(token for token, is_noun in zip(ids, nouns, strict=True) if is_noun))
    assert seen & names
    assert seen <= names | {()}  # captions that are empty have none


def test_pieces_of_a_caption_make_up_its_text(rich: Preset):
    subjects, writer = data.load_art(rich).subjects(rich), Captioner(rich)
    for number in range(300):
        scene = draw_scene(subjects, "pieces", number)
        text = writer.write(scene, random.Random(number))
        assert text.isprintable(), repr(text)
        pieces = writer.pieces(scene, random.Random(number))
        assert "".join(piece for piece, _ in pieces) == text
        marked = [piece for piece, is_noun in pieces if is_noun]
        assert len(marked) == (0 if scene.layout else 1), pieces
        assert set(marked) <= set(writer.nouns[scene.hexcode].names), pieces


def test_faults_lose_detail(rich: Preset):
    canvas = Canvas(data.load_art(rich), torch.device("cpu"))
    scene = Scene("3d", "1F534", "white", 0.8, 0.5, 0.5, ground="checkers", second="black")

    def edges(fault: str) -> float:
        picture = canvas.pictures([replace(scene, fault=fault)])[0].astype(int)
        return float((np.diff(picture, axis=1) ** 2).mean())

    assert edges("blurred") < 0.7 * edges("")
    assert edges("pixelated") != edges("")
    assert edges("jpeg") != edges("")


def test_only_pictures_of_one_hue_are_recoloured_and_come_out_so(rich: Preset):
    art = data.load_art(rich)
    assert ("3d", "1F534") in art.recolourable
    assert ("3d", "1F308") not in art.recolourable
    assert ("3d", "26AB") not in art.recolourable
    canvas = Canvas(art, torch.device("cpu"))
    disc = canvas.pictures([Scene("3d", "1F534", "white", 0.8, 0.5, 0.5, colour="blue")])[0]
    middle = disc[rich.native_size // 2, rich.native_size // 2].astype(int)
    assert middle[2] > 150
    assert middle[0] < 100


def test_turning_the_hue_by_a_whole_turn_changes_nothing():
    x = torch.rand(2, 3, 5, 5)
    assert torch.allclose(turn_hue(x, torch.tensor([360.0, 0.0])), x, atol=1e-5)
    red = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1)
    assert torch.allclose(turn_hue(red, torch.tensor([120.0])).flatten(), torch.tensor([0.1, 0.8, 0.1]), atol=1e-6)
    assert set(HUES) <= set(COLOURS)


# Training


def test_packed_tokens_give_unused_words_the_unknown_row():
    tokens = PackedTokens({320, 2368})
    table = torch.randn(tokens.rows, 3)
    full = tokens.unpack(table)
    assert full.shape == (VOCABULARY, 3)
    assert torch.equal(full[tokens.used], table[1:])
    assert torch.equal(full[777], table[0])
    ids = torch.tensor([frame([320, 777, 2368])])
    assert ids.shape == (1, 77)
    assert ids[0, :6].tolist() == [BEGIN, 320, 777, 2368, END, END]
    assert torch.equal(full[ids], table[tokens.pack(ids)])


def test_schedule_is_sd1s():
    abar = alpha_bars()
    assert float(abar[0]) == pytest.approx(1 - 0.00085)
    assert float(abar[-1]) == pytest.approx(0.0046600, rel=1e-4)


def test_gradients_of_shares_add_up_to_the_batchs():
    weight = torch.nn.Parameter(torch.ones(3))
    x = torch.arange(12.0).reshape(4, 3)

    def gradient(parts: int) -> torch.Tensor:
        weight.grad = None
        shares = x.chunk(parts)
        backward_in_parts(parts, lambda part: ((shares[part] @ weight).square().mean(), []))
        return weight.grad.clone()

    threads = torch.get_num_threads()
    try:
        assert torch.allclose(gradient(1), gradient(2))
    finally:
        torch.set_num_threads(threads)


def test_a_schedule_of_steps_warms_up_and_falls():
    schedule = Schedule(Loop(batch=1, rate=1.0, steps=100, warmup=10), Clock())
    assert schedule.rate(0) == pytest.approx(0.1, rel=0.01)
    assert schedule.rate(9) > 0.95
    assert schedule.rate(50) < schedule.rate(20)
    assert schedule.rate(100) == pytest.approx(0.02)
    assert schedule.progress(100) == 1


def test_a_schedule_of_minutes_goes_by_the_clock_across_runs():
    loop = Loop(batch=1, rate=1.0, minutes=10, warmup=1)
    resumed = Schedule(loop, Clock(), step=500, minutes=9)
    assert resumed.progress(501) == pytest.approx(0.9, abs=0.01)
    assert resumed.rate(501) < 0.1
    last = Schedule(loop, Clock(time.time() + 180, last=True), step=500, minutes=3)
    assert last.planned == pytest.approx(6, abs=0.02)
    last.began -= 180
    assert last.progress(900) == pytest.approx(1, abs=0.01)
    assert last.total_steps(900) == pytest.approx(900, abs=3)


def test_batches_from_workers_are_those_made_at_home():
    home = list(islice(feed(squared, 3, torch.device("cpu")), 5))
    assert home == [9, 16, 25, 36, 49]
    assert list(islice(feed(squared, 3, torch.device("cuda")), 5)) == home


def squared(number: int) -> int:
    return number * number


def test_averaged_weights_are_found_by_name():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1, bias=False))
    weights = [torch.full((1, 1), 1.0), torch.full((1,), 2.0), torch.full((1, 1), 3.0)]
    swapped = {"names": ["0.1.weight", "0.0.bias", "0.0.weight"], "average": weights}
    fill([network], swapped)
    assert [p.item() for p in network.parameters()] == [3, 2, 1]
    fill([network], {"average": weights})
    assert [p.item() for p in network.parameters()] == [1, 2, 3]


def test_a_polite_kill_saves_and_ends(tmp_path: Path):
    preset, network = small_preset(tmp_path), torch.nn.Linear(1, 1)
    training = Training(preset, "vae", Loop(batch=1, rate=0.1, steps=50, warmup=1), [network], Clock(), ("loss",))

    def train() -> None:
        for step in training.steps():
            training.learn(lambda _: ((loss := network(torch.ones(1, 1)).square().mean()), [loss]), 1)
            if step == 2:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit, match="step 3"):
        train()
    state = load_state(preset.run / "vae.pt")
    assert state is not None
    assert (state["step"], state["done"]) == (3, False)
    again = Training(preset, "vae", Loop(batch=1, rate=0.1, steps=50, warmup=1), [network], Clock(), ("loss",))
    assert again.step == 3
    assert len(again.optimizer.state_dict()[0]["state"]) == 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_matrices_by_orthogonal_steps_and_adamw_the_rest(layout: torch.memory_format):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(16, 24, 3), torch.nn.GroupNorm(4, 24), torch.nn.Conv2d(24, 3, 3))
    network.to(memory_format=layout)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = Optimizer([network], rate=1e-2, muon=True, parts=2)
    optimizer.zero_grad()
    network(torch.randn(2, 16, 8, 8)).square().sum().backward()
    optimizer.step()
    moved = [now.detach() - then for now, then in zip(network.parameters(), before, strict=True)]
    assert all(change.abs().max() > 0 for change in moved)
    first = (moved[0] + 1e-2 * 0.01 * before[0]).flatten(1)  # without the decay
    spread = torch.linalg.svdvals(first)
    assert spread.max() / spread.min() < 2.5
    assert torch.allclose(moved[4].abs(), torch.tensor(1e-2), rtol=0.05)  # AdamW's first step: each value as far


def test_an_optimizers_state_goes_on_where_it_was():
    def trained(steps: int, start: tuple[dict, list[dict]] | None = None) -> tuple[torch.nn.Linear, Optimizer]:
        torch.manual_seed(0)
        network = torch.nn.Linear(16, 16)
        optimizer = Optimizer([network], rate=1e-2, muon=True, parts=1)
        if start:
            network.load_state_dict(start[0])
            optimizer.load_state_dict(start[1])
        for _ in range(steps):
            optimizer.zero_grad()
            network(torch.arange(16.0)).square().sum().backward()
            optimizer.step()
        return network, optimizer

    whole, _ = trained(4)
    half, optimizer = trained(2)
    rest, _ = trained(2, (half.state_dict(), optimizer.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


def test_clip_skip_reads_the_layer_before_through_the_final_norm():
    text = build_text(TINY, 50).eval()
    rows = torch.randint(0, 50, (2, 77))
    with torch.no_grad():
        full, skipped = text_states(text, rows, skip=False), text_states(text, rows, skip=True)
        shorter = build_text(replace(TINY, text_layers=1), 50).eval()
        shorter.load_state_dict(text.state_dict(), strict=False)
        assert torch.allclose(skipped, text_states(shorter, rows, skip=False), atol=1e-5)
    assert not torch.allclose(full, skipped, atol=1e-3)


def test_empty_captions_teach_the_reader_nothing(rich: Preset):
    torch.manual_seed(0)
    reader = CaptionReader(replace(rich, sizes=replace(rich.sizes, text=8)))
    states, labels = torch.randn(2, 77, 8), torch.zeros(2, 5, dtype=torch.long)
    said, empty = frame([320]), frame([])
    alone = reader.loss(states[:1], torch.tensor([said]), labels[:1])
    assert torch.allclose(reader.loss(states, torch.tensor([said, empty]), labels), alone)
    assert reader.loss(states, torch.tensor([empty, empty]), labels).item() == 0


def test_the_reader_reads_words_not_what_pads_them(rich: Preset):
    torch.manual_seed(0)
    reader = CaptionReader(replace(rich, sizes=replace(rich.sizes, text=8)))
    ids, labels = torch.tensor([frame([320, 321])]), torch.zeros(1, 5, dtype=torch.long)
    states = torch.randn(1, 77, 8)
    loss = reader.loss(states, ids, labels)
    padded, word = states.clone(), states.clone()
    padded[:, 3:] += 1
    word[:, 2] += 1
    assert torch.equal(reader.loss(padded, ids, labels), loss)
    assert not torch.allclose(reader.loss(word, ids, labels), loss)


def test_echo_is_what_a_noun_leaves_in_other_tokens():
    torch.manual_seed(0)
    text = build_text(TINY, 50).eval()
    rows, nouns = torch.randint(1, 50, (2, 77)), torch.zeros(2, 77, dtype=torch.bool)
    nouns[:, 5:7] = True
    with torch.no_grad():
        states = text_states(text, rows, skip=False)
        without = text_states(text, rows.masked_fill(nouns, 0), skip=False)
    assert torch.allclose(states[:, :5], without[:, :5], atol=1e-5), "the encoder is causal"
    expected = (states - without)[:, 7:].square().mean(2).sum() / (2 * 75)
    assert torch.allclose(echo(states, without, nouns), expected)
    assert echo(states, states, nouns).item() == 0


# Networks and files


def test_ldm_names_round_trip_and_are_sd1s():
    torch.manual_seed(0)
    networks = build_unet(TINY), build_vae(TINY), build_text(TINY)
    again = build_unet(TINY), build_vae(TINY), build_text(TINY)
    state = to_ldm(*networks)
    assert len(state) == sum(len(network.state_dict()) for network in networks)
    from_ldm(state, *again)
    for network, copy in zip(networks, again, strict=True):
        pairs = zip(network.state_dict().values(), copy.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    check_layout({key: tuple(value.shape) for key, value in state.items()}, TINY)


def test_folding_the_latent_scale_keeps_the_pictures():
    torch.manual_seed(0)
    vae = build_vae(TINY).eval()
    torch.nn.init.normal_(vae.quant_conv.bias)
    x, shift, spread = torch.randn(1, 3, 32, 32), torch.randn(4), torch.rand(4) + 0.5
    with torch.no_grad():
        before = vae.encode(x).latent_dist
        picture = vae.decode(before.mean).sample
        fold_latent_scale(vae, shift, spread)
        after = vae.encode(x).latent_dist
        white = (before.mean - shift[:, None, None]) / spread[:, None, None]
        assert torch.allclose(after.mean * 0.18215, white, atol=1e-5)
        assert torch.allclose(after.std * 0.18215, before.std / spread[:, None, None], rtol=1e-4)
        assert torch.allclose(vae.decode(after.mean).sample, picture, atol=1e-4)


def test_a_fresh_denoiser_predicts_nothing():
    unet = build_unet(TINY)
    start_as_skip(unet)
    with torch.no_grad():
        assert not unet(torch.randn(1, 4, 8, 8), 10, torch.randn(1, 77, TINY.text)).sample.any()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_fit_what_may_be_shipped_and_their_sidecars_tell_the_sizes(preset: Preset, tmp_path: Path):
    assert shipped_bytes(preset.sizes) < 48e6 - 200_000  # and the header
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(sidecar(preset)))
    assert sizes_of(tmp_path / "model.safetensors") == preset.sizes


def check_layout(shapes: dict[str, tuple[int, ...]], sizes: NetworkSizes) -> None:
    """The names and shapes by which SD 1.x files are told."""
    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
    first = sizes.unet[0]
    expected = {
        f"{unet}input_blocks.0.0.weight": (first, 4, 3, 3),
        f"{unet}input_blocks.1.1.proj_in.weight": (first, first, 1, 1),
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (first, sizes.text),
        f"{unet}input_blocks.9.0.op.weight": (sizes.unet[2], sizes.unet[2], 3, 3),
        f"{unet}middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (8 * sizes.unet[3], sizes.unet[3]),
        f"{unet}output_blocks.2.1.conv.weight": (sizes.unet[3], sizes.unet[3], 3, 3),
        f"{unet}output_blocks.5.2.conv.weight": (sizes.unet[2], sizes.unet[2], 3, 3),
        f"{unet}out.2.weight": (4, first, 3, 3),
        f"{vae}encoder.down.0.downsample.conv.weight": (sizes.vae[0], sizes.vae[0], 3, 3),
        f"{vae}decoder.mid.attn_1.q.weight": (sizes.vae[3], sizes.vae[3], 1, 1),
        f"{vae}decoder.up.0.block.2.conv2.weight": (sizes.vae[0], sizes.vae[0], 3, 3),
        f"{vae}quant_conv.weight": (8, 8, 1, 1),
        f"{text}embeddings.token_embedding.weight": (VOCABULARY, sizes.text),
        f"{text}encoder.layers.0.self_attn.q_proj.weight": (sizes.text, sizes.text),
        f"{text}final_layer_norm.weight": (sizes.text,),
    }
    assert {key: shapes.get(key) for key in expected} == expected
    assert {key.split(".")[0] for key in shapes} == {"model", "first_stage_model", "cond_stage_model"}


def shipped_facts() -> dict:
    with safe_open(CHECKPOINT, "pt") as file:
        return json.loads(file.metadata()["easel"])


def test_the_shipped_checkpoint_has_sd1s_layout_and_tells_what_shapes_cannot():
    with safe_open(CHECKPOINT, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
    sizes, facts_ = sizes_of(CHECKPOINT), shipped_facts()
    check_layout({key: tuple(view.get_shape()) for key, view in slices.items()}, sizes)
    assert {view.get_dtype() for view in slices.values()} == {"F16"}
    assert CHECKPOINT.stat().st_size < 48e6
    assert facts_["num_heads"] == sizes.unet_heads
    assert facts_["norm_num_groups"] == sizes.unet_groups
    assert facts_["vae_norm_num_groups"] == sizes.vae_groups
    assert facts_["text_heads"] == sizes.text_heads
    assert facts_["licence"]


def test_the_sidecar_agrees_with_the_metadata():
    facts_ = shipped_facts()
    params = yaml.safe_load(CHECKPOINT.with_suffix(".yaml").read_text())["model"]["params"]
    assert params["native_size"] == facts_["native_size"]
    assert params["scale_factor"] == 0.18215


def test_notice_names_exactly_the_art_that_the_shipped_file_learned_from():
    text, trained_on = (REPOSITORY / "NOTICE").read_text(), shipped_facts()["trained_on"]
    assert trained_on
    assert set(trained_on) <= {style.credit for style in STYLES.values()}
    for style in STYLES.values():
        assert (notice([style.word]) in text) == (style.credit in trained_on), style.word
        assert (f"{style.package} {style.version}" in text) == (style.credit in trained_on), style.word


def test_the_figures_are_of_the_shipped_file_and_hold_its_bars():
    figures = json.loads(card.FIGURES.read_text())
    assert figures["sha256"] == hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    assert figures["sampler"] == "DPM++ 2M, 20 steps, CFG 5"
    assert figures["vae_psnr_db"]["held_out"] >= 26
    assert figures["subject_top1"] >= 0.8
    assert figures["subject_top5"] >= 0.9
    assert figures["style"] >= 0.8
    assert figures["background"] >= 0.9
    for weights in (figures["weights"], figures["weights_small"]):
        assert weights["0.5"] < weights["1.0"] < weights["1.5"]
    assert figures["negative"]["with"] < figures["negative"]["without"]
    assert figures["inpainting"]["outside_max"] == 0
    assert figures["seeds_mean_distance"] > 0


def test_the_document_quotes_the_figures():
    figures, text = json.loads(card.FIGURES.read_text()), card.DOCUMENT.read_text()
    assert card.with_blocks(text, figures) == text


def test_npm_packages_are_those_of_the_styles():
    pinned = json.loads((REPOSITORY / "tools/embedded_model/npm/package.json").read_text())["dependencies"]
    assert {name: version for name, version in pinned.items() if name != "emojibase-data"} == {
        style.package: style.version for style in STYLES.values()
    }


def test_the_presets_subjects_have_one_name_a_hexcode():
    nouns = nouns_of(PRESETS["cpu"])
    assert len(nouns) == sum(len(codes) for codes in PRESETS["cpu"].subjects.values())
