"""Settings files: those that the original wrote, old ones, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extensions.deforum.settings import Settings
from extensions.deforum.settings_files import (
    dump_settings,
    fill_placeholders,
    load_settings,
    read_settings,
    write_settings,
)
from webui.extensions.api import InvalidRequest

# A file as versions of 2022 wrote it: old keys, truth values where there are lists now, keys that are long gone.
FROM_2022 = {
    "W": 704, "H": 448.0, "seed": 42, "sampler": "Euler a", "steps": 30, "scale": 7, "batch_name": "old_{timestring}",
    "animation_mode": "3D", "max_frames": 60, "angle": "0:(0)", "zoom": "0:(1.04)", "strength_schedule": "0: (0.6)",
    "noise_schedule": "0: (0.02)", "flip_2d_perspective": True, "skip_video_for_run_all": True,
    "histogram_matching": True, "color_coherence": "Match Frame 0 LAB", "hybrid_composite": True,
    "optical_flow_cadence": False, "optical_flow_redo_generation": True, "use_zoe_depth": False, "fov": 40,
    "near_plane": 200, "diffusion_cadence": "3", "prompts": {"0": "a lake", "30": "a hill --neg trees"},
    "cn_1_weight": 0.7, "cn_1_guidance_start": 0, "cn_1_resize_mode": "Envelope (Outer Fit)", "cn_2_enabled": None,
}  # fmt: skip


def test_a_file_from_before_2023() -> None:
    found = read_settings(FROM_2022)
    settings = found.settings
    assert (settings.W, settings.H, settings.seed, settings.diffusion_cadence) == (704, 448, 42, 3)
    assert settings.enable_perspective_flip
    assert settings.skip_video_creation
    assert settings.legacy_colormatch
    assert settings.color_coherence == "LAB"
    assert settings.hybrid_composite == "Normal"
    assert (settings.optical_flow_cadence, settings.optical_flow_redo_generation) == ("None", "DIS Fine")
    assert settings.depth_algorithm == "Midas+AdaBins (old)"
    assert settings.prompts == FROM_2022["prompts"]
    assert settings.controlnet[0].weight == "0:(0.7)"
    assert settings.controlnet[0].guidance_start == "0:(0)"
    assert settings.controlnet[0].resize_mode == "Outer Fit (Shrink to Fit)"
    assert settings.controlnet[1].enabled is False
    assert found.ignored == ("scale", "fov", "near_plane")


def test_the_recorded_files_are_written_as_they_were(parity: Path) -> None:
    """Apart from units' keys that nobody sent, which the original leaves null, and a number that it writes as text."""
    files = sorted((parity / "deforum" / "settings").glob("*.json"))
    assert len(files) >= 60
    for file in files:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        written = json.loads(
            dump_settings(
                write_settings(load_settings(file).settings, recorded["sd_model_name"], recorded["sd_model_hash"])
            )
        )
        assert list(written) == list(recorded), file.name
        for key, value in recorded.items():
            if key.startswith("cn_") and value is None:
                continue
            if key == "fill" and value == 1:
                value = "original"
            if key == "diffusion_redo":
                value = int(value)
            assert written[key] == value, (file.name, key)


def test_what_was_sent_is_what_the_file_says(parity: Path) -> None:
    """The prompts joined with what stands before and after them."""
    manifest = json.loads((parity / "deforum" / "manifest.json").read_text(encoding="utf-8"))
    for name, case in manifest.items():
        recorded = json.loads((parity / "deforum" / "settings" / f"{name}.json").read_text(encoding="utf-8"))
        written = write_settings(read_settings(case["deforum_settings"]).settings)
        assert written["prompts"] == recorded["prompts"], name
        assert written["positive_prompts"] == recorded["positive_prompts"]
        assert written["negative_prompts"] == recorded["negative_prompts"]


def test_all_that_is_set_is_read_back() -> None:
    changed = read_settings(
        {
            "perlin_w": 4,
            "original_arithmetic": True,
            "cn_3_weight": "0:(2)",
            "prompts": {"0": "a --neg b", "7": "c"},
            "animation_prompts_positive": "fine,",
            "animation_prompts_negative": "bad",
            "init_images": {"0": "x.png"},
            "use_alpha_as_mask": True,
        }
    ).settings
    assert read_settings(json.loads(dump_settings(write_settings(changed)))).settings == changed
    assert "perlin_w" not in write_settings(Settings())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1], "JSON object"),
        ({"animation_mode": "4D"}, "2D, 3D"),
        ({"max_frames": 0}, "max_frames"),
        ({"max_frames": "many"}, "max_frames"),
        ({"W": 10**9}, "W"),
        ({"prompts": "no json"}, "prompts"),
        ({"prompts": {"0": 5}}, "prompts"),
        ({"fill": 9}, "fill"),
    ],
)
def test_bad_values_are_named(given: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_settings(given)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(InvalidRequest):
        load_settings(tmp_path / "x.txt")


def test_the_folder_is_named_after_settings() -> None:
    settings = Settings(seed=5, W=640, sampler="DPM++ 2M")
    assert fill_placeholders("a_{timestring}_{seed}_{w}_{Sampler}", settings, "20260101000000") == (
        "a_20260101000000_5_640_DPM++ 2M"
    )
    assert fill_placeholders("{nope}/../x:y", settings, "1") == "{nope}_.._x_y"
    assert fill_placeholders("../..", settings, "1") == "_"
    assert fill_placeholders("", settings, "77") == "77"
    assert len(fill_placeholders("x" * 300, settings, "1")) == 50
