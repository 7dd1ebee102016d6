"""One part of the device benchmark, in a process of its own: python -m bench.device.part a --rows FILE ..."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from bench.device import PARTS
from bench.device.rows import Rows
from webui.models.devices import find_device


@dataclass(frozen=True)
class Setup:
    """What all parts are told. data: a folder of their own. weights: one that they share, for what takes long to write.

    small: tiny networks, and few of them. checkpoint: an SD 1.x file to use, None for a random one.
    """

    device: torch.device
    data: Path
    weights: Path
    small: bool
    checkpoint: Path | None

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    options.data.mkdir(parents=True)
    setup = Setup(find_device(options.device), options.data, options.weights, options.small, options.checkpoint)
    rows = Rows(options.part, options.rows, options.seconds)
    import_module(f"bench.device.{PARTS[options.part]}").run(setup, rows)


if __name__ == "__main__":
    main()
