"""The page's one Gradio Blocks: where each part stands, and the events that fill it."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.client import DeskClient
from app.pages.columns import compare_columns
from app.pages.show import ChatView, model_choices
from core.errors import DeskError

HTML = Path(__file__).parent.parent / "assets" / "html"
# Each part hands its element to our scripts, whichever of the two is there first.
MOUNT = "window.desk.mount('{name}', element)"
BRIDGE = (
    "window.desk.mount('bridge', element, {"
    "show: (d) => trigger('show', d), follow: (d) => trigger('follow', d), "
    "choices: (d) => trigger('choices', d)})"
)
WATCH = "window.desk.mount('{name}', element); watch('value', () => window.desk.hear('{name}', props.value))"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
CHATBOT: dict[str, Any] = {
    "show_label": False,
    "container": False,
    "height": "auto",
    "autoscroll": False,
    "layout": "bubble",
    "feedback_options": None,
    "buttons": [],
    "sanitize_html": True,
    "latex_delimiters": LATEX,
}


def desk_blocks(client: DeskClient) -> Any:
    """The page. Ids are what the stylesheet and the scripts hold on to."""
    with gr.Blocks(
        title="LM Desk", fill_width=True, fill_height=True, analytics_enabled=False
    ) as blocks:
        with gr.Column(elem_id="shell"):
            agent, model = _top_bar()
            with gr.Column(elem_id="left"):
                _part("chats")
            with gr.Column(elem_id="center"):
                history, live = _conversation()
            with gr.Column(elem_id="right"):
                _part("inspector")
            with gr.Column(elem_id="status"):
                _part("status")
        compare_columns(client, wire=_wire, look=CHATBOT, quiet=QUIET)
        facts = _wire("facts")
        state = _wire("state")
        bridge = gr.HTML(
            "", elem_id="bridge", js_on_load=BRIDGE, apply_default_css=False, elem_classes="wire"
        )
        view = ChatView(client, history=history, live=live, facts=facts, state=state)
        bridge.show(
            view.show,
            None,
            [history, live, facts],
            trigger_mode="multiple",
            concurrency_limit=None,
            **QUIET,
        )
        bridge.follow(
            view.follow,
            None,
            [live, state],
            trigger_mode="multiple",
            concurrency_limit=None,
            **QUIET,
        )

        async def choices(event: gr.EventData) -> dict[Any, Any]:
            return await dropdowns(client, event, agent=agent, model=model)

        # Each with its own words, in order: "always_last" may send what the first one said again.
        bridge.choices(
            choices, None, [agent, model], trigger_mode="multiple", concurrency_limit=1, **QUIET
        )
        agent.input(None, agent, None, js="(a) => window.desk.picked('agent', a)")
        model.input(None, model, None, js="(m) => window.desk.picked('model', m)")
    blocks.queue(default_concurrency_limit=None)
    _rest(blocks)
    return blocks


def _rest(blocks: gr.Blocks) -> None:
    """Gradio's queue looks for events a thousand times a second: most of what an idle desk costs.

    It has no setting for that. What an event waits at most is 10 ms; we show no `gr.Progress`.
    """
    queue = blocks._queue
    queue.sleep_when_free = 0.01
    queue.progress_update_sleep_when_free = 1.0


async def dropdowns(
    client: DeskClient, event: gr.EventData, *, agent: Any, model: Any
) -> dict[Any, Any]:
    """Options for both dropdowns, with what the page has picked. Unchanged without a server."""
    picked_agent = getattr(event, "agent", None)
    picked_model = getattr(event, "model", None)
    try:
        agents = [
            (f"{each.picture} {each.name}".strip(), each.id) for each in await client.agents()
        ]
        models = model_choices(await client.models(), picked_model)
    except DeskError:
        return {agent: gr.skip(), model: gr.skip()}
    return {
        agent: gr.Dropdown(choices=agents, value=picked_agent),
        model: gr.Dropdown(choices=models, value=picked_model),
    }


def _top_bar() -> tuple[Any, Any]:
    with gr.Row(elem_id="topbar"):
        _part("brand")
        agent = gr.Dropdown(
            [],
            label="Agent",
            elem_id="agent",
            filterable=False,
            interactive=True,
            container=False,
            min_width=100,
        )
        _part("agents")
        model = gr.Dropdown(
            [],
            label="Model",
            elem_id="model",
            filterable=True,
            interactive=True,
            container=False,
            min_width=120,
        )
        _part("modelbar")
        _part("tools")
    return agent, model


def _conversation() -> tuple[Any, Any]:
    _part("notices")
    with gr.Column(elem_id="scroller"):
        _part("welcome")
        history = gr.Chatbot([], label="Messages", elem_id="hist", **CHATBOT)
        live = gr.Chatbot([], label="Answer being written", elem_id="live", **CHATBOT)
        _part("phase")
    _part("composer")
    return history, live


def _part(name: str) -> Any:
    """A piece of our own HTML, handed to the scripts."""
    return gr.HTML(
        (HTML / f"{name}.html").read_text("utf-8"),
        elem_id=name,
        js_on_load=MOUNT.format(name=name),
        apply_default_css=False,
    )


def _wire(name: str) -> Any:
    """An unseen component that carries a value to the scripts."""
    return gr.HTML(
        None,
        elem_id=name,
        html_template="<i></i>",
        js_on_load=WATCH.format(name=name),
        apply_default_css=False,
        elem_classes="wire",
    )
