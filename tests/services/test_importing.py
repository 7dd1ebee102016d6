"""Taking over another install: what is copied, what stays, what is only told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from webui.core.errors import WebuiError
from webui.core.flags import parse_flags
from webui.core.paths import Paths
from webui.prompts.styles import StyleStore
from webui.services.importing import import_install

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """An install with two files of styles, settings good and bad, models inside and elsewhere."""
    root = tmp_path / "stable-diffusion-webui"
    for folder in ("models/Stable-diffusion", "models/Lora", "embeddings"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "big disk").mkdir()
    (root / "models" / "Lora" / "ink.safetensors").write_bytes(b"x")
    (root / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink of {prompt},photo\nours,theirs,\n")
    (root / "styles_more.csv").write_text('name,text\nold,"an old, quoted one"\n')
    settings = {
        "samples_format": "webp",
        "CLIP_stop_at_last_layers": 2,
        "eta_ancestral": 1.0,
        "jpeg_quality": 900,
        "outdir_txt2img_samples": "/home/u/.ssh",
        "disabled_extensions": ["x"],
        "some_extension_key": {"deep": [1]},
        "grid_save": False,
    }
    (root / "config.json").write_text(json.dumps(settings))
    ui = {"txt2img/Sampling steps/value": 33, "txt2img/Tabs@x/selected": None, "txt2img/Width/maximum": 4096}
    (root / "ui-config.json").write_text(json.dumps(ui))
    flags = f"--xformers --allow-code --lora-dir '{tmp_path / 'big disk'}' --listen"
    (root / "webui-user.sh").write_text(f'#!/bin/bash\nexport COMMANDLINE_ARGS="{flags}"\n')
    return root


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    data = tmp_path / "easel"
    data.mkdir()
    (data / "styles.csv").write_text("name,prompt,negative_prompt\nours,mine,\n")
    (data / "config.json").write_text(json.dumps({"grid_save": True, "samples_save": True}))
    return Paths.of(parse_flags(["--data-dir", str(data)], {})[0])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_styles_settings_and_folders_are_taken_over(theirs: Path, paths: Paths, tmp_path: Path) -> None:
    before = contents(theirs)
    report = import_install(theirs, paths)
    assert contents(theirs) == before
    styles = {style.name: style.prompt for style in StyleStore([paths.styles]).all()}
    assert styles == {"ours": "mine", "ink": "ink of {prompt}", "old": "an old, quoted one"}
    settings = json.loads(paths.config.read_text())
    assert settings == {
        "grid_save": True,
        "samples_save": True,
        "samples_format": "webp",
        "CLIP_stop_at_last_layers": 2,
        "some_extension_key": {"deep": [1]},
    }
    assert json.loads(paths.ui_config.read_text())["txt2img/Sampling steps/value"] == 33
    folders = paths.model_folders.read_text()
    assert str(theirs) in folders
    assert f"lora={tmp_path / 'big disk'}" in folders
    told = "\n".join(report.lines())
    for said in (
        "--allow-code",
        "--listen",
        "outdir_txt2img_samples",
        "jpeg_quality",
        "grid_save = true",
        "ours (another",
    ):
        assert said in told


def test_a_second_time_changes_nothing(theirs: Path, paths: Paths) -> None:
    import_install(theirs, paths)
    before = contents(paths.data)
    import_install(theirs, paths)
    assert contents(paths.data) == before


def test_a_dry_run_only_tells(theirs: Path, paths: Paths) -> None:
    before = contents(paths.data)
    assert "samples_format" in "\n".join(import_install(theirs, paths, dry_run=True).lines())
    assert contents(paths.data) == before


def test_what_is_no_install_is_refused(tmp_path: Path, paths: Paths) -> None:
    for folder in (tmp_path / "nowhere", tmp_path / "easel" / ".."):
        with pytest.raises(WebuiError, match="doesn't look like"):
            import_install(folder, paths)
    with pytest.raises(WebuiError, match="Easel's own folder"):
        import_install(paths.data, paths)


def test_broken_files_of_theirs_are_told_and_of_ours_never_overwritten(theirs: Path, paths: Paths) -> None:
    (theirs / "config.json").write_text("{broken")
    (theirs / "styles.csv").write_bytes(b"\xff\xfe\x00")
    told = "\n".join(import_install(theirs, paths).lines())
    assert told.count("Not readable") == 1
    assert "config.json" in told
    paths.config.write_text("{broken too")
    (theirs / "config.json").write_text("{}")
    with pytest.raises(WebuiError, match="mend or remove it"):
        import_install(theirs, paths)
    assert paths.config.read_text() == "{broken too"


def test_windows_settings_are_read(theirs: Path, paths: Paths, tmp_path: Path) -> None:
    (theirs / "webui-user.sh").unlink()
    line = f'set COMMANDLINE_ARGS=--medvram --ckpt-dir "{tmp_path / "big disk"}"\r\n'
    (theirs / "webui-user.bat").write_text(f"@echo off\r\n{line}")
    import_install(theirs, paths)
    assert f"checkpoints={tmp_path / 'big disk'}" in paths.model_folders.read_text()


def test_the_command_needs_nothing_installed(theirs: Path, paths: Paths) -> None:
    command = [sys.executable, "-S", "-E", "launch.py", "import", str(theirs), "--data-dir", str(paths.data)]
    run = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Nothing was changed" in run.stdout
    run = subprocess.run(command[:5], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "Name the folder" in run.stderr


def test_models_of_the_other_install_are_listed(theirs: Path, paths: Paths) -> None:
    from webui.services.building import build_services

    import_install(theirs, paths)
    services = build_services(parse_flags(["--data-dir", str(paths.data)], {})[0])
    assert services.networks.loras.find("ink").path == theirs / "models" / "Lora" / "ink.safetensors"
    assert services.settings.snapshot()["samples_format"] == "webp"
    services.checkpoints.close()
