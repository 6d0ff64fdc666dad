"""Auto: which model is next and why, what was chosen below the answer, and who cannot be reached."""

import re
from typing import Any

from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk, Studio
from tests.servers import ScriptedLMStudio, ScriptedModel

CODER = "qwen/qwen2.5-coder-7b"
QUESTION = "Write a Python function that merges overlapping intervals."


def add_coder(studio: ScriptedLMStudio, desk: Desk) -> None:
    studio.models[CODER] = ScriptedModel(CODER, instances={CODER: 8192})
    studio.tokens = 5
    desk.get("/models/", refresh=True)


def test_the_next_model_is_shown_before_sending_and_its_reasons_below_the_answer(
    studio: ScriptedLMStudio, studio_desk: Desk, open_tab: Open
) -> None:
    add_coder(studio, studio_desk)
    screen = open_tab(studio_desk)
    screen.choose("Auto")
    screen.message.fill(QUESTION)

    expect(screen.model_card).to_contain_text("Next: QWEN2.5-CODER-7B")
    expect(screen.model_card).to_contain_text("made for code (+30)")

    screen.message.press("Enter")
    why = screen.answers.get_by_role("button", name="Auto: coding")
    expect(why).to_be_visible()
    expect(screen.answers.locator(".facts")).to_contain_text("qwen2.5-coder-7b")
    why.click()
    expect(screen.answers.locator("ul.route")).to_contain_text("a programming language")
    expect(screen.answers.locator("ul.route")).to_contain_text("Not qwen3-4b")
    expect(screen.model).to_have_value(re.compile("Auto"))


def test_an_answer_of_the_next_model_in_line_says_which_one_failed(
    studio_desk: Desk, open_tab: Open
) -> None:
    tried = {
        "model_id": "work:first-7b",
        "code": "provider_unreachable",
        "message": "work does not answer.",
    }
    route: dict[str, Any] = {"asked": "work:first-7b", "kind": "asked", "task": "general"}
    truth = {"asked": "lmstudio:second-4b", "route": route | {"tried": [tried]}}
    saved = {
        "format": "lmdesk.chat",
        "version": 1,
        "model_id": "lmstudio:second-4b",
        "messages": [
            {"role": "user", "content": "Tell"},
            {"role": "assistant", "content": "Told.", "model": truth},
        ],
    }
    chat_id = str(studio_desk.post("/chats/import", saved)["id"])
    screen = open_tab(studio_desk, chat_id)

    why = screen.answers.get_by_role("button", name="first-7b was unreachable, used second-4b")
    expect(why).to_have_class(re.compile("moved"))
    why.click()
    expect(screen.answers.locator("ul.route")).to_contain_text("work does not answer.")


def test_models_of_a_server_that_went_away_stay_in_the_list_as_such(
    spare_desk: Desk, absent: Studio, open_tab: Open
) -> None:
    with absent.up():
        spare_desk.get("/models/providers/health")
        screen = open_tab(spare_desk)
        screen.choose("QWEN3-4B")
    spare_desk.get("/models/providers/health")

    expect(screen.model_state).to_contain_text("Cannot be reached; seen")
    expect(screen.load).to_be_disabled()
    screen.model.click()
    gone = screen.page.get_by_role("option", name=re.compile("LM Studio cannot be reached"))
    expect(gone).to_have_count(1)
