"""The download page in a real browser, with a server on this machine in the part of the internet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.api.server import serving
from tests.browsing import Visit
from tests.fileserver import FileServer, Reply, file_server
from tests.services.test_downloads import on_civitai, weights
from webui.api.application import build_api
from webui.api.guard import Guard
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.downloads import Downloads, downloads_folders
from webui.ui.page import mount


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, files: FileServer, tmp_path: Path) -> Iterator[Visit]:
    services = build_services(parse_flags(["--data-dir", str(tmp_path)], {})[0])
    downloads = Downloads(downloads_folders(services.paths), files.egress(), {}, pauses=())
    with serving(Guard(mount(build_api(services), services, downloads))) as url:
        visitor = Visit(browser, url)
        visitor.open()
        visitor.page.click("#tab_extensions-button")
        visitor.page.locator("#tabs_extensions button[role=tab]", has_text="Download models").first.click()
        yield visitor
        visitor.context.close()
    downloads.close()
    services.checkpoints.close()


def test_a_model_is_looked_up_and_downloaded_where_its_card_appears(
    visit: Visit, files: FileServer, tmp_path: Path
) -> None:
    content = weights(50_000)
    on_civitai(files, content)
    files.replies["/api/download/models/7"] = Reply(content, headers={"ETag": '"x"'}, breaks_after=20_000)
    visit.page.fill("#download_address", "https://civitai.com/models/5")
    visit.page.click("#download_look")
    offer = visit.page.locator("#download_offers .download-row")
    expect(offer).to_contain_text("ink.safetensors")
    expect(offer).to_contain_text("Ink <b>")
    expect(offer.locator("select")).to_have_value("lora")
    offer.get_by_role("button", name="Download").click()
    row = visit.page.locator("#download_list .download-row")
    expect(row).to_contain_text("broke off after 20000 of")
    assert not (tmp_path / "models" / "Lora" / "ink.safetensors").exists()
    files.replies["/api/download/models/7"] = Reply(content, headers={"ETag": '"x"'})
    row.get_by_role("button", name="Go on").click()
    expect(row).to_contain_text("done")
    assert (tmp_path / "models" / "Lora" / "ink.safetensors").read_bytes() == content
    visit.page.click("#tab_txt2img-button")
    visit.page.locator("#txt2img_extra_tabs > .tab-wrapper button[role=tab]", has_text="Lora").first.click()
    expect(visit.page.locator("#txt2img_lora_cards .card .name")).to_have_text("ink")


def test_what_goes_wrong_is_one_sentence(visit: Visit) -> None:
    for address, sentence in (("nonsense", "is no address"), ("http://files.example/x.pt", "https://")):
        visit.page.fill("#download_address", address)
        visit.page.press("#download_address", "Enter")
        expect(visit.page.locator("#download_status")).to_contain_text(sentence)
