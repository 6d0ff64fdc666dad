"""What stands under an answer: who wrote it, whether it really stopped, and how it goes on."""

import re
from typing import Any

from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk
from tests.e2e.screen import Screen, numbers
from tests.servers import ScriptedLMStudio

QWEN = "qwen/qwen3-4b"


def past(desk: Desk, asked: str, **answer: Any) -> str:
    """The id of a chat with one question and this answer."""
    told = {"role": "assistant", "content": "Told.", "model": {"asked": asked}, **answer}
    saved = {
        "format": "lmdesk.chat",
        "version": 1,
        "model_id": asked,
        "messages": [{"role": "user", "content": "Tell"}, told],
    }
    return str(desk.post("/chats/import", saved)["id"])


def test_the_facts_name_quantization_and_context(studio_screen: Screen) -> None:
    studio_screen.send("Count")

    facts = studio_screen.answers.locator(".facts")
    expect(facts).to_contain_text("qwen3-4b")
    expect(facts).to_contain_text("Q4_K_M")
    expect(facts).to_contain_text("8k context")
    expect(facts.locator(".differs")).to_have_count(0)


def test_another_model_and_less_context_than_asked_for_are_said(
    studio_desk: Desk, open_tab: Open
) -> None:
    truth = {"asked": f"lmstudio:{QWEN}", "answered": "meta/llama-3.1-8b"}
    truth |= {"asked_context": 32768, "got_context": 4096}

    screen = open_tab(studio_desk, past(studio_desk, f"lmstudio:{QWEN}", model=truth))

    expect(screen.answers.locator(".differs")).to_have_text(
        "Asked for qwen3-4b, llama-3.1-8b answered; asked for 32k context, got 4k"
    )


def test_a_stopped_answer_tells_that_its_model_came_to_rest(screen: Screen) -> None:
    screen.choose("endless")
    screen.send("Sing")
    expect(screen.live).to_contain_text("la le lu")

    screen.stop_button.click()

    expect(screen.answers.locator(".label")).to_have_text("Stopped")
    expect(screen.answers.locator(".proof")).to_have_text(re.compile(r"^idle after \d\.\d s$"))


def test_a_model_that_reads_on_after_a_stop_can_be_ejected(desk: Desk, open_tab: Open) -> None:
    proof = {"state": "busy", "seconds": 3.0, "doing": "reading"}
    chat_id = past(desk, "embedded:parrot", status="stopped", stats={"stop_proof": proof})
    screen = open_tab(desk, chat_id)
    expect(screen.answers.locator(".facts")).to_contain_text("still reading the prompt")
    assert "parrot" in desk.loaded()

    screen.answers.get_by_role("button", name="Eject the model").click()

    expect(screen.model_state).to_have_text("Not loaded")
    assert "parrot" not in desk.loaded()


def test_an_answer_whose_model_somebody_took_away_goes_on_with_one_click(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.tokens = 10_000
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")

    studio.models[QWEN].instances.clear()

    expect(screen.answers).to_contain_text("Ended because the model was unloaded")
    studio.tokens = 3
    screen.page.get_by_role("button", name="Continue with QWEN3-4B").click()
    expect(screen.answers).to_have_count(2)
    expect(screen.answers.last.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.answers.first.get_by_test_id("bot")).to_contain_text("0 1 2")
    sent = studio.requests("/v1/chat/completions")[-1].body["messages"]
    assert [message["role"] for message in sent[-3:]] == ["user", "assistant", "user"]
    assert sent[-2]["content"].startswith("0 1 2")
    expect(screen.page.get_by_role("button", name="Continue with QWEN3-4B")).to_have_count(0)


def test_without_a_word_it_is_answered_again_instead(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.frames, studio.hangs = [], True
    screen.send("Count")
    expect(screen.stop_button).to_be_visible()
    expect(screen.page.locator("#phase-line")).to_contain_text("Reading the prompt")

    studio.models[QWEN].instances.clear()

    again = screen.page.get_by_role("button", name="Answer again with QWEN3-4B")
    expect(again).to_be_visible()
    expect(screen.page.get_by_role("button", name="Continue with QWEN3-4B")).to_have_count(0)
    studio.frames, studio.hangs, studio.tokens = None, False, 3
    again.click()
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
