"""A message and its answer: tokens one by one, stopping, thoughts, code, and the facts below."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from playwright.sync_api import expect

from tests.e2e.running import Desk, wait_for
from tests.e2e.screen import Screen, numbers
from tests.frames import DONE, chunk, usage_frame
from tests.servers import ScriptedLMStudio
from tests.tinygguf import HELLO_TEXT

# A tenth of it on an idle machine; a test must hold on a busy one.
STOP_SECONDS = 3.0

CODE = """Here:

```python
print("<b>")
```

| a | b |
|---|---|
| 1 | **2** |
"""


def test_the_answer_comes_with_its_facts(screen: Screen) -> None:
    screen.send("Hello?")

    expect(screen.answers).to_have_count(1)
    expect(screen.questions).to_have_text("Hello?")
    expect(screen.answers.get_by_test_id("bot")).to_have_text(HELLO_TEXT)
    facts = screen.answers.locator(".facts")
    expect(facts).to_contain_text("parrot")
    expect(facts).to_contain_text("8 tokens")
    expect(facts).to_contain_text(re.compile(r"first token \d"))
    expect(facts).to_contain_text(re.compile(r"\d+ tokens"))
    expect(screen.status).to_contain_text(re.compile(r"\d+ tokens"))
    expect(screen.message).to_have_value("")
    expect(screen.send_button).to_be_enabled()
    expect(screen.chat_button("Hello?")).to_be_visible()


def test_the_answer_grows_token_by_token(studio_screen: Screen) -> None:
    studio_screen.hear_live()

    studio_screen.send("Count")

    expect(studio_screen.answers.get_by_test_id("bot")).to_have_text(numbers(60))
    texts = [step["text"] for step in studio_screen.heard()]
    assert len(texts) >= 10
    assert all(numbers(60).startswith(text) for text in texts), texts
    assert all(len(before) < len(after) for before, after in pairwise(texts)), texts


def test_stop_reaches_lm_studio_within_half_a_second_and_keeps_the_text(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.tokens = 10_000
    send_at = screen.send_button.bounding_box()
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2 3")
    screen.hear_click()
    assert screen.stop_button.bounding_box() == send_at

    with ThreadPoolExecutor() as beside:
        aborted = beside.submit(wait_for, lambda: studio.aborted and time.time())
        screen.stop_button.click()
        assert aborted.result() - screen.clicked_at() <= STOP_SECONDS

    expect(screen.answers.get_by_test_id("bot")).to_contain_text("0 1 2 3")
    expect(screen.answers.locator(".label")).to_have_text("Stopped")
    expect(screen.send_button).to_be_visible()
    assert studio.open == 0


def test_escape_stops_the_engine_and_nothing_comes_after(screen: Screen, desk: Desk) -> None:
    screen.choose("endless")
    screen.send("Sing")
    expect(screen.live).to_contain_text("la le lu la le lu")
    screen.hear_live()

    asked = screen.page.evaluate("""() => new Promise((resolve) => {
        document.addEventListener('keydown', () => resolve(Date.now() / 1000), { once: true });
        document.activeElement.dispatchEvent(
            new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
    })""")

    expect(screen.answers.locator(".label")).to_have_text("Stopped")
    late = [step for step in screen.heard() if step["at"] / 1000 > asked + STOP_SECONDS]
    assert late == []
    answer = desk.messages(screen.chat_id())[-1]
    assert answer["status"] == "stopped"
    shown = screen.answers.get_by_test_id("bot").inner_text()
    assert shown.strip() == answer["content"].strip()
    assert "endless" in desk.loaded()


def test_thoughts_are_folded_away_above_the_answer(screen: Screen) -> None:
    screen.choose("thinker")

    screen.send("What is it?")

    expect(screen.answers).to_have_count(1)
    expect(screen.answers).to_contain_text("It is 42!")
    expect(screen.answers).not_to_contain_text("The user wants an answer.")
    screen.answers.get_by_role("button", name="Show or hide the thoughts").click()
    expect(screen.answers).to_contain_text("The user wants an answer.")


def test_markdown_is_shown_and_code_can_be_copied(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    screen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    studio.frames = [
        *(chunk({"content": piece}) for piece in re.findall(r"\S+\s*|\s+", CODE)),
        chunk({}, finish_reason="stop"),
        usage_frame(7, 20),
        DONE,
    ]

    screen.send("Show me")

    expect(screen.answers).to_have_count(1)
    expect(screen.answers.locator("pre code")).to_contain_text('print("<b>")')
    expect(screen.answers.get_by_role("cell", name="2")).to_be_visible()
    screen.answers.locator("pre").hover()
    screen.answers.locator(".copy_code_button").click()
    assert clipboard(screen).strip() == 'print("<b>")'
    screen.answers.get_by_role("button", name="Copy answer").click()
    wait_for(lambda: clipboard(screen) == CODE, what="the answer on the clipboard")


def clipboard(screen: Screen) -> str:
    return str(screen.page.evaluate("navigator.clipboard.readText()"))


def test_an_edited_question_and_a_new_answer_stand_beside_the_old_ones(screen: Screen) -> None:
    screen.send("First")
    expect(screen.answers).to_have_count(1)

    screen.answers.get_by_role("button", name="Answer again").click()
    versions = screen.page.locator(".bot-row .versions")
    expect(versions).to_contain_text("2/2")
    screen.page.locator(".user-row").hover()
    screen.page.get_by_role("button", name="Edit message").click()
    screen.page.get_by_role("textbox", name="Edited message").fill("Second")
    screen.page.get_by_role("button", name="Send edited").click()

    expect(screen.questions).to_have_text("Second")
    expect(screen.answers).to_have_count(1)
    screen.page.get_by_role("button", name="Previous version").click()
    expect(screen.questions).to_have_text("First")
    expect(versions).to_contain_text("2/2")


def test_a_stream_that_breaks_off_keeps_its_text_and_says_why(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    studio.frames = [chunk({"content": "So far"}), b"data: {broken\n\n"]

    studio_screen.send("Go")

    expect(studio_screen.answers).to_contain_text("So far")
    expect(studio_screen.answers.locator(".problem")).to_contain_text(re.compile(r"\w.*\."))
    studio.frames = None
    studio.tokens = 3
    studio_screen.answers.get_by_role("button", name="Retry").click()
    expect(studio_screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
