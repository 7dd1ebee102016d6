"""The txt2img tab: prompts, parameters and pictures, and what each button does.

A Generate click only submits a job, under an id that the page drew. assets/progress.js watches it and clicks the
hidden result button when it has ended, so that neither a queue slot nor the job hangs on the connection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency
from gradio.processing_utils import save_bytes_to_cache

from webui.core.errors import WebuiError
from webui.core.request import GenerationResult, ResultImage
from webui.desk import generation, saving
from webui.desk.forms import OVERRIDES, request_from_form
from webui.desk.infotexts import form_from_infotext, last_infotext
from webui.desk.services import Services
from webui.desk.tokens import count_prompt_tokens
from webui.ui import html
from webui.ui.cards import build_cards
from webui.ui.generation import build_generation
from webui.ui.output import OutputPanel, build_output
from webui.ui.styles import wire_styles
from webui.ui.toprow import TopRow, build_toprow
from webui.ui.widgets import QUIET

TAB = "txt2img"
Update = dict[Component, Any]


@dataclass(frozen=True)
class Txt2Img:
    """What the page and other tabs need of this one.

    fields: dotted parameter path -> component. cards: those of the checkpoints.
    result_shown: the event after which a job's pictures are there.
    """

    fields: Mapping[str, Component]
    top: TopRow
    cards: gr.HTML
    result_shown: Dependency


def build_txt2img(services: Services) -> Txt2Img:
    settings = services.settings.snapshot()
    with gr.Tab(TAB, id=TAB, elem_id=f"tab_{TAB}", render_children=True):
        job_id = gr.Textbox(elem_id=f"{TAB}_job_id", visible="hidden")  # made first: assets rely on its place
        outcome = gr.Textbox(elem_id=f"{TAB}_outcome", visible="hidden")
        top = build_toprow(TAB, [style.name for style in services.styles.all()])
        with gr.Tabs(elem_id=f"{TAB}_extra_tabs", elem_classes=["extra-networks"]):
            with gr.Tab("Generation", elem_id=f"{TAB}_generation", render_children=True), gr.Row(equal_height=False):
                with gr.Column(elem_id=f"{TAB}_settings"):
                    titles = services.checkpoints.titles()
                    column = build_generation(TAB, settings, titles, services.host.params)
                with gr.Column(elem_id=f"{TAB}_results"):
                    output = build_output(TAB)
            cards = build_cards(TAB, services)
        result_button = gr.Button("Show the result", elem_id=f"{TAB}_show_result", visible="hidden")
        form_button = gr.Button("Restore the form", elem_id=f"{TAB}_restore_form", visible="hidden")
    fields = {
        "prompt": top.prompt,
        "negative_prompt": top.negative_prompt,
        "styles": top.styles,
        **column.fields,
    }
    handlers = _Handlers(services, job_id, fields, output)
    everything: set[Component] = {job_id, *fields.values()}
    shown = [output.gallery, output.generation_info, output.info, output.log, output.selected, output.files]
    watch = f"(outcome) => easel.submitted('{TAB}', outcome)"
    generate = f"(...values) => easel.newJob('{TAB}', values)"
    resubmit = f"(...values) => easel.newJob('{TAB}', values, false)"
    top.generate.click(handlers.generate, everything, [outcome, output.log], js=generate, **QUIET).then(
        None, outcome, None, js=watch
    )
    again = {*everything, output.generation_info, output.selected}
    output.upscale.click(handlers.upscale, again, [outcome, output.log], js=resubmit, **QUIET).then(
        None, outcome, None, js=watch
    )
    result_shown = result_button.click(
        handlers.show_result, job_id, shown, js=f"() => easel.shownJob('{TAB}')", **QUIET
    )
    current = f"() => easel.currentJob('{TAB}')"
    for button in (top.interrupt, top.interrupting):
        button.click(handlers.interrupt, job_id, None, js=current, **QUIET)
    top.skip.click(handlers.skip, job_id, None, js=current, **QUIET)

    ordered = sorted(fields.values(), key=lambda component: component._id)
    form_button.click(None, None, ordered, js=f"() => easel.rememberedForm('{TAB}')")

    output.gallery.select(handlers.select, output.generation_info, [output.selected, output.info], **QUIET)
    chosen = [output.generation_info, output.selected]
    column.reuse_seed.click(handlers.reuse_seed, chosen, fields["seed"], **QUIET)
    column.reuse_subseed.click(handlers.reuse_subseed, chosen, fields["variation.seed"], **QUIET)
    column.refresh_refiner.click(handlers.refresh_checkpoints, None, fields["refiner.checkpoint"], **QUIET)
    pasted = [*fields.values(), column.seed_extra]
    top.paste.click(handlers.paste, top.prompt, pasted, **QUIET)

    saved = [output.files, output.log]
    output.save.click(handlers.save, [job_id, output.selected], saved, js=_with_shown_job(), **QUIET)
    output.save_zip.click(handlers.save_zip, [job_id, output.selected], saved, js=_with_shown_job(), **QUIET)
    output.open_folder.click(handlers.open_folder, None, None, **QUIET)
    later = {
        output.to_img2img: "img2img comes in a later version of Easel.",
        output.to_inpaint: "Inpainting comes in a later version of Easel.",
        output.to_extras: "Extras come in a later version of Easel.",
    }
    for button, sentence in later.items():
        button.click(lambda sentence=sentence: gr.Info(sentence), None, None, **QUIET)

    counters = [top.styles, fields["steps"]]
    for prompt, counter, button, count in (
        (top.prompt, top.token_counter, top.token_button, handlers.count_prompt),
        (top.negative_prompt, top.negative_token_counter, top.negative_token_button, handlers.count_negative),
    ):
        button.click(count, [prompt, *counters], counter, queue=False, **QUIET)
        changed = f"(text) => window.easel?.promptChanged('{TAB}', '{prompt.elem_id}', text)"
        prompt.change(None, prompt, None, js=changed)
        top.styles.change(None, prompt, None, js=changed)
    wire_styles(services, top)
    return Txt2Img(fields, top, cards, result_shown)


def _with_shown_job() -> str:
    return f"(_, selected) => [easel.shownJob('{TAB}'), selected]"


class _Handlers:
    """What happens in the server on each click. None of them waits for a job."""

    def __init__(
        self, services: Services, job_id: Component, fields: Mapping[str, Component], output: OutputPanel
    ) -> None:
        self.services = services
        self.job_id = job_id
        self.fields = fields
        self.output = output

    # Generating

    def generate(self, values: Update, request: gr.Request) -> tuple[str, str]:
        return self._submit(values[self.job_id], self._form(values), request)

    def upscale(self, values: Update, request: gr.Request) -> tuple[str, str]:
        """The chosen picture again, with its own parameters and seed, and the hires fix as the form has it."""
        output = self.output
        form = self._form(values)
        try:
            infotext = _infotexts(values[output.generation_info])[values[output.selected]]
        except IndexError:
            return self._refused(values[self.job_id], "There is no picture to upscale; generate one first.")
        own = form_from_infotext(infotext, self.services).form
        kept = {path: value for path, value in own.items() if not path.startswith("hires")}
        once = {"hires": True, "batch_count": 1, "batch_size": 1}
        return self._submit(values[self.job_id], {**form, **kept, **once}, request)

    def show_result(self, job_id: str) -> Any:
        """Pictures, infotext and log of a job that ended; only a sentence when it failed."""
        try:
            result = generation.generation_result(self.services, job_id)
        except WebuiError as error:
            return {self.output.log: html.problem(error)}
        output = self.output
        texts = [image.infotext for image in result.images]
        info = {**result.info, "infotexts": texts, "index_of_first_image": result.index_of_first_image}
        first = 0 if result.images else None
        return {
            output.gallery: gr.Gallery(value=self._files(result), selected_index=first),
            output.generation_info: json.dumps(info),
            output.info: html.paragraphs(texts[0]) if texts else "",
            output.log: html.result_log(result),
            output.selected: 0,
            output.files: gr.File(value=None, visible=False),
        }

    def interrupt(self, job_id: str) -> None:
        generation.stop(self.services, job_id or None)

    def skip(self, job_id: str) -> None:
        self.services.jobs.skip(job_id or None)

    def _form(self, values: Update) -> dict[str, Any]:
        return {path: values[component] for path, component in self.fields.items()}

    def _submit(self, job_id: str, form: Mapping[str, Any], request: gr.Request) -> tuple[str, str]:
        services = self.services
        try:
            wanted = request_from_form(
                form, services.settings.snapshot(), services.host.params, user=request.username or None
            )
            generation.submit_generation(services, wanted, job_id or None)
        except WebuiError as error:
            return self._refused(job_id, str(error))
        return json.dumps({"job": job_id, "accepted": True}), ""

    def _refused(self, job_id: str, sentence: str) -> tuple[str, str]:
        return json.dumps({"job": job_id, "accepted": False}), html.problem(sentence)

    def _files(self, result: GenerationResult) -> list[str]:
        return [self._file(image) for image in result.images]

    def _file(self, image: ResultImage) -> str:
        """Where the browser can fetch the picture: the saved file if it may be served, else a copy in the cache."""
        saved = Path(image.path) if image.path else None
        if saved is not None and saved.is_relative_to(self.services.paths.outputs) and saved.is_file():
            return str(saved)
        name = saved.name if saved else "picture." + image.mime.rpartition("/")[2]
        return save_bytes_to_cache(image.data, name, self.output.gallery.GRADIO_CACHE)

    # Pictures

    def select(self, info: str, event: gr.SelectData) -> tuple[int, str]:
        texts = _infotexts(info)
        index = int(event.index)
        return index, html.paragraphs(texts[index]) if index < len(texts) else ""

    def reuse_seed(self, info: str, selected: int) -> Any:
        return self._seed(info, selected, variation=False)

    def reuse_subseed(self, info: str, selected: int) -> Any:
        return self._seed(info, selected, variation=True)

    def _seed(self, info: str, selected: int, *, variation: bool) -> Any:
        try:
            return generation.seed_of_picture(json.loads(info or "{}"), selected, variation=variation)
        except WebuiError as error:
            gr.Warning(str(error))
            return gr.skip()

    def save(self, job_id: str, selected: int) -> Any:
        return self._save(job_id, selected, zipped=False)

    def save_zip(self, job_id: str, selected: int) -> Any:
        return self._save(job_id, selected, zipped=True)

    def _save(self, job_id: str, selected: int, *, zipped: bool) -> Any:
        try:
            if not job_id:
                raise WebuiError("There is no picture to save; generate one first.")
            result = generation.generation_result(self.services, job_id)
            files = saving.save_pictures(self.services, result, selected)
            if zipped:
                files = [saving.zip_pictures(self.services, files, result)]
        except WebuiError as error:
            return gr.skip(), html.problem(error)
        note = html.sentences([f"Saved: {', '.join(path.name for path in files)}"], "saved")
        paths = self.services.paths
        offered = [str(file) for file in files if any(map(file.is_relative_to, (paths.log, paths.outputs)))]
        return gr.File(value=offered, visible=bool(offered)), note

    def open_folder(self) -> None:
        try:
            saving.open_folder(self.services)
        except WebuiError as error:
            gr.Warning(html.escape(str(error)))

    # Prompts

    def paste(self, prompt: str) -> Any:
        """Fill the form from the infotext in the prompt box, or from the last generation when that is empty."""
        try:
            infotext = prompt if prompt.strip() else last_infotext(self.services)
        except WebuiError as error:
            gr.Warning(html.escape(str(error)))
            return gr.skip()
        return form_updates(self.services, self.fields, infotext)

    def count_prompt(self, prompt: str, styles: list[str], steps: int) -> str:
        return self._count(prompt, styles, steps, negative=False)

    def count_negative(self, prompt: str, styles: list[str], steps: int) -> str:
        return self._count(prompt, styles, steps, negative=True)

    def _count(self, prompt: str, styles: list[str], steps: int, *, negative: bool) -> str:
        try:
            count = count_prompt_tokens(self.services, prompt, styles, int(steps), negative=negative)
        except WebuiError as error:
            return f"<span title='{html.escape(str(error))}'>?/75</span>"
        return f"<span>{count.count}/{count.limit}</span>"

    def refresh_checkpoints(self) -> Any:
        self.services.checkpoints.refresh()
        return gr.Dropdown(choices=list(self.services.checkpoints.titles()))


def form_updates(services: Services, fields: Mapping[str, Component], infotext: str) -> Update:
    """Changes to the form that let it make the picture described."""
    pasted = form_from_infotext(infotext, services)
    if pasted.left_out:
        gr.Info(html.escape(f"Not available here and left as it was: {'; '.join(pasted.left_out)}."))
    updates: Update = {fields[path]: value for path, value in pasted.form.items() if path in fields}
    lines = list(pasted.form[OVERRIDES])
    updates[fields[OVERRIDES]] = gr.Dropdown(value=lines, choices=lines, visible=bool(lines) or "hidden")
    return updates


def _infotexts(info: str) -> list[str]:
    return list(json.loads(info or "{}").get("infotexts", ()))
