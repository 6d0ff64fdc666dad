"""axe-core finds nothing against any of its rules in the states a person meets, however shown."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, PHONE, Open
from tests.e2e.looking import accessibility_problems
from tests.e2e.running import Desk
from tests.e2e.screen import REFUSED, Screen
from tests.frames import chunk, ending
from tests.servers import ScriptedLMStudio

RICH = """## A plan

Some **bold** words, `code` and [a link](https://example.com/).

| one | two |
|---|---|
| 1 | 2 |

```python
def hello(name: str) -> str:
    # greets
    return f"Hello {name}" + str(42)
```
"""


def assert_nothing_found(screen: Screen) -> None:
    """In light and in dark, wide and as on a phone."""
    found = ""
    for size in (DESKTOP, PHONE):
        screen.page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            screen.page.emulate_media(color_scheme=scheme)
            problems = accessibility_problems(screen.page)
            found += f"\n{scheme}, {size['width']} px: {problems}" if problems else ""
    screen.page.set_viewport_size(DESKTOP)
    assert found == ""


def test_an_empty_chat(studio_screen: Screen) -> None:
    expect(studio_screen.starters).to_have_count(3)

    assert_nothing_found(studio_screen)


def test_an_answer_being_written(studio_screen: Screen, studio: ScriptedLMStudio) -> None:
    studio.tokens = 2000
    studio_screen.send("Count")
    expect(studio_screen.live).to_contain_text("0 1 2")

    assert_nothing_found(studio_screen)

    expect(studio_screen.stop_button).to_be_visible()
    studio_screen.stop_button.click()
    expect(studio_screen.answers).to_have_count(1)


def test_a_finished_answer_with_markdown_and_its_facts(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    thought, answer = {"reasoning_content": "Let me think."}, {"content": RICH}
    studio.frames = [chunk(thought), chunk(answer), *ending("m", 40)]
    studio_screen.send("A plan, please")
    expect(studio_screen.answers.locator("table")).to_be_visible()
    expect(studio_screen.answers.locator(".facts")).to_be_visible()
    studio_screen.chat_rows.hover()

    assert_nothing_found(studio_screen)


def test_a_failed_answer_and_a_refusal(studio_screen: Screen, studio: ScriptedLMStudio) -> None:
    studio_screen.allow(REFUSED)
    studio.chat_error = (500, {"error": "The model has crashed without additional information."})
    studio_screen.send("Hello?")
    expect(studio_screen.answers.locator(".problem")).to_contain_text("crashed")
    studio_screen.message.fill("word " * 210_000)
    studio_screen.message.press("Enter")
    expect(studio_screen.alert.filter(has_text="characters")).to_be_visible()

    assert_nothing_found(studio_screen)


def test_a_model_being_loaded(studio_screen: Screen, studio: ScriptedLMStudio) -> None:
    studio_screen.unload.click()
    expect(studio_screen.model_state).to_have_text("Not loaded")
    studio.load_may_go.clear()
    studio_screen.load.click()
    expect(studio_screen.progress).to_be_visible()

    assert_nothing_found(studio_screen)

    studio.load_may_go.set()
    expect(studio_screen.model_state).to_have_text("Loaded")


def test_the_list_of_shortcuts(studio_screen: Screen) -> None:
    studio_screen.page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(studio_screen.page.get_by_role("dialog")).to_be_visible()

    assert_nothing_found(studio_screen)


@pytest.mark.parametrize("panel", ["Chats panel", "Details panel"])
def test_a_drawer_on_a_phone(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open, panel: str
) -> None:
    studio.tokens, studio.rate = 2, None
    chat_id = studio_desk.new_chat(title="Bread", model_id="lmstudio:qwen/qwen3-4b")
    studio_desk.answered(chat_id, "About bread")
    screen = open_tab(studio_desk, chat_id)
    screen.page.set_viewport_size(PHONE)
    screen.page.get_by_role("button", name=panel).click()
    expect(screen.chats if "Chats" in panel else screen.system).to_be_visible()

    for scheme in ("light", "dark"):
        screen.page.emulate_media(color_scheme=scheme)
        assert accessibility_problems(screen.page) == ""
