"""The agents dialog: made, changed and brought back, problems said while one types, and tried before they are saved."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.agent_upstream import AgentUpstream, Call, Say
from tests.e2e.conftest import PHONE, Open
from tests.e2e.looking import accessibility_problems
from tests.e2e.running import Desk, Studio, wait_for
from tests.e2e.screen import REFUSED, Screen, numbers
from tests.e2e.test_axe import assert_nothing_found
from tests.servers import ScriptedLMStudio
from tests.tool_boxes import scripted

CHEF: dict[str, Any] = {
    "name": "Chef",
    "picture": "🍲",
    "description": "Cooks with what is there.",
    "instructions": "You are a chef.\nKeep recipes short.",
    "starters": ["What can I cook with eggs?"],
    "parameters": {"temperature": 0.6},
}


@pytest.fixture(autouse=True)
def only_the_built_in_ones(studio_desk: Desk) -> Iterator[None]:
    yield
    for agent in studio_desk.get("/agents"):
        if not agent["builtin"]:
            studio_desk.http.delete(f"/agents/{agent['id']}")


@pytest.fixture
def chef_screen(studio_desk: Desk, open_tab: Open) -> Screen:
    """A tab on a desk that has the chef, in its second version."""
    studio_desk.post("/agents", CHEF)
    change(studio_desk, "Chef", CHEF | {"instructions": "You are a chef.\nAsk first."})
    return open_tab(studio_desk)


@pytest.fixture
def tools(studio_desk: Desk) -> Iterator[str]:
    """The name of a running tool server with the tool `echo`."""
    file = studio_desk.data / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"words": scripted()}}))
    seen = studio_desk.get("/tool-servers/words")
    studio_desk.post("/tool-servers/words/trust", {"hash": seen["hash"]})
    studio_desk.post("/tool-servers/words/restart")
    yield "words"
    file.unlink()
    (studio_desk.data / "tool-servers.json").unlink(missing_ok=True)
    studio_desk.post("/tool-servers/refresh")


def named(desk: Desk, name: str) -> dict[str, Any]:
    """The agent of this name; empty if there is none."""
    return next((dict(each) for each in desk.get("/agents") if each["name"] == name), {})


def change(desk: Desk, name: str, draft: dict[str, Any]) -> None:
    agent = named(desk, name)
    body = draft | {"version": agent["version"]}
    assert desk.http.put(f"/agents/{agent['id']}", json=body).is_success


def opened(screen: Screen, agent: str | None = None) -> Locator:
    screen.page.get_by_role("button", name="Agents", exact=True).click()
    sheet = screen.page.get_by_role("dialog", name="Agents")
    if agent:
        sheet.get_by_role("listitem").filter(has_text=agent).get_by_role("button").click()
    return sheet


def button(sheet: Locator, name: str) -> Locator:
    return sheet.get_by_role("button", name=name, exact=True)


def box(sheet: Locator, name: str) -> Locator:
    return sheet.get_by_role("textbox", name=name, exact=True)


def said(sheet: Locator, words: str | re.Pattern[str]) -> None:
    expect(sheet.locator(".news")).to_contain_text(words)


def test_an_agent_is_made_with_its_problems_said_and_then_answers(
    studio_screen: Screen, studio_desk: Desk, studio: ScriptedLMStudio
) -> None:
    studio_screen.allow(REFUSED)
    studio.tokens, studio.rate = 3, None
    studio_screen.page.keyboard.press("Alt+a")
    sheet = studio_screen.page.get_by_role("dialog", name="Agents")
    button(sheet, "New agent").click()
    button(sheet, "Save").click()
    expect(sheet.get_by_text("Give it a name.")).to_be_visible()
    expect(box(sheet, "Name")).to_be_focused()
    box(sheet, "Name").fill("Cook")
    button(sheet, "Picture 🍲").click()
    box(sheet, "Instructions").fill("Use {{colour}}. ")
    expect(sheet.get_by_text("{{colour}} is no variable.")).to_be_visible()
    box(sheet, "Instructions").fill("word " * 5000)
    expect(sheet.get_by_text("little is left for the conversation")).to_be_visible()
    box(sheet, "Instructions").fill("You are ")
    sheet.get_by_role("button", name=re.compile("^agent:")).click()
    expect(box(sheet, "Instructions")).to_have_value("You are {{agent}}")
    expect(sheet.locator(".cost")).to_contain_text("of the 8,192 that qwen3-4b holds")
    expect(sheet.locator(".problems small")).to_have_count(0)

    # Models in an order, by keys alone.
    button(sheet, "Add a model").click()
    studio_screen.page.keyboard.type("gone-7b")
    studio_screen.page.keyboard.press("Enter")
    studio_screen.page.keyboard.type("*qwen3*")
    expect(sheet.get_by_text("No model here is called 'gone-7b'.")).to_be_visible()
    studio_screen.page.keyboard.press("Alt+ArrowUp")
    button(sheet, "Remove model 2").click()
    button(sheet, "Add a starter").click()
    studio_screen.page.keyboard.type("What can I cook with eggs?")
    heat = sheet.get_by_role("spinbutton", name="Temperature")
    heat.fill("7")
    expect(heat).to_have_attribute("aria-invalid", "true")
    heat.fill("0.3")
    expect(heat).not_to_have_attribute("aria-invalid", "true")
    button(sheet, "Save").click()
    said(sheet, "Cook is saved.")
    kept = named(studio_desk, "Cook")
    assert (kept["models"], kept["parameters"]["temperature"]) == (["*qwen3*"], 0.3)

    studio_screen.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    studio_screen.choose_agent("🍲 Cook")
    studio_screen.starters.filter(has_text="eggs").click()
    expect(studio_screen.answers).to_have_count(1)
    body = studio.requests("/v1/chat/completions")[-1].body
    assert body["messages"][0]["content"] == "You are Cook"


def test_what_is_typed_outlives_the_page_and_a_conflict(
    chef_screen: Screen, studio_desk: Desk
) -> None:
    chef_screen.allow(REFUSED)
    sheet = opened(chef_screen, "Chef")
    box(sheet, "Purpose").fill("Bakes.")
    chef_screen.page.keyboard.press("Escape")
    said(sheet, "There are changes that are not saved.")
    button(sheet, "Keep for later").click()
    expect(sheet).to_be_hidden()
    chef_screen.reload()
    sheet = opened(chef_screen, "Chef")
    expect(box(sheet, "Purpose")).to_have_value("Bakes.")
    expect(sheet.get_by_role("listitem").filter(has_text="Not saved")).to_contain_text("Chef")

    change(studio_desk, "Chef", CHEF | {"description": "Fries."})
    button(sheet, "Save").click()
    expect(sheet.get_by_role("alert").filter(has_text="changed elsewhere")).to_be_visible()
    button(sheet, "Load the newer one").click()
    expect(box(sheet, "Purpose")).to_have_value("Fries.")
    box(sheet, "Purpose").fill("Bakes.")
    change(studio_desk, "Chef", CHEF | {"description": "Fries.", "picture": ""})
    button(sheet, "Save").click()
    button(sheet, "Save as a copy").click()
    said(sheet, "Saved as Chef 2.")
    assert named(studio_desk, "Chef")["description"] == "Fries."
    assert named(studio_desk, "Chef 2")["description"] == "Bakes."
    chef_screen.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()


def test_a_built_in_one_is_copied_and_a_deleted_one_comes_back(
    chef_screen: Screen, studio_desk: Desk
) -> None:
    sheet = opened(chef_screen, "Coding")
    expect(box(sheet, "Instructions")).not_to_be_editable()
    expect(button(sheet, "Save")).to_have_count(0)
    button(sheet, "Copy to change").click()
    expect(box(sheet, "Name")).to_have_value("Coding copy")
    expect(box(sheet, "Name")).to_be_focused()

    button(sheet, "Delete Coding copy").click()
    said(sheet, "Coding copy is deleted.")
    assert named(studio_desk, "Coding copy") == {}
    button(sheet, "Undo").click()
    said(sheet, "Coding copy is back.")
    assert named(studio_desk, "Coding copy")["version"] == 2


def test_an_old_version_says_how_it_differs_and_is_restored(
    chef_screen: Screen, studio_desk: Desk
) -> None:
    sheet = opened(chef_screen, "Chef")
    button(sheet, "Versions").click()
    first = sheet.locator(".versions > li").filter(has_text="Version 1")
    expect(first).to_contain_text("1 added since, 1 removed")
    expect(first.get_by_role("list", name="Then")).to_contain_text("Keep recipes short.")
    expect(first.get_by_role("list", name="Now")).to_contain_text("Ask first.")
    button(sheet, "Restore version 1").click()
    said(sheet, "Version 3 is like the one you picked.")
    expect(box(sheet, "Instructions")).to_have_value(CHEF["instructions"])
    expect(sheet.locator(".versions > li")).to_have_count(3)
    assert named(studio_desk, "Chef")["instructions"] == CHEF["instructions"]


def test_a_draft_is_tried_and_its_chat_leaves_nothing_behind(
    chef_screen: Screen, studio_desk: Desk, studio: ScriptedLMStudio
) -> None:
    studio.tokens, studio.rate = 12, 40
    sheet = opened(chef_screen, "Chef")
    box(sheet, "Instructions").fill("You are {{agent}}, and brief.")
    message = box(sheet, "Test message")
    message.fill("Hungry")
    message.press("Enter")
    answer = sheet.locator(".said-list .answer")
    expect(answer).to_contain_text(numbers(12))
    expect(answer.locator(".state")).to_contain_text("tok/s")
    expect(answer.locator(".state")).to_contain_text("qwen3-4b")
    body = studio.requests("/v1/chat/completions")[-1].body
    assert body["messages"][0]["content"] == "You are Chef, and brief."
    assert body["temperature"] == 0.6
    assert named(studio_desk, "Chef")["version"] == 2
    message.fill("And now?")
    message.press("Enter")
    expect(answer).to_have_count(2)
    expect(answer.last).to_contain_text(numbers(12))
    assert len(studio.requests("/v1/chat/completions")[-1].body["messages"]) == 4
    expect(chef_screen.chat_rows).to_have_count(0)

    studio.tokens, studio.rate = 2000, 20
    message.fill("On and on")
    message.press("Enter")
    expect(answer.last).to_contain_text("0 1 2")
    button(sheet, "Stop the test").click()
    expect(answer.last.locator(".state")).to_contain_text("Stopped")
    button(sheet, "Clear").click()
    expect(answer).to_have_count(0)
    wait_for(lambda: not studio_desk.get("/chats")["chats"], what="the end of the test chat")
    button(sheet, "Discard").click()


def test_tools_are_chosen_and_a_test_asks_before_it_calls_one(
    studio_desk: Desk, running_studio: Studio, open_tab: Open, tools: str
) -> None:
    call = Call("echo", {"text": "Ten."})
    running_studio.app = upstream = AgentUpstream()
    upstream.plays(Say(calls=[call]), Say("It is **ten** o'clock. <b>Sharp.</b>"))
    studio_desk.post("/agents", CHEF)
    sheet = opened(screen := open_tab(studio_desk), "Chef")
    servers = sheet.get_by_role("combobox", name=f"Tools of {tools}")
    servers.select_option(label="Chosen tools")
    sheet.get_by_role("checkbox", name="echo").check()
    sheet.get_by_role("combobox", name="Approval for echo").select_option("ask")
    message = box(sheet, "Test message")
    message.fill("What time is it?")
    button(sheet, "Send the test message").click()
    asked = sheet.get_by_role("group", name=f"May {tools}.echo run?")
    expect(asked).to_be_focused()
    expect(asked).to_contain_text('"text": "Ten."')
    called = sheet.locator(".said-list .called .state")
    expect(called).to_have_text("waits for you")
    assert accessibility_problems(screen.page) == ""
    button(asked, "Edit arguments").click()
    asked.get_by_role("textbox", name="Arguments as JSON").fill('{"text": "Eleven."}')
    button(asked, "Approve as edited").click()
    written = sheet.locator("li.answer > .rendered")
    expect(written).to_have_text("It is ten o'clock. <b>Sharp.</b>")
    expect(written.locator("strong")).to_have_text("ten")
    expect(called).to_have_text("ran")
    expect(message).to_be_focused()
    assert "Eleven." in str(upstream.bodies[-1]["messages"])

    upstream.plays(Say(calls=[call]), Say("Then I do not know."))
    message.fill("And now?")
    button(sheet, "Send the test message").click()
    # What is on show needs no note, and stays out of the address.
    expect(screen.page.locator("[data-act=runs]")).to_have_attribute("data-asks", "")
    expect(screen.page.locator(".toast")).to_have_count(0)
    assert "chat=" not in screen.page.url
    button(asked, "Deny").click()
    expect(sheet.locator("li.answer > .rendered").last).to_have_text("Then I do not know.")
    expect(called.last).to_have_text("not allowed")
    expect(sheet.locator(".said-list .called .facts").last).to_contain_text("you said no")

    button(sheet, "Save").click()
    said(sheet, "Chef is saved as version 2.")
    assert named(studio_desk, "Chef")["tools"] == [
        {"server": tools, "tool": "echo", "approval": "ask"}
    ]
    screen.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    wait_for(lambda: not studio_desk.get("/runs")["runs"], what="the end of the run of the test")


def test_a_test_that_waits_out_of_sight_is_told_and_led_to(
    studio_desk: Desk, running_studio: Studio, open_tab: Open, tools: str
) -> None:
    running_studio.app = upstream = AgentUpstream()
    hold = asyncio.Event()
    call = Call("echo", {"text": "Ten."})
    upstream.plays(Say(calls=[call], hold=hold), Say("It is ten o'clock."))
    given = {"tools": [{"server": tools, "tool": "echo", "approval": "ask"}]}
    studio_desk.post("/agents", CHEF | given)
    screen = open_tab(studio_desk)
    screen.page.set_viewport_size({"width": 1000, "height": 800})
    sheet = opened(screen, "Chef")
    button(sheet, "Test").click()
    box(sheet, "Test message").fill("What time is it?")
    button(sheet, "Send the test message").click()
    button(sheet, "Form").click()
    expect(sheet.locator(".said-list")).to_be_hidden()
    # Asked only now: what is seen, though for a moment, needs no note.
    assert running_studio.loop
    running_studio.loop.call_soon_threadsafe(hold.set)
    screen.page.get_by_role("button", name="Show", exact=True).click()
    asked = sheet.get_by_role("group", name=f"May {tools}.echo run?")
    expect(asked).to_be_focused()
    assert "chat=" not in screen.page.url
    button(asked, "Approve").click()
    expect(sheet.locator("li.answer > .rendered")).to_have_text("It is ten o'clock.")


def test_an_agent_travels_as_a_file_and_another_file_is_refused(
    chef_screen: Screen, tmp_path: Path
) -> None:
    sheet = opened(chef_screen, "Chef")
    with chef_screen.page.expect_download() as download:
        sheet.get_by_role("link", name="Export").click()
    assert re.fullmatch(r"chef(-\d+)?\.agent\.json", download.value.suggested_filename)
    file = tmp_path / "chef.json"
    download.value.save_as(file)
    assert json.loads(file.read_text())["agent"]["picture"] == "🍲"
    sheet.get_by_label("File of an agent").set_input_files(file)
    said(sheet, "Chef 2 is here.")
    expect(box(sheet, "Name")).to_have_value("Chef 2")

    file.write_text("Dear diary")
    sheet.get_by_label("File of an agent").set_input_files(file)
    said(sheet, "is not an agent: it is no JSON.")


def test_axe_finds_nothing_in_the_dialog(chef_screen: Screen, studio: ScriptedLMStudio) -> None:
    studio.tokens, studio.rate = 3, None
    sheet = opened(chef_screen, "Chef")
    box(sheet, "Instructions").fill("Use {{colour}}.")
    sheet.get_by_text("Limits and strictness").click()
    message = box(sheet, "Test message")
    message.fill("Hungry")
    message.press("Enter")
    expect(sheet.locator(".answer .state")).to_contain_text("3 tokens")
    expect(sheet.get_by_text("{{colour}} is no variable.")).to_be_visible()
    assert_nothing_found(chef_screen)
    button(sheet, "Versions").click()
    expect(sheet.locator(".versions > li")).to_have_count(2)
    assert_nothing_found(chef_screen)
    chef_screen.page.set_viewport_size(PHONE)
    button(sheet, "Back to the list").click()
    assert accessibility_problems(chef_screen.page) == ""
    expect(sheet.get_by_role("listitem").filter(has_text="General")).to_be_visible()
