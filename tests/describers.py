"""Small networks that describe pictures, in the layouts of the true ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from transformers import BlipConfig, BlipForConditionalGeneration, CLIPConfig, CLIPModel

WORDS = ["[PAD]", "[UNK]", "[SEP]", "[CLS]", "[MASK]", "[DEC]", *(f"word{number}" for number in range(54))]
TAGS = ("1girl", "cat_ears", "smile_(grin)", "rating:safe", "sky")


def word_tokenizer(folder: Path, words: list[str]) -> None:
    """A tokenizer.json of whole words."""
    vocabulary = {word: number for number, word in enumerate(words)}
    special = [
        {"id": number, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False}
        for word, number in vocabulary.items()
        if word[0] == "["
    ]
    told = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(told))


def small_blip(folder: Path, *, pickled: bool = False) -> BlipForConditionalGeneration:
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 32}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64, "projection_dim": 16}
    text |= {"bos_token_id": 5, "sep_token_id": 2, "pad_token_id": 0, "eos_token_id": 2}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8, "projection_dim": 16}
    torch.manual_seed(3)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)
    model = BlipForConditionalGeneration(config).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    word_tokenizer(folder, WORDS)
    return model


def small_clip(folder: Path, words: list[str]) -> CLIPModel:
    vocabulary = ["[PAD]", "[UNK]", *words]
    text = {"vocab_size": len(vocabulary), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0, "bos_token_id": 0}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    torch.manual_seed(4)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    word_tokenizer(folder, vocabulary)
    return model


class SmallDeepBooru(nn.Module):
    """DeepDanbooru with two stages of two blocks, written out layer by layer."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        torch.manual_seed(5)
        sizes = [
            (3, 8, 7, 2),
            *((8, 16, 1, 1), (8, 4, 1, 1), (4, 4, 3, 1), (4, 16, 1, 1), (16, 4, 1, 1), (4, 4, 3, 1), (4, 16, 1, 1)),
            *((16, 32, 1, 2), (16, 8, 1, 1), (8, 8, 3, 2), (8, 32, 1, 1), (32, 8, 1, 1), (8, 8, 3, 1), (8, 32, 1, 1)),
        ]
        for number, (inner, outer, side, stride) in enumerate(sizes):
            self.add_module(f"n_Conv_{number}", nn.Conv2d(inner, outer, side, stride))
        self.add_module("n_Conv_15", nn.Conv2d(32, tags, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = [getattr(self, f"n_Conv_{number}") for number in range(16)]
        relu, pad = torch.relu, nn.functional.pad
        x = relu(conv[0](pad(x, [2, 3, 2, 3])))
        x = nn.functional.max_pool2d(pad(x, [0, 1, 0, 1], value=float("-inf")), 3, 2)
        y = conv[4](relu(conv[3](pad(relu(conv[2](x)), [1, 1, 1, 1]))))
        x = relu(y + conv[1](x))
        y = conv[7](relu(conv[6](pad(relu(conv[5](x)), [1, 1, 1, 1]))))
        x = relu(y + x)
        y = conv[11](relu(conv[10](pad(relu(conv[9](x)), [0, 1, 0, 1]))))
        x = relu(y + conv[8](x))
        y = conv[14](relu(conv[13](pad(relu(conv[12](x)), [1, 1, 1, 1]))))
        x = relu(y + x)
        return torch.sigmoid(nn.functional.avg_pool2d(conv[15](x), x.shape[-1])[0, :, 0, 0])


def small_deepbooru(file: Path, tags: tuple[str, ...] = TAGS) -> SmallDeepBooru:
    model = SmallDeepBooru(len(tags)).eval()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**model.state_dict(), "tags": list(tags)}, file)
    return model


def small_tagger(folder: Path, *, side: int = 32, channels_last: bool = True, scores: int = len(TAGS)) -> None:
    """Scores that follow from the mean of blue, green and red."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = ["batch", side, side, 3] if channels_last else ["batch", 3, side, side]
    weights = np.linspace(-1, 1, 3 * scores, dtype=np.float32).reshape(3, scores) / 100
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["output"]),
        ],
        "tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", scores])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([1, 2] if channels_last else [2, 3], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    rows = [f"{number},{tag.removeprefix('rating:')},{9 if ':' in tag else 0},1" for number, tag in enumerate(TAGS)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]) + "\n")
