"""From files of weights to networks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from webui.extensions.api import BadModelFile, read_weights

T = TypeVar("T", bound=nn.Module)

COMPUTED = ("relative_position_index", "num_batches_tracked", "position_ids", "attn_mask", "attention_bias_idxs")
"""What the names of buffers end in that a network works out by itself."""


@contextmanager
def quietly() -> Iterator[None]:
    """For importing packages and building their networks, which say a lot: of registries, of stages, of progress."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def filled(network: T, path: Path, device: Any, named: Callable[[str], str] = lambda name: name) -> T:
    """The network with the weights of a file, ready to be asked.

    named: what the file calls the tensor that the network calls `name`, below a prefix that all share.
    Raises: BadModelFile when the file doesn't hold them.
    """
    return with_weights(network, read_weights(path), path, device, named)


def with_weights(
    network: T,
    weights: Mapping[str, Tensor],
    path: Path,
    device: Any,
    named: Callable[[str], str] = lambda name: name,
) -> T:
    """As `filled`, with weights that were read from `path`."""
    wanted = [name for name in network.state_dict() if not name.endswith(COMPUTED)]
    prefix = common_prefix(weights, [named(name) for name in wanted])
    if prefix is None:
        close = [name for name in wanted if named(name) not in weights]
        raise BadModelFile(
            f"{path.name} doesn't hold what its name promises: {len(close)} of {len(wanted)} tensors aren't there, "
            f"such as {named(close[0] if close else wanted[0])}. Fetch the file again."
        )
    found = {name: weights[prefix + named(name)] for name in wanted}
    try:
        network.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise BadModelFile(f"{path.name} has tensors of other shapes than its name promises: {error}") from error
    return network.requires_grad_(False).eval().to(device)


def of_transformers(kind: Any, config: Any, weights: Mapping[str, Tensor], path: Path, device: Any) -> Any:
    """A network of transformers with weights under the names of its hub, which it may know under newer ones.

    Raises: BadModelFile when some aren't there.
    """
    try:
        with quietly():
            network, told = kind.from_pretrained(
                None, config=config, state_dict=dict(weights), output_loading_info=True
            )
    except RuntimeError as error:
        raise BadModelFile(f"{path.name} has tensors of other shapes than its name promises: {error}") from error
    missing = sorted(name for name in told["missing_keys"] if not name.endswith(COMPUTED))
    if missing:
        raise BadModelFile(
            f"{path.name} doesn't hold what its name promises: {len(missing)} tensors aren't there, such as "
            f"{missing[0]}. Fetch the file again."
        )
    return network.float().requires_grad_(False).eval().to(device)


def common_prefix(weights: Iterable[str], wanted: list[str]) -> str | None:
    """What stands before every wanted name in the file, such as "module."; None when one of them isn't there."""
    names = set(weights)
    ending = "." + wanted[0]
    candidates = ["", *(name.removesuffix(wanted[0]) for name in names if name.endswith(ending))]
    return next((prefix for prefix in candidates if all(prefix + name in names for name in wanted)), None)


def tensor_of(picture: Any, device: Any) -> Tensor:
    """(1, 3, H, W) float32, 0 to 255, of a picture (H, W, 3)."""
    return torch.from_numpy(picture.copy()).to(device).float().permute(2, 0, 1)[None]
