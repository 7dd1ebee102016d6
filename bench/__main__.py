"""python -m bench NAME: run one benchmark, print its table, and keep the figures in bench/results.jsonl."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from bench.measure import QUIET_LOAD, conditions

RESULTS = Path(__file__).parent / "results.jsonl"
BENCHMARKS = {
    "start": "bench.start",
    "first-picture": "bench.first_picture",
    "step": "bench.step",
    "control": "bench.control",
    "load": "bench.load",
    "samplers": "bench.samplers",
    "loras": "bench.loras",
    "cards": "bench.cards",
    "page": "bench.page",
    "clips": "bench.clips",
    "animation": "bench.animation",
    "device": "bench.device",
    "training": "bench.training",
}


def main(argv: list[str]) -> int:
    # Threads that wait for their share of the work don't compute: else CPU time would count waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, path in BENCHMARKS.items():
        module = import_module(path)
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        command.add_argument("--json", action="store_true", help="print JSON instead, and keep nothing")
        command.add_argument("--quiet-only", action="store_true", help="don't begin when other programs are at work")
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    if not conditions()["quiet"]:
        doubt = f"The load of this machine is above {QUIET_LOAD}: wall times are doubtful"
        if options.quiet_only:
            print(f"{doubt}, and --quiet-only was asked for.", file=sys.stderr)
            return 1
        print(f"{doubt}; compare the CPU times.", file=sys.stderr)
    report = options.run(options)
    if options.json:
        print(json.dumps(report.record()))
        return 0
    print("\n".join(report.lines()))
    with RESULTS.open("a", encoding="utf-8") as results:
        results.write(json.dumps(report.record()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
