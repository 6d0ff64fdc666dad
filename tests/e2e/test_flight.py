"""The Timeline under an answer: how it was made, to look at and to take away."""

import json
import re
from pathlib import Path

from playwright.sync_api import Locator, expect

from tests.e2e.conftest import DESKTOP, PHONE, Open
from tests.e2e.looking import accessibility_problems, sticking_out, targets
from tests.e2e.running import Desk
from tests.e2e.screen import REFUSED, Screen
from tests.frames import chunk, ending
from tests.servers import ScriptedLMStudio

SNEAKY = "<img src=x onerror=alert(1)> & <b>bold</b>"


def opened(screen: Screen) -> Locator:
    """The dialog of the last answer, with its phases."""
    screen.answers.last.get_by_role("button", name="Timeline", exact=True).click()
    dialog = screen.page.get_by_role("dialog", name="Timeline")
    expect(dialog.get_by_role("list", name="Phases")).to_be_visible()
    return dialog


def test_an_answers_timeline_shows_phases_curves_and_what_was_sent(
    studio_screen: Screen, studio: ScriptedLMStudio, tmp_path: Path
) -> None:
    thought = [chunk({"reasoning_content": "Hm. "}) for _ in range(3)]
    studio.frames = [*thought, chunk({"content": SNEAKY}), *ending("m", 12)]
    studio_screen.send(f"Say {SNEAKY}")
    expect(studio_screen.answers).to_have_count(1)
    dialog = opened(studio_screen)

    phases = dialog.get_by_role("list", name="Phases").get_by_role("listitem")
    expect(phases.filter(has_text="Read prompt")).to_contain_text(re.compile(r"\d s"))
    expect(phases.filter(has_text="Think")).to_be_visible()
    expect(phases.filter(has_text="Write")).to_contain_text(re.compile(r"\d s"))
    expect(dialog.get_by_role("img", name=re.compile(r"^CPU: \d"))).to_be_visible()
    expect(dialog.get_by_role("img", name=re.compile(r"^RAM: .* GB"))).to_be_visible()

    dialog.get_by_text("Request", exact=True).click()
    dialog.get_by_text("body", exact=True).click()
    dialog.get_by_text("messages", exact=True).click()
    dialog.locator("summary", has_text="user").click()
    expect(dialog.get_by_text(f"Say {SNEAKY}", exact=True)).to_be_visible()
    dialog.get_by_text("Response", exact=True).click()
    expect(dialog.get_by_text("chatcmpl-1", exact=True)).to_be_visible()
    expect(dialog.locator("img, .inner b")).to_have_count(0)

    with studio_screen.page.expect_download() as downloading:
        dialog.get_by_role("link", name="Export", exact=True).click()
    file = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(file)
    told = json.loads(file.read_text())
    assert (told["format"], told["version"]) == ("lmdesk.flight", 1)
    assert told["flight"]["response"]["content"] == SNEAKY
    assert re.fullmatch(r"flight-[0-9a-f]{12}\.json", file.name)


def test_it_closes_with_escape_and_gives_the_focus_back(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    studio.tokens, studio.rate = 5, None
    studio_screen.send("Count")
    expect(studio_screen.answers).to_have_count(1)
    button = studio_screen.answers.get_by_role("button", name="Timeline", exact=True)
    button.focus()
    studio_screen.page.keyboard.press("Enter")
    dialog = studio_screen.page.get_by_role("dialog", name="Timeline")
    expect(dialog.get_by_role("list", name="Phases")).to_be_visible()
    expect(dialog.get_by_role("button", name="Close", exact=True)).to_be_focused()
    studio_screen.page.keyboard.press("Escape")

    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def test_nothing_is_wrong_with_it_in_light_and_dark_wide_and_on_a_phone(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    studio.tokens, studio.rate = 30, 60
    studio_screen.send("Count " * 200)
    expect(studio_screen.answers).to_have_count(1)
    dialog = opened(studio_screen)
    for name in ("Request", "body", "messages", "Response"):
        dialog.get_by_text(name, exact=True).click()
    found = []
    for size in (DESKTOP, PHONE):
        studio_screen.page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            studio_screen.page.emulate_media(color_scheme=scheme)
            found += [accessibility_problems(studio_screen.page)]
        found += sticking_out(studio_screen.page)
    small = [each for each in targets(studio_screen.page, "dialog") if each["height"] < 44]
    studio_screen.page.set_viewport_size(DESKTOP)

    assert [each for each in found if each] == []
    assert small == []


def test_a_copied_answer_has_no_timeline(studio_desk: Desk, open_tab: Open) -> None:
    chat_id = studio_desk.new_chat(title="Bread", model_id="lmstudio:qwen/qwen3-4b")
    studio_desk.answered(chat_id, "About bread")
    answer = studio_desk.get(f"/chats/{chat_id}")["messages"][-1]
    fork = studio_desk.post(f"/chats/{chat_id}/fork", {"message_id": answer["id"]})
    screen = open_tab(studio_desk, fork["id"])

    expect(screen.answers).to_have_count(1)
    expect(screen.answers.get_by_role("button", name="Copy answer", exact=True)).to_be_visible()
    expect(screen.answers.get_by_role("button", name="Timeline", exact=True)).to_have_count(0)


def test_an_answer_without_a_record_says_so(studio_desk: Desk, open_tab: Open) -> None:
    chat_id = studio_desk.new_chat(title="Bread", model_id="lmstudio:qwen/qwen3-4b")
    studio_desk.answered(chat_id, "About bread")
    screen = open_tab(studio_desk, chat_id)
    screen.allow(REFUSED)
    refusal = {"code": "flight_not_found", "message": "There is no record.", "hint": "Too old."}
    screen.page.route("**/flight", lambda route: route.fulfill(status=404, json=refusal))
    screen.answers.get_by_role("button", name="Timeline", exact=True).click()
    dialog = screen.page.get_by_role("dialog", name="Timeline")

    expect(dialog.get_by_role("status")).to_have_text("There is no record.")
    expect(dialog).to_contain_text("Too old.")
    dialog.get_by_role("button", name="Close", exact=True).click()
    expect(dialog).to_have_count(0)
