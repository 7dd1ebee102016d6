"""The list of checkpoints and the many spellings that find one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalog.conftest import names
from tests.hostile_files import PROGRAMS, legacy, program, tensor, zipped
from webui.catalog.checkpoints import CheckpointCatalog, natural_key
from webui.catalog.hashes import HashCache
from webui.core.errors import NotFound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five files in two levels; contents differ, so hashes do."""
    root = tmp_path / "models"
    for name in ("dream-v10", "dream-v9", "sub/sd_xl_base_1.0", "sub/anything", "other.v1"):
        file = root / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 100)
    return root


def test_files_are_listed_in_natural_order(root: Path, hashes: HashCache) -> None:
    catalog = CheckpointCatalog([root], hashes)
    assert names(catalog) == [
        "dream-v9.safetensors",
        "dream-v10.safetensors",
        "other.v1.safetensors",
        "sub/anything.safetensors",
        "sub/sd_xl_base_1.0.safetensors",
    ]
    assert natural_key("V9") < natural_key("v10")


def test_vaes_hidden_files_and_other_kinds_are_not_listed(root: Path, hashes: HashCache) -> None:
    for name in ("kl.vae.safetensors", "kl.vae.ckpt", ".hidden.safetensors", "notes.txt", "x.pt"):
        (root / name).write_bytes(b"x")
    (root / ".cache").mkdir()
    (root / ".cache" / "blob.safetensors").write_bytes(b"x")
    assert len(CheckpointCatalog([root], hashes)) == 5


QUARANTINED = {
    "evil.ckpt": (zipped(PROGRAMS["call of os.system"]), "os.system"),
    "old-evil.ckpt": (legacy(PROGRAMS["call of posix.system"]), "posix.system"),
    "disguised.safetensors": (zipped(program(tensor())), "pickle named .safetensors"),
    "cut.ckpt": (zipped(program(tensor()))[:-9], "damaged zip"),
    "page.ckpt": (b"<!DOCTYPE html>", "neither"),
    "empty.safetensors": (b"", "empty"),
}


@pytest.mark.parametrize("name", QUARANTINED)
def test_a_file_that_is_refused_is_listed_with_the_reason(name: str, root: Path, hashes: HashCache) -> None:
    content, reason = QUARANTINED[name]
    (root / name).write_bytes(content)
    for _ in range(2):  # looked at, then remembered
        catalog = CheckpointCatalog([root], hashes)
        assert reason in (catalog.find(name).problem or "")
        assert catalog.default().problem is None


def test_a_good_pickle_checkpoint_is_listed_like_any_other(root: Path, hashes: HashCache) -> None:
    (root / "old.ckpt").write_bytes(zipped(program(tensor())))
    assert CheckpointCatalog([root], hashes).find("old").problem is None


def test_every_a1111_spelling_finds_the_checkpoint(root: Path, hashes: HashCache) -> None:
    catalog = CheckpointCatalog([root], hashes)
    file = root / "sub" / "sd_xl_base_1.0.safetensors"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert catalog.find("sd_xl_base_1.0").title == "sub/sd_xl_base_1.0.safetensors"
    checkpoint = catalog.hashed(catalog.find("sd_xl_base_1.0"))
    assert (checkpoint.sha256, checkpoint.shorthash) == (sha256, sha256[:10])
    assert checkpoint.title == f"sub/sd_xl_base_1.0.safetensors [{sha256[:10]}]"
    assert catalog.find("sub/sd_xl_base_1.0") == checkpoint
    for spelling in (
        checkpoint.title,
        checkpoint.name,
        "sd_xl_base_1.0",
        "sd_xl_base_1.0.safetensors",
        f"sd_xl_base_1.0 [{sha256[:10]}]",
        sha256,
        sha256[:10],
        sha256.upper(),
        "SD_XL_BASE_1.0",
        "xl_base",
        "  sd_xl_base_1.0  ",
        "sd_xl_base_1.0.safetensors [0123456789]",
        str(file),
    ):
        assert catalog.find(spelling) == checkpoint, spelling


def test_the_legacy_hash_finds_a_checkpoint(root: Path, hashes: HashCache) -> None:
    (root / "big.safetensors").write_bytes(bytes(0x100000) + b"b" * 0x10000)
    catalog = CheckpointCatalog([root], hashes)
    legacy = hashlib.sha256(b"b" * 0x10000).hexdigest()[:8]
    assert catalog.find(legacy).model_name == "big"
    assert catalog.find(f"big.safetensors [{legacy}]").model_name == "big"


def test_a_part_of_a_title_finds_the_shortest(root: Path, hashes: HashCache) -> None:
    assert CheckpointCatalog([root], hashes).find("dream").name == "dream-v9.safetensors"


