"""The list of chats, links, drafts, and an empty chat with its starters."""

import re

from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk, wait_for
from tests.e2e.screen import Screen, numbers
from tests.servers import ScriptedLMStudio


def titled(desk: Desk, *titles: str) -> list[str]:
    """Chats of these titles, each with a question and an answer about it."""
    found = []
    for title in titles:
        chat_id = desk.new_chat(title=title, model_id="lmstudio:qwen/qwen3-4b")
        desk.answered(chat_id, f"About {title}", parameters={"max_tokens": 2})
        found.append(chat_id)
    return found


def test_chats_are_opened_from_the_list_by_link_and_with_back_and_forward(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    studio.tokens, studio.rate = 2, None
    first, second = titled(studio_desk, "Bread", "Wine")
    screen = open_tab(studio_desk, first)
    expect(screen.questions).to_have_text("About Bread")
    expect(screen.page).to_have_title(re.compile("Bread"))
    expect(screen.chat_button("Bread")).to_have_attribute("aria-current", "true")

    screen.chat_button("Wine").click()

    expect(screen.questions).to_have_text("About Wine")
    assert screen.chat_id() == second
    screen.new_chat.click()
    expect(screen.questions).to_have_count(0)
    expect(screen.message).to_be_focused()
    screen.page.go_back()
    expect(screen.questions).to_have_text("About Wine")
    screen.page.go_back()
    expect(screen.questions).to_have_text("About Bread")
    screen.page.go_forward()
    expect(screen.questions).to_have_text("About Wine")


def test_a_chat_is_renamed_in_place_and_seen_so_elsewhere(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    studio.tokens, studio.rate = 2, None
    (chat_id,) = titled(studio_desk, "Bread")
    screen, other = open_tab(studio_desk, chat_id), open_tab(studio_desk)

    screen.chat_rows.hover()
    screen.chats.get_by_role("button", name="Rename Bread").click()
    screen.chats.get_by_role("textbox", name="Chat title").fill("Rye")
    screen.page.keyboard.press("Enter")

    expect(screen.chat_button("Rye")).to_be_visible()
    expect(other.chat_button("Rye")).to_be_visible()
    assert studio_desk.get(f"/chats/{chat_id}")["chat"]["title"] == "Rye"
    screen.chat_button("Rye").press("F2")
    screen.chats.get_by_role("textbox", name="Chat title").fill("Wheat")
    screen.page.keyboard.press("Escape")
    expect(screen.chat_button("Rye")).to_be_visible()
    expect(screen.page).to_have_title(re.compile("Rye"))


def test_a_deleted_chat_comes_back_with_undo(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    studio.tokens, studio.rate = 2, None
    (chat_id,) = titled(studio_desk, "Bread")
    screen = open_tab(studio_desk, chat_id)
    expect(screen.answers).to_have_count(1)

    screen.chat_rows.hover()
    screen.chats.get_by_role("button", name="Delete Bread").click()

    expect(screen.chat_rows).to_have_count(0)
    expect(screen.questions).to_have_count(0)
    wait_for(lambda: studio_desk.get("/chats")["total"] == 0, what="the deletion")
    screen.page.get_by_role("button", name="Undo").click()
    expect(screen.questions).to_have_text("About Bread")
    expect(screen.answers).to_have_count(1)
    expect(screen.chat_button("Bread")).to_be_visible()


def test_chats_are_searched_by_what_was_said_in_them(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    studio.tokens, studio.rate = 2, None
    titled(studio_desk, "Bread", "Wine", "Olives")
    screen = open_tab(studio_desk)
    expect(screen.chat_rows).to_have_count(3)

    screen.search.fill("about wine")

    expect(screen.chat_rows).to_have_count(1)
    expect(screen.chat_rows).to_contain_text("Wine")
    screen.search.press("Enter")
    expect(screen.questions).to_have_text("About Wine")
    screen.search.fill("zebra")
    expect(screen.chats).to_contain_text("Nothing matches “zebra”.")
    screen.search.fill("")
    expect(screen.chat_rows).to_have_count(3)


def test_each_chat_keeps_its_draft_across_a_reload(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    studio.tokens, studio.rate = 2, None
    titled(studio_desk, "Bread")
    screen = open_tab(studio_desk)
    screen.message.fill("of a new chat")
    screen.chat_button("Bread").click()
    expect(screen.message).to_have_value("")
    screen.message.fill("about bread")

    screen.reload()

    expect(screen.message).to_have_value("about bread")
    screen.new_chat.click()
    expect(screen.message).to_have_value("of a new chat")


def test_an_empty_chat_has_three_starters_of_its_agent(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    screen, seen = studio_screen, set()
    studio.tokens, studio.rate = 5, None
    expect(screen.starters).to_have_count(3)
    for agent in studio_desk.get("/agents"):
        screen.choose_agent(agent["name"])
        expect(screen.starters).to_have_text([text.strip() for text in agent["starters"][:3]])
        seen.add(tuple(agent["starters"]))
    assert len(seen) == 5
    complete = screen.starters.filter(has_text=re.compile(r"[.?]\s*$")).first
    asked = complete.inner_text()
    begun = screen.starters.filter(has_text=re.compile(r":\s*$")).first
    words = begun.inner_text()

    begun.click()

    expect(screen.message).to_have_value(re.compile(rf"^{re.escape(words)}\s$"))
    expect(screen.message).to_be_focused()
    complete.click()
    expect(screen.questions).to_have_text(asked)
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(5))
    assert studio_desk.get(f"/chats/{screen.chat_id()}")["chat"]["agent_id"] == "analysis"
