"""The page on a phone: 390 × 844 points, fingers only."""

import re

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.e2e.conftest import PHONE, Open
from tests.e2e.looking import sticking_out, targets
from tests.e2e.running import Desk
from tests.e2e.screen import Screen, numbers
from tests.frames import chunk, ending
from tests.servers import ScriptedLMStudio

LEAST = 24
MAIN = 44
WIDE = f"""```
{"a very long line of code that goes on, " * 8}
```

| {" | ".join(f"column {n}" for n in range(12))} |
| {" | ".join("---" for _ in range(12))} |
| {" | ".join("some words" for _ in range(12))} |

https://example.com/{"averylongaddress" * 12}

$$ {" + ".join(f"x_{{{n}}}^2" for n in range(40))} $$
"""


@pytest.fixture
def touched(studio_desk: Desk, phone: BrowserContext, open_tab: Open) -> Screen:
    """A phone on an empty chat of the desk with the scripted LM Studio."""
    return open_tab(studio_desk, context=phone)


def test_the_main_job_with_fingers(desk: Desk, phone: BrowserContext, open_tab: Open) -> None:
    screen = open_tab(desk, context=phone)
    assert sticking_out(screen.page) == []
    screen.model.tap()
    option = screen.page.get_by_role("option", name=re.compile(r"\bendless\b"))
    expect(option).to_be_visible()
    assert sticking_out(screen.page) == []
    option.tap()
    expect(screen.model).to_have_value(re.compile("endless"))

    screen.load.tap()

    expect(screen.model_state).to_have_text("Loaded")
    screen.message.tap()
    screen.page.keyboard.type("Sing")
    screen.send_button.tap()
    expect(screen.live).to_contain_text("la le lu")
    assert sticking_out(screen.page) == []

    screen.stop_button.tap()

    expect(screen.answers.locator(".label")).to_have_text("Stopped")
    expect(screen.answers.get_by_test_id("bot")).to_contain_text("la le lu")
    expect(screen.answers.locator(".facts")).to_contain_text("endless")
    expect(screen.send_button).to_be_visible()
    assert sticking_out(screen.page) == []
    assert desk.messages(screen.chat_id())[-1]["status"] == "stopped"


def test_wide_content_scrolls_by_itself_and_not_the_page(
    touched: Screen, studio: ScriptedLMStudio
) -> None:
    studio.frames = [chunk({"content": WIDE}), *ending("m", 40)]
    touched.message.fill(f"What of https://example.com/{'averylongaddress' * 12}?")
    touched.send_button.tap()
    expect(touched.answers.locator("table")).to_be_visible()

    assert sticking_out(touched.page) == []


