"""The whole page, and how the server shows it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from gradio.components import Component
from gradio.routes import App

from webui.core.choices import SAME_CHECKPOINT, SAME_SAMPLER, SAME_SCHEDULER, Script
from webui.services.checkpoint_defaults import current_defaults
from webui.services.choices import choices_of
from webui.services.downloads import Downloads, downloads_folders
from webui.services.extension_manager import ExtensionManager
from webui.services.forms import EXTENSIONS
from webui.services.hints import first_run_hint
from webui.services.localization import locale_files
from webui.services.services import Services
from webui.ui import extension_assets, extra_networks, html
from webui.ui.belongings_routes import belongings_routes
from webui.ui.blocks import PageBlocks
from webui.ui.capabilities import wire_capabilities
from webui.ui.card_routes import card_routes
from webui.ui.defaults import Defaults
from webui.ui.download_routes import download_routes
from webui.ui.endpoints import offer_endpoints
from webui.ui.extension_routes import extension_routes
from webui.ui.extensions_tab import build_extensions
from webui.ui.extras import Extras
from webui.ui.footer import footer
from webui.ui.gallery_routes import gallery_routes
from webui.ui.gallery_tab import build_gallery
from webui.ui.generation import SPECS
from webui.ui.img2img import Img2Img
from webui.ui.kit import PageKit
from webui.ui.merger import Merger
from webui.ui.page_login import PageLogin
from webui.ui.pnginfo import build_pnginfo
from webui.ui.queue import build_queue
from webui.ui.quicksettings import FOLLOWING, build_quicksettings, current_title, wire_checkpoint
from webui.ui.sending import wire_gallery, wire_result
from webui.ui.settings_routes import SOUND, settings_routes
from webui.ui.settings_tab import build_settings
from webui.ui.theme import theme_of
from webui.ui.training import build_training
from webui.ui.training_routes import training_routes
from webui.ui.txt2img import Txt2Img
from webui.ui.ui_config import UiConfig
from webui.ui.visitors.sessions import owner_of_user
from webui.ui.visitors.tables import PUBLIC
from webui.ui.visitors.visitors import Visitors
from webui.ui.widgets import QUIET, ChangingList

log = logging.getLogger(__name__)

OWN_LISTS: Mapping[str, tuple[str, ...]] = {
    "sampler": (),
    "scheduler": (),
    "hires.upscaler": (),
    "hires.checkpoint": (SAME_CHECKPOINT,),
    "hires.sampler": (SAME_SAMPLER,),
    "hires.scheduler": (SAME_SCHEDULER,),
}
"""Our own parameters whose choices may change while the server runs, and what stands before them."""

ASSETS = Path(__file__).parent / "assets"
ASSETS_URL = "/easel-assets"
SCRIPT = "page.js"
TITLE = "Stable Diffusion"
AFTER_WRONG_PASSWORDS = "After several wrong passwords there is a pause of up to a minute before another is looked at."
ON_PAGE = (
    "keyedit_precision_attention",
    "keyedit_precision_extra",
    "keyedit_delimiters",
    "keyedit_delimiters_whitespace",
    "keyedit_move",
    "disable_token_counters",
    "live_preview_refresh_period",
    "live_previews_enable",
    "show_progress_in_title",
    "show_progressbar",
    "prevent_screen_sleep_during_generation",
    "localization",
    "quicksettings_list",
    "hide_samplers",
    "hidden_tabs",
    "ui_tab_order",
    "ui_reorder_list",
    "gallery_height",
    "dimensions_and_batch_together",
    "hires_fix_show_sampler",
    "hires_fix_show_prompts",
    "extra_options_txt2img",
    "extra_options_img2img",
    "extra_options_cols",
    "extra_options_accordion",
    "txt2img_settings_accordion",
    "img2img_settings_accordion",
    "notification_audio",
    "notification_volume",
    "js_modal_lightbox",
    "js_modal_lightbox_initially_zoomed",
    "js_modal_lightbox_gamepad",
    "js_modal_lightbox_gamepad_repeat",
    "js_live_preview_in_modal_lightbox",
    "sd_webui_modal_lightbox_icon_opacity",
    "sd_webui_modal_lightbox_toolbar_opacity",
    *extra_networks.ON_PAGE,
)
"""Settings that the page's own scripts obey."""


