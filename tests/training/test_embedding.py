"""Embeddings and hypernetworks as A1111 trains them: files that both read, gone on with, resumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.training.conftest import Ask
from tests.training.test_lora import train
from webui.catalog.embedding_image import read_embedding_image
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest
from webui.core.training import EmbeddingOptions, HypernetworkOptions, Samples, Saving, TrainingRequest
from webui.jobs.context import JobContext
from webui.models.networks.embeddings import read_embedding
from webui.models.networks.hypernetworks import read_hypernetwork
from webui.pipeline.engine import Engine, build
from webui.planning.training import TrainingPlan
from webui.services.services import Services

Plan = Callable[[TrainingRequest], TrainingPlan]


@pytest.fixture(scope="module")
def engine(services: Services) -> Engine:
    return build(services)


def picture_of(engine: Engine, prompt: str) -> list[int]:
    request = GenerationRequest(prompt=prompt, steps=2, width=64, height=64, seed=1)
    return list(engine.generate(request, JobContext.alone(engine=engine)).pictures[0].tobytes())


def test_an_embedding_learns_is_gone_on_with_and_resumed(engine: Engine, plan: Plan, ask: Ask) -> None:
    options = EmbeddingOptions(
        num_vectors_per_token=2, init_text="red apple tree", template="a [name]\n[name], [filewords]"
    )
    samples = Samples(prompts="a zebra --s 1 --w 64 --h 64", every_n_steps=2)
    kind = {"kind": "embedding", "embedding": options, "rate": 0.05, "saving": Saving(save_state_every=1)}
    first = plan(ask("zebra", steps=2, samples=samples, **kind))
    train(engine, first)
    content = torch.load(first.target, weights_only=True)
    assert content["string_to_param"]["*"].shape == (2, 32)
    assert (content["string_to_token"], content["name"], content["step"]) == ({"*": 265}, "zebra", 2)
    assert content["sd_checkpoint_name"] == "tiny"
    (sample,) = (first.folder / "samples").glob("*.png")
    inside = read_embedding_image(sample)
    assert inside is not None
    assert torch.from_numpy(inside.tensors["*"]).allclose(content["string_to_param"]["*"], atol=1e-6)

    engine.networks.catalogs.embeddings.refresh()
    assert picture_of(engine, "a zebra") != picture_of(engine, "a zebr")

    again = plan(ask("zebra", steps=4, **kind))
    train(engine, again)
    assert torch.load(again.target, weights_only=True)["step"] == 4
    assert len((again.folder / "log.csv").read_text().splitlines()) == 3  # two steps, from the third on

    whole = plan(ask("whole", steps=4, **kind))
    train(engine, whole)
    cut = plan(ask("cut", steps=4, **kind))
    # The name is part of the prompts, so that both are trained by the same one.
    whole_again = plan(ask("cut", steps=4, **kind))
    train(engine, cut, stop_after=2)
    train(engine, cut)
    resumed = read_embedding(cut.target, "cut").vectors[""]
    cut.target.unlink()
    train(engine, whole_again)
    assert read_embedding(whole_again.target, "cut").vectors[""].equal(resumed)


def test_a_hypernetwork_learns_and_is_gone_on_with(engine: Engine, plan: Plan, ask: Ask) -> None:
    options = HypernetworkOptions(
        modules=("32", "64"),
        activation_func="relu",
        add_layer_norm=True,
        use_dropout=True,
        layer_structure="1, 2, 1",
        dropout_structure="0, 0.3, 0",
    )
    kind = {"kind": "hypernetwork", "hypernetwork": options, "saving": Saving(save_state_every=1)}
    whole = plan(ask("hyper", steps=3, **kind))
    train(engine, whole)
    read = read_hypernetwork(whole.target)
    assert set(read.pairs) == {32, 64}
    content = torch.load(whole.target, weights_only=True)
    assert (content["layer_structure"], content["dropout_structure"]) == ([1, 2, 1], [0, 0.3, 0])
    assert (content["step"], content["activation_func"], content["is_layer_norm"]) == (3, "relu", True)
    engine.networks.catalogs.hypernetworks.refresh()
    assert picture_of(engine, "sks") != picture_of(engine, "sks <hypernet:hyper:1>")

    cut = plan(ask("hyper-cut", steps=3, **kind))
    train(engine, cut, stop_after=1)
    train(engine, cut)
    second = torch.load(cut.target, weights_only=True)
    for width in (32, 64):
        for side in range(2):
            assert all(content[width][side][key].equal(second[width][side][key]) for key in content[width][side])
    with pytest.raises(InvalidRequest, match="other layers"):
        train(
            engine,
            plan(ask("hyper", steps=5, kind="hypernetwork", hypernetwork=options.replace(layer_structure="1, 3, 1"))),
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "embedding", "embedding": EmbeddingOptions(template="a photo")}, r"lacks \[name\]"),
        ({"kind": "hypernetwork", "hypernetwork": HypernetworkOptions(layer_structure="2, 1")}, "begin and end with 1"),
        ({"kind": "hypernetwork", "hypernetwork": HypernetworkOptions(activation_func="relo")}, 'closest is "relu"'),
        ({"kind": "hypernetwork", "hypernetwork": HypernetworkOptions(modules=("x",))}, "widths of context"),
    ],
)
def test_mistakes_are_answered_before_the_start(
    plan: Plan, ask: Ask, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        plan(ask("mistake", **changes))
