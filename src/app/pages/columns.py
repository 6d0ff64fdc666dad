"""The columns of a comparison: Gradio's parts for each, which the Compare view takes into its own place.

A column is a chat, painted and followed by the same events as the one in the middle.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.client import DeskClient
from app.pages.show import ChatView
from core.comparisons import MAX_COLUMNS

BRIDGE = (
    "window.desk.mount('column{number}', element, {{"
    "show: (d) => trigger('show', d), follow: (d) => trigger('follow', d)}})"
)


def compare_columns(
    client: DeskClient,
    *,
    wire: Callable[[str], Any],
    look: dict[str, Any],
    quiet: dict[str, Any],
) -> None:
    """Add them, unseen. `wire` makes a component that carries a value to the scripts."""
    with gr.Column(elem_id="compare-parts", elem_classes="wire"):
        for number in range(1, MAX_COLUMNS + 1):
            _column(client, number, wire=wire, look=look, quiet=quiet)


def _column(
    client: DeskClient,
    number: int,
    *,
    wire: Callable[[str], Any],
    look: dict[str, Any],
    quiet: dict[str, Any],
) -> None:
    history = gr.Chatbot(
        [],
        label=f"Messages of column {number}",
        elem_id=f"column{number}-hist",
        elem_classes="column-part",
        **look,
    )
    live = gr.Chatbot(
        [],
        label=f"Answer being written in column {number}",
        elem_id=f"column{number}-live",
        elem_classes="column-part",
        **look,
    )
    facts, state = wire(f"column{number}-facts"), wire(f"column{number}-state")
    bridge = gr.HTML(
        "",
        elem_id=f"column{number}",
        js_on_load=BRIDGE.format(number=number),
        apply_default_css=False,
        elem_classes="wire",
    )
    view = ChatView(client, history=history, live=live, facts=facts, state=state)
    events: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": None, **quiet}
    bridge.show(view.show, None, [history, live, facts], **events)
    bridge.follow(view.follow, None, [live, state], **events)
