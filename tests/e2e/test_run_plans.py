"""The running plan in the page, the summary of a run at its limit, and a deleted run brought back."""

import re
from typing import Any

from playwright.sync_api import Locator, expect

from tests.agent_upstream import Call, Say
from tests.e2e.conftest import Open
from tests.e2e.looking import accessibility_problems, sticking_out
from tests.e2e.office import (
    READ,
    WRITE,
    Office,
    folded,
    press,
    request_in,
    runs_dialog,
    timeline,
)


def plan(*items: tuple[str, str]) -> Call:
    listed = [{"text": text, "state": state} for text, state in items]
    return Call("update_plan", {"items": listed})


FIRST = plan(("Read <b>Monday</b>", "in_progress"), ("Write Tuesday", "open"), ("Tell it", "open"))
THEN = plan(("Read <b>Monday</b>", "done"), ("Write Tuesday", "in_progress"), ("Tell it", "open"))
LAST = plan(("Read <b>Monday</b>", "done"), ("Write Tuesday", "done"), ("Tell it", "dropped"))


def planned(office: Office) -> None:
    office.model.plays(
        Say("I look at Monday.", [FIRST, READ]),
        Say("I write Tuesday.", [THEN, WRITE]),
        Say("", [LAST]),
        Say("It is written."),
    )


def items(place: Locator) -> Locator:
    return place.locator(".plan li")


def states(place: Locator) -> list[str | None]:
    return [each.get_attribute("data-state") for each in items(place).all()]


def test_a_plan_is_seen_to_change_survives_a_reload_and_is_folded_in_the_end(
    office: Office, open_tab: Open
) -> None:
    planned(office)
    screen = open_tab(office.desk, office.chat())
    live = screen.page.get_by_label("Run under way")
    expect(request_in(screen.page)).to_be_visible()
    expect(items(live)).to_have_count(3)
    expect(live.locator(".plan summary")).to_contain_text("1 of 3")
    assert states(live) == ["done", "in_progress", "open"]
    expect(live.locator("[aria-current=step]")).to_contain_text("Write Tuesday")
    expect(items(live).first).to_have_text(re.compile("Read <b>Monday</b>, done"))
    assert accessibility_problems(screen.page) == ""
    assert sticking_out(screen.page) == []

    screen.reload()
    expect(items(live)).to_have_count(3)
    expect(live.locator("[aria-current=step]")).to_contain_text("Write Tuesday")
    # Nobody was asked about the plan itself.
    expect(request_in(screen.page)).to_have_count(1)
    press(request_in(screen.page), "Approve")

    expect(screen.answers.last).to_contain_text("It is written.")
    expect(folded(screen)).to_have_text(re.compile(r"4 steps · 2 tool calls · .* · plan 2 of 2"))
    folded(screen).click()
    expect(items(timeline(screen))).to_have_count(3)
    assert states(timeline(screen)) == ["done", "done", "dropped"]
    expect(timeline(screen).locator("[aria-current=step]")).to_have_count(0)
    expect(timeline(screen).locator(".planned")).to_have_text(
        ["Plan made: 3 items", "Plan: 1 of 3 done", "Plan: 2 of 2 done"]
    )
    assert accessibility_problems(screen.page) == ""


def test_the_dialog_shows_the_plan_too_also_on_a_phone(
    office: Office, open_tab: Open, phone: Any
) -> None:
    planned(office)
    screen = open_tab(office.desk, None, phone)
    office.run(approve="auto")
    office.result()
    dialog = runs_dialog(screen)
    line = dialog.locator(".list button").first
    expect(line).to_contain_text("plan 2 of 2")
    line.click()
    expect(items(dialog)).to_have_count(3)
    dialog.locator(".plan summary").click()
    expect(items(dialog).first).to_be_hidden()
    assert sticking_out(screen.page) == []
    assert accessibility_problems(screen.page) == ""


def test_out_of_rounds_the_answer_is_a_summary(office: Office, open_tab: Open) -> None:
    office.model.scripts["qwen/qwen3-4b"] = lambda body: (
        Say("I look.", [READ]) if "tools" in body else Say("Monday was read; Tuesday is missing.")
    )
    screen = open_tab(office.desk)
    office.run(max_rounds=1)
    office.result()
    dialog = runs_dialog(screen)
    expect(dialog.locator(".end")).to_have_text("Ended at its limit of 1 step.")
    expect(dialog.locator(".step .number")).to_have_text(["Step 1", "Summary"])
    expect(dialog.get_by_role("heading", name="Summary")).to_be_visible()
    expect(dialog.locator(".answer .rendered")).to_have_text("Monday was read; Tuesday is missing.")


def test_a_deleted_run_is_brought_back(office: Office, open_tab: Open) -> None:
    planned(office)
    office.run(approve="auto")
    office.result()
    screen = open_tab(office.desk)
    dialog = runs_dialog(screen)
    expect(dialog.locator(".end")).to_have_text("Done.")
    count = office.desk.get("/runs")["total"]
    press(dialog, "Delete")
    undo = dialog.get_by_role("button", name="Undo", exact=True)
    expect(undo).to_be_focused()
    expect(dialog.get_by_role("status")).to_contain_text("The run is deleted.")
    assert office.desk.get("/runs")["total"] == count - 1
    assert accessibility_problems(screen.page) == ""
    undo.press("Enter")
    expect(dialog.locator(".end")).to_have_text("Done.")
    assert office.desk.get("/runs")["total"] == count


def test_an_agent_may_be_told_never_to_plan(office: Office, open_tab: Open) -> None:
    screen = open_tab(office.desk)
    screen.page.keyboard.press("Alt+KeyA")
    dialog = screen.page.get_by_role("dialog", name="Agents", exact=True)
    dialog.locator(f"[data-id={office.agent_id}]").click()
    mode = dialog.get_by_role("combobox", name="Running plan")
    expect(mode).to_have_value("auto")
    mode.select_option("off")
    press(dialog, "Save")
    expect(dialog.get_by_text(re.compile("is saved as version"))).to_be_visible()
    try:
        assert office.desk.get(f"/agents/{office.agent_id}")["plan"] == "off"
        office.model.plays(Say("Done."))
        chat_id = office.desk.new_chat(agent_id=office.agent_id)
        office.desk.answered(chat_id, "Write.")
        names = [tool["function"]["name"] for tool in office.model.bodies[-1]["tools"]]
        assert "update_plan" not in names
    finally:
        versions = office.desk.get(f"/agents/{office.agent_id}/versions")
        office.desk.post(f"/agents/{office.agent_id}/restore", {"version": versions[-1]["version"]})
