"""What is loaded, and what stays when loading fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tests.tiny import tiny_checkpoint
from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.core.errors import BadModelFile
from webui.core.flags import Flags
from webui.diffusion.denoiser import Cond
from webui.models.devices import Sharing, placement_on_cpu
from webui.models.families.base import LoadedModel
from webui.models.manager import DefaultSettings, ModelManager
from webui.models.memory import InTurn, arrange
from webui.models.registry import open_checkpoint
from webui.models.text_encoders import LayerChoice


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


class Wishes:
    """Settings of a manager, changed by the test."""

    def __init__(self, **values: object) -> None:
        self.values = {**DefaultSettings().snapshot(), **values}

    def snapshot(self) -> dict[str, object]:
        return self.values


def test_as_many_models_stay_as_the_settings_say(catalog: CheckpointCatalog) -> None:
    manager = ModelManager(catalog, Flags(device="cpu", no_half=True), Wishes(sd_checkpoints_limit=2))
    with manager.lease(catalog.find("one")) as one:
        pass
    with manager.lease(catalog.find("two")) as two:
        pass
    with manager.lease(catalog.find("one")) as again:
        assert again is one, "still in memory"
    assert [item.name for item in manager.peek()] == ["two", "one"]
    manager.settings.values["sd_checkpoints_limit"] = 1
    with manager.lease(catalog.find("one")):
        pass
    assert [item.name for item in manager.peek()] == ["one"]
    with manager.lease(catalog.find("two")) as fresh:
        assert fresh is not two


def test_memory_decides_where_it_is_short(catalog: CheckpointCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ModelManager(catalog, Flags(device="cpu", no_half=True), Wishes(sd_checkpoints_limit=5))
    manager.preload(catalog.find("one"))
    monkeypatch.setattr("webui.models.manager.RESERVE", 2**60)
    manager.preload(catalog.find("two"))
    assert [item.name for item in manager.peek()] == ["two"]


def test_a_leased_model_stays_while_others_come(catalog: CheckpointCatalog) -> None:
    manager = ModelManager(catalog, Flags(device="cpu", no_half=True))
    with manager.lease(catalog.find("one")) as base:
        manager.preload(catalog.find("two"))
        with manager.lease(catalog.find("one")) as again:
            assert again is base
    assert len(manager.peek()) == 1


def test_switching_costs_no_memory_in_the_long_run(catalog: CheckpointCatalog, manager: ModelManager) -> None:
    names = ["one", "two"]
    for name in names * 2:
        manager.preload(catalog.find(name))
    process, resident = psutil.Process(), []
    for turn in range(20):
        manager.preload(catalog.find(names[turn % 2]))
        resident.append(process.memory_info().rss)
    slope = np.polyfit(range(20), resident, 1)[0]
    weights = sum(weight.nbytes for part in leased(manager, catalog).parts for weight in part.parameters())
    assert slope < 0.05 * weights, f"{slope / 2**20:.2f} MiB a switch of models of {weights / 2**20:.1f} MiB"


def leased(manager: ModelManager, catalog: CheckpointCatalog) -> LoadedModel:
    with manager.lease(catalog.find("one")) as model:
        return model


def test_eight_bits_halve_the_network_and_hardly_change_it(catalog: CheckpointCatalog) -> None:
    flags = Flags(device="cpu", no_half=True)
    asked = torch.randn(1, 4, 8, 8), torch.tensor([5.0]), Cond(torch.randn(1, 77, 32))
    wishes = Wishes()
    manager = ModelManager(catalog, flags, wishes)
    with manager.lease(catalog.find("one")) as whole, torch.inference_mode():
        exact, size = whole.network(*asked), stored_bytes(whole.unet)
    wishes.values["fp8_storage"] = "Enable for SDXL"
    with manager.lease(catalog.find("one")) as same:
        assert same is whole
    wishes.values["fp8_storage"] = "Enable"
    with manager.lease(catalog.find("one")) as small, torch.inference_mode():
        for _ in range(2):  # the second call finds what the first one left
            answer = small.network(*asked)
            assert stored_bytes(small.unet) < 0.3 * size
        assert small.dtype == answer.dtype == torch.float32
    assert 0 < (answer - exact).std() < 0.2 * exact.std()


def stored_bytes(module: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


def test_parts_take_turns_on_a_device() -> None:
    first, second = (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.SiLU()) for _ in range(2))
    InTurn([first, second], torch.device("meta"), away=torch.device("meta"))
    x = torch.zeros(1, 4)
    assert first(x).device.type == "meta", "what a part is given comes with it"
    assert second[0](input=x).device.type == "meta", "a piece of it wakes the whole part"
    assert {weight.device.type for weight in second.parameters()} == {"meta"}


def test_a_further_part_takes_turns_for_a_while() -> None:
    own, guest = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    turns = InTurn([own], torch.device("cpu"), away=torch.device("meta"))
    x = torch.zeros(1, 4)
    own(x)
    with turns.joined(guest):
        guest(x)
        assert (own.weight.device.type, guest.weight.device.type) == ("meta", "cpu")
    assert guest.weight.device.type == "meta"
    guest(x.to("meta"))
    assert guest.weight.device.type == "meta", "it is left alone again"


@pytest.mark.parametrize("sharing", ["in turn", "piecewise"])
def test_a_model_that_shares_its_device_answers_the_same(
    sharing: Sharing, tmp_path: Path, described: Callable[[Path], Checkpoint]
) -> None:
    placement = placement_on_cpu(torch.float32)
    checkpoint = described(tiny_checkpoint(tmp_path, "tiny"))
    plain, shared = (open_checkpoint(checkpoint).load(placement) for _ in range(2))
    arrange(shared.parts, replace(placement, sharing=sharing))
    asked = torch.randn(1, 4, 8, 8), torch.tensor([5.0]), Cond(torch.randn(1, 77, 32))
    tokens = torch.randint(0, 400, (1, 77))
    with torch.inference_mode():
        for _ in range(2):
            text = [model.text_encoders[0].encode(tokens, LayerChoice()).vectors for model in (plain, shared)]
            assert text[0].equal(text[1])
            assert plain.network(*asked).equal(shared.network(*asked))
            assert plain.decode(asked[0]).equal(shared.decode(asked[0]))


def test_running_out_of_memory_has_a_cheaper_plan_for_the_rest_of_the_job(catalog: CheckpointCatalog) -> None:
    manager = ModelManager(catalog, Flags(device="cpu", no_half=True), Wishes(sd_checkpoints_limit=3))
    manager.preload(catalog.find("one"))
    manager.preload(catalog.find("two"))
    with manager.economy() as economy:
        assert economy.tighten() == "other models were unloaded"
        assert [item.name for item in manager.peek()] == ["two"]
        assert economy.tighten() is None, "a CPU has nothing else to offer"
        manager.placement = replace(manager.placement, device=torch.device("meta"))
        assert economy.tighten() == "the model's parts now use the device in turn"
        assert economy.tighten() == "the model's parts now use the device piecewise"
        assert economy.tighten() is None
    assert manager.economy().__enter__().tightened == 0, "the next job begins anew"


def small_network() -> torch.nn.Linear:
    return torch.nn.Linear(4, 4)


def test_a_borrowed_network_stays_until_memory_is_wanted(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    loads: list[int] = []

    def load() -> torch.nn.Linear:
        loads.append(1)
        return small_network()

    with manager.borrow("control", load, bytes=80) as first, manager.borrow("control", load, bytes=80) as nested:
        assert nested is first
        assert [(item.name, item.kind, item.bytes, item.in_use) for item in manager.peek()] == [
            ("control", "auxiliary", 80, True)
        ]
    with manager.lease(catalog.find("one")), manager.borrow("control", load, bytes=80) as again:
        assert again is first
    assert [(item.name, item.in_use) for item in manager.peek()] == [("one", False), ("control", False)]
    assert len(loads) == 1
    manager.unload()
    assert manager.peek() == ()


def test_borrowed_networks_leave_before_checkpoints(
    manager: ModelManager, catalog: CheckpointCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest unused first, and none that is in use."""
    manager.preload(catalog.find("one"))
    for key in "abc":
        with manager.borrow(key, small_network, bytes=80):
            pass
    with manager.borrow("a", small_network, bytes=80), manager.borrow("d", small_network, bytes=80):
        free = iter([0, 0, 10**12])
        monkeypatch.setattr("webui.models.manager.free_bytes", lambda device: next(free))
        with manager.borrow("new", small_network, bytes=80):
            assert [item.name for item in manager.peek()] == ["one", "a", "d", "new"]
        monkeypatch.setattr("webui.models.manager.free_bytes", lambda device: 0)
        with manager.borrow("last", small_network, bytes=80):
            assert [item.name for item in manager.peek()] == ["a", "d", "last"]


