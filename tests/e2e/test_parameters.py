"""Parameters, agent and model belong to the chat and reach the provider."""

from typing import Any

from playwright.sync_api import expect

from tests.e2e.running import Desk, wait_for
from tests.e2e.screen import Screen
from tests.servers import ScriptedLMStudio


def asked(studio: ScriptedLMStudio) -> dict[str, Any]:
    """The last request for an answer."""
    return dict(studio.requests("/v1/chat/completions")[-1].body)


def test_a_changed_temperature_is_kept_and_sent(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    screen = studio_screen
    studio.tokens, studio.rate = 3, None
    temperature = screen.page.get_by_role("spinbutton", name="Temperature")
    screen.send("First")
    expect(screen.answers).to_have_count(1)
    chat_id = screen.chat_id()

    temperature.fill("1.3")

    def kept() -> Any:
        return studio_desk.get(f"/chats/{chat_id}")["chat"]["parameters"].get("temperature")

    wait_for(lambda: kept() == 1.3, what="the temperature in the chat")
    screen.reload()
    expect(temperature).to_have_value("1.3")
    screen.send("Second")
    expect(screen.answers).to_have_count(2)
    assert asked(studio)["temperature"] == 1.3
    screen.page.get_by_role("button", name="Reset to the agent's").click()
    expect(temperature).to_have_value("")
    wait_for(lambda: kept() is None, what="the reset")


def test_what_is_set_before_the_first_message_counts_for_it(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.tokens, studio.rate = 9, None
    screen.page.get_by_role("spinbutton", name="Max tokens").fill("4")
    screen.page.get_by_role("textbox", name="System prompt").fill("Speak like a pirate.")

    screen.send("Count")

    expect(screen.answers.get_by_test_id("bot")).to_have_text("0 1 2 3")
    request = asked(studio)
    assert request["max_tokens"] == 4
    assert request["messages"][0]["role"] == "system"
    assert request["messages"][0]["content"].startswith("Speak like a pirate.")


def test_a_chat_remembers_its_agent(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    screen = studio_screen
    studio.tokens, studio.rate = 3, None
    screen.choose_agent("Coding")
    screen.send("First")
    expect(screen.answers).to_have_count(1)
    chat_id = screen.chat_id()
    assert "software engineer" in asked(studio)["messages"][0]["content"]

    screen.choose_agent("Creative")

    def kept() -> Any:
        return studio_desk.get(f"/chats/{chat_id}")["chat"]["agent_id"]

    wait_for(lambda: kept() == "creative", what="the agent in the chat")
    screen.new_chat.click()
    screen.choose_agent("General")
    screen.chat_button("First").click()
    expect(screen.agent).to_have_value("Creative")
    screen.send("Second")
    expect(screen.answers).to_have_count(2)
    assert "imaginative writer" in asked(studio)["messages"][0]["content"]


def test_another_model_can_answer_in_the_same_chat(screen: Screen) -> None:
    screen.send("First")
    expect(screen.answers).to_have_count(1)
    screen.choose("thinker")
    screen.send("Second")

    expect(screen.answers.nth(1)).to_contain_text("It is 42!")
    expect(screen.answers.nth(0).locator(".facts")).to_contain_text("parrot")
    expect(screen.answers.nth(1).locator(".facts")).to_contain_text("thinker")
