"""What txt2img and img2img have in common: prompts, parameters, pictures, and what each button does."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from webui.core.errors import WebuiError
from webui.core.request import GenerationRequest
from webui.extensions.page import SLOTS
from webui.services import generation
from webui.services.dropped import read_dropped
from webui.services.forms import OVERRIDES, chosen_groups, request_from_form
from webui.services.infotexts import form_from_infotext, last_infotext
from webui.services.reproduce import check
from webui.services.services import Services
from webui.services.tokens import count_prompt_tokens
from webui.ui import html
from webui.ui.extra_networks import build_extra_networks
from webui.ui.generation import ParameterColumn
from webui.ui.job_panel import JobPanel
from webui.ui.output import OutputPanel
from webui.ui.styles import wire_styles
from webui.ui.toprow import build_toprow
from webui.ui.visitors.visitors import owner_of
from webui.ui.widgets import QUIET

Update = dict[Component, Any]


class GenerationTab(ABC):
    """A tab that makes pictures. Building it lays it out and wires it.

    fields: dotted parameter path -> component.
    result_shown: the event after which a job's pictures are there.
    """

    name: ClassVar[Literal["txt2img", "img2img"]]
    fields: Mapping[str, Component]
    result_shown: Dependency

    def __init__(self, services: Services) -> None:
        self.services = services
        name = self.name
        with gr.Tab(name, id=name, elem_id=f"tab_{name}", render_children=True):
            self.job = JobPanel(services, name)
            self.top = build_toprow(name, [style.name for style in services.styles.all()], self.job)
            with gr.Tabs(elem_id=f"{name}_extra_tabs", elem_classes=["extra-networks"]):
                with (
                    gr.Tab("Generation", elem_id=f"{name}_generation", render_children=True),
                    gr.Row(equal_height=False),
                ):
                    with gr.Column(elem_id=f"{name}_settings"):
                        self.column = ParameterColumn(services, name)
                        self.lay_out(self.column)
                        assert self.column.slots == list(SLOTS), "a section is missing"
                    with gr.Column(elem_id=f"{name}_results"):
                        self.output = OutputPanel(services, name, self.job)
                build_extra_networks(name, self.column.settings)
            self.form_button = gr.Button("Restore the form", elem_id=f"{name}_restore_form", visible="hidden")
            self.judge_button = gr.Button("Judge the form", elem_id=f"{name}_judge_form", visible="hidden")
            self.told = gr.State(None)  # the infotext pasted last, and the other texts of its picture
        top = self.top
        prompts = {"prompt": top.prompt, "negative_prompt": top.negative_prompt, "styles": top.styles}
        self.fields = {**prompts, **self.column.fields}
        self._wire_job()
        self._wire_form()
        self._wire_prompts()
        self.output.wire()

    # What a tab brings of its own

    @abstractmethod
    def lay_out(self, column: ParameterColumn) -> None:
        """Place the parameters and whatever else stands in the left column."""

    @abstractmethod
    def start(self, values: Update, job_id: str | None, user: str | None) -> None:
        """Submit the job that the page describes. Raises: WebuiError."""

    @property
    def submit(self) -> gr.Button:
        """The button whose click submits the job."""
        return self.job.generate

    @property
    def sources(self) -> Iterable[Component]:
        """What a job is made from besides the form."""
        return ()

    @property
    def by_mode(self) -> Mapping[str, Iterable[Component]] | None:
        """Of `sources`, those that only one of the tab's own sub-tabs uses."""
        return None

    @property
    def shape(self) -> str:
        """Another one where the form has other fields: what was kept of it before doesn't fit then."""
        return hashlib.sha256("\n".join(sorted(self.fields)).encode()).hexdigest()[:12]

    # Generating

    def form(self, values: Update) -> dict[str, Any]:
        """The form's values by their dotted paths."""
        return {path: values[component] for path, component in self.fields.items()}

    def submit_form(self, form: Mapping[str, Any], job_id: str | None, user: str | None) -> None:
        """Raises: WebuiError."""
        generation.submit_generation(self.services, self.request(form, user), job_id)

    def request(self, form: Mapping[str, Any], user: str | None) -> GenerationRequest:
        """What the form means, with the parameters of the script it names. Raises: InvalidRequest."""
        services = self.services
        groups = (*services.host.params, *chosen_groups(form, services.choices, self.name))
        return request_from_form(form, services.settings.snapshot(), groups, user=user)

    def _wire_job(self) -> None:
        fields = self.fields.values()
        self.job.submits(self.submit, self.start, {*fields, *self.sources}, fields, self.by_mode)
        self.result_shown = self.job.shows(self.output.show_result, self.output.shown)

    # The form

    def _wire_form(self) -> None:
        fields, column, output = self.fields, self.column, self.output
        ordered = sorted(fields.values(), key=lambda component: component._id)
        self.form_button.click(None, None, ordered, js=f"() => easel.rememberedForm('{self.name}')")
        column.reuse_seed.click(output.reuse_seed, output.chosen, fields["seed"], **QUIET)
        column.reuse_subseed.click(output.reuse_subseed, output.chosen, fields["variation.seed"], **QUIET)
        column.refresh_refiner.click(self.refresh_checkpoints, None, fields["refiner.checkpoint"], **QUIET)
        dropped = self.top.dropped
        self.judged(self.top.paste.click(self.paste, self.top.prompt, self.pasted, **QUIET))
        self.judged(dropped.upload(self.drop, dropped, [*self.pasted, dropped], **QUIET))
        self.judge_button.click(self.judge, self.form_and_told, self.output.log, **QUIET)

    @property
    def form_and_told(self) -> set[Component]:
        """What `judge` reads."""
        return {self.told, *self.fields.values()}

    @property
    def pasted(self) -> list[Component]:
        """What `updates` may change."""
        return [*self.fields.values(), self.told]

    def paste(self, prompt: str, request: gr.Request) -> Any:
        """Fill the form from the infotext in the prompt box, or from the last generation when that is empty."""
        try:
            infotext = prompt if prompt.strip() else last_infotext(self.services, owner_of(request))
        except WebuiError as error:
            gr.Warning(html.escape(str(error)))
            return gr.skip()
        return self.updates(infotext, judge=bool(prompt.strip()))

    def drop(self, path: str | None) -> Update:
        """Fill the form from a file dropped on a prompt, a picture or a text, as assets/drop.js hands it over."""
        emptied: Update = {self.top.dropped: None}
        if not path:
            return emptied
        try:
            infotext, texts = read_dropped(Path(path).read_bytes())
        except (WebuiError, OSError) as error:
            gr.Warning(html.escape(str(error)))
            return emptied
        return {**self.updates(infotext, texts), **emptied}

    def updates(self, infotext: str, texts: Mapping[str, str] | None = None, *, judge: bool = True) -> Update:
        """Changes to the form that let it make the picture described.

        texts: the picture's further texts. judge: whether to say if the same picture is to be expected.
        """
        pasted = form_from_infotext(infotext, self.services, self.name)
        if pasted.left_out:
            gr.Info(html.escape(f"Not available here and left as it was: {'; '.join(pasted.left_out)}."))
        fields = self.fields
        told = {path: value for path, value in pasted.form.items() if path in fields}
        updates: Update = {fields[path]: list(item) if isinstance(item, tuple) else item for path, item in told.items()}
        lines = list(pasted.form[OVERRIDES])
        updates[fields[OVERRIDES]] = gr.Dropdown(value=lines, choices=lines, visible=bool(lines) or "hidden")
        updates[self.told] = (infotext, dict(texts or {})) if judge else None
        return updates

    def judged(self, pasted: Dependency) -> None:
        """Say after a paste whether the form would now make the same picture.

        assets/page.js has it said again when something on the page is changed.
        """
        pasted.success(self.judge, self.form_and_told, self.output.log, **QUIET)

    def judge(self, values: Update) -> str:
        told = values[self.told]
        if not told:
            return ""
        infotext, texts = told
        return html.reproduction(check(self.services, infotext, texts, self.form(values), self.name))

    def refresh_checkpoints(self) -> Any:
        self.services.checkpoints.refresh()
        return gr.Dropdown(choices=list(self.services.checkpoints.titles()))

    # Prompts

    def _wire_prompts(self) -> None:
        top = self.top
        counters = [top.styles, self.fields["steps"]]
        for prompt, counter, button, count in (
            (top.prompt, top.token_counter, top.token_button, self.count_prompt),
            (top.negative_prompt, top.negative_token_counter, top.negative_token_button, self.count_negative),
        ):
            button.click(count, [prompt, *counters], counter, queue=False, **QUIET)
            changed = f"(text) => window.easel?.promptChanged('{self.name}', '{prompt.elem_id}', text)"
            prompt.change(None, prompt, None, js=changed)
            top.styles.change(None, prompt, None, js=changed)
        wire_styles(self.services, top)

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
