"""The stages `motion` and `animate`: clips as data, the training beside the shipped checkpoint, the file it writes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from extensions.animatediff.motion.network import Motion
from tests.tools.embedded_model_art import small_preset, write_packages
from tools.embedded_model import data, motion
from tools.embedded_model.canvas import Canvas
from tools.embedded_model.captions import Captioner
from tools.embedded_model.config import PRESETS, Loop, Preset, Shares
from tools.embedded_model.export import load_exported
from tools.embedded_model.moves import DIRECTIONS, FRAMES, WORDS, caption, direction, draw_moving, framed_caption
from tools.embedded_model.scenes import draw_scene
from tools.embedded_model.tokens import PackedTokens
from tools.embedded_model.unet import alpha_bars, used_tokens
from webui.prompts.tokenizer import ClipTokenizer

LARGEST = 6e6  # bytes of what may be shipped


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    """Art that a test drew, for the shipped checkpoint."""
    folder = tmp_path_factory.mktemp("motion")
    preset = replace(small_preset(folder), motion=Loop(batch=2, steps=2, rate=1e-3, warmup=1, muon=True), clips=2)
    preset = replace(preset, shares=Shares(), colours=("white",))  # nothing for flow to see but the subject
    data.run(preset, write_packages(folder / "packages"))
    return preset


@pytest.fixture(scope="module")
def canvas(preset: Preset) -> Canvas:
    return Canvas(data.load_art(preset), torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(preset: Preset) -> Path:
    """Two steps, then two more in another run; what was written of them."""
    motion.run(preset)
    clips = (preset.run / "clips.pt").stat().st_mtime_ns
    motion.run(replace(preset, motion=replace(preset.motion, steps=4)))
    assert (preset.run / "clips.pt").stat().st_mtime_ns == clips, "the latents were made again"
    file = preset.run / "motion.safetensors"
    motion.export(preset, file)
    return file


@pytest.mark.parametrize("move", DIRECTIONS)
def test_flow_tells_the_direction_of_painted_clips(preset: Preset, canvas: Canvas, move: str):
    subjects = data.load_art(preset).subjects(preset)
    clips = [draw_moving(subjects, "test", number, move) for number in range(6)]
    assert [direction(canvas.pictures(list(clip.frames))) for clip in clips] == [move] * 6


def test_what_only_turns_or_grows_goes_nowhere(preset: Preset, canvas: Canvas):
    subjects = data.load_art(preset).subjects(preset)
    still = canvas.pictures([replace(draw_scene(subjects, "test", 1), layout="")] * FRAMES)
    assert direction(still) == ""
    for move in ("in", "out", "turn"):
        frames = draw_moving(subjects, "test", 2, move).frames
        assert len({(frame.x, frame.y) for frame in frames}) == 1
        assert len({(frame.scale, frame.angle) for frame in frames}) == FRAMES


def test_a_scene_is_turned_clockwise(preset: Preset, canvas: Canvas):
    scene = replace(draw_scene(data.load_art(preset).subjects(preset), "test", 3), scale=0.8, x=0.5, y=0.5)
    scene = replace(scene, layout="", fault="", emphasis=1.0, ground="plain", colour="")
    straight, turned = canvas.pictures([scene, replace(scene, angle=90.0)])
    assert np.abs(np.rot90(straight, -1).astype(int) - turned).max() <= 1
    assert np.array_equal(canvas.pictures([replace(scene, angle=0.0)])[0], straight)


def test_no_two_moves_read_alike_to_the_checkpoint():
    """Its text encoder has one row for all words that it doesn't know."""
    tokenizer = ClipTokenizer()
    tokens = PackedTokens(used_tokens(Captioner(PRESETS["cpu"]), tokenizer))
    read = {
        tuple(tokens.pack(torch.tensor(tokenizer.encode(words))).tolist()): move
        for move, texts in WORDS.items()
        for words in texts
    }
    assert len(read) == sum(map(len, WORDS.values()))


def test_captions_say_the_move_mostly(preset: Preset):
    subjects, writer, tokenizer = data.load_art(preset).subjects(preset), Captioner(preset), ClipTokenizer()
    clips = [draw_moving(subjects, "test", number) for number in range(300)]
    assert {clip.move for clip in clips} == set(WORDS)
    assert clips[7] == draw_moving(subjects, "test", 7)
    rng = random.Random(0)
    for clip in clips[:20]:
        words = WORDS[clip.move][0]
        assert words in caption(writer, clip, rng, words)
    moving = tokenizer.encode("moving")[0]
    pushed = [clip for clip in clips if clip.move in DIRECTIONS]
    told = sum(moving in framed_caption(tokenizer, writer, clip, rng) for clip in pushed)
    assert 0.7 < told / len(pushed) < 0.95  # the others have no caption, or one without the move


def test_a_fresh_module_changes_nothing_and_one_sees_the_frames_that_it_is_told():
    unet, _, text, _ = load_exported()
    fresh = motion.build_motion(unet.config.block_out_channels)
    layers = motion.trained_layers(fresh)
    before = {name: value.clone() for name, value in layers.named_buffers()}
    x0, eps = torch.randn(2, 1, 3, 4, 8, 8, generator=torch.manual_seed(0))
    t, ids = torch.tensor([900]), torch.tensor([[49406] + [49407] * 76])
    given = (x0, eps, alpha_bars()[t], t, ids)
    fresh.clip.frames = 3
    with torch.no_grad():
        plain = motion.clip_error(unet, text, *given)
        with fresh.attached(unet):
            assert torch.equal(motion.clip_error(unet, text, *given), plain)
            for module in fresh.modules.values():
                torch.nn.init.normal_(module.proj_out.weight, std=0.1)
            first = motion.clip_error(unet, text, *given)
            with motion.seeing(layers, (0, 7, 15)):
                assert not torch.equal(motion.clip_error(unet, text, *given), first)
            assert torch.equal(motion.clip_error(unet, text, *given), first)
    assert all(torch.equal(value, before[name]) for name, value in layers.named_buffers())


def test_training_goes_on_where_it_was_and_the_extension_reads_what_it_wrote(preset: Preset, trained: Path):
    made, step = motion.load_motion(preset)
    assert step == 4
    rows = (preset.run / "motion.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rows] == ["step", "2", "4"]
    assert trained.stat().st_size < LARGEST
    read = Motion.read(trained, torch.device("cpu"), torch.float32)
    assert (read.family.name, read.family.betas, read.family.positions) == ("AnimateDiff v2", "checkpoint", 32)
    unet, _, _, _ = load_exported()
    read.require_fit(unet, "the embedded model")
    assert set(read.modules) == set(motion.PLACES)
    for place, module in made.modules.items():
        state = read.modules[place].state_dict()
        for name, value in module.state_dict().items():
            assert torch.equal(state[name], value.half().float()), (place, name)
    assert not any(read.modules[place].proj_out.weight.any() for place in motion.SILENT)
    assert any(module.proj_out.weight.any() for module in read.modules.values()), "nothing was learned"
    motion.preview(preset, count=1, steps=1)
    assert (preset.run / "motion.png").is_file()
