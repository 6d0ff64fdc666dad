"""The page with the keyboard alone."""

from playwright.sync_api import expect

from tests.e2e.screen import Screen, numbers
from tests.servers import ScriptedLMStudio


def test_enter_sends_and_shift_enter_makes_a_line(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.tokens = 3
    screen.message.fill("one")
    screen.message.press("Shift+Enter")
    screen.page.keyboard.type("two")
    expect(screen.message).to_have_value("one\ntwo")

    screen.message.press("Enter")

    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.questions).to_contain_text("one")
    expect(screen.questions).to_contain_text("two")
    expect(screen.message).to_be_focused()


def test_enter_while_an_answer_is_written_keeps_the_next_message(studio_screen: Screen) -> None:
    studio_screen.send("Count")
    expect(studio_screen.live).to_contain_text("0 1 2")

    studio_screen.send("and then?")

    expect(studio_screen.message).to_have_value("and then?")
    expect(studio_screen.questions).to_have_text("Count")
    studio_screen.page.keyboard.press("Escape")
    expect(studio_screen.answers.locator(".label")).to_have_text("Stopped")
    expect(studio_screen.message).to_have_value("and then?")


def test_shortcuts_reach_search_chats_and_the_message_box(studio_screen: Screen) -> None:
    screen, keys = studio_screen, studio_screen.page.keyboard
    keys.press("Control+b")
    expect(screen.chats).to_be_hidden()
    keys.press("Control+k")
    expect(screen.search).to_be_focused()
    keys.press("Control+b")
    expect(screen.chats).to_be_hidden()
    keys.press("Control+b")
    expect(screen.chats).to_be_visible()
    screen.send("First")
    expect(screen.answers).to_have_count(1)
    keys.press("Alt+n")
    expect(screen.questions).to_have_count(0)
    expect(screen.message).to_be_focused()
    assert "chat=" not in screen.page.url


def test_a_question_mark_shows_all_shortcuts_unless_it_is_typed(studio_screen: Screen) -> None:
    screen, keys = studio_screen, studio_screen.page.keyboard
    screen.message.focus()
    keys.type("?")
    expect(screen.message).to_have_value("?")
    expect(screen.page.get_by_role("dialog")).to_have_count(0)

    screen.new_chat.focus()
    keys.press("?")

    dialog = screen.page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    for known in ("Send the message", "New line", "Search chats", "New chat", "Tools"):
        expect(dialog).to_contain_text(known)
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    expect(screen.new_chat).to_be_focused()

    keys.press("Alt+KeyT")
    expect(screen.page.get_by_role("dialog", name="Tools")).to_be_visible()


def test_a_model_is_chosen_by_typing_a_part_of_its_name(screen: Screen) -> None:
    keys = screen.page.keyboard
    screen.model.click()
    keys.press("Control+a")
    screen.model.press_sequentially("thin")
    expect(screen.page.get_by_role("option")).to_have_count(1)
    keys.press("Enter")

    expect(screen.model_card.get_by_role("heading", name="thinker")).to_be_visible()
    screen.model.click()
    keys.press("Escape")
    expect(screen.page.get_by_role("option")).to_have_count(0)
    expect(screen.model_card.get_by_role("heading", name="thinker")).to_be_visible()
