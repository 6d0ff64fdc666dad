"""Runs in the page: the timeline, requests answered each way, a reload in between, the dialog."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import expect

from core.agents import AgentLimits
from core.runs import RunInfo
from tests.agent_upstream import Call, Say
from tests.e2e.conftest import Open
from tests.e2e.looking import accessibility_problems, sticking_out
from tests.e2e.office import (
    KEY,
    MODEL,
    MONDAY,
    PONDER,
    READ,
    TASK,
    WRITE,
    Office,
    folded,
    press,
    request_in,
    runs_dialog,
    timeline,
)
from tests.e2e.running import wait_for

ANSWER = """## It is **written**.

| page | state |
|---|---|
| tuesday.md | written |

```
%s
```

<script>alert(1)</script> <img src=x onerror=alert(1)> ![a plan](https://example.org/plan.png?secret=1)
""" % ("a long line of code, " * 20)


def test_a_call_waits_in_the_chat_survives_a_reload_and_runs_when_approved(
    office: Office, open_tab: Open
) -> None:
    screen = open_tab(office.desk, office.chat())
    form = request_in(screen.page)
    expect(form).to_contain_text('"text": "Nothing yet."')
    expect(form).to_contain_text("can destroy things")
    expect(form).to_contain_text(re.compile(r"Counts as denied in \d min"))
    assert accessibility_problems(screen.page) == ""
    assert sticking_out(screen.page) == []

    screen.reload()
    expect(form).to_be_visible()
    expect(screen.page.get_by_label("Run under way")).to_contain_text("I look at Monday.")
    press(form, "Approve")

    expect(screen.answers.last).to_contain_text("It is written.")
    assert (office.pages / "tuesday.md").read_text() == "Nothing yet."
    expect(folded(screen)).to_have_text(re.compile(r"3 steps · 2 tool calls · \d+ tokens"))
    folded(screen).click()
    expect(timeline(screen).locator(".step")).to_have_count(2)
    expect(timeline(screen)).to_contain_text("you said yes")
    expect(timeline(screen)).to_contain_text("Done.")
    assert accessibility_problems(screen.page) == ""


def test_a_result_is_folded_and_all_of_it_is_shown_as_text_when_asked(
    office: Office, open_tab: Open
) -> None:
    office.model.plays(Say("I look.", [READ]), Say("Read."))
    screen = open_tab(office.desk, office.chat())
    expect(screen.answers.last).to_contain_text("Read.")
    folded(screen).click()
    result = screen.page.locator(".run-line details[data-fold=result]")
    expect(result).not_to_have_attribute("open", "")
    result.locator("summary").click()
    result.get_by_role("button", name="Show whole result", exact=True).click()
    expect(result.locator("pre")).to_have_text(MONDAY)
    expect(result.locator("b")).to_have_count(0)


def test_a_denied_call_does_not_run_and_the_model_is_told_why(
    office: Office, open_tab: Open
) -> None:
    screen = open_tab(office.desk, office.chat())
    form = request_in(screen.page)
    form.get_by_role("textbox", name="Message with the denial").fill("Not on a Tuesday.")
    press(form, "Deny")

    expect(screen.answers.last).to_contain_text("It is written.")
    assert not (office.pages / "tuesday.md").exists()
    assert "Not on a Tuesday." in office.model.last_result()
    folded(screen).click()
    expect(timeline(screen)).to_contain_text("you said no")
    expect(timeline(screen)).to_contain_text("Not on a Tuesday.")
    expect(timeline(screen)).to_contain_text("Done, 1 call not allowed.")


def test_a_call_hides_no_sign_and_edited_as_it_stands_it_runs_exactly_so(
    office: Office, open_tab: Open
) -> None:
    text = "evil\u202e\u200blive\u2029 12 äß🙂"
    office.model.plays(
        Say("I write.", [Call("write", {"page": "tuesday.md", "text": text})]),
        Say("It is written."),
    )
    screen = open_tab(office.desk, office.chat())
    form = request_in(screen.page)
    seen = r'"text": "evil\u202e\u200blive\u2029 12 äß🙂"'
    expect(form.get_by_label("Arguments", exact=True)).to_contain_text(seen)
    assert "\u202e" not in screen.page.locator("body").inner_text()
    press(form, "Edit arguments")
    expect(form.get_by_role("textbox", name="Arguments as JSON")).to_have_value(
        re.compile(re.escape(seen))
    )
    press(form, "Approve as edited")

    expect(screen.answers.last).to_contain_text("It is written.")
    assert (office.pages / "tuesday.md").read_text() == text


def test_edited_arguments_are_checked_and_run_instead(office: Office, open_tab: Open) -> None:
    screen = open_tab(office.desk, office.chat())
    form = request_in(screen.page)
    press(form, "Edit arguments")
    box = form.get_by_role("textbox", name="Arguments as JSON")
    box.fill('{"page": ')
    expect(form.get_by_role("alert")).to_contain_text("This is not JSON yet")
    expect(form.get_by_role("button", name="Approve as edited", exact=True)).to_be_disabled()
    box.fill('{"page": "tuesday.md", "text": "By hand."}')
    press(form, "Approve as edited")

    expect(screen.answers.last).to_contain_text("It is written.")
    assert (office.pages / "tuesday.md").read_text() == "By hand."
    call = office.result()["steps"][1]["calls"][0]
    assert call["asked_arguments"]["text"] == "Nothing yet."
    folded(screen).click()
    expect(timeline(screen)).to_contain_text("you changed its arguments")
    theirs = timeline(screen).locator("details[data-fold=asked]")
    expect(theirs).to_contain_text("Arguments the model wrote")
    theirs.locator("summary").click()
    expect(theirs.locator("pre")).to_contain_text('"text": "Nothing yet."')
    ours = timeline(screen).locator("details", has_text="Arguments as you changed them")
    expect(ours.locator("pre")).to_contain_text('"text": "By hand."')


def test_a_request_takes_the_focus_but_never_from_somebody_who_writes(
    office: Office, open_tab: Open
) -> None:
    chat_id = office.desk.new_chat(agent_id=office.agent_id, model_id=MODEL)
    screen = open_tab(office.desk, chat_id)
    screen.message.fill("A thought of my own")
    office.desk.ask(chat_id, TASK)
    form = request_in(screen.page)
    expect(form).to_be_visible()
    expect(screen.page.locator("#announce")).to_contain_text("notebook.write waits for you")
    expect(screen.message).to_be_focused()

    screen.message.fill("")
    screen.reload()
    expect(form).to_be_focused()
    press(form, "Deny")
    expect(screen.message).to_be_focused()


def test_two_calls_that_wait_are_answered_one_after_the_other_with_keys_alone(
    office: Office, open_tab: Open
) -> None:
    second = Call("write", {"page": "two.md", "text": "2"})
    office.model.plays(Say("Both.", [WRITE, second]), Say("Only one is written."))
    screen = open_tab(office.desk, office.chat())
    forms = request_in(screen.page)
    expect(forms).to_have_count(2)
    expect(forms.first).to_be_focused()
    for _ in range(2):  # past the arguments, which can be scrolled
        screen.page.keyboard.press("Tab")
    expect(forms.first.get_by_role("button", name="Approve", exact=True)).to_be_focused()
    screen.page.keyboard.press("Enter")
    expect(forms).to_have_count(1)
    expect(forms).to_contain_text("two.md")
    expect(forms).to_be_focused()
    for _ in range(5):
        screen.page.keyboard.press("Tab")
    expect(forms.get_by_role("button", name="Deny", exact=True)).to_be_focused()
    screen.page.keyboard.press("Enter")
    expect(screen.answers.last).to_contain_text("Only one is written.")
    assert (office.pages / "tuesday.md").exists()
    assert not (office.pages / "two.md").exists()


def test_who_looks_at_another_chat_is_told_and_led_there(office: Office, open_tab: Open) -> None:
    screen = open_tab(office.desk)
    chat_id = office.chat()
    note = screen.page.locator(".toast", has_text="notebook.write waits for you.")
    expect(note).to_be_visible()
    expect(screen.chats.get_by_text("Waits for you:")).to_have_count(1)
    note.get_by_role("button", name="Show", exact=True).click()
    assert screen.chat_id() == chat_id
    press(request_in(screen.page), "Approve")
    expect(screen.answers.last).to_contain_text("It is written.")
    expect(note).to_have_count(0)


def test_a_column_that_waits_is_answered_in_its_comparison(office: Office, open_tab: Open) -> None:
    steps = iter([Say("I look.", [READ]), Say("I write.", [WRITE]), Say("It is written.")])
    office.model.scripts[KEY] = lambda body: next(steps) if body.get("tools") else Say("No tools.")
    screen = open_tab(office.desk)
    columns = [{"agent_id": each, "model_id": MODEL} for each in (office.agent_id, "general")]
    made = office.desk.post("/comparisons", {"content": TASK, "columns": columns})
    note = screen.page.locator(".toast", has_text="notebook.write waits for you.")
    note.get_by_role("button", name="Show", exact=True).click()
    dialog = screen.page.locator("dialog.compare")
    expect(request_in(dialog)).to_be_visible()
    assert screen.page.url.endswith(f"/?compare={made['id']}")
    press(request_in(dialog), "Approve")
    expect(dialog).to_contain_text("It is written.")


def test_a_note_on_a_phone_covers_neither_the_question_nor_the_box(
    office: Office, open_tab: Open, phone: Any
) -> None:
    screen = open_tab(office.desk, office.chat(), phone)
    form = request_in(screen.page)
    expect(form).to_be_visible()
    office.model.plays(Say("I look.", [READ]), Say("I write.", [WRITE]), Say("It is written."))
    office.run()
    note = screen.page.locator(".toast", has_text="notebook.write waits for you.")
    expect(note).to_be_visible()
    assert sticking_out(screen.page) == []
    assert accessibility_problems(screen.page) == ""
    parts = (screen.page.locator("#topbar"), note, screen.page.locator("#scroller"))
    edges = "(node) => [node.getBoundingClientRect().top, node.getBoundingClientRect().bottom]"
    (_, head), (above, below), (talk, _) = (part.evaluate(edges) for part in parts)
    assert head <= above < below <= talk
    press(form, "Deny")  # in the way of nothing
    expect(screen.answers.last).to_contain_text("It is written.")
    expect(note).to_be_visible()
    note.get_by_role("button", name="Dismiss").click()
    expect(screen.page.locator("body")).not_to_have_attribute("data-notes", "")


def test_a_long_task_is_folded_and_the_answer_is_rendered_and_copied_as_written(
    office: Office, open_tab: Open
) -> None:
    office.model.plays(Say(ANSWER))
    task = "\n".join(f"Line {number}" for number in range(1, 21))
    office.desk.post("/runs", {"task": task, "servers": ["notebook"], "model": MODEL})
    screen = open_tab(office.desk)
    screen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog = runs_dialog(screen)
    expect(dialog.locator(".end")).to_have_text("Done.")
    text = dialog.locator(".asked .text")
    more = dialog.get_by_role("button", name="Show all of it", exact=True)
    folded_height = text.evaluate("(node) => node.clientHeight")
    more.click()
    expect(dialog.get_by_role("button", name="Show less")).to_have_attribute(
        "aria-expanded", "true"
    )
    assert text.evaluate("(node) => node.clientHeight") > 3 * folded_height
    answer = dialog.locator(".answer")
    expect(answer.get_by_role("heading", level=4).locator("strong")).to_have_text("written")
    expect(answer.get_by_role("cell")).to_have_text(["tuesday.md", "written"])
    expect(answer).to_contain_text("<script>alert(1)</script> <img src=x onerror=alert(1)> a plan")
    expect(answer.locator("img, script")).to_have_count(0)
    assert accessibility_problems(screen.page) == ""
    press(dialog, "Copy the answer")
    expect(dialog.locator(".answer [data-icon=done]")).to_be_visible()
    assert screen.page.evaluate("navigator.clipboard.readText()") == ANSWER


def test_stop_ends_a_run_in_the_middle_of_a_call(office: Office, open_tab: Open) -> None:
    office.model.plays(Say("I think.", [PONDER]), Say("Never said."))
    screen = open_tab(office.desk, office.chat())
    expect(screen.page.get_by_label("Run under way")).to_contain_text("running")
    wait_for((office.pages / "pondering").exists, what="the call")
    screen.stop_button.click()
    expect(folded(screen)).to_have_text(re.compile("1 step · 1 tool call"))
    told = office.result()
    assert told["state"] == "stopped"
    assert told["steps"][0]["calls"][0]["state"] == "stopped"


def test_the_dialog_starts_a_run_says_what_is_missing_and_remembers_for_the_run(
    office: Office, open_tab: Open
) -> None:
    office.model.plays(
        Say("Once.", [WRITE]),
        Say("Twice.", [Call("write", {"page": "two.md", "text": "2"})]),
        Say("Both are written."),
    )
    screen = open_tab(office.desk)
    screen.page.keyboard.press("Alt+KeyR")
    dialog = screen.page.get_by_role("dialog", name="Runs", exact=True)
    press(dialog, "New run")
    press(dialog, "Start")
    task = dialog.get_by_role("textbox", name="Task")
    expect(task).to_be_focused()
    expect(dialog.get_by_text("The task is empty.")).to_be_visible()
    task.fill("Write two pages.")
    dialog.get_by_role("combobox", name="Agent").select_option("")
    press(dialog, "Start")
    expect(dialog.locator("[data-field=servers] [role=alert]")).to_have_text(
        "Tick a tool server, or choose an agent that has tools."
    )
    dialog.get_by_role("checkbox", name=re.compile("notebook")).check()
    steps = dialog.get_by_role("spinbutton", name="Steps")
    steps.fill("0")
    press(dialog, "Start")
    expect(steps).to_be_focused()
    expect(dialog.get_by_text("Steps must be a number from 1 to 200.")).to_be_visible()
    steps.fill("5")
    # Closed by a slip, all of it is there again.
    screen.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    screen.page.keyboard.press("Alt+KeyR")
    press(dialog, "New run")
    expect(task).to_have_value("Write two pages.")
    expect(steps).to_have_value("5")
    expect(dialog.get_by_role("checkbox", name=re.compile("notebook"))).to_be_checked()
    assert accessibility_problems(screen.page) == ""
    press(dialog, "Start")

    form = request_in(dialog)
    expect(form).to_be_visible()
    assert accessibility_problems(screen.page) == ""
    form.get_by_role("combobox", name="Remember for").select_option("run")
    press(form, "Approve")
    expect(dialog.locator(".answer")).to_contain_text("Both are written.")
    assert (office.pages / "two.md").read_text() == "2"
    assert office.result()["limits"]["rounds"] == 5

    expect(dialog.locator(".list [aria-current]")).to_contain_text("Done")
    press(dialog, "Delete")
    expect(dialog.locator(".list")).not_to_contain_text("Write two pages.")
    press(dialog, "New run")
    expect(task).to_have_value("")
    task.fill("Never mind.")
    press(dialog, "Discard")
    expect(task).to_have_value("")


def test_a_run_outside_of_chats_is_shown_from_its_note_and_stopped_in_the_dialog(
    office: Office, open_tab: Open
) -> None:
    screen = open_tab(office.desk)
    office.run()
    note = screen.page.locator(".toast", has_text="notebook.write waits for you.")
    note.get_by_role("button", name="Show", exact=True).click()
    dialog = screen.page.get_by_role("dialog", name="Runs", exact=True)
    expect(request_in(dialog)).to_be_visible()
    expect(dialog.locator(".list [aria-current]")).to_contain_text("Waits for you")
    press(dialog, "Stop")
    expect(dialog.locator(".end")).to_have_text("Stopped by you.")
    expect(request_in(dialog)).to_have_count(0)
    screen.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_a_tool_allowed_for_good_is_not_asked_about_until_that_is_taken_back(
    office: Office, open_tab: Open
) -> None:
    screen = open_tab(office.desk)
    office.run()
    screen.page.keyboard.press("Alt+KeyR")
    dialog = screen.page.get_by_role("dialog", name="Runs", exact=True)
    form = request_in(dialog)
    form.get_by_role("combobox", name="Remember for").select_option("tool")
    press(form, "Approve")
    expect(dialog.locator(".end")).to_have_text("Done.")

    office.run()
    assert office.result()["steps"][1]["calls"][0]["decided_by"] == "remembered"
    press(dialog, "Allowed for good")
    expect(dialog.locator(".allowed")).to_contain_text("notebook.write")
    press(dialog, "Ask again about notebook.write")
    expect(dialog.locator(".pane [role=status]")).to_contain_text("Nothing.")
    assert office.desk.get("/runs/allowed") == []


def test_all_tools_of_a_server_allowed_for_good_are_asked_about_again_when_taken_back(
    office: Office, open_tab: Open
) -> None:
    screen = open_tab(office.desk)
    office.run()
    dialog = runs_dialog(screen)
    form = request_in(dialog)
    form.get_by_role("combobox", name="Remember for").select_option("server")
    press(form, "Approve")
    expect(dialog.locator(".end")).to_have_text("Done.")

    office.run()
    assert office.result()["steps"][1]["calls"][0]["decided_by"] == "remembered"
    press(dialog, "Allowed for good")
    expect(dialog.locator(".allowed")).to_contain_text("All tools of notebook")
    press(dialog, "Ask again about all tools of notebook")
    expect(dialog.locator(".pane [role=status]")).to_contain_text("Nothing.")
    assert office.desk.get("/runs/allowed") == []

    run_id = office.run()
    dialog.locator(f'[data-run="{run_id}"]').click()
    expect(request_in(dialog)).to_be_visible()
    press(dialog, "Stop")
    expect(dialog.locator(".end")).to_have_text("Stopped by you.")


@pytest.fixture
def many(office: Office) -> Iterator[list[str]]:
    """The ids of 230 old runs, the newest first."""
    base = {"model_id": MODEL, "state": "done", "limits": AgentLimits()}
    old = [
        RunInfo(id=f"old-{number}", task=f"Old task {number}.", created_at=number, **base)
        for number in range(1000, 1230)
    ]
    rows = [(run.id, run.state, run.model_dump_json(), run.created_at) for run in old]
    with closing(sqlite3.connect(office.desk.data / "lmdesk.db", timeout=30)) as raw:
        raw.execute("DELETE FROM runs WHERE state != 'running'")
        raw.executemany(
            "INSERT INTO runs (id, state, record, created_at) VALUES (?, ?, ?, ?)", rows
        )
        raw.commit()
        yield [run.id for run in reversed(old)]
        raw.execute("DELETE FROM runs WHERE id LIKE 'old-%'")
        raw.commit()


def test_all_runs_are_reached_page_by_page_and_the_place_in_the_list_stays(
    office: Office, many: list[str], open_tab: Open
) -> None:
    screen = open_tab(office.desk)
    dialog = runs_dialog(screen)
    lines = dialog.locator(".list li")
    status = dialog.get_by_role("status").filter(has_text="of 2")
    expect(status).to_have_text("100 of 230 runs")
    expect(lines).to_have_count(100)
    button = dialog.get_by_role("button", name="Show more", exact=True)
    button.focus()
    button.press("Enter")
    at = dialog.locator(f'[data-run="{many[100]}"]')
    expect(at).to_be_focused()
    expect(lines).to_have_count(200)
    assert accessibility_problems(screen.page) == ""

    # Something new, and something gone elsewhere: nobody loses their place, and few pages are read.
    asked: list[str] = []
    screen.page.on("request", lambda request: asked.append(request.url))
    top = at.bounding_box() or {}
    new = office.run()
    expect(lines.first.locator(f'[data-run="{new}"]')).to_be_attached()
    expect(lines).to_have_count(201)
    office.desk.http.delete(f"/runs/{many[150]}")
    expect(dialog.locator(f'[data-run="{many[150]}"]')).to_have_count(0)
    expect(at).to_be_focused()
    assert (at.bounding_box() or {})["y"] == pytest.approx(top["y"], abs=3)
    assert len([url for url in asked if "offset=1" in url]) == 1

    button.click()
    expect(dialog.locator(f'[data-run="{many[-1]}"]')).to_be_attached()
    expect(button).to_be_hidden()
    expect(lines).to_have_count(230)
    dialog.locator(f'[data-run="{many[-1]}"]').click()
    expect(dialog.locator(".asked")).to_contain_text("Old task 1000.")


def test_all_of_it_fits_on_a_phone(office: Office, open_tab: Open, phone: Any) -> None:
    screen = open_tab(office.desk, office.chat(), phone)
    form = request_in(screen.page)
    expect(form).to_be_visible()
    assert sticking_out(screen.page) == []
    press(form, "Approve")
    expect(screen.answers.last).to_contain_text("It is written.")
    screen.page.get_by_role("button", name="More", exact=True).click()
    screen.page.get_by_role("button", name="Runs", exact=True).click()
    dialog = screen.page.get_by_role("dialog", name="Runs", exact=True)
    dialog.locator(".list button").first.click()
    expect(dialog.locator(".end")).to_have_text("Done.")
    assert sticking_out(screen.page) == []
    assert accessibility_problems(screen.page) == ""
    press(dialog, "Back to the list")
    press(dialog, "New run")
    expect(dialog.get_by_role("radio").first).to_be_visible()
    assert sticking_out(screen.page) == []