def test_a_borrowed_network_is_loaded_again_when_memory_ran_out(
    manager: ModelManager, catalog: CheckpointCatalog
) -> None:
    manager.preload(catalog.find("one"))
    tries: list[tuple[str, ...]] = []

    def load() -> torch.nn.Linear:
        tries.append(tuple(item.name for item in manager.peek()))
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return small_network()

    with manager.borrow("big", load, bytes=80):
        assert tries == [("one",), ()]

    def never() -> None:
        tries.append(())
        raise MemoryError

    with pytest.raises(MemoryError), manager.borrow("bigger", never, bytes=80):
        pass
    assert len(tries) == 4

    def broken() -> None:
        raise BadModelFile("It is cut off.")

    with pytest.raises(BadModelFile), manager.borrow("broken", broken, bytes=80):
        pass
    assert [item.name for item in manager.peek()] == []


def test_a_job_short_of_memory_gives_up_borrowed_networks_first(
    manager: ModelManager, catalog: CheckpointCatalog
) -> None:
    manager.preload(catalog.find("one"))
    with manager.borrow("control", small_network, bytes=80):
        pass
    with manager.economy() as economy:
        assert economy.tighten() == "auxiliary networks were unloaded"
    assert [item.name for item in manager.peek()] == ["one"]


def test_a_workshop_is_a_private_trainable_copy(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    found = catalog.find("one")
    with manager.lease(found) as model:
        before = model.unet.conv_in.weight.clone()
    content = found.path.read_bytes()
    with manager.workshop(found, ["unet"], torch.float32) as copy:
        weights = list(copy.unet.parameters())
        assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in weights)
        assert copy.unet.training
        assert not any(weight.requires_grad for weight in copy.vae.module.parameters())
        assert not any(weight.requires_grad for item in copy.text_encoders for weight in item.module.parameters())
        cond = Cond(torch.zeros(1, 77, copy.capabilities.context_width))
        optimizer = torch.optim.SGD(weights, lr=1.0)
        copy.network(torch.ones(1, 4, 8, 8), torch.tensor([5.0]), cond).square().mean().backward()
        optimizer.step()
        assert not copy.unet.conv_in.weight.equal(before)
    with manager.lease(found) as model:
        assert model.unet.conv_in.weight.equal(before)
        assert not model.unet.conv_in.weight.requires_grad
    assert found.path.read_bytes() == content
    assert [item.name for item in manager.peek()] == ["one"]


def test_what_is_loaded_is_told_while_another_thread_leases(manager: ModelManager, catalog: CheckpointCatalog) -> None:
    seen: list[tuple[str, bool]] = []
    with manager.lease(catalog.find("one")):
        asking = threading.Thread(target=lambda: seen.extend((item.name, item.in_use) for item in manager.peek()))
        asking.start()
        asking.join(timeout=60)
        assert seen == [("one", True)]
