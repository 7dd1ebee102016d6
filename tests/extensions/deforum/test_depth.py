"""Depth models in the layout of transformers, small ones with random weights: one adapter, fetched when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from extensions.deforum import depth, job
from extensions.deforum.settings_files import read_settings
from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.errors import BadModelFile
from webui.core.packaged import Fetchable
from webui.jobs.context import JobContext
from webui.models.manager import ModelManager
from webui.net.egress import Egress, Unreachable
from webui.pipeline.engine import Engine
from webui.services.packaged import install_weights

SCENE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def tiny_dpt() -> Any:
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, readout_type="ignore",
    )  # fmt: skip
    return DPTForDepthEstimation(config)


def tiny_depth_anything(kind: str = "relative") -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8, depth_estimation_type=kind,
    )  # fmt: skip
    return DepthAnythingForDepthEstimation(config)


def lay_out(folder: Path, model: Any, processor: str, sides: int) -> None:
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": processor, "do_resize": True, "size": {"height": sides, "width": sides},
                    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_normalize": True,
                    "do_rescale": True})
    )  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    torch.manual_seed(0)
    data = tmp_path_factory.mktemp("depth")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    lay_out(depth.DPT.folder(data / "models"), tiny_dpt(), "DPTImageProcessor", 32)
    lay_out(depth.DEPTH_ANYTHING.folder(data / "models"), tiny_depth_anything(), "DPTImageProcessor", 28)
    with exact_engine(data) as engine:
        yield engine


def easel_of(engine: Engine) -> Any:
    models: ModelManager = engine.models
    return SimpleNamespace(models=models, paths=engine.paths)


@pytest.mark.parametrize("algorithm", ["Midas-3-Hybrid", "Depth Anything", "Midas+AdaBins (old)"])
def test_distances_are_one_to_two_and_evened_out(engine: Engine, algorithm: str) -> None:
    found = depth.DepthModel(depth.ESTIMATORS[algorithm], easel_of(engine))(SCENE)
    assert found.shape == (48, 64)
    assert found.min() == 1  # the nearest point
    assert found.max() <= 2
    assert found.std() > 0.05
    again = depth.DepthModel(depth.ESTIMATORS[algorithm], easel_of(engine))(SCENE)
    assert (again == found).all()


def test_which_models_say_near_by_large_numbers() -> None:
    from transformers import ZoeDepthConfig

    assert depth.near_is_large(tiny_dpt().config)
    assert depth.near_is_large(tiny_depth_anything().config)
    assert not depth.near_is_large(tiny_depth_anything("metric").config)
    assert not depth.near_is_large(ZoeDepthConfig())


def test_damaged_files_are_one_sentence(engine: Engine, tmp_path: Path) -> None:
    folder = depth.ZOE.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "zoedepth"}')
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"nothing")
    assert depth.ZOE.is_there(tmp_path)
    place = SimpleNamespace(models=engine.models, paths=SimpleNamespace(models=tmp_path))
    with pytest.raises(BadModelFile, match="can't be loaded"):
        depth.DepthModel(depth.ZOE, place)(SCENE)


def animated(engine: Engine, **given: Any) -> tuple[job.Animated, Path]:
    easel = engine.host.easel
    asked = read_settings({"W": 64, "H": 64, "seed": 1, "max_frames": 3, "animation_mode": "3D", "use_init": True,
                           "diffusion_cadence": 1, "motion_preview_mode": True, "skip_video_creation": True,
                           "strength": 1, **given}).settings  # fmt: skip
    order = job.plan(easel, asked)
    from dataclasses import replace

    made = job.run(replace(easel, models=engine.models), order, JobContext.alone(engine=engine))
    return made, Path(made.folder)


def test_a_3d_animation_with_depth_maps(engine: Engine, tmp_path: Path) -> None:
    Image.fromarray(SCENE).resize((64, 64)).save(tmp_path / "init.png")
    given = {"init_image": str(tmp_path / "init.png"), "save_depth_maps": True, "translation_z": "0:(20)"}
    deep, folder = animated(engine, **given, batch_name="deep")
    assert deep.comments == ()
    maps = sorted(path.name for path in folder.glob("*_depth_*.png"))
    assert maps == [f"{deep.stamp}_depth_{number:09}.png" for number in (1, 2)]
    with Image.open(folder / maps[0]) as picture:
        assert (picture.mode, picture.size) == ("L", (64, 64))
        assert np.asarray(picture).std() > 50
    flat, beside = animated(engine, **given, depth_algorithm="Zoe", batch_name="flat")
    assert len(flat.comments) == 1
    assert "flat plane" in flat.comments[0]
    assert "MIT" in flat.comments[0]
    assert "MB" in flat.comments[0]
    assert not list(beside.glob("*_depth_*"))
    last = [np.asarray(Image.open(place / f"{made.stamp}_000000002.png")).astype(int)
            for made, place in ((deep, folder), (flat, beside))]  # fmt: skip
    assert np.abs(last[0] - last[1]).max() > 20
    none, _ = animated(engine, **given, depth_algorithm="AdaBins", batch_name="adabins")
    assert "AdaBins has no weights" in none.comments[0]


def test_they_are_offered_with_size_and_licence(engine: Engine) -> None:
    offered = {fetchable.name: fetchable for fetchable in engine.choices.all(Fetchable)}
    assert "99.0 MB from huggingface.co, Apache-2.0" in offered["Depth: Depth Anything V2 Small"].summary
    zoe = offered["Depth: ZoeDepth"]
    assert "MIT" in zoe.missing
    assert [file.address for file in zoe.files][-1] == (
        "https://huggingface.co/Intel/zoedepth-nyu-kitti/resolve/main/model.safetensors"
    )
    assert zoe.paths(Path("m"))[-1] == Path("m/Deforum/depth/zoedepth-nyu-kitti/model.safetensors")


def test_offline_is_one_sentence(tmp_path: Path) -> None:
    def nowhere(host: str, port: int) -> Any:
        raise OSError("no network")

    with pytest.raises(Unreachable) as caught:
        install_weights(depth.ZOE.fetchable.files, tmp_path, tmp_path / "tmp", Egress(resolve=nowhere))
    assert str(caught.value).startswith("ZoeDepth can't be fetched:")
    assert "\n" not in str(caught.value)
    assert not depth.ZOE.is_there(tmp_path)
