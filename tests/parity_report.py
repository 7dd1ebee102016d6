"""Every recorded request sent to a server, and how far its pictures are from the recorded ones.

usage: python -m tests.parity_report [--dir DIR] [--server URL] [--only TEXT ...] [--without TEXT ...]
                                     [--out FILE] [--share 0.98]

Without --server it starts one of its own in fp32, with the recorded models. A case passes when every picture has the
recorded size, at least 99 % of its values are within 2/255, and the infotext is equal apart from its version.
Exit status 0 when at least `--share` of the cases pass.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageChops

from tests.recordings import Case, Difference, difference, folders, lay_out, load_cases, same_infotexts
from tests.running import Server

ROOT = Path(__file__).resolve().parents[1]
FIRST_CHECKPOINT = "tinyA"
"""What the recorded program had loaded where a case names no checkpoint."""
LOUDER = 32
"""By how much differences are amplified in the page."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case. problem: why it couldn't be compared, "" if it could."""

    case: Case
    problem: str = ""
    differences: tuple[Difference, ...] = ()
    infotext: bool = True
    pictures: tuple[bytes, ...] = ()

    @property
    def passes(self) -> bool:
        return not self.problem and self.infotext and all(item.passes for item in self.differences)

    @property
    def line(self) -> str:
        if self.problem:
            return f"FAIL {self.case.name}: {self.problem}"
        most = max((item.maximum for item in self.differences), default=0)
        mean = max((item.mean for item in self.differences), default=0.0)
        told = "equal" if self.infotext else "DIFFERENT"
        return f"{'ok  ' if self.passes else 'FAIL'} {self.case.name}: max {most}, mean {mean:.4f}, infotext {told}"


def run_case(client: httpx.Client, case: Case) -> Outcome:
    """Send one case and compare. Whatever goes wrong is its outcome."""
    try:
        answer = client.post(case.endpoint, json=case.body())
    except (httpx.HTTPError, OSError) as error:
        return Outcome(case, f"no answer ({type(error).__name__}: {error})")
    if answer.status_code != 200:
        return Outcome(case, f"can't run, HTTP {answer.status_code}: {_sentence(answer)}")
    content = answer.json()
    encoded = content.get("images") or ([content["image"]] if content.get("image") else [])
    pictures = tuple(base64.b64decode(picture) for picture in encoded)
    if len(pictures) != len(case.files):
        return Outcome(case, f"{len(pictures)} pictures, recorded {len(case.files)}", pictures=pictures)
    apart = [difference(Image.open(io.BytesIO(data)), case.picture(index)) for index, data in enumerate(pictures)]
    if None in apart:
        sizes = [Image.open(io.BytesIO(data)).size for data in pictures]
        recorded = [case.picture(index).size for index in range(len(case.files))]
        return Outcome(case, f"sizes {sizes}, recorded {recorded}", pictures=pictures)
    told = json.loads(content.get("info") or "{}").get("infotexts") or []
    same = same_infotexts(told, case.infotexts)
    return Outcome(case, "", tuple(item for item in apart if item), same, pictures)


def _sentence(answer: httpx.Response) -> str:
    try:
        told: Any = answer.json()
        return str(told.get("errors") or told.get("detail"))[:300]
    except (ValueError, AttributeError):
        return answer.text[:300]


@contextmanager
def server_for(folder: Path) -> Iterator[str]:
    """The address of an Easel of our own, in fp32, with the recorded models."""
    with tempfile.TemporaryDirectory(prefix="easel-parity-") as place:
        data = Path(place)
        lay_out(folder, data)
        (data / "config.json").write_text(json.dumps({"sd_model_checkpoint": FIRST_CHECKPOINT}))
        server = Server(data)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


def report(outcomes: Sequence[Outcome]) -> str:
    """An HTML page: those that fail first, each with our picture, the recorded one and their difference."""
    passed = sum(outcome.passes for outcome in outcomes)
    rows = "".join(_row(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.passes))
    return f"""<!doctype html><meta charset="utf-8"><title>Parity report</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #ccc; padding: 6px; vertical-align: top; }}
img {{ max-width: 256px; image-rendering: pixelated; }} .FAIL {{ background: #fdd; }}
figure {{ margin: 0; display: inline-block; }}
figcaption {{ color: #666; }}
</style>
<h1>{passed} of {len(outcomes)} cases equal the original program</h1>
<p>Equal: at least 99 % of a picture's values within 2/255, and the same infotext apart from the version. Differences
are shown {LOUDER} times as strong as they are.</p>
<table><tr><th>case</th><th>result</th><th>ours, recorded, difference</th></tr>{rows}</table>
"""


def _row(outcome: Outcome) -> str:
    figures = []
    for index, data in enumerate(outcome.pictures[: len(outcome.case.files)]):
        ours, theirs = Image.open(io.BytesIO(data)).convert("RGB"), outcome.case.picture(index).convert("RGB")
        shown = {"ours": ours, "recorded": theirs}
        if ours.size == theirs.size:
            shown["difference"] = ImageChops.difference(ours, theirs).point(lambda level: min(255, level * LOUDER))
        figures += [
            f"<figure>{_embedded(image)}<figcaption>{name}</figcaption></figure> " for name, image in shown.items()
        ]
    result = html.escape(outcome.line.split(": ", 1)[1])
    name = html.escape(outcome.case.name)
    kind = "ok" if outcome.passes else "FAIL"
    return f'<tr class="{kind}"><td>{name}</td><td>{kind}<br>{result}</td><td>{"".join(figures)}</td></tr>'


def _embedded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True)
    return f'<img loading="lazy" src="data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}">'


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.parity_report", description=__doc__.split("\n\n")[0])
    usual = Path(os.environ.get("EASEL_PARITY") or ROOT.parent / "shared" / "parity")
    parser.add_argument("--dir", type=Path, default=usual, help="folder of recordings; its more/ is read too")
    parser.add_argument("--server", help="a running server's address; without it one is started")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name holds one of these")
    parser.add_argument("--without", nargs="*", default=[], help="leave out cases whose name begins with one of these")
    parser.add_argument("--out", type=Path, default=Path("parity-report.html"), help="the page to write")
    parser.add_argument("--share", type=float, default=0.98, help="which share of the cases must pass")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Case]:
    cases = [case for folder in folders(options.dir) for case in load_cases(folder)]
    if options.only:
        cases = [case for case in cases if any(text in case.name for text in options.only)]
    return [case for case in cases if not case.name.startswith(tuple(options.without))]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_options(arguments)
    cases = chosen(options)
    if not cases:
        print(f"No recorded case in {options.dir} is meant; name the folder of recordings with --dir.")
        return 2
    outcomes = []
    with (
        server_for(options.dir) if not options.server else _given(options.server) as url,
        httpx.Client(base_url=url, timeout=600) as client,
    ):
        for case in cases:
            outcomes.append(run_case(client, case))
            print(outcomes[-1].line, flush=True)
    options.out.write_text(report(outcomes), encoding="utf-8")
    passed = sum(outcome.passes for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} cases equal ({passed / len(outcomes):.1%}); the pictures are in {options.out}")
    return 0 if passed >= options.share * len(outcomes) else 1


@contextmanager
def _given(url: str) -> Iterator[str]:
    yield url.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
