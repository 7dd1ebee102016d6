"""Command line: run one stage, or all of them."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from .config import PRESETS

STAGES = ("data", "vae", "encode", "decoder", "unet", "export", "evaluate")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--preset", choices=PRESETS, default="cpu-first")
    parser.add_argument("--packages", type=Path, help="data: a node_modules folder that has the art already")
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    for stage in STAGES if args.stage == "all" else (args.stage,):
        module = importlib.import_module(f"{__package__}.{stage}")
        if stage == "data":
            module.run(preset, args.packages)
        else:
            module.run(preset)


if __name__ == "__main__":
    main()
