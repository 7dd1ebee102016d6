"""The page in a browser with 5,000 LoRAs and 20,000 pictures: the first load, and how soon what is typed is seen."""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page

from bench.cards import start, write_loras
from bench.first_picture import a_checkpoint
from bench.measure import Bar, Report, Sample, Series, conditions
from bench.programs import Program
from tools.chromium import chromium
from webui.services.gallery import Gallery, Wish
from webui.services.gallery_index import GalleryIndex

LOADED = 3.0
TYPED = 0.05
ANSWERED = 1.0
ROWS = 100_000
READY = "html[data-easel=ready]"
TEXT = "a lighthouse in a storm, (oil painting:1.2), [fog|mist], highly detailed waves "

WATCH = """() => {
  window.seen = { long: [], typed: [] };
  const watch = (type, options, note) => {
    new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ type, ...options });
  };
  watch("longtask", { buffered: true }, (task) => seen.long.push([task.startTime, task.duration]));
  watch("event", { durationThreshold: 16 }, (event) => {
    if (["keydown", "keypress", "input", "keyup"].includes(event.name)) seen.typed.push(event.duration);
  });
  new MutationObserver(() => {
    if (document.documentElement.dataset.easel === "ready") seen.ready ??= performance.now();
  }).observe(document, { attributes: true, childList: true, subtree: true });
}"""
"""Notes when the page is ready, tasks that hold it up, and the time from each key to the frame that shows it."""

FREE_AT = """() => {
  const after = seen.long.filter(([start, length]) => start + length > seen.ready && start < seen.ready + 100);
  return Math.max(seen.ready, ...after.map(([start, length]) => start + length));
}"""
"""When the page took what is done: ready, and the task that was at work then has ended."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loras", type=int, default=5000)
    parser.add_argument("--pictures", type=int, default=20_000)


def run(options: argparse.Namespace) -> Report:
    """One server; each round a browser's first visit, with nothing in its cache."""
    setup = {"rounds": options.rounds, "LoRAs": options.loras, "pictures": options.pictures}
    report = Report("page", setup, conditions())
    typed = ("slowest key, prompt", "slowest key, search of LoRAs", "slowest key, gallery")
    titles = ("until ready", "until free", *typed)
    series = {title: Series(title) for title in titles}
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as data:
        a_checkpoint(Path(data))
        write_loras(Path(data) / "models" / "Lora", options.loras)
        write_pictures(Path(data) / "outputs" / "txt2img-images", options.pictures)
        with start(data) as program, chromium() as browser:
            program.wait_for_page()
            for _ in range(options.rounds):
                for title, sample in visited(browser, program).items():
                    series[title].samples.append(sample)
    report.series = list(series.values())
    loaded = series["until free"]
    report.bars.append(
        Bar("first load until interactive", loaded.wall, LOADED, "s", loaded.cpu, by_cpu=not report.conditions["quiet"])
    )
    for title in typed:
        report.bars.append(Bar(title, series[title].wall, TYPED, "s"))
    report.series.append(asked_of_many())
    report.bars.append(Bar(f"a question to a gallery of {ROWS}", report.series[-1].wall, ANSWERED, "s"))
    return report