@pytest.mark.parametrize("name", ["sd_xl_bas_1", "", "   ", "[0123456789]"])
def test_an_unknown_name_is_not_found(name: str, root: Path, hashes: HashCache) -> None:
    with pytest.raises(NotFound, match="No checkpoint matches.*Refresh the list if you just added it"):
        CheckpointCatalog([root], hashes).find(name)


def test_the_nearest_name_is_offered(root: Path, hashes: HashCache) -> None:
    with pytest.raises(NotFound, match='the closest is "other.v1.safetensors"'):
        CheckpointCatalog([root], hashes).find("otter.v1.safetensors")


def test_refresh_sees_new_and_deleted_files(root: Path, hashes: HashCache) -> None:
    catalog = CheckpointCatalog([root], hashes)
    (root / "new.safetensors").write_bytes(b"new")
    (root / "dream-v9.safetensors").unlink()
    catalog.refresh()
    assert "new.safetensors" in names(catalog)
    assert "dream-v9.safetensors" not in names(catalog)


def test_the_own_model_serves_only_when_there_is_no_other(tmp_path: Path, hashes: HashCache) -> None:
    own, user = tmp_path / "code", tmp_path / "user"
    for folder in (own, user):
        folder.mkdir()
    (own / "easel-emoji.safetensors").write_bytes(b"e")
    catalog = CheckpointCatalog([user], hashes, own=own)
    assert catalog.default().embedded
    (user / "zebra.safetensors").write_bytes(b"z")
    catalog.refresh()
    assert names(catalog) == ["zebra.safetensors", "easel-emoji.safetensors"]
    assert catalog.default().name == "zebra.safetensors"
    assert catalog.default("easel-emoji").embedded
    assert catalog.default("gone").name == "zebra.safetensors"


def test_one_folder_may_be_the_users_and_our_own(tmp_path: Path, hashes: HashCache) -> None:
    (tmp_path / "easel-emoji.safetensors").write_bytes(b"e")
    (tmp_path / "zebra.safetensors").write_bytes(b"z")
    catalog = CheckpointCatalog([tmp_path], hashes, own=tmp_path)
    assert names(catalog) == ["zebra.safetensors", "easel-emoji.safetensors"]


def test_without_any_checkpoint_the_message_says_where_to_put_one(tmp_path: Path, hashes: HashCache) -> None:
    with pytest.raises(NotFound, match="put a .safetensors file into .*nowhere"):
        CheckpointCatalog([tmp_path / "nowhere"], hashes).default()


def test_links_are_followed_and_loops_end(root: Path, tmp_path: Path, hashes: HashCache) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far.safetensors").write_bytes(b"far")
    (root / "linked").symlink_to(elsewhere)
    (root / "sub" / "loop").symlink_to(root)
    (root / "dangling.safetensors").symlink_to(tmp_path / "nothing")
    (root / "same.safetensors").symlink_to(root / "other.v1.safetensors")
    catalog = CheckpointCatalog([root], hashes)
    assert {"linked/far.safetensors", "same.safetensors", "other.v1.safetensors"} <= set(names(catalog))
    assert len(catalog) == 7


def test_two_folders_with_the_same_name_inside_are_both_listed(root: Path, tmp_path: Path, hashes: HashCache) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "dream-v9.safetensors").write_bytes(b"another")
    catalog = CheckpointCatalog([root, second], hashes)
    assert catalog.find("dream-v9.safetensors").path == root / "dream-v9.safetensors"
    assert catalog.find((second / "dream-v9.safetensors").as_posix()).path == second / "dream-v9.safetensors"


def test_a_single_file_outside_the_folders_can_be_listed(root: Path, tmp_path: Path, hashes: HashCache) -> None:
    single = tmp_path / "outside" / "mine.safetensors"
    single.parent.mkdir()
    single.write_bytes(b"mine")
    assert CheckpointCatalog([root], hashes, files=[single]).find("mine").path == single


def test_a_yaml_beside_the_file_is_its_configuration(root: Path, hashes: HashCache) -> None:
    (root / "other.v1.yaml").write_text("model: {}")
    catalog = CheckpointCatalog([root], hashes)
    assert catalog.find("other.v1").config == root / "other.v1.yaml"
    assert catalog.find("dream-v9").config is None


def test_background_hashing_completes_the_titles(root: Path, hashes: HashCache) -> None:
    catalog = CheckpointCatalog([root], hashes)
    catalog.hash_in_background()
    assert catalog.hasher.wait(60)
    assert all(checkpoint.shorthash for checkpoint in catalog)
    catalog.close()
    assert all(checkpoint.shorthash for checkpoint in CheckpointCatalog([root], hashes))


def test_the_catalog_loads_no_torch() -> None:
    code = "import sys, webui.catalog.checkpoints; print([m for m in ('torch', 'numpy', 'gradio') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
