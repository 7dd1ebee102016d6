"""Command line: run one stage, or all of them; or pack them up for another machine, train there, and take it home."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from .config import PRESETS, Preset

STARTED = time.time()  # what takes long to import comes with the stages
STAGES = ("data", "vae", "decoder", "encode", "unet", "export", "evaluate")
BESIDE = ("control", "steering")  # what is trained for the finished checkpoint


def main(presets: dict[str, Preset] | None = None, words: list[str] | None = None) -> None:
    """presets, words: other than ours and the command line's."""
    presets = presets or PRESETS
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, *BESIDE, "all", "pack", "slice", "unslice"))
    parser.add_argument("folder", type=Path, nargs="?", help="unslice: what a slice left in $OUT")
    parser.add_argument("--preset", choices=presets, help="full for pack, slice and unslice, else cpu")
    parser.add_argument("--packages", type=Path, help="data, pack: a node_modules folder that has the art already")
    parser.add_argument("--minutes", type=float, default=9.0, help="slice: when to be out again")
    parser.add_argument("--last", action="store_true", help="slice: none follows, so end the schedule within this one")
    args = parser.parse_args(words)
    slicing = args.stage in {"pack", "slice", "unslice"}
    preset = presets[args.preset or ("full" if slicing else "cpu")]
    if args.stage == "slice":
        importlib.import_module(f"{__package__}.slices").run(preset, args.minutes, args.last, STARTED)
    elif args.stage == "unslice":
        if args.folder is None:
            parser.error("unslice needs the folder that the slice left")
        importlib.import_module(f"{__package__}.slices").unslice(preset, args.folder)
    else:
        for stage in STAGES if args.stage == "all" else (args.stage,):
            module = importlib.import_module(f"{__package__}.{stage}")
            if stage in {"data", "pack"}:
                module.run(preset, args.packages)
            else:
                module.run(preset)


if __name__ == "__main__":
    main()
