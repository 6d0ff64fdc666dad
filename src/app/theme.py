"""Gradio's theme: every colour is one of our CSS variables, which the stylesheet sets twice."""

from typing import Any

import gradio as gr

COLOURS = {
    "body_background_fill": "--desk-bg",
    "body_text_color": "--desk-fg",
    "body_text_color_subdued": "--desk-muted",
    "background_fill_primary": "--desk-panel",
    "background_fill_secondary": "--desk-panel-2",
    "border_color_primary": "--desk-line",
    "border_color_accent": "--desk-accent",
    "block_background_fill": "--desk-panel",
    "block_border_color": "--desk-line",
    "block_label_text_color": "--desk-muted",
    "block_title_text_color": "--desk-muted",
    "block_info_text_color": "--desk-muted",
    "panel_background_fill": "--desk-panel",
    "panel_border_color": "--desk-line",
    "input_background_fill": "--desk-field",
    "input_background_fill_focus": "--desk-field",
    "input_border_color": "--desk-line",
    "input_border_color_focus": "--desk-accent",
    "input_placeholder_color": "--desk-muted",
    "button_primary_background_fill": "--desk-accent",
    "button_primary_background_fill_hover": "--desk-accent-2",
    "button_primary_text_color": "--desk-on-accent",
    "button_secondary_background_fill": "--desk-field",
    "button_secondary_background_fill_hover": "--desk-hover",
    "button_secondary_text_color": "--desk-fg",
    "button_secondary_border_color": "--desk-line",
    "slider_color": "--desk-accent",
    "link_text_color": "--desk-accent",
    "code_background_fill": "--desk-code",
    "color_accent_soft": "--desk-accent-soft",
    "loader_color": "--desk-accent",
}
PLAIN = {
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "block_border_width": "0px",
    "block_title_text_weight": "500",
}


def desk_theme() -> Any:
    """A gradio theme without any outside font."""
    theme = gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="md",
        spacing_size="sm",
        text_size="md",
        font=["Desk Sans", "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["Desk Mono", "ui-monospace", "monospace"],
    )
    colours = {
        name + mode: f"var({variable})"
        for name, variable in COLOURS.items()
        for mode in ("", "_dark")
        if hasattr(theme, name + mode)
    }
    return theme.set(**colours, **PLAIN)
