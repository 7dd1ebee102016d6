"""Parseq manifests, presets, plots and subtitles: what the numbers of each frame are taken from and given to."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from extensions.deforum.animation import Animation
from extensions.deforum.parseq import with_manifest
from extensions.deforum.plots import plot_schedules
from extensions.deforum.presets import PRESETS
from extensions.deforum.preview import paint_preview
from extensions.deforum.run import Materials, frames, start
from extensions.deforum.settings import Settings
from extensions.deforum.settings_files import read_settings
from extensions.deforum.subtitles import subtitles
from webui.extensions.api import InvalidRequest

MANIFEST = {
    "options": {"output_fps": 24, "cc_cadence": 3},
    "rendered_frames": [
        {"frame": number, "angle": number * 10, "angle_delta": 10, "zoom": 1.5, "noise": 0.01 * number,
         "seed": 7 + number, "strength": 0.5, "scale": 7.25, "subseed": 3, "subseed_strength": 1e-7,
         "deforum_prompt": f"frame {number}", "deforum_neg_prompt": "dog"}
        for number in range(4)
    ],
}  # fmt: skip


def settings_of(**given: Any) -> Settings:
    return read_settings(given).settings


@pytest.mark.parametrize("as_file", [False, True])
def test_a_manifest_rules_every_frame(as_file: bool, tmp_path: Path) -> None:
    text = json.dumps(MANIFEST)
    if as_file:
        (tmp_path / "manifest.json").write_text(text)
        text = str(tmp_path / "manifest.json")
    settings = with_manifest(settings_of(parseq_manifest=text, max_frames=99))
    assert (settings.max_frames, settings.fps, settings.diffusion_cadence) == (4, 24, 3)
    animation = Animation(settings, 1)
    assert animation.plot("angle") == [10, 10, 10, 10]
    assert animation.plot("noise_schedule") == pytest.approx([0, 0.01, 0.02, 0.03])
    assert [animation.scheduled_seed(frame) for frame in range(4)] == [7, 8, 9, 10]
    asked = animation.diffusion(2, 9, 0.5)
    assert (asked.prompt, asked.negative, asked.cfg_scale, asked.subseed) == ("frame 2", "dog", 7.25, 3)
    assert asked.subseed_strength == pytest.approx(1e-7)
    assert animation.plot("translation_z") == [1.75] * 4


def test_values_instead_of_changes_and_own_length() -> None:
    given = {"parseq_manifest": json.dumps(MANIFEST), "parseq_use_deltas": False, "max_frames": 6,
             "parseq_non_schedule_overrides": False}  # fmt: skip
    settings = with_manifest(settings_of(**given))
    assert Animation(settings, 1).plot("angle") == [0, 10, 20, 30, 30, 30]
    assert settings.diffusion_cadence == 2


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("https://example.org/m.json", "is an address"),
        ("/no/such/manifest", "no JSON, and no file"),
        ("{", "no JSON"),
        ("[]", "must be an object"),
        ("{}", "no rendered_frames"),
        ('{"rendered_frames": [{"frame": -1}]}', r"rendered_frames\[0\].frame is -1"),
        ('{"rendered_frames": [{"frame": 0, "zoom": "big"}]}', "zoom of frame 0 is 'big'"),
        ('{"rendered_frames": [{"frame": 0, "zoom": 1e999}]}', "zoom of frame 0"),
    ],
)
def test_manifests_that_are_none(manifest: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        with_manifest(settings_of(parseq_manifest=manifest))
    assert "\n" not in str(caught.value)


def test_the_flight_of_five_hundred_frames() -> None:
    (flight,) = PRESETS.values()
    settings = settings_of(**flight)
    animation = Animation(settings, 1)
    assert animation.frames == 500

    def at(key: str, *places: int) -> list[float]:
        return [round(animation.value(key, place), 4) for place in places]

    assert at("translation_x", 0, 15, 30, 100, 210, 255, 300, 499) == [0, 7.5, 15, 15, 15, 7.5, 0, 0]
    assert at("translation_z", 0, 30, 60, 180, 300, 499) == [0.2, 5.1, 10, 12.5, 15, 15]
    assert at("rotation_3d_x", 60, 75, 90, 179, 180, 240, 300) == [0, 0.25, 0.5, 0, 150, 75.25, 0.5]
    assert at("rotation_3d_y", 15, 30, 60, 180, 360, 420) == [-1.75, -3.5, -1.5, -2.8, -1, 0]
    assert at("rotation_3d_z", 30, 60, 90, 135, 180, 420, 460, 499) == [0.1, 0.2, 0, -0.25, -0.5, 0.5, 0.5, 0.5]
    assert at("noise_schedule", 0, 7, 15, 8) == [0, 0.06, 0, 0.06]
    starts = [frame for frame in range(1, 500) if animation.prompts[frame] != animation.prompts[frame - 1]]
    assert starts == [60, 120, 180, 220]


def test_its_motion_is_previewed_in_seconds() -> None:
    """Processor time, of which a busy machine takes no more."""
    (flight,) = PRESETS.values()
    animation = Animation(settings_of(**flight, W=128, H=128, motion_preview_mode=True), 1)
    begin = time.process_time()
    made = sum(1 for _ in frames(animation, Materials(), paint_preview(128, 128)))
    assert made == 500
    assert time.process_time() - begin < 20


def test_curves_follow_and_mistakes_are_told() -> None:
    drawn = plot_schedules(
        {"angle": ("Angle", "0:(0), 10:(5)"), "zoom": ("Zoom", "0:(1)"), "fov": ("<b>", "0:(nope")}, 20, 0
    )
    assert drawn.count("<svg") == 1
    assert "Angle: 0 to 5" in drawn
    (points,) = re.findall('points="([^"]*)"', drawn)
    assert len(points.split()) == 20
    assert points.split()[0] == "0.0,46.0"
    assert "fov, column 3" in drawn
    assert "<b>" not in drawn
    assert plot_schedules({"angle": ("Angle", "0:(0), 10:(5)")}, 0, 0) == ""
    long = plot_schedules({"angle": ("Angle", "0:(sin(t))")}, 500_000, 0)
    assert len(long) < 10_000


def test_subtitles_tell_of_every_frame() -> None:
    animation = Animation(
        settings_of(max_frames=5, diffusion_cadence=2, angle="0:(t)", prompts={"0": "a\ncat --neg dog", "3": "b"}), 100
    )
    text = subtitles(animation, start(animation).seeds, 5, 15)
    entries = text.strip().split("\n\n")
    assert len(entries) == 5
    assert entries[0].splitlines()[:2] == ["1", "00:00:00,000 --> 00:00:00,067"]
    assert "seed: 100" in entries[1]
    assert "seed: 102" in entries[4]
    assert "angle: 3" in entries[3]
    assert entries[1].splitlines()[3:] == ["a cat", "--neg dog"]
    assert entries[4].splitlines()[3:] == ["b"]
    assert "01:00:00,000 --> " in subtitles(animation, start(animation).seeds, 2, 1 / 3600)
