"""Files of every kind: told apart, refused in a sentence, loaded in their true layouts, and let go of again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from extensions.controlnet.maps import draw  # noqa: E402
from extensions.controlnet.networks import clip_vision, ip_adapter, kinds, names, t2i_adapter  # noqa: E402
from extensions.controlnet.networks.control import ControlNetwork, read_layout  # noqa: E402
from extensions.controlnet.networks.visits import visiting  # noqa: E402
from extensions.controlnet.units import WEIGHT_TYPES, Unit, find_preprocessor  # noqa: E402
from extensions.controlnet.weight_types import weights_of  # noqa: E402
from tests.extensions.controlnet import nets  # noqa: E402
from tests.extensions.controlnet.workbench import Bench, picture, sent  # noqa: E402
from tools.random_checkpoint import FULL_SIZES, TINY_SIZES, Layout  # noqa: E402
from webui.core.errors import WebuiError  # noqa: E402
from webui.models.manager import release_memory  # noqa: E402

SD1, SDXL = FULL_SIZES["sd1"], FULL_SIZES["sdxl"]
META = torch.device("meta")


def described(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights without numbers."""
    return {name: torch.empty(shape, device=META) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("layout", "shapes", "family"),
    [
        (SD1, nets.control_shapes(SD1), "SD 1.x"),
        (FULL_SIZES["sd2"], nets.control_shapes(FULL_SIZES["sd2"]), "SD 2.x"),
        (SDXL, nets.control_shapes(SDXL), "SDXL"),
        (replace(SDXL, depths=(0, 1, 1)), nets.control_shapes(replace(SDXL, depths=(0, 1, 1), middle_depth=1)), "SDXL"),
        (SDXL, nets.union_shapes(SDXL, 6), "SDXL"),
        (SDXL, nets.union_shapes(SDXL, 8), "SDXL"),
    ],
)
def test_networks_of_full_size_are_built_from_their_files(layout: Layout, shapes: Any, family: str) -> None:
    weights = described(shapes)
    heads = (8, 8, 8, 8) if layout is SD1 else (5, 10, 20, 20)[: len(layout.unet_widths)]
    network = ControlNetwork.of(names.as_diffusers(weights), heads, 32, META, torch.float16)
    assert network.layout.family == family
    assert sum(part.numel() for part in network.module.parameters()) == sum(part.numel() for part in weights.values())


@pytest.mark.parametrize(
    ("layout", "projection", "width", "tokens"),
    [
        (SD1, "plain", 1024, 4), (SD1, "plus", 1280, 16), (SD1, "full", 1280, 257),
        (SDXL, "plain", 1280, 4), (SDXL, "plus", 1280, 16),
    ],
)  # fmt: skip
def test_ip_adapters_of_full_size(layout: Layout, projection: str, width: int, tokens: int) -> None:
    shapes = nets.ip_adapter_shapes(layout, projection, width, tokens)
    network = ip_adapter.load(described(shapes), META, torch.float16)
    assert (network.layout.projection, network.layout.picture_width) == (projection, width)
    assert len(network.keys) == (16 if layout is SD1 else 70)


@pytest.mark.parametrize(
    ("width", "layers", "patch", "heads", "activation"),
    [(1024, 24, 14, 16, "quick_gelu"), (1280, 32, 14, 16, "gelu"), (1664, 48, 14, 16, "gelu")],
)
def test_clips_image_encoders_are_known_by_their_shapes(
    width: int, layers: int, patch: int, heads: int, activation: str, tmp_path: Path
) -> None:
    shapes = nets.vision_shapes(width, 1024, layers, 224, patch)
    found = clip_vision.configuration(shapes, tmp_path / "model.safetensors")
    assert (found["num_attention_heads"], found["hidden_act"], found["image_size"]) == (heads, activation, 224)
    assert (found["num_hidden_layers"], found["intermediate_size"]) == (layers, 4 * width)


