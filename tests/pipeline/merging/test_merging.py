"""The Checkpoint Merger: A1111's rules, what is never done, and the recorded merges."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.recordings import lay_out
from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.core.flags import parse_flags
from webui.core.merging import MergeRequest, MergeResult
from webui.jobs.context import JobContext
from webui.models.weights import open_weights
from webui.pipeline.engine import Engine, build
from webui.pipeline.merging.job import run
from webui.services.building import build_services

UNET = "model.diffusion_model."
KEYS = {
    f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3),
    f"{UNET}out.2.weight": (4, 8, 3, 3),
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (5, 8),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 7),
    "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
    "first_stage_model.encoder.down.0.block.0.conv1.weight": (8, 8, 3, 3),
    "model_ema.decay": (),
    "betas": (3,),
}
"""Enough of a checkpoint to be told as SD 1.x; nothing here is loaded as a model."""
CONV_IN = f"{UNET}input_blocks.0.0.weight"
TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
VAE_IN = "first_stage_model.decoder.conv_in.weight"


def weights(seed: int, **changes: tuple[int, ...]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(changes.get(name, shape), generator=random) for name, shape in KEYS.items()}
    made["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(7).reshape(1, 7)
    return made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Checkpoints a, b, c, an inpainting one, one in fp16, one of the old layout, and a VAE."""
    models, vaes = tmp_path / "models" / "Stable-diffusion", tmp_path / "models" / "VAE"
    for folder in (models, vaes):
        folder.mkdir(parents=True)
    for seed, name in enumerate("abc"):
        save_file(weights(seed), models / f"{name}.safetensors", {"format": "pt", "author": name, name: "1"})
    save_file(weights(3, **{CONV_IN: (8, 9, 3, 3)}), models / "inp.safetensors")
    save_file(weights(4, **{CONV_IN: (8, 8, 3, 3)}), models / "p2p.safetensors")
    save_file({name: value.half() for name, value in weights(5).items()}, models / "half.safetensors")
    old = {name.replace("text_model.", ""): value for name, value in weights(6).items()}
    torch.save({"state_dict": old}, models / "old.ckpt")
    vae = {
        name.removeprefix("first_stage_model."): value for name, value in weights(7).items() if "stage_model.d" in name
    }
    vae["encoder.down.0.block.0.conv1.weight"] = torch.randn(8, 8, 3, 3)
    save_file(vae, vaes / "v.vae.safetensors")
    (models / "b.yaml").write_text("model: {params: {}}\n")
    flags, _ = parse_flags(["--data-dir", str(tmp_path), "--no-half", "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


def merged(engine: Engine, job: JobContext | None = None, **request: Any) -> tuple[Path, dict[str, Tensor]]:
    result = run(engine, MergeRequest.as_given(**request), job or JobContext.alone())
    assert result.message == f"Checkpoint saved to {result.path}"
    path = Path(result.path)
    return path, load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def test_weighted_sum(engine: Engine) -> None:
    path, made = merged(engine, primary="a", secondary="b", multiplier=0.25)
    a, b = weights(0), weights(1)
    assert path.name == "0.75(a) + 0.25(b).safetensors"
    assert made.keys() == a.keys()
    assert made[TOKENS].equal(0.75 * a[TOKENS] + 0.25 * b[TOKENS])
    assert made["betas"].equal(a["betas"])
    assert made["cond_stage_model.transformer.text_model.embeddings.position_ids"].dtype == torch.int64
    assert path in [checkpoint.path for checkpoint in engine.checkpoints]


def test_add_difference_where_c_lacks_a_weight_nothing_is_added(engine: Engine) -> None:
    c, lacking = weights(2), f"{UNET}out.2.weight"
    del c[lacking]
    save_file(c, engine.paths.checkpoints[0] / "c.safetensors")
    path, made = merged(engine, primary="a", secondary="b", tertiary="c", method="Add difference", multiplier=1.0)
    assert path.name == "a + 1.0(b - c).safetensors"
    assert made[TOKENS].equal(weights(0)[TOKENS] + 1.0 * (weights(1)[TOKENS] - c[TOKENS]))
    assert made[lacking].equal(weights(0)[lacking])


def test_weights_of_b_alone_are_left_out(engine: Engine) -> None:
    b = {**weights(1), f"{UNET}extra.weight": torch.ones(1)}
    save_file(b, engine.paths.checkpoints[0] / "b.safetensors")
    assert f"{UNET}extra.weight" not in merged(engine, primary="a", secondary="b")[1]


@pytest.mark.parametrize(("a", "channels", "kind"), [("inp", 9, "inpainting"), ("p2p", 8, "instruct-pix2pix")])
def test_a_model_with_more_input_keeps_what_b_lacks(a: str, channels: int, kind: str, engine: Engine) -> None:
    path, made = merged(engine, primary=a, secondary="b", multiplier=0.5)
    assert path.name == f"0.5({a}) + 0.5(b).{kind}.safetensors"
    before = open_weights(engine.checkpoints.find(a).path).tensor(CONV_IN)
    assert made[CONV_IN].shape == (8, channels, 3, 3)
    assert made[CONV_IN][:, 4:].equal(before[:, 4:])
    assert made[CONV_IN][:, :4].equal(0.5 * before[:, :4] + 0.5 * weights(1)[CONV_IN])
    with pytest.raises(InvalidRequest, match=f"A must be the {kind} model; swap A and B"):
        merged(engine, primary="b", secondary=a)


def test_half_precision(engine: Engine) -> None:
    half = merged(engine, primary="a", secondary="b", half=True, custom_name="1")[1]
    assert (half[TOKENS].dtype, half["betas"].dtype) == (torch.float16, torch.float32)
    copied = merged(engine, primary="a", method="No interpolation", half=True, custom_name="2")[1]
    assert {value.dtype for value in copied.values()} == {torch.float16, torch.int64}
    both = merged(engine, primary="half", secondary="half", custom_name="3")[1]
    assert both[TOKENS].dtype == torch.float16
    mixed = merged(engine, primary="half", secondary="a", custom_name="4")[1]
    assert mixed[TOKENS].dtype == torch.float32


def test_an_old_pickle_is_merged_under_the_usual_names(engine: Engine) -> None:
    made = merged(engine, primary="old", secondary="a", multiplier=0.5)[1]
    assert made[TOKENS].equal(0.5 * weights(6)[TOKENS] + 0.5 * weights(0)[TOKENS])


def test_formats_and_patterns(engine: Engine) -> None:
    path, made = merged(
        engine, primary="a", method="No interpolation", format="ckpt", custom_name="x.ckpt", discard="model_ema|^betas"
    )
    assert path.name == "x.ckpt"
    assert made.keys() == weights(0).keys() - {"model_ema.decay", "betas"}
    with pytest.raises(InvalidRequest, match="nothing would be left"):
        merged(engine, primary="a", method="No interpolation", custom_name="y", discard=".")


def test_a_vae_is_baked_in(engine: Engine) -> None:
    made = merged(engine, primary="a", secondary="b", vae="v.vae.safetensors", half=True)[1]
    vae = load_file(engine.paths.vae / "v.vae.safetensors")
    assert made[VAE_IN].equal(vae["decoder.conv_in.weight"].half())
    assert made[TOKENS].dtype == torch.float16
    with pytest.raises(NotFound, match='no VAE "gone"'):
        merged(engine, primary="a", secondary="b", vae="gone", custom_name="z")


def test_the_config_is_copied_from_the_first_that_has_one_or_the_one_named(engine: Engine) -> None:
    content = (engine.paths.checkpoints[0] / "b.yaml").read_bytes()
    assert merged(engine, primary="a", secondary="b")[0].with_suffix(".yaml").read_bytes() == content
    plain = merged(engine, primary="a", secondary="b", config_source=3, custom_name="plain")[0]
    named = merged(engine, primary="a", secondary="b", config_source=1, custom_name="named")[0]
    assert not plain.with_suffix(".yaml").exists()
    assert named.with_suffix(".yaml").exists()


def test_metadata_tells_the_recipe_and_the_ancestors(engine: Engine) -> None:
    first, _ = merged(engine, primary="a", secondary="b", custom_name="first", metadata='{"n": 1, "author": "me"}')
    metadata = open_weights(first).metadata
    assert (metadata["format"], metadata["author"], metadata["n"]) == ("pt", "me", "1")
    assert (metadata["a"], metadata["b"]) == ("1", "1")
    recipe, models = json.loads(metadata["sd_merge_recipe"]), json.loads(metadata["sd_merge_models"])
    a = hashlib.sha256((first.parent / "a.safetensors").read_bytes()).hexdigest()
    assert (recipe["type"], recipe["primary_model_hash"], recipe["multiplier"]) == ("webui", a, 0.3)
    assert models[a]["name"] == "a.safetensors"
    second, _ = merged(engine, primary="first", secondary="c", custom_name="second", copy_metadata=False)
    ancestors = json.loads(open_weights(second).metadata["sd_merge_models"])
    assert a in ancestors
    assert ancestors[hashlib.sha256(first.read_bytes()).hexdigest()]["sd_merge_recipe"] == recipe
    assert "author" not in open_weights(second).metadata
    none, _ = merged(engine, primary="a", secondary="b", custom_name="none", save_metadata=False)
    assert dict(open_weights(none).metadata) == {}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no A": ({"primary": ""}, "requires a primary model"),
    "no B": ({"secondary": ""}, "requires a secondary model"),
    "no C": ({"method": "Add difference"}, r"Interpolation method \(Add difference\) requires a tertiary model"),
    "unknown B": ({"secondary": "zzz"}, "No checkpoint matches"),
    "metadata that isn't JSON": ({"metadata": "{not json"}, "not JSON"),
    "metadata that is a list": ({"metadata": "[1]"}, "must be a JSON object"),
    "a bad pattern": ({"discard": "(["}, "not a regular expression"),
    "over A": ({"method": "No interpolation"}, r"would replace a\.safetensors itself"),
    "over B": ({"custom_name": "b", "overwrite": True}, r"would replace b\.safetensors itself"),
    "over another": (
        {"custom_name": "c"},
        r"There is a c\.safetensors and a c\.yaml already|There is a c\.safetensors",
    ),
    "a name of nothing": ({"custom_name": "../.."}, "can't be the name of a file"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(why: str, engine: Engine) -> None:
    changes, said = REFUSED[why]
    folder = engine.paths.checkpoints[0]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises((InvalidRequest, NotFound, Refused), match=said):
        merged(engine, **{"primary": "a", "secondary": "b", **changes})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../evil", "evil"),
        ("/etc/evil", "etc/evil"),
        ("a\\b", "a/b"),
        ("CON", "_CON"),
        ("x:y?\n", "x_y_"),
        ("s/x", "s/x"),
    ],
)
def test_a_custom_name_stays_in_the_folder(name: str, expected: str, engine: Engine) -> None:
    path, _ = merged(engine, primary="a", secondary="b", custom_name=name)
    assert path == (engine.paths.checkpoints[0] / f"{expected}.safetensors").resolve()


def test_a_file_is_replaced_when_asked_for(engine: Engine) -> None:
    path, first = merged(engine, primary="a", secondary="b", custom_name="x")
    with pytest.raises(Refused, match="Replace the file that is there"):
        merged(engine, primary="a", secondary="c", custom_name="x")
    assert load_file(path)[TOKENS].equal(first[TOKENS])
    assert not merged(engine, primary="a", secondary="c", custom_name="x", overwrite=True)[1][TOKENS].equal(
        first[TOKENS]
    )


class Stopped(JobContext):
    """A job that is interrupted after three weights."""

    def text(self, text: str) -> None:
        super().text(text)
        if text.startswith("Merging"):
            self._publish(interrupted=True)


def test_a_cancelled_merge_leaves_nothing_behind(engine: Engine) -> None:
    before = set(engine.paths.checkpoints[0].iterdir())
    result = run(engine, MergeRequest(primary="a", secondary="b"), Stopped.alone())
    assert result == MergeResult("", "Merging was cancelled; nothing was written.")
    assert set(engine.paths.checkpoints[0].iterdir()) == before


def test_families_are_not_mixed(engine: Engine) -> None:
    xl = {"conditioner.embedders.1.model.ln_final.weight": torch.ones(8), **weights(9)}
    save_file(xl, engine.paths.checkpoints[0] / "xl.safetensors")
    engine.checkpoints.refresh()
    with pytest.raises(InvalidRequest, match=r"xl\.safetensors is SDXL, a\.safetensors is Stable Diffusion 1\.x"):
        merged(engine, primary="a", secondary="xl")


def test_shapes_that_do_not_fit_are_named(engine: Engine) -> None:
    save_file(weights(1, **{TOKENS: (6, 8)}), engine.paths.checkpoints[0] / "b.safetensors")
    with pytest.raises(InvalidRequest, match=r"token_embedding\.weight is \[5, 8\] in the first and \[6, 8\] in"):
        merged(engine, primary="a", secondary="b")


@pytest.mark.parametrize(
    ("files", "named", "channels", "advice"),
    [
        (("inp", "b", "inp"), ("b", "inp"), (4, 9), "C must be the plain base model"),
        (("p2p", "b", "p2p"), ("b", "p2p"), (4, 8), "C must be the plain base model"),
        (("inp", "b", "p2p"), ("b", "p2p"), (4, 8), "C must be the plain base model"),
        (("a", "b", "inp"), ("a", "inp"), (4, 9), ""),
        (("inp", "p2p", "a"), ("inp", "p2p"), (9, 8), ""),
        (("inp", "inp", "a"), ("inp", "a"), (9, 4), ""),
    ],
)
def test_the_two_files_that_differ_are_named(
    engine: Engine, files: tuple[str, ...], named: tuple[str, str], channels: tuple[int, int], advice: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        merged(engine, **dict(zip(("primary", "secondary", "tertiary"), files, strict=True)), method="Add difference")
    sentence = str(refusal.value)
    assert sentence.startswith("{}.safetensors and {}.safetensors don't fit together".format(*named))
    assert "is [8, {}, 3, 3] in the first and [8, {}, 3, 3] in the second".format(*channels) in sentence
    assert advice in sentence


# The recorded merges

RECORDED = [
    "ws-0.3",
    "ws-0.3-half",
    "none-half",
    "none-ckpt",
    "discard",
    "bake-ws-half",
    "meta-recipe",
    "meta-off",
    "inpaint-add",
]


@pytest.fixture(scope="module")
def recorded(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, Any]], Path]]:
    data = tmp_path_factory.mktemp("merges")
    lay_out(parity, data)
    flags, _ = parse_flags(["--data-dir", str(data), "--no-half", "--device", "cpu"], {})
    services = build_services(flags)
    engine = build(services)
    names = {"interp_method": "method", "save_as_half": "half", "checkpoint_format": "format", "bake_in_vae": "vae"}
    names |= {f"{name}_model_name": name for name in ("primary", "secondary", "tertiary")}
    names |= {"discard_weights": "discard", "add_merge_recipe": "add_recipe", "copy_metadata_fields": "copy_metadata"}
    names |= {"metadata_json": "metadata"}

    def merge(request: dict[str, Any]) -> Path:
        ours = {names.get(name, name): value for name, value in request.items()}
        return Path(run(engine, MergeRequest.as_given(**ours, overwrite=True), JobContext.alone()).path)

    yield merge
    services.checkpoints.close()


@pytest.mark.parity
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_merge_comes_out_byte_for_byte(
    name: str, recorded: Callable[[dict[str, Any]], Path], parity: Path
) -> None:
    folder = parity / "more" / "merges"
    if not folder.is_dir():
        pytest.skip("the recorded merges are not there")
    case = json.loads((folder / "merges.json").read_text())[name]
    path = recorded(case["request"])
    assert path.name == case["new_files"][0]
    file = open_weights(path)
    listing = json.loads(gzip.decompress((folder / case["listing"]).read_bytes()))
    assert file.shapes.keys() == listing.keys()
    for key, (shape, dtype, *_, digest) in listing.items():
        tensor = file.tensor(key)
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert (list(tensor.shape), str(tensor.dtype)) == (shape, f"torch.{dtype}"), key
        assert hashlib.sha256(raw).hexdigest()[:16] == digest, key
    assert _decoded(file.metadata) == _decoded(case.get("metadata") or {})


def _decoded(metadata: Any) -> dict[str, Any]:
    return {key: json.loads(value) if value.startswith("{") else value for key, value in metadata.items()}
