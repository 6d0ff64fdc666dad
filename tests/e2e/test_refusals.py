"""What cannot be done is said in a sentence, and nothing typed is lost."""

from playwright.sync_api import expect

from tests.e2e.running import Desk
from tests.e2e.screen import REFUSED, Screen, numbers
from tests.servers import ScriptedLMStudio

PASTE = """(text) => {
    const data = new DataTransfer();
    data.setData('text/plain', text);
    const box = document.activeElement;
    if (box.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true,
            cancelable: true }))) document.execCommand('insertText', false, text);
}"""


def test_an_empty_message_is_not_sent(studio_screen: Screen, studio_desk: Desk) -> None:
    for nothing in ("", "   \n "):
        studio_screen.message.fill(nothing)
        studio_screen.message.press("Enter")
        if studio_screen.send_button.is_enabled():
            studio_screen.send_button.click()

    expect(studio_screen.starters).to_have_count(3)
    expect(studio_screen.alert).to_have_count(0)
    assert studio_desk.get("/chats")["total"] == 0


def test_a_paste_of_a_megabyte_is_refused_with_a_sentence_and_kept(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    screen = studio_screen
    screen.allow(REFUSED)
    text = "word " * 210_000
    screen.message.focus()
    screen.page.evaluate(PASTE, text)
    expect(screen.message).to_have_value(text)

    screen.message.press("Enter")

    expect(screen.alert.filter(has_text="1,050,000 characters")).to_be_visible()
    expect(screen.message).to_have_value(text)
    assert studio_desk.get("/chats")["total"] == 0
    studio.tokens = 3
    screen.send("short")
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.alert).to_have_count(0)


def test_a_model_that_crashes_keeps_the_question_and_can_be_tried_again(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.chat_error = (500, {"error": "The model has crashed without additional information."})

    screen.send("Hello?")

    problem = screen.answers.locator(".problem")
    expect(problem).to_contain_text("crashed")
    expect(screen.questions).to_have_text("Hello?")
    studio.chat_error = None
    studio.tokens = 3
    screen.answers.get_by_role("button", name="Answer again with QWEN3-4B").click()
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.questions).to_have_count(1)
