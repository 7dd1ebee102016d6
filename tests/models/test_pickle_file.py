"""PyTorch's own files, read without PyTorch's loader: the same tensors, and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile_files import legacy, program, tensor, zipped
from webui.catalog.checkpoints import Checkpoint
from webui.core.errors import BadModelFile
from webui.models.devices import placement_on_cpu
from webui.models.pickle_file import PickleFile
from webui.models.registry import open_checkpoint
from webui.models.safetensors_file import SafetensorsFile
from webui.models.weights import open_weights

BASE = torch.randn(6, 4)
WEIGHTS: dict[str, Any] = {
    "plain": BASE,
    "rows": BASE[1:3],
    "turned": BASE.t(),
    "strided": BASE[:, ::2],
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(7).bfloat16(),
    "double": torch.randn(2).double(),
    "whole": torch.arange(6).reshape(1, 6),
    "int": torch.arange(3, dtype=torch.int32),
    "short": torch.arange(3, dtype=torch.int16),
    "byte": torch.arange(3, dtype=torch.uint8),
    "char": torch.arange(-3, 0, dtype=torch.int8),
    "truth": torch.tensor([True, False]),
    "scalar": torch.tensor(4.5),
    "none": torch.empty(0, 3),
    "parameter": torch.nn.Parameter(torch.randn(2)),
    "channels last": torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last),
}
LAYOUTS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def saved(content: Any, path: Path, is_zip: bool = True, protocol: int = 2) -> PickleFile:
    torch.save(content, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    return PickleFile(path)


@LAYOUTS
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_are_those_that_torch_reads(is_zip: bool, protocol: int, tmp_path: Path) -> None:
    file = saved(WEIGHTS, tmp_path / "a.pt", is_zip, protocol)
    expected = torch.load(file.path, weights_only=protocol == 2)  # its safe reader knows no other protocol
    assert file.shapes.keys() == expected.keys()
    for name, wanted in expected.items():
        read = file.tensor(name)
        assert read.equal(wanted), name
        assert (read.dtype, read.stride()) == (wanted.dtype, wanted.stride()), name
        assert (file.dtypes[name], file.shapes[name]) == (wanted.dtype, tuple(wanted.shape)), name


def test_nothing_is_copied_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    file = saved({"a": torch.arange(50_000.0)}, tmp_path / "a.ckpt")
    assert file.tensor("a").data_ptr() == file.tensor("a").data_ptr()
    file.tensor("a").zero_()
    assert PickleFile(file.path).tensor("a").equal(torch.arange(50_000.0))


@LAYOUTS
def test_released_tensors_read_the_same_again(is_zip: bool, tmp_path: Path) -> None:
    file = saved({"a": torch.arange(50_000.0), "b": torch.arange(3.0)}, tmp_path / "a.ckpt", is_zip)
    assert file.position("a") != file.position("b")
    for name in ("a", "b"):
        before = file.tensor(name).clone()
        file.release(name)
        assert file.tensor(name).equal(before)


WRAPPED = {
    "bare": lambda w: w,
    "Lightning": lambda w: {"epoch": 3, "global_step": 840000, "pytorch-lightning_version": "1.4.2", "state_dict": w},
    "twice": lambda w: {"state_dict": {"state_dict": w}},
    "ordered": lambda w: {"state_dict": OrderedDict(w)},
    "params_ema": lambda w: {"params": {"other": torch.zeros(1)}, "params_ema": w},
    "params": lambda w: {"params": w},
    "model": lambda w: {"model": w, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "groups": [{"lr": 1}]}},
    "parallel": lambda w: {f"module.{name}": value for name, value in w.items()},
    "with numpy": lambda w: {"state_dict": w, "loss": np.float64(0.5), "curve": np.arange(4.0), "seen": {1, 2}},
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_wrappers_are_taken_off(how: str, tmp_path: Path) -> None:
    weights = {"a.weight": torch.randn(2, 3), "a.bias": torch.randn(2)}
    file = saved(WRAPPED[how](weights), tmp_path / "a.ckpt")
    assert set(weights) <= set(file.shapes)
    assert all(file.tensor(name).equal(value) for name, value in weights.items())


def test_the_whole_content_is_at_hand_as_plain_data(tmp_path: Path) -> None:
    file = saved({"name": "x", "step": 7, 320: (OrderedDict(a=BASE), OrderedDict(b=BASE))}, tmp_path / "a.pt")
    assert (file.content["name"], file.content["step"]) == ("x", 7)
    assert file.materialised(file.content[320][1]["b"]).equal(BASE)


def test_old_embeddings_hold_a_parameter_dict(tmp_path: Path) -> None:
    """As pickled by torch 1.12's ParameterDict, which today's no longer writes."""
    state = b"}" + _text("_parameters") + b"}" + _text("*") + tensor() + b"s" + b"s"
    bag = b"ctorch.nn.modules.container\nParameterDict\n)\x81" + state + b"b"
    path = tmp_path / "a.pt"
    path.write_bytes(zipped(b"\x80\x02}" + _text("string_to_param") + bag + b"s."))
    assert PickleFile(path).tensor("string_to_param.*").tolist() == [0, 0, 0, 0]


def _text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def test_a_tensor_from_numpy_is_read_from_the_pickle(tmp_path: Path) -> None:
    raw = np.array([1.5, -2], np.float32)
    rebuilt = (
        b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n("
        + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + b"K\x00\x85C\x01btR"
        + b"(K\x01K\x02\x85cnumpy\ndtype\n" + _text("f4") + b"\x89\x88\x87R\x89C\x08" + raw.tobytes() + b"tb"
        + b"ctorch\nfloat32\n" + _text("cpu") + b"\x89tR"
    )  # fmt: skip
    path = tmp_path / "a.pt"
    path.write_bytes(zipped(program(rebuilt)))
    assert PickleFile(path).tensor("a").tolist() == raw.tolist()


def test_what_follows_the_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(zipped(program(tensor()) + b"\x80\x02cos\nsystem\nX\x01\0\0\0x\x85R."))
    assert PickleFile(path).tensor("a").shape == (4,)


def test_a_file_of_the_old_layout_made_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    numbers = torch.tensor([1.0, 2, 3, 4])
    path.write_bytes(legacy(program(tensor()), ["0"], (4).to_bytes(8, "little") + numbers.numpy().tobytes()))
    assert PickleFile(path).tensor("a").equal(numbers)


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    save_file({"a": BASE}, tmp_path / "a.ckpt")
    opened = open_weights(tmp_path / "a.ckpt")
    assert isinstance(opened, SafetensorsFile)
    assert opened.tensor("a").equal(BASE)
    torch.save({"a": BASE}, tmp_path / "b.safetensors")
    with pytest.raises(BadModelFile, match=r"pickle file named \.safetensors"):
        open_weights(tmp_path / "b.safetensors")
    with pytest.raises(BadModelFile, match="can't be read"):
        open_weights(tmp_path / "gone.ckpt")


@pytest.mark.parametrize("name", ["embeddings/rembpt.pt", "hypernetworks/rhyper.pt"])
@pytest.mark.parity
def test_files_of_the_original_program_are_read(name: str, parity: Path) -> None:
    file = PickleFile(parity / name)
    expected = torch.load(parity / name, weights_only=True)
    assert _plain(file.content, file) == _plain(expected, file)


def _plain(value: Any, file: PickleFile) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner, file) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, file) for inner in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return file.materialised(value).tolist() if hasattr(value, "storage") else value


@LAYOUTS
def test_a_ckpt_checkpoint_loads_as_its_safetensors_twin(
    is_zip: bool, tiny: Path, described: Callable[[Path], Checkpoint], tmp_path: Path
) -> None:
    path = tmp_path / "tiny.ckpt"
    torch.save({"state_dict": load_file(tiny), "epoch": 1}, path, _use_new_zipfile_serialization=is_zip)
    path.with_suffix(".yaml").write_bytes(tiny.with_suffix(".yaml").read_bytes())
    twin, model = (open_checkpoint(described(p)).load(placement_on_cpu(torch.float32)) for p in (tiny, path))
    for part in ("unet", "vae"):
        wanted, read = (getattr(m, part) for m in (twin, model))
        wanted, read = (getattr(m, "module", m).state_dict() for m in (wanted, read))
        assert all(read[key].equal(value) for key, value in wanted.items())
