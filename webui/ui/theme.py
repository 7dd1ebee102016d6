"""Colours and spacing of the page. Fonts come with Gradio or the system; nothing is fetched."""

import logging

import gradio as gr

from webui.services.choices import DEFAULT_THEME

log = logging.getLogger(__name__)

FONTS = {
    # Gradio's SemiBold file lacks most letters; without it a browser takes Bold for 600.
    "font": (gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"),
    "font_mono": ("ui-monospace", "Consolas", "monospace"),
}


def theme_of(name: str) -> gr.themes.Base:
    """The theme of setting gradio_theme, in our fonts; Easel's own for one that doesn't come with Gradio."""
    plain = {
        "gradio/base": gr.themes.Base,
        "gradio/glass": gr.themes.Glass,
        "gradio/monochrome": gr.themes.Monochrome,
        "gradio/soft": gr.themes.Soft,
    }
    if name in plain:
        return plain[name](**FONTS)
    if name != DEFAULT_THEME:
        log.warning('There is no theme "%s" here; the page has Easel\'s own.', name)
    return easel_theme()


def easel_theme() -> gr.themes.Base:
    """Gradio's default theme with A1111's orange Generate button, blue sliders and tighter blocks."""
    return gr.themes.Default(
        primary_hue="orange",
        secondary_hue="blue",
        neutral_hue="gray",
        spacing_size="md",
        radius_size="md",
        **FONTS,
    ).set(
        button_primary_background_fill="linear-gradient(to bottom right, *primary_100, *primary_300)",
        button_primary_background_fill_hover="linear-gradient(to bottom right, *primary_100, *primary_200)",
        button_primary_text_color="*primary_600",
        button_primary_text_color_hover="*primary_700",
        button_primary_border_color="*primary_200",
        button_primary_background_fill_dark="linear-gradient(to bottom right, *primary_500, *primary_600)",
        button_primary_background_fill_hover_dark="linear-gradient(to bottom right, *primary_500, *primary_500)",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="linear-gradient(to bottom right, *neutral_100, *neutral_200)",
        button_secondary_background_fill_hover="linear-gradient(to bottom right, *neutral_50, *neutral_100)",
        button_secondary_background_fill_dark="linear-gradient(to bottom right, *neutral_600, *neutral_700)",
        button_secondary_background_fill_hover_dark="linear-gradient(to bottom right, *neutral_600, *neutral_600)",
        button_large_padding="8px 16px",
        block_label_text_weight="400",
        block_title_text_weight="400",
        block_title_text_color="*neutral_500",
        block_title_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_500",  # Gradio's own is too pale for many eyes
        block_info_text_color="*neutral_500",
        input_placeholder_color="*neutral_500",
        slider_color="*secondary_500",
        slider_color_dark="*secondary_500",
        checkbox_background_color_selected="*secondary_600",
        checkbox_border_color_selected="*secondary_600",
        input_background_fill="white",
        background_fill_primary="white",
    )