TINY = TINY_SIZES["sd1"]
KINDS = {
    "ControlNet": nets.control_shapes(TINY),
    "ControlNet Union": nets.union_shapes(TINY, 6),
    "Control-LoRA": nets.control_lora_shapes(TINY),
    "ControlLLLite": nets.lllite_shapes(TINY),
    "T2I-Adapter": nets.t2i_shapes(TINY),
    "IP-Adapter": nets.ip_adapter_shapes(TINY, "plus", 32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_told_by_names_with_and_without_a_prefix(kind: str) -> None:
    assert kinds.recognise(KINDS[kind]) == kind
    assert kinds.recognise({f"control_model.{name}": shape for name, shape in KINDS[kind].items()}) == kind or kind in (
        "IP-Adapter", "ControlLLLite",
    )  # fmt: skip
    assert set(kinds.USABLE) == set(KINDS)


def test_other_files_are_of_no_kind() -> None:
    assert kinds.recognise({"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3)}) is None
    assert kinds.recognise({}) is None


def test_a_layout_is_the_same_in_both_namings() -> None:
    shapes = nets.control_shapes(TINY)
    named = names.as_diffusers(shapes)
    assert read_layout(named) == read_layout(names.as_diffusers(named))
    assert t2i_adapter.original_names(nets.t2i_shapes(TINY)) == nets.t2i_shapes(TINY)


SIDES = {
    16: ["input"] * 6 + ["middle"] + ["output"] * 9,
    11: ["input"] * 4 + ["middle"] + ["output"] * 6,
}


@pytest.mark.parametrize("count", SIDES)
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_weight_types_stay_within_the_weight(kind: str, count: int) -> None:
    found = weights_of(Unit(weight=0.8, weight_type=kind, composition_weight=0.8), SIDES[count])
    assert len(found) == count
    assert all(0 <= weight <= 0.8 + 1e-9 for weight in found)
    assert min(found) < 0.8 or kind in ("normal", "strong style and composition")


@pytest.mark.parametrize(
    ("kind", "count", "some"),
    [
        ("ease in", 16, {0: 1.0, 8: 0.525}),
        ("ease out", 11, {0: 0.05}),
        ("ease in-out", 16, {8: 1.0, 0: 0.05}),
        ("weak middle", 11, {4: 0.2, 3: 1.0, 5: 1.0}),
        ("strong middle", 16, {6: 1.0, 0: 0.2, 15: 0.2}),
        ("style transfer", 11, {6: 1.0, 5: 0.0, 3: 0.0}),
        ("composition", 16, {4: 0.25, 5: 1.0, 6: 0.0}),
        ("style and composition", 11, {3: 0.5, 6: 1.0, 0: 0.0}),
        ("strong style and composition", 11, {3: 0.5, 0: 1.0}),
    ],
)
def test_weight_types(kind: str, count: int, some: dict[int, float]) -> None:
    found = weights_of(Unit(weight_type=kind, composition_weight=0.5), SIDES[count])
    assert {place: round(found[place], 3) for place in some} == some


def test_own_weights_take_the_place_of_a_type() -> None:
    own = ", ".join(str(number / 10) for number in range(11))
    assert weights_of(Unit(advanced_weighting=own), SIDES[11]) == tuple(number / 10 for number in range(11))
    with pytest.raises(WebuiError, match="11 weights are given, the IP-Adapter has 16"):
        weights_of(Unit(advanced_weighting=own), SIDES[16])


def test_a_visiting_network_rests_where_it_was() -> None:
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = torch.nn.Linear(2, 2)
    before = module.weight.data_ptr()

    def visit() -> None:
        with torch.inference_mode(), visiting(module, place):
            assert module.weight.device.type == place.type
            module.weight.data = module.weight.data.clone()  # as where the device is another one
            raise KeyError("whatever ends the visit")

    with pytest.raises(KeyError, match="ends the visit"):
        visit()
    assert module.weight.data_ptr() == before


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("models"))
    for kind, shapes in KINDS.items():
        nets.write(bench.nets / f"{kind}.safetensors", nets.random_weights(shapes))
    big = TINY_SIZES["sdxl"]
    for name, shapes in {
        "xl control": nets.control_shapes(big),
        "xl prompt": nets.ip_adapter_shapes(big, "plain", 24),
        "xl lite": nets.lllite_shapes(big),
        "xl adapter": nets.t2i_shapes(big),
        "xl lora": nets.control_lora_shapes(big),
        "face": nets.ip_adapter_shapes(TINY, "full", 512),
        "style": {"style_embedding": (1, 8, 32)},
        "another": {"something": (1, 1)},
    }.items():
        nets.write(bench.nets / f"{name}.safetensors", nets.random_weights(shapes))
    whole = nets.random_weights(KINDS["ControlNet"])
    part = {name: weight for name, weight in whole.items() if not name.startswith("input_blocks.4.0.out_layers")}
    nets.write(bench.nets / "half.safetensors", part)
    (bench.nets / "cut.safetensors").write_bytes((bench.nets / "ControlNet.safetensors").read_bytes()[:5000])
    (bench.nets / "text.pth").write_text("not a model")
    nets.write(bench.nets.parent / "clip_vision" / "clip.safetensors", nets.random_weights(nets.vision_shapes()))
    yield bench
    bench.close()


IMAGE = sent(picture())
PROMPT = "ip-adapter-auto"


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        ({"model": "xl control"}, "made for .* and the checkpoint is SD 1.x; choose a ControlNet for SD 1.x"),
        ({"model": "xl prompt", "module": PROMPT}, "made for .* and the checkpoint is SD 1.x; choose an IP-Adapter"),
        ({"model": "xl lite"}, "made for SDXL and the checkpoint is SD 1.x"),
        ({"model": "xl lora"}, "made for SDXL and the checkpoint is SD 1.x"),
        ({"model": "xl adapter"}, "made for SDXL and the checkpoint is SD 1.x; choose an adapter for SD 1.x"),
        ({"model": "face", "module": PROMPT}, "FaceID"),
        ({"model": "style"}, "T2I style adapter file, which this version can't use"),
        ({"model": "another"}, "no control model. Known are"),
        ({"model": "half"}, "half.safetensors is damaged"),
        ({"model": "cut"}, "cut.safetensors"),
        ({"model": "text"}, "text.pth"),
        ({"model": "IP-Adapter"}, "IP-Adapter, which reads no map"),
        ({"model": "ControlNet", "module": PROMPT}, "is for IP-Adapters and ControlNet.safetensors is a ControlNet"),
        ({"model": "ControlNet Union"}, "must know the kind of map"),
        ({"model": "ControlNet Union", "union_control_type": "Inpaint"}, "is Inpaint; set its union control type"),
        ({"model": "ControlLLLite", "advanced_weighting": [1, 2]}, "one weight for all"),
        ({"model": "IP-Adapter", "module": PROMPT, "advanced_weighting": [1, 2]}, "2 weights are given"),
        ({"model": "ControlNet", "image": None}, "no picture"),
        ({"model": "ControlNet", "image": IMAGE[:200]}, "picture"),
    ],
)  # fmt: skip
def test_what_no_unit_can_use_is_refused_in_a_sentence(bench: Bench, unit: dict[str, Any], says: str) -> None:
    good = {"model": "T2I-Adapter", "image": IMAGE}
    with pytest.raises(WebuiError, match=says) as refusal:
        bench.result(good, {"image": IMAGE} | unit, steps=1)
    assert "Traceback" not in str(refusal.value)
    assert not [item for item in bench.engine.models.peek() if item.in_use]
    assert len(bench.result(good, steps=1).images) == 2


def test_a_model_that_is_gone_when_its_turn_comes_is_named(bench: Bench) -> None:
    file = nets.write(bench.nets / "leaving.safetensors", nets.random_weights(KINDS["T2I-Adapter"]))
    plan = bench.engine.plan(bench.request({"model": "leaving", "image": IMAGE}))
    file.unlink()
    from webui.jobs.context import JobContext
    from webui.pipeline.generate import run

    with pytest.raises(WebuiError, match="leaving.safetensors"):
        run(bench.engine, plan, JobContext.alone())


def test_an_image_prompt_has_no_map_to_look_at() -> None:
    with pytest.raises(WebuiError, match="makes no map: an IP-Adapter reads the picture itself"):
        draw(find_preprocessor(PROMPT), np.zeros((8, 8, 3), np.uint8), 64, 0, 0)


def test_a_unit_that_is_off_costs_nothing(bench: Bench) -> None:
    bench.engine.models.unload()
    plain = bench.latents()
    off = {"enabled": False, "model": "ControlNet", "image": IMAGE}
    assert torch.equal(bench.latents(off, {**off, "model": "nosuch"}), plain)
    assert [item.kind for item in bench.engine.models.peek()] == ["checkpoint"]
    assert torch.equal(bench.latents({"model": "ControlNet", "image": IMAGE, "weight": 0}), plain)


@pytest.mark.parametrize("kind", [*KINDS, "reference_only", "reference_adain+attn"])
def test_the_checkpoint_is_left_as_it_was(bench: Bench, kind: str) -> None:
    module = PROMPT if kind == "IP-Adapter" else "canny" if kind in KINDS else kind
    unit = {"model": kind if kind in KINDS else "None", "module": module, "image": IMAGE}
    plain = bench.latents()
    steered = bench.latents(unit)
    assert not torch.equal(steered, plain)
    assert torch.equal(bench.latents(unit | {"low_vram": True}), steered)
    assert torch.equal(bench.latents(), plain)


def test_memory_returns_to_where_it_was(bench: Bench) -> None:
    def held() -> int:
        release_memory()
        storages = {}
        for thing in gc.get_objects():
            if isinstance(thing, Tensor) and thing.device.type == "cpu":
                storage = thing.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        return sum(storages.values())

    units = [
        {"model": kind, "image": IMAGE, "module": "canny"} for kind in ("ControlNet", "Control-LoRA", "T2I-Adapter")
    ]
    prompt = {"model": "IP-Adapter", "image": IMAGE, "module": PROMPT}
    bench.result(*units[:2], prompt, steps=1)
    bench.engine.models.unload()
    before = held()
    for _ in range(2):
        bench.result(*units[:2], prompt, steps=1)
        bench.result(units[2], steps=1)
        assert any(item.kind == "auxiliary" for item in bench.engine.models.peek())
        bench.engine.models.unload()
    assert held() <= before + 64 * 1024
    assert bench.engine.models.peek() == ()
