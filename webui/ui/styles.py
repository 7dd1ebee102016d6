"""The dialog in which styles are written, changed and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.errors import WebuiError
from webui.services.services import Services
from webui.ui.html import escape
from webui.ui.widgets import NAMES, QUIET, tool

if TYPE_CHECKING:
    from webui.ui.toprow import TopRow

HELP = (
    "A style adds text to the prompt. {prompt} in it is replaced by the prompt; "
    "without {prompt} the text is appended after a comma."
)


@dataclass(frozen=True)
class StylesDialog:
    apply: gr.Button
    select: gr.Dropdown
    refresh: gr.Button
    apply_here: gr.Button
    copy: gr.Button
    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    save: gr.Button
    delete: gr.Button


def build_styles(tab: str, names: list[str], edit: gr.Button, apply: gr.Button) -> StylesDialog:
    """edit: opens the dialog. apply: the button outside that writes the chosen styles into the prompts."""
    dialog = f"{tab}_styles_dialog"
    with gr.Column(elem_id=dialog, elem_classes=["popup-dialog"]), gr.Column(elem_classes=["popup-content"]):
        with gr.Row():
            select = gr.Dropdown(
                choices=names,
                value=None,
                label="Styles",
                info=HELP,
                allow_custom_value=True,
                elem_id=f"{tab}_styles_edit_select",
                elem_classes=[NAMES],
            )
            refresh = tool("🔄", f"refresh_{tab}_styles")
            apply_here = tool("📋", f"{tab}_style_apply_dialog")
            copy = tool("📝", f"{tab}_style_copy")
        prompt = gr.Textbox(
            label="Prompt", lines=3, max_lines=20, elem_id=f"{tab}_edit_style_prompt", elem_classes=["prompt"]
        )
        negative = gr.Textbox(
            label="Negative prompt",
            lines=3,
            max_lines=20,
            elem_id=f"{tab}_edit_style_neg_prompt",
            elem_classes=["prompt"],
        )
        with gr.Row():
            save = gr.Button("Save", variant="primary", elem_id=f"{tab}_edit_style_save")
            delete = gr.Button("Delete", elem_id=f"{tab}_edit_style_delete")
            close = gr.Button("Close", elem_id=f"{tab}_edit_style_close")
    edit.click(None, None, None, js=f"() => easel.openDialog('{dialog}')")
    close.click(None, None, None, js=f"() => easel.closeDialog('{dialog}')")
    return StylesDialog(apply, select, refresh, apply_here, copy, prompt, negative, save, delete)


def wire_styles(services: Services, top: TopRow) -> None:
    """Let the dialog and the 📋 button read and change the styles."""
    dialog, handlers = top.dialog, _Handlers(services)
    prompts = [top.prompt, top.negative_prompt]
    written = [dialog.prompt, dialog.negative_prompt]
    lists = [top.styles, dialog.select]
    dialog.apply.click(handlers.apply, [*prompts, top.styles], [*prompts, top.styles], **QUIET)
    dialog.apply_here.click(handlers.apply_one, [*prompts, dialog.select], prompts, **QUIET)
    dialog.select.change(handlers.read, dialog.select, written, **QUIET)
    dialog.copy.click(None, prompts, written, js="(...prompts) => prompts")
    dialog.refresh.click(handlers.reload, None, lists, **QUIET)
    dialog.save.click(handlers.save, [dialog.select, *written], lists, **QUIET)
    dialog.delete.click(handlers.delete, dialog.select, [*lists, *written], **QUIET)


class _Handlers:
    def __init__(self, services: Services):
        self.styles = services.styles

    def names(self) -> list[str]:
        return [style.name for style in self.styles.all()]

    def apply(self, prompt: str, negative: str, names: list[str]) -> tuple[str, str, list[str]]:
        return self.styles.apply(prompt, names), self.styles.apply_negative(negative, names), []

    def apply_one(self, prompt: str, negative: str, name: str | None) -> tuple[str, str]:
        return self.apply(prompt, negative, [name] if name else [])[:2]

    def read(self, name: str | None) -> Any:
        """The style's texts; what is being written stays when there is no such style yet."""
        if name not in self.names():
            return gr.skip(), gr.skip()
        style = self.styles.get(name)
        return style.prompt, style.negative_prompt

    def reload(self) -> Any:
        self.styles.reload()
        return gr.Dropdown(choices=self.names()), gr.Dropdown(choices=self.names())

    def save(self, name: str | None, prompt: str, negative: str) -> Any:
        try:
            saved = self.styles.put(name or "", prompt, negative)
        except (WebuiError, OSError) as error:
            gr.Warning(escape(str(error)))
            return gr.skip(), gr.skip()
        gr.Info(f"Style {escape(saved.name)} is saved.", duration=3)
        return gr.Dropdown(choices=self.names()), gr.Dropdown(choices=self.names(), value=saved.name)

    def delete(self, name: str | None) -> Any:
        try:
            self.styles.delete(name or "")
        except (WebuiError, OSError) as error:
            gr.Warning(escape(str(error)))
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return gr.Dropdown(choices=self.names()), gr.Dropdown(choices=self.names(), value=None), "", ""