def build(services: Services, app: FastAPI) -> PageBlocks:
    """Quick settings, the tabs in A1111's order, footer. Nothing here touches the network or imports torch.

    app: whose routes programs may ask for by name, through the page.
    """
    with PageBlocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as page:
        offer_endpoints(app)  # first, so that their names are theirs
        hint = gr.HTML(elem_id="easel_hint")
        checkpoint, refresh = build_quicksettings(services)
        with gr.Tabs(elem_id="tabs"):
            txt2img = Txt2Img(services)
            img2img = Img2Img(services)
            extras = Extras(services)
            build_pnginfo(services, txt2img, img2img, extras)
            Merger(services)
            build_training()
            build_settings()
            build_extensions()
            build_gallery()
            build_queue(services)
            kit = PageKit(services, services.host.easel)
            build_extension_tabs(services, kit)
        tabs = (txt2img, img2img)
        for tab in tabs:
            wire_gallery(tab, img2img)
            extras.receive_gallery(tab.output)
        wire_result(extras.output, img2img)
        extras.receive_gallery(extras.output)
        foot = gr.HTML(elem_id="footer")
        facts = gr.Textbox(elem_id="easel_settings", visible="hidden")
        config = UiConfig(services.paths.ui_config)
        defaults = Defaults(services, config, {tab.name: tab.fields for tab in tabs})
        for tab in tabs:
            config.apply(tab.name, tab.fields)
        followers = [tab.fields[path] for tab in tabs for path in FOLLOWING]
        for component, value in zip(followers, _starting_values(services, config), strict=True):
            component.value = value  # for who is quicker than the page's load event
        defaults.build(
            lambda: setattr(page, "config", page.get_config_file()),
            lambda: dict(zip(followers, _starting_values(services, config), strict=True)),
        )
        forms = [*(tab.fields for tab in tabs), *(form.fields for form in kit.forms)]
        current = [checkpoint, hint, foot, *(form["refiner.checkpoint"] for form in forms)]
        switched = wire_checkpoint(services, checkpoint, refresh, [tab.fields for tab in tabs])
        changes = [*switched, *(tab.result_shown for tab in tabs)]
        for change in changes:  # a title gains its hash once the file has been read
            change.then(lambda: _current(services, len(forms)), None, current, **QUIET)
        lists = [*changing_lists(services, forms), *extras.changing_lists]
        fresh = [*current, facts, *(form["styles"] for form in forms), *followers, *(item for item, _, _ in lists)]
        shapes = {tab.name: tab.shape for tab in tabs}

        def renew(request: gr.Request) -> tuple[Any, ...]:
            page_settings = _settings_for_page(services, request.username, shapes)
            return _fresh(services, config, len(forms), lists, page_settings)

        loaded = page.load(renew, None, fresh, **QUIET)
        loaded.then(None, facts, None, js="(settings) => window.easelReady(settings)")
        wire_capabilities(services, forms, (*switched, loaded))
    for event in page.fns.values():  # also those of extensions, which Gradio shows to every program
        if event.api_name not in PUBLIC:
            event.api_visibility = "private"
    return page


def tab_titles(page: gr.Blocks) -> list[str]:
    """Of the page's tabs, in their order."""
    tabs = next(block for block in page.blocks.values() if block.elem_id == "tabs")
    return [str(tab.label) for tab in tabs.children]


def mount(
    app: FastAPI,
    services: Services,
    downloads: Downloads | None = None,
    extensions: ExtensionManager | None = None,
) -> FastAPI:
    """Show the page at "/". To be called after every other route is added: what comes later is hidden by it.

    downloads, extensions: those that reach elsewhere than the usual ones.
    """
    flags, paths = services.flags, services.paths
    downloads = downloads or Downloads(downloads_folders(paths))
    # Gradio empties its folder of uploads when a server ends: two of them must not share one.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(paths.tmp / "gradio"))
    visitors = Visitors(paths, flags.gradio_allowed_path)
    gr.set_static_paths(paths.outputs)  # served from where they lie, without a copy in Gradio's cache
    assets = f"{ASSETS_URL}/{_version_of_assets()}"  # a new address with every change, since browsers keep scripts
    app.mount(assets, StaticFiles(directory=ASSETS))
    offered = extension_assets.mount(app, services.host)
    login = PageLogin(flags.credentials, visitors.sessions)
    page = build(services, app)
    own_routes = (
        belongings_routes(services, visitors),
        card_routes(services),
        download_routes(services, downloads),
        training_routes(services),
        settings_routes(services, tab_titles(page)),
        extension_assets.routes(services),
        extension_routes(services, extensions),
        gallery_routes(services, visitors),
    )
    for router in (*own_routes, visitors.routes()):
        app.include_router(router, dependencies=[Depends(login)])
    if flags.credentials:
        app.include_router(login.routes())
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path=flags.subpath or None,
        auth=list(flags.credentials) or None,
        auth_message=AFTER_WRONG_PASSWORDS,
        allowed_paths=[str(path) for path in (paths.outputs, paths.log, *flags.gradio_allowed_path)],
        theme=theme_of(services.settings.snapshot()["gradio_theme"]),
        css_paths=[ASSETS / "style.css", ASSETS / "extra_networks.css"],
        head=_head(flags.subpath + assets, flags.theme) + offered.head(flags.subpath),
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )
    gradio: App = app.routes[-1].app  # type: ignore[attr-defined]  # mounted last
    login.belongs_to(gradio)
    visitors.guard(gradio, page)
    return app


