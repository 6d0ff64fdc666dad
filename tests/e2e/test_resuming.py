"""An answer belongs to the desk, not to a tab: reloads, second tabs, other chats."""

from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk
from tests.e2e.screen import Screen, numbers
from tests.servers import ScriptedLMStudio


def test_a_reload_in_the_middle_comes_back_to_the_running_answer(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    screen = studio_screen
    studio.tokens = 100
    screen.send("Count")
    expect(screen.live).to_contain_text("5 6 7")

    screen.reload()

    expect(screen.live).to_contain_text("5 6 7")
    expect(screen.stop_button).to_be_visible()
    assert studio.finished == 0
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(100))
    expect(screen.live).to_have_text("")
    expect(screen.questions).to_have_count(1)
    assert (studio.finished, studio.aborted) == (1, 0)
    assert studio_desk.messages(screen.chat_id())[-1]["content"].strip() == numbers(100)


def test_a_second_tab_sees_the_running_answer_and_its_end(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk, open_tab: Open
) -> None:
    screen = studio_screen
    studio.tokens = 100
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")

    other = open_tab(studio_desk, screen.chat_id())

    expect(other.live).to_contain_text("0 1 2")
    expect(other.questions).to_have_text("Count")
    expect(other.stop_button).to_be_visible()
    for tab in (screen, other):
        expect(tab.answers.get_by_test_id("bot")).to_have_text(numbers(100))
        expect(tab.send_button).to_be_visible()


def test_a_message_sent_in_one_tab_appears_in_the_other(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk, open_tab: Open
) -> None:
    screen = studio_screen
    studio.tokens = 3
    screen.send("First")
    expect(screen.answers).to_have_count(1)
    other = open_tab(studio_desk, screen.chat_id())
    expect(other.answers).to_have_count(1)
    studio.tokens = 60

    other.send("Second")

    expect(screen.live).to_contain_text("0 1 2")
    screen.stop_button.click()
    for tab in (screen, other):
        expect(tab.questions).to_have_text(["First", "Second"])
        expect(tab.answers.last.locator(".label")).to_have_text("Stopped")
    expect(other.send_button).to_be_visible()


def test_an_answer_goes_on_while_another_chat_is_read(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    screen = studio_screen
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")

    screen.new_chat.click()

    expect(screen.starters).to_have_count(3)
    expect(screen.live).to_have_text("")
    expect(screen.send_button).to_be_visible()
    running = screen.chat_rows.filter(has_text="Count")
    expect(running).to_contain_text("Answering")
    expect(running).not_to_contain_text("Answering")
    screen.chat_button("Count").click()
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(60))
    assert studio.aborted == 0


def test_a_link_to_a_chat_that_is_gone_says_so(studio_desk: Desk, open_tab: Open) -> None:
    screen = open_tab(studio_desk, "no-such-chat")

    expect(screen.alert.filter(has_text="not here any more")).to_be_visible()
    expect(screen.starters).to_have_count(3)
    assert "chat=" not in screen.page.url
