"""Command line: run one stage, or all of them; or pack them up for another machine, train there, and take it home."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from .config import PRESETS, Preset

STARTED = time.time()  # what takes long to import comes with the stages
STAGES = ("data", "vae", "decoder", "encode", "unet", "export", "evaluate")
BESIDE = ("control", "steering", "motion", "animate")  # what is trained for the finished checkpoint
TIMED = ("vae", "decoder", "unet", "control", "motion")  # take a clock
SLICE = 9.0  # minutes


def main(presets: dict[str, Preset] | None = None, words: list[str] | None = None) -> None:
    """presets, words: other than ours and the command line's."""
    presets = presets or PRESETS
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, *BESIDE, "all", "pack", "slice", "unslice"))
    parser.add_argument("folder", type=Path, nargs="?", help="unslice: what a slice left in $OUT")
    parser.add_argument("--preset", choices=presets, help="full for pack, slice and unslice, else cpu")
    parser.add_argument("--packages", type=Path, help="data, pack: a node_modules folder that has the art already")
    parser.add_argument("--minutes", type=float, help="slice: when to be out again (9); a training: when to stop")
    parser.add_argument("--last", action="store_true", help="with minutes: end the schedule within these")
    args = parser.parse_args(words)
    slicing = args.stage in {"pack", "slice", "unslice"}
    preset = presets[args.preset or ("full" if slicing else "cpu")]
    if args.stage == "slice":
        importlib.import_module(f"{__package__}.slices").run(preset, args.minutes or SLICE, args.last, STARTED)
    elif args.stage == "unslice":
        if args.folder is None:
            parser.error("unslice needs the folder that the slice left")
        importlib.import_module(f"{__package__}.slices").unslice(preset, args.folder)
    else:
        for stage in STAGES if args.stage == "all" else (args.stage,):
            module = importlib.import_module(f"{__package__}.{stage}")
            if stage in {"data", "pack"}:
                module.run(preset, args.packages)
            elif args.minutes and stage in TIMED:
                clock = importlib.import_module(f"{__package__}.loop").Clock
                module.run(preset, clock(STARTED + 60 * args.minutes, args.last))
            else:
                module.run(preset)


if __name__ == "__main__":
    main()