def _version_of_assets() -> str:
    content = b"".join(file.read_bytes() for file in sorted(ASSETS.iterdir()))
    return hashlib.sha256(content).hexdigest()[:12]


def _head(assets: str, theme: str | None) -> str:
    """The page's scripts, and --theme's light or dark."""
    # Gradio's first event may come before the script: what it says is kept until then.
    waiting = "window.easelReady ??= (...values) => { window.easelWaiting = values; };"
    choose = f"document.body.classList.toggle('dark', {str(theme == 'dark').lower()});" if theme else ""
    return f'<script>{waiting}{choose}</script><script type="module" src="{assets}/{SCRIPT}"></script>'


def _fresh(
    services: Services, config: UiConfig, forms: int, lists: Sequence[ChangingList], page_settings: str
) -> tuple[Any, ...]:
    """What may have changed since the page was built: every visitor gets it anew."""
    styles = gr.Dropdown(choices=[style.name for style in services.styles.all()])
    offered = [type(shown)(choices=[*same, *choices_of(services, spec)]) for shown, spec, same in lists]
    return *_current(services, forms), page_settings, *[styles] * forms, *_starting_values(services, config), *offered


def _starting_values(services: Services, config: UiConfig) -> tuple[float, ...]:
    """Of `FOLLOWING` on a fresh page, for txt2img, then for img2img."""
    native = current_defaults(services)
    return tuple(
        value
        for tab in ("txt2img", "img2img")
        for value in (*config.size(tab, native.size), config.cfg_scale(tab, native.cfg_scale))
    )


def _current(services: Services, forms: int) -> tuple[Any, ...]:
    """Everything that tells of checkpoints: the notes on top, the footer, the lists. forms: how many there are."""
    services.checkpoints.poll()
    titles = list(services.checkpoints.titles())
    refiners = gr.Dropdown(choices=titles)
    chosen = gr.Dropdown(choices=titles, value=current_title(services))
    return chosen, _notes(services), footer(services), *[refiners] * forms


def _settings_for_page(services: Services, user: str | None, shapes: Mapping[str, str]) -> str:
    """The settings `ON_PAGE` as JSON, what languages there are, and whether there is a sound to be played.

    user: who has logged in. shapes: `GenerationTab.shape` of each tab.
    """
    settings = services.settings.snapshot()
    more = {
        "notification_sound": (services.paths.data / SOUND).is_file(),
        "localizations": sorted(locale_files(services)),
        "localization_chosen": services.settings.is_chosen("localization"),
        "visitor": owner_of_user(user) if user else "",
        "shapes": shapes,
    }
    return json.dumps({key: settings[key] for key in ON_PAGE} | more)


def build_extension_tabs(services: Services, kit: PageKit) -> None:
    """The tabs of extensions. One that can't be built says so, and the others are there."""
    for name, tab in services.host.tabs():
        with gr.Tab(tab.title, id=tab.elem_id, elem_id=f"tab_{tab.elem_id}", render_children=True) as place:
            forms = len(kit.forms)
            try:
                tab.build(kit)
            except Exception as error:
                log.exception("The tab %s of extension %s failed", tab.title, name)
                place.children.clear()
                del kit.forms[forms:]
                services.host.report(name, f'could not build its tab "{tab.title}"', error)
                gr.HTML(html.problem(services.host.problems[-1].sentence))


def changing_lists(services: Services, forms: Sequence[Mapping[str, Component]]) -> list[ChangingList]:
    """The lists whose choices may be others by now, with what they were declared by and what stands before them."""
    found: list[ChangingList] = []
    for form in forms:
        found += [(form[path], SPECS[path], same) for path, same in OWN_LISTS.items() if path in form]
    scripts = [script.params for script in services.choices.all(Script) if script.params is not None]
    for group in (*services.host.params, *scripts):
        specs = {spec.dotted: spec for spec in group.specs()}
        prefix = f"{EXTENSIONS}.{group.__name__}."
        for form in forms:
            for path, component in form.items():
                spec = specs.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
                asks = spec is not None and (isinstance(spec.choices, str) or callable(spec.choices))
                if spec is not None and asks and isinstance(component, gr.Dropdown):
                    found.append((component, spec, ()))
    return found


def _notes(services: Services) -> str:
    """The hint for newcomers, which stays away once dismissed, and what went wrong at the start."""
    hint = first_run_hint(services)
    close = '<button type="button" data-easel="dismiss" aria-label="Dismiss">✕</button>'
    told = dict.fromkeys((*services.problems, *(problem.sentence for problem in services.host.problems)))
    return (f'<p class="hint">{html.escape(hint)}{close}</p>' if hint else "") + html.sentences(told, "error")