def visited(browser: Browser, program: Program) -> dict[str, Sample]:
    """Times of one visit. CPU time is that of the server and of the page's own thread."""
    context = browser.new_context(viewport={"width": 1600, "height": 1100})
    page = context.new_page()
    page.add_init_script(f"({WATCH})()")
    session = context.new_cdp_session(page)
    session.send("Performance.enable")

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        own = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
        return program.cpu() + float(own)

    before = busy()
    page.goto(f"http://127.0.0.1:{program.port}/", wait_until="commit")
    page.wait_for_selector(READY, state="attached", timeout=120_000)
    cpu = busy() - before
    page.wait_for_timeout(500)  # for tasks that hold the page up just after
    found = {
        "until ready": Sample(page.evaluate("seen.ready") / 1000, cpu),
        "until free": Sample(page.evaluate(FREE_AT) / 1000, cpu),
    }
    page.wait_for_timeout(3000)
    found["slowest key, prompt"] = slowest_key(page, "#txt2img_prompt textarea", busy)
    page.locator("#txt2img_extra_tabs > .tab-wrapper button[role=tab]", has_text="Lora").first.click()
    page.wait_for_selector("#txt2img_lora_cards .card")
    found["slowest key, search of LoRAs"] = slowest_key(page, "#txt2img_lora_extra_search", busy)
    page.click("#tab_gallery-button")
    page.wait_for_selector("#gallery_search")
    page.wait_for_timeout(1000)
    found["slowest key, gallery"] = slowest_key(page, "#gallery_search", busy)
    context.close()
    return found


def slowest_key(page: Page, box: str, busy: Callable[[], float]) -> Sample:
    """The longest time from a key to the frame that shows it, of a sentence typed at 12 keys a second.

    Frames that came within 16 ms aren't told by the browser and count as that.
    """
    page.click(box)
    page.wait_for_timeout(500)
    page.evaluate("seen.typed.length = 0")
    before = busy()
    page.type(box, TEXT, delay=80)
    cpu = (busy() - before) / len(TEXT)
    page.wait_for_timeout(500)
    return Sample(max([16.0, *page.evaluate("seen.typed")]) / 1000, cpu)


def write_pictures(folder: Path, count: int) -> None:
    """Small PNGs with parameters of their own, a thousand a day."""
    for number in range(count):
        texts = PngInfo()
        text = f"a picture of thing{number % 1000}, number{number}\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
        texts.add_text("parameters", f"{text}Seed: {number}, Size: 64x64, Model: model {number % 7}")
        day = folder / f"2026-11-{number // 1000 % 28 + 1:02}"
        day.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, 90)).save(file, "PNG", pnginfo=texts)
        (day / f"{number:05}-{number}.png").write_bytes(file.getvalue())


def asked_of_many() -> Series:
    """Questions to a gallery that knows of 100,000 files: pages, words, filters. Each is a sample."""
    series = Series(f"gallery of {ROWS}")
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as name:
        index = GalleryIndex(Path(name) / "outputs", Path(name) / "gallery.sqlite")
        (Path(name) / "outputs").mkdir()
        fill(index, ROWS)
        gallery = Gallery(index, Path(name) / "thumbnails")
        questions = [(Wish(), 0), (Wish(), 10**9), (Wish(search="thing7", model="model 0"), 0)]
        questions += [(Wish(search='"number4711"'), 0), (Wish(search="picture -thing7"), 0), (Wish(model="model 3"), 5)]
        for wish, number in questions:
            wall, cpu = time.perf_counter(), time.process_time()
            gallery.page(wish, number)
            series.samples.append(Sample(time.perf_counter() - wall, time.process_time() - cpu))
    series.facts["slowest"] = round(max(sample.wall for sample in series.samples), 3)
    series.facts["median"] = round(statistics.median(sample.wall for sample in series.samples), 3)
    return series


def fill(index: GalleryIndex, count: int) -> None:
    """Put rows where the index keeps them, of files that aren't there; `page` doesn't look."""
    with index.connected() as connection:
        connection.executemany(
            "INSERT INTO files (id, path, folder, section, kind, mtime, size, model, trashed) "
            "VALUES (?, ?, 'txt2img-images', 'txt2img-images', 'image', ?, 1, ?, 0)",
            [(n, f"txt2img-images/{n}.png", 1_600_000_000 * 10**9 + n, f"model {n % 7}") for n in range(count)],
        )
        connection.executemany(
            "INSERT INTO texts (rowid, name, infotext) VALUES (?, ?, ?)",
            [(n, f"{n}.png", f"a picture of thing{n % 1000}, number{n}") for n in range(count)],
        )
