"""The frame loop: how many frames, from what each is painted, and that a stopped run goes on as if it hadn't been."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest

from extensions.deforum.animation import Animation, Diffusion
from extensions.deforum.presets import FLIGHT
from extensions.deforum.preview import paint_preview
from extensions.deforum.run import BlankFrame, Materials, State, frames
from extensions.deforum.settings_files import read_settings
from webui.extensions.api import InvalidRequest

SIZE = {"W": 64, "H": 64, "seed": 100, "legacy_colormatch": False}


def picture(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth colours, so that motion can be told."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.kron(small, np.ones((height // 8, width // 8, 1), dtype=np.uint8))


class Painter:
    """Gives the init tinted by the seed, or colours of the seed where there is no init; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Diffusion]] = []

    def __call__(self, init: Any, asked: Diffusion) -> np.ndarray:
        self.asked.append((init, asked))
        paint = picture(asked.seed % 1000, *(init.shape[:2] if init is not None else (64, 64)))
        if init is None:
            return paint
        return np.rint(init * (1 - asked.denoising) + paint * asked.denoising).astype(np.uint8)


def made_of(given: dict[str, Any], **materials: Any) -> tuple[dict[int, np.ndarray], Painter]:
    animation = Animation(read_settings({**SIZE, **given}).settings, 100)
    painter = Painter()
    return {made.number: made.picture for made in frames(animation, Materials(**materials), painter)}, painter


VIDEO = [picture(number) for number in range(900, 920)]
RICH: list[dict[str, Any]] = [
    {"max_frames": 7, "diffusion_cadence": 1, "angle": "0:(5)", "seed_behavior": "random"},
    {"max_frames": 11, "diffusion_cadence": 3, "zoom": "0:(1.1)", "optical_flow_cadence": "DIS Medium"},
    {"max_frames": 9, "diffusion_cadence": 4, "animation_mode": "3D", "seed_behavior": "ladder"},
    {"max_frames": 6, "diffusion_cadence": 2, "hybrid_composite": "Normal", "hybrid_motion": "Optical Flow",
     "hybrid_flow_method": "Farneback", "color_coherence": "RGB"},
    {"max_frames": 5, "animation_mode": "Interpolation", "seed_behavior": "schedule", "seed_schedule": "0:(-1)"},
    {"max_frames": 6, "diffusion_cadence": 1, "legacy_colormatch": True, "diffusion_redo": 2,
     "optical_flow_redo_generation": "DIS Fine"},
]  # fmt: skip


@pytest.mark.parametrize("given", RICH)
def test_a_stopped_run_goes_on_bit_for_bit(given: dict[str, Any]) -> None:
    animation = Animation(read_settings({**SIZE, **given}).settings, 100)
    materials = Materials(video=VIDEO.__getitem__)
    whole = list(frames(animation, materials, Painter()))
    assert [made.number for made in whole] == list(range(given["max_frames"]))
    for stop in sorted(random.Random(repr(given)).sample(range(len(whole)), 3)):
        state = State.from_bytes(whole[stop].state.to_bytes())
        rest = list(frames(animation, materials, Painter(), state))
        assert [made.number for made in rest] == [made.number for made in whole[stop + 1 :]]
        for ours, theirs in zip(rest, whole[stop + 1 :], strict=True):
            assert (ours.picture == theirs.picture).all(), (stop, ours.number)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"nonsense", State.to_bytes])