def test_the_chats_are_a_drawer(
    touched: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    studio.tokens, studio.rate = 2, None
    chat_id = studio_desk.new_chat(title="Bread " * 20, model_id="lmstudio:qwen/qwen3-4b")
    studio_desk.answered(chat_id, "About bread")
    expect(touched.chats).to_be_hidden()
    panel = touched.page.get_by_role("button", name="Chats panel")

    panel.tap()

    expect(touched.chats).to_be_in_viewport(ratio=1)
    assert sticking_out(touched.page) == []
    beside(touched)
    expect(touched.chats).to_be_hidden()
    panel.tap()
    touched.chat_rows.get_by_role("button", name=re.compile("^Bread")).first.tap()
    expect(touched.chats).to_be_hidden()
    expect(touched.questions).to_have_text("About bread")
    assert touched.chat_id() == chat_id
    panel.tap()
    touched.new_chat.tap()
    expect(touched.chats).to_be_hidden()
    expect(touched.starters).to_have_count(3)


def test_the_details_are_a_drawer(touched: Screen) -> None:
    expect(touched.system).to_be_hidden()

    touched.page.get_by_role("button", name="Details panel").tap()

    expect(touched.model_card).to_be_in_viewport()
    expect(touched.system).to_be_in_viewport()
    assert sticking_out(touched.page) == []
    beside(touched)
    expect(touched.system).to_be_hidden()


def test_what_has_no_room_at_the_top_is_behind_one_button_with_words(touched: Screen) -> None:
    page = touched.page
    more = page.get_by_role("button", name="More", exact=True)
    settings = page.get_by_role("button", name="Settings", exact=True)
    expect(settings).to_be_hidden()

    more.tap()

    expect(more).to_have_attribute("aria-expanded", "true")
    expect(settings).to_contain_text("Settings")
    assert sticking_out(page) == []
    page.keyboard.press("Escape")
    expect(settings).to_be_hidden()
    expect(more).to_be_focused()
    more.tap()
    touched.message.tap()
    expect(settings).to_be_hidden()
    more.tap()
    settings.tap()
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    expect(more).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Escape")
    expect(more).to_be_focused()


def beside(screen: Screen) -> None:
    """Tap the conversation that an open drawer leaves in sight."""
    drawer = screen.page.locator("#left, #right").locator("visible=true").bounding_box()
    assert drawer
    expect(screen.page.locator("#left, #right").locator("visible=true")).to_have_count(1)
    before = drawer["x"] > 0
    screen.page.touchscreen.tap(20 if before else PHONE["width"] - 20, PHONE["height"] / 2)


def test_what_is_pressed_is_large_enough_for_a_finger(
    touched: Screen, studio: ScriptedLMStudio, studio_desk: Desk
) -> None:
    studio.tokens, studio.rate = 2, None
    touched.message.fill("Count")
    touched.send_button.tap()
    expect(touched.answers.get_by_test_id("bot")).to_have_text(numbers(2))
    touched.page.get_by_role("button", name="More", exact=True).tap()
    seen = targets(touched.page, "#topbar, #center")
    touched.page.get_by_role("button", name="Chats panel").tap()
    expect(touched.chats).to_be_in_viewport(ratio=1)
    seen += targets(touched.page, "#left")
    beside(touched)
    touched.page.get_by_role("button", name="Details panel").tap()
    expect(touched.system).to_be_in_viewport()
    seen += targets(touched.page, "#right")

    assert {"Copy answer", "New chat", "Temperature", "Dark mode"} <= {
        each["name"] for each in seen
    }
    assert [each for each in seen if min(each["width"], each["height"]) < LEAST] == []


def test_the_main_buttons_are_as_large_as_a_fingertip(touched: Screen) -> None:
    touched.unload.tap()
    expect(touched.model_state).to_have_text("Not loaded")
    seen = targets(touched.page, "#topbar, #center")
    main = {"Chats panel", "Details panel", "Load", "Unload", "Send"}
    starters = touched.starters.all_inner_texts()

    large = {each["name"] for each in seen if min(each["width"], each["height"]) >= MAIN}

    assert main <= large, seen
    assert {starter[:60] for starter in starters} <= large


def test_the_message_box_stays_above_the_keyboard(
    touched: Screen, studio: ScriptedLMStudio
) -> None:
    screen = touched
    studio.tokens, studio.rate = 1200, None
    screen.message.fill("Count")
    screen.send_button.tap()
    expect(screen.answers).to_contain_text("1199")
    expect(screen.message).to_be_in_viewport(ratio=1)
    expect(screen.send_button).to_be_in_viewport(ratio=1)

    screen.message.tap()
    # What a keyboard leaves of the window.
    screen.page.set_viewport_size({"width": PHONE["width"], "height": 460})

    expect(screen.message).to_be_focused()
    expect(screen.message).to_be_in_viewport(ratio=1)
    expect(screen.send_button).to_be_in_viewport(ratio=1)
    expect(screen.answers.locator(".facts")).to_be_in_viewport()
    screen.page.keyboard.type("one")
    screen.page.keyboard.press("Enter")
    screen.page.keyboard.type("two")
    expect(screen.message).to_have_value("one\ntwo")  # a finger sends with the button
    screen.page.keyboard.type("\nmore" * 30)
    expect(screen.message).to_be_in_viewport(ratio=1)
    expect(screen.send_button).to_be_in_viewport(ratio=1)
    assert sticking_out(screen.page) == []
