"""What is loaded, and what stays when loading fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_checkpoint
from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.core.errors import BadModelFile
from webui.core.flags import Flags
from webui.diffusion.denoiser import Cond
from webui.models.manager import ModelManager


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder, "one", seed=1)
    whole = tiny_checkpoint(folder, "two", seed=2)
    (folder / "cut.safetensors").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "text.safetensors").write_text("Not a model but a note to myself.")
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    return folder


@pytest.fixture
def catalog(folder: Path, tmp_path: Path) -> Iterator[CheckpointCatalog]:
    with HashCache(tmp_path / "hashes.sqlite") as hashes:
        yield CheckpointCatalog([folder], hashes)


@pytest.fixture
def manager(catalog: CheckpointCatalog) -> ModelManager:
    return ModelManager(catalog, Flags(device="cpu", no_half=True))


def test_a_lease_loads_once_and_switches(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    assert manager.current is None
    with manager.lease(catalog.find("one")) as first:
        assert manager.current == catalog.find("one")
        assert first.dtype == torch.float32
    with manager.lease(catalog.find("one")) as again:
        assert again is first
    with manager.lease(catalog.find("two")) as second:
        assert not second.unet.conv_in.weight.equal(first.unet.conv_in.weight)
    assert manager.current == catalog.find("two")


def test_a_hash_found_meanwhile_reaches_the_loaded_model(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    manager.preload(catalog.find("one"))
    hashed = catalog.hashed(catalog.find("one"))
    with manager.lease(hashed) as model:
        assert model.checkpoint.shorthash == hashed.shorthash is not None


@pytest.mark.parametrize("bad", ["cut", "empty", "text", "old"])
def test_a_load_that_fails_leaves_the_old_model(bad: str, manager: ModelManager, catalog: CheckpointCatalog) -> None:
    with manager.lease(catalog.find("one")) as before:
        pass
    checkpoint = next(c for c in catalog if c.model_name == bad)
    with pytest.raises(BadModelFile, match=bad), manager.lease(checkpoint):
        pass
    assert manager.current == catalog.find("one")
    with manager.lease(catalog.find("one")) as after:
        assert after is before
        answer = after.network(torch.randn(1, 4, 8, 8), torch.tensor([5.0]), Cond(torch.randn(1, 77, 32)))
        assert answer.isfinite().all()


def test_a_file_replaced_on_disk_is_loaded_anew(manager: ModelManager, tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, "mine", seed=3)
    with HashCache(tmp_path / "hashes.sqlite") as hashes:
        catalog = CheckpointCatalog([tmp_path], hashes)
        with manager.lease(catalog.find("mine")) as before:
            old = before.unet.conv_in.weight.clone()
        tiny_checkpoint(tmp_path / "new", "mine", seed=4).replace(path)
        catalog.refresh()
        with manager.lease(catalog.find("mine")) as after:
            assert not after.unet.conv_in.weight.equal(old)


def test_a_file_that_is_gone_is_one_sentence_and_off_the_list(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, "gone")
    with HashCache(tmp_path / "hashes.sqlite") as hashes:
        catalog = CheckpointCatalog([tmp_path], hashes)
        manager = ModelManager(catalog, Flags(device="cpu", no_half=True))
        checkpoint = catalog.find("gone")
        path.unlink()
        with pytest.raises(BadModelFile, match="gone.safetensors can't be read"), manager.lease(checkpoint):
            pass
        assert len(catalog) == 0


def test_leases_nest_for_a_refiner(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    with manager.lease(catalog.find("one")) as base:
        with manager.lease(catalog.find("two")) as refiner:
            assert refiner is not base
        assert base.unet.conv_in.weight.isfinite().all()


def test_other_threads_wait_for_a_lease(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    order: list[str] = []
    with manager.lease(catalog.find("one")):
        other = threading.Thread(target=lambda: (manager.preload(catalog.find("two")), order.append("second")))
        other.start()
        other.join(0.2)
        order.append("first")
        assert manager.current == catalog.find("one")
    other.join()
    assert order == ["first", "second"]


def test_unloading_forgets_the_model(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    manager.preload(catalog.find("one"))
    manager.unload()
    assert manager.current is None