def test_a_broken_state_is_refused(data: Any) -> None:
    if callable(data):
        animation = Animation(read_settings({**SIZE, "max_frames": 1}).settings, 100)
        good = data(next(frames(animation, Materials(), Painter())).state)
        data = good[: len(good) // 2]
    with pytest.raises(InvalidRequest):
        State.from_bytes(data)


@pytest.mark.parametrize("cadence", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("count", [1, 2, 9, 10])
def test_exactly_so_many_frames(cadence: int, count: int) -> None:
    made, painter = made_of({"max_frames": count, "diffusion_cadence": cadence})
    assert sorted(made) == list(range(count))
    assert [asked.frame for _, asked in painter.asked] == list(range(0, count, cadence))
    assert [asked.seed for _, asked in painter.asked] == list(range(100, 100 + len(painter.asked)))


def test_in_betweens_are_blended() -> None:
    still = {"zoom": "0:(1)", "strength_schedule": "0:(0)", "color_coherence": "None", "noise_schedule": "0:(0)"}
    made, _ = made_of({**still, "max_frames": 15, "diffusion_cadence": 5, "animation_mode": "2D"})
    first, second = picture(100), picture(101)
    assert (made[0] == first).all()
    for number, share in zip(range(5, 10), (0.2, 0.4, 0.6, 0.8, 1), strict=True):
        assert np.abs(made[number] - (first * (1 - share) + second * share)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("given", "frame", "denoising", "has_init"),
    [
        ({}, 0, 1.0, False),
        ({"use_init": True, "strength": 0.3}, 0, 0.7, True),
        ({"use_init": True, "strength": 0.0}, 0, 1.0, False),
        ({"use_init": True, "strength": 0.0, "strength_0_no_init": False}, 0, 1.0, True),
        ({"strength_schedule": "0:(0.65), 2:(0.25)"}, 1, 0.55, True),
        ({"strength_schedule": "0:(0)"}, 1, 1.0, True),
        ({"strength_schedule": "0:(7)"}, 1, 0.0, True),
        ({"animation_mode": "Interpolation"}, 2, 1.0, False),
        ({"animation_mode": "Video Input", "strength_schedule": "0:(0.4)"}, 2, 0.6, True),
    ],
)
def test_strength_and_init(given: dict[str, Any], frame: int, denoising: float, has_init: bool) -> None:
    materials = {"init": picture(1)} if given.get("use_init") else {}
    materials |= {"video": VIDEO.__getitem__} if given.get("animation_mode") == "Video Input" else {}
    _, painter = made_of({"max_frames": 3, "diffusion_cadence": 1, **given}, **materials)
    init, asked = painter.asked[frame]
    assert asked.denoising == pytest.approx(denoising if has_init or not materials else 1.0)
    assert (init is not None) == has_init


def test_video_frames_are_the_inits() -> None:
    _, painter = made_of({"max_frames": 4, "animation_mode": "Video Input"}, video=VIDEO.__getitem__)
    assert all((init == VIDEO[number]).all() for number, (init, _) in enumerate(painter.asked))


def test_what_is_scheduled_reaches_the_model() -> None:
    given = {
        "max_frames": 3, "diffusion_cadence": 1, "cfg_scale_schedule": "0:(5), 2:(7)", "enable_steps_scheduling": True,
        "steps_schedule": "0:(10+t)", "enable_sampler_scheduling": True, "sampler_schedule": '0:("Euler"), 1:("DDIM")',
        "enable_checkpoint_scheduling": True, "checkpoint_schedule": '0:("a"), 2:("b")',
        "enable_clipskip_scheduling": True,
        "enable_subseed_scheduling": True, "subseed_schedule": "0:(5+t)", "subseed_strength_schedule": "0:(0.25)",
        "enable_ddim_eta_scheduling": True, "ddim_eta_schedule": "0:(0.5)", "enable_ancestral_eta_scheduling": True,
        "prompts": {"0": "a --neg b"}, "animation_prompts_positive": "fine", "animation_prompts_negative": "bad",
    }  # fmt: skip
    _, painter = made_of(given)
    asked = painter.asked[2][1]
    assert (asked.cfg_scale, asked.steps, asked.sampler, asked.checkpoint) == (7, 12, "DDIM", "b")
    assert (asked.subseed, asked.subseed_strength, asked.clip_skip) == (7, 0.25, 2)
    assert (asked.ddim_eta, asked.ancestral_eta, asked.noise_multiplier) == (0.5, 1, 1.05)
    assert (asked.prompt, asked.negative) == ("fine a", "b  bad")
    _, painter = made_of({"max_frames": 1, "enable_noise_multiplier_scheduling": False})
    asked = painter.asked[0][1]
    assert (asked.steps, asked.sampler, asked.checkpoint, asked.clip_skip) == (25, "Euler a", None, None)
    assert (asked.ddim_eta, asked.ancestral_eta, asked.noise_multiplier, asked.subseed_strength) == (
        None,
        None,
        None,
        0,
    )


def test_scheduled_seeds() -> None:
    given = {"max_frames": 8, "diffusion_cadence": 1, "seed_behavior": "schedule"}
    _, painter = made_of({**given, "seed_schedule": '0: (s), 2: (555), 3: (t*11+5), "max_f-1": (s+1)'})
    assert [asked.seed for _, asked in painter.asked] == [100, 100, 555, 38, 49, 60, 101, 101]
    _, painter = made_of({**given, "animation_mode": "Interpolation", "max_frames": 7,
                          "seed_schedule": "0: (200), 2: (555), 3: (t*11+5), 6: (9)"})  # fmt: skip
    assert [asked.seed for _, asked in painter.asked] == [200, 377, 555, 38, 49, 60, 9]


def test_colours_stay_those_of_the_first_picture() -> None:
    made, _ = made_of({"max_frames": 4, "diffusion_cadence": 1, "color_coherence": "RGB"})
    for number in range(1, 4):
        for channel in range(3):
            assert abs(np.median(made[number][..., channel]) - np.median(made[0][..., channel])) <= 6


def test_an_image_rules_the_colours() -> None:
    flat = np.full((64, 64, 3), (40, 90, 200), dtype=np.uint8)
    made, _ = made_of({"max_frames": 2, "diffusion_cadence": 1, "color_coherence": "Image"}, color_sample=flat)
    assert np.abs(made[1].astype(int) - flat).max() <= 6


def test_grayscale() -> None:
    made, _ = made_of({"max_frames": 2, "diffusion_cadence": 1, "color_force_grayscale": True})
    assert (np.ptp(made[1].astype(int), axis=-1) == 0).all()


def test_mask_keeps_the_init_outside() -> None:
    mask = np.zeros((64, 64))
    mask[:32] = 1
    init = picture(3)
    for overlay in (True, False):
        given = {"max_frames": 4, "diffusion_cadence": 2, "use_init": True, "strength": 0.1, "overlay_mask": overlay}
        made, painter = made_of(given, init=init, mask=lambda frame: mask)
        assert all((made[number][32:] == init[32:]).all() for number in made) == overlay
        assert all(asked.mask is mask for _, asked in painter.asked)


def test_noise_mask() -> None:
    everywhere, nowhere = np.ones((64, 64)), np.zeros((64, 64))
    given = {"max_frames": 2, "diffusion_cadence": 1, "noise_schedule": "0:(0.5)", "zoom": "0:(1)",
             "amount_schedule": "0:(0)", "use_noise_mask": True, "color_coherence": "None"}  # fmt: skip
    made, painter = made_of(given, noise_mask=lambda frame: nowhere)
    assert np.abs(painter.asked[1][0].astype(int) - (made[0] * 0.5 + 127 * 0.5)).max() <= 1
    _, painter = made_of(given, noise_mask=lambda frame: everywhere)
    assert np.abs(painter.asked[1][0].astype(int) - (made[0] * 0.5 + 127 * 0.5)).max() > 50


@pytest.mark.parametrize("when", ["Normal", "Before Motion", "After Generation"])
def test_hybrid_composite(when: str) -> None:
    given = {"max_frames": 2, "diffusion_cadence": 1, "hybrid_composite": when, "hybrid_comp_alpha_schedule": "0:(1)",
             "noise_schedule": "0:(0)", "amount_schedule": "0:(0)", "color_coherence": "None",
             "zoom": "0:(1)"}  # fmt: skip
    made, painter = made_of(given, video=VIDEO.__getitem__)
    seen = made[1] if when == "After Generation" else painter.asked[1][0]
    assert (seen == VIDEO[1]).all()


@pytest.mark.parametrize("kind", ["Optical Flow", "Perspective", "Affine"])
def test_hybrid_motion(kind: str) -> None:
    scene = np.random.default_rng(1).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    import cv2

    scene = cv2.GaussianBlur(scene, (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    video = [scene[16:144, 16 + 3 * step : 144 + 3 * step].copy() for step in range(3)]
    given = {"W": 128, "H": 128, "max_frames": 2, "diffusion_cadence": 1, "hybrid_motion": kind, "zoom": "0:(1)",
             "hybrid_flow_method": "DIS Fine", "noise_schedule": "0:(0)", "amount_schedule": "0:(0)", "use_init": True,
             "color_coherence": "None", "strength": 1, "strength_schedule": "0:(1)"}  # fmt: skip
    made, _ = made_of(given, video=video.__getitem__, init=video[0])
    inner = slice(20, 108)
    error = np.abs(made[1].astype(int) - video[1])[inner, inner].mean()
    assert error < 0.4 * np.abs(video[0].astype(int) - video[1])[inner, inner].mean()


def test_guides() -> None:
    guides = {0: picture(5), 4: picture(6)}
    given = {"max_frames": 6, "diffusion_cadence": 1, "use_looper": True, "image_strength_schedule": "0:(0.6)",
             "tweening_frames_schedule": "0:(3)", "seed_schedule": "0:(100+t)", "noise_schedule": "0:(0)"}  # fmt: skip
    _, painter = made_of(given, guides=guides)
    assert [asked.seed for _, asked in painter.asked] == [100, 101, 102, 103, 104, 105]
    assert all(asked.denoising == pytest.approx(0.4) for _, asked in painter.asked)
    assert (painter.asked[0][0] == guides[0]).all()
    assert painter.asked[0][1].color_target is None
    assert painter.asked[1][1].color_target is not None


def test_redone_passes_have_seeds_of_their_own() -> None:
    given = {"max_frames": 3, "diffusion_cadence": 1, "diffusion_redo": 2, "optical_flow_redo_generation": "DIS Medium"}
    _, painter = made_of(given)
    assert [asked.frame for _, asked in painter.asked] == [0] + [1] * 4 + [2] * 4
    assert [asked.seed for _, asked in painter.asked][::4] == [100, 101, 102]
    assert len({asked.seed for _, asked in painter.asked}) == 9


@pytest.mark.parametrize(("choice", "calls"), [("ignore", 1), ("interrupt", 1), ("reroll", 4)])
def test_black_pictures(choice: str, calls: int) -> None:
    animation = Animation(
        read_settings({**SIZE, "max_frames": 1, "reroll_blank_frames": choice, "reroll_patience": 3}).settings, 100
    )
    seeds: list[int] = []

    def black(init: Any, asked: Diffusion) -> np.ndarray:
        seeds.append(asked.seed)
        return np.zeros((64, 64, 3), dtype=np.uint8)

    if choice == "ignore":
        assert len(list(frames(animation, Materials(), black))) == 1
    else:
        with pytest.raises(BlankFrame, match="Frame 0"):
            list(frames(animation, Materials(), black))
    assert len(set(seeds)) == calls


def test_depth_is_that_of_the_picture_that_moves() -> None:
    seen: list[tuple[int, ...]] = []

    def depth(shown: np.ndarray, frame: int) -> np.ndarray:
        seen.append(shown.shape)
        assert shown.dtype == np.uint8
        return np.ones(shown.shape[:2])

    given = {"max_frames": 7, "diffusion_cadence": 3, "animation_mode": "3D", "optical_flow_cadence": "DIS Medium"}
    made_of(given, depth=depth)
    assert seen
    count = len(seen)
    made_of({**given, "use_depth_warping": False}, depth=depth)
    assert len(seen) == count


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"angle": "0:(1/0)"}, "angle"),
        ({"zoom": "nothing"}, "zoom"),
        ({"prompts": {"x": "a"}}, "prompts"),
        ({"enable_steps_scheduling": True, "steps_schedule": "0:(q)"}, "steps_schedule"),
    ],
)
def test_mistakes_are_told_before_the_first_frame(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Animation(read_settings({**SIZE, **given}).settings, 100)


def test_values_to_be_plotted() -> None:
    animation = Animation(read_settings({**SIZE, "max_frames": 5, "angle": "0:(0), 4:(8)"}).settings, 100)
    assert animation.plot("angle") == [0, 2, 4, 6, 8]


def test_schedules_that_are_off_may_be_anything() -> None:
    Animation(read_settings({**SIZE, "steps_schedule": "0:(q)"}).settings, 100)


def test_memory_is_flat_over_500_frames() -> None:
    """Pages of the process after frame 100, and after the last one."""
    settings = read_settings({**SIZE, **FLIGHT, "diffusion_cadence": 2}).settings
    own, pages = psutil.Process(), dict[int, int]()
    for made in frames(Animation(settings, 100), Materials(), paint_preview(64, 64)):
        made.state.to_bytes()
        pages[made.number] = own.memory_info().rss
    assert sorted(pages) == list(range(500))
    assert pages[499] - pages[100] < 8 * 2**20


def test_odd_sizes() -> None:
    painter: Callable[..., Any] = Painter()
    animation = Animation(
        read_settings({**SIZE, "W": 71, "H": 66, "max_frames": 2, "diffusion_cadence": 1}).settings, 1
    )
    assert (animation.settings.width, animation.settings.height) == (64, 64)
    assert len(list(frames(animation, Materials(), painter))) == 2
