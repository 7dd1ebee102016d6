"""VAE files, and the order of reasons by which one goes with a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.catalog.vaes import VaeCatalog, VaeUse, choose_vae
from webui.core.errors import NotFound
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """models/VAE and models/Stable-diffusion with some files."""
    vae, models = tmp_path / "VAE", tmp_path / "Stable-diffusion"
    for path in (
        vae / "kl-f8.pt",
        vae / "sub" / "anime.vae.safetensors",
        vae / "both.vae.safetensors",
        models / "cat.safetensors",
        models / "cat.vae.safetensors",
        models / "both.vae.safetensors",
        models / "dog.ckpt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode() + bytes(9))
    return vae, models


@pytest.fixture
def catalog(folders: tuple[Path, Path], hashes: HashCache) -> VaeCatalog:
    return VaeCatalog([folders[0]], [folders[1]], hashes)


@pytest.fixture
def cat(folders: tuple[Path, Path], hashes: HashCache) -> Checkpoint:
    return CheckpointCatalog([folders[1]], hashes).find("cat")


def chosen(catalog: VaeCatalog, checkpoint: Checkpoint, **reasons: Any) -> VaeUse:
    settings = {key: value for key, value in reasons.items() if key not in ("preferred", "always")}
    others = {key: reasons[key] for key in ("preferred", "always") if key in reasons}
    return choose_vae(catalog, Settings.defaults(SETTINGS).replace(**settings), checkpoint, **others)


def name_of(use: VaeUse) -> str | None:
    return use.file.name if use.file else None


def test_names_are_sorted_and_those_in_the_vae_folder_come_first(catalog: VaeCatalog, folders: Any) -> None:
    files = ("anime.vae.safetensors", "both.vae.safetensors", "cat.vae.safetensors", "kl-f8.pt")
    assert catalog.names() == ("Automatic", "None", *files)
    assert catalog.find("both").path == folders[0] / "both.vae.safetensors"


@pytest.mark.parametrize(
    "spelling", ["anime.vae.safetensors", "anime.vae", "anime", "ANIME", "sub/anime.vae.safetensors"]
)
def test_every_spelling_finds_the_file_with_its_hash(spelling: str, catalog: VaeCatalog) -> None:
    found = catalog.hashed(catalog.find(spelling))
    assert catalog.find(spelling) == found
    assert found.shorthash == hashlib.sha256(found.path.read_bytes()).hexdigest()[:10]


def test_an_unknown_name_is_answered_with_the_nearest(catalog: VaeCatalog) -> None:
    with pytest.raises(NotFound, match=r'the closest is "kl-f8\.pt"'):
        catalog.find("kl-f9.pt")


def test_a_new_file_is_found(catalog: VaeCatalog, folders: tuple[Path, Path]) -> None:
    (folders[0] / "new.safetensors").write_bytes(b"x")
    catalog.refresh()
    assert catalog.find("new").name == "new.safetensors"


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ({}, "cat.vae.safetensors"),
        ({"sd_vae": "None"}, None),
        ({"sd_vae": "kl-f8.pt"}, "kl-f8.pt"),
        ({"sd_vae": "kl-f8.pt", "preferred": "anime.vae.safetensors"}, "kl-f8.pt"),
        ({"preferred": "anime.vae.safetensors"}, "anime.vae.safetensors"),
        ({"preferred": "None"}, None),
        ({"preferred": "Automatic"}, "cat.vae.safetensors"),
        ({"sd_vae": "kl-f8.pt", "sd_vae_overrides_per_model_preferences": False}, "cat.vae.safetensors"),
        (
            {"sd_vae": "kl-f8.pt", "sd_vae_overrides_per_model_preferences": False, "preferred": "anime"},
            "anime.vae.safetensors",
        ),
    ],
)
def test_the_order_of_reasons(reasons: dict[str, Any], expected: str, catalog: VaeCatalog, cat: Checkpoint) -> None:
    assert name_of(chosen(catalog, cat, **reasons)) == expected


def test_a_checkpoint_without_a_namesake_takes_the_setting(catalog: VaeCatalog, folders: Any, hashes: Any) -> None:
    dog = CheckpointCatalog([folders[1]], hashes).find("dog")
    assert name_of(chosen(catalog, dog)) is None
    assert name_of(chosen(catalog, dog, sd_vae="anime", sd_vae_overrides_per_model_preferences=False)) is not None


def test_the_flag_beats_everything(catalog: VaeCatalog, cat: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.pt"
    path.write_bytes(b"x")
    assert name_of(chosen(catalog, cat, sd_vae="None", always=path)) == "elsewhere.pt"
    with pytest.raises(NotFound, match="--vae-path"):
        chosen(catalog, cat, always=tmp_path / "gone.pt")


def test_a_vae_that_has_gone_is_told_and_the_checkpoints_own_is_used(catalog: VaeCatalog, cat: Checkpoint) -> None:
    use = chosen(catalog, cat, sd_vae="gone.safetensors")
    assert use.file is None
    assert 'no VAE "gone.safetensors"' in use.note


def test_how_it_is_run_comes_from_the_settings(catalog: VaeCatalog, cat: Checkpoint) -> None:
    assert (chosen(catalog, cat).retry, chosen(catalog, cat, auto_vae_precision=False).retry) == ("fp32", None)
    use = chosen(catalog, cat, auto_vae_precision_bfloat16=True, sd_vae_decode_method="TAESD")
    assert (use.retry, use.encoder, use.decoder) == ("bf16", "Full", "TAESD")
