"""Compare in the page: side by side, one by one, with requests, failures, reloads, and on a phone."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.agent_upstream import AgentUpstream, Say
from tests.e2e.conftest import DESKTOP, PHONE, Open
from tests.e2e.looking import accessibility_problems, sticking_out
from tests.e2e.office import KEY, READ, WRITE, Office, press, request_in
from tests.e2e.running import Desk, Studio, wait_for
from tests.e2e.screen import AWAY, LEAVING, REFUSED, Screen

RICH = "**Bold** and `code`.\n\n| a | b |\n|---|---|\n| 1 | <b>2</b> |\n"
ALPHA, BETA = "lmstudio:alpha", "lmstudio:beta"


@pytest.fixture
def two(running_studio: Studio) -> AgentUpstream:
    """A scripted LM Studio with two models in memory."""
    app = AgentUpstream("alpha", "beta")
    app.plays(Say(RICH), Say("More of alpha."), model="alpha")
    app.plays(Say("I am beta."), Say("More of beta."), model="beta")
    running_studio.app = app
    return app


@pytest.fixture
def compare_desk(two: AgentUpstream, running_studio_desk: Desk) -> Iterator[Desk]:
    desk = running_studio_desk
    desk.clean()
    for each in desk.get("/comparisons")["comparisons"]:
        desk.http.delete(f"/comparisons/{each['id']}")
    desk.get("/models/", refresh=True)
    yield desk
    for job in desk.get("/jobs", state="running"):
        desk.post(f"/jobs/{job['id']}/stop")


def opened(screen: Screen) -> Locator:
    """The dialog, opened with the keyboard."""
    screen.page.keyboard.press("Alt+KeyP")
    dialog = compare(screen)
    expect(dialog).to_be_visible()
    return dialog


def compare(screen: Screen) -> Locator:
    return screen.page.locator("dialog.compare")


def column(dialog: Locator, number: int) -> Locator:
    return dialog.get_by_role("region", name=f"Column {number}", exact=True)


def pick(dialog: Locator, *models: str) -> None:
    for number, model in enumerate(models, 1):
        dialog.get_by_label(f"Model of column {number}", exact=True).select_option(model)


def ask(dialog: Locator, content: str) -> None:
    box = dialog.get_by_role("textbox", name="Question for all columns")
    box.fill(content)
    box.press("Enter")


def held(app: AgentUpstream, studio: Studio, model: str, text: str) -> Any:
    """This model says so much and then waits; what is called lets it go on."""
    hold = asyncio.Event()
    app.plays(Say(text, hold=hold), model=model)

    def let_go() -> None:
        assert studio.loop
        studio.loop.call_soon_threadsafe(hold.set)

    return let_go


def test_two_models_answer_side_by_side_and_go_on(compare_desk: Desk, open_tab: Open) -> None:
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    pick(dialog, ALPHA, BETA)
    ask(dialog, "Who are you?")

    first, second = column(dialog, 1), column(dialog, 2)
    expect(first.locator(".bot-row strong")).to_have_text("Bold")
    expect(first.locator(".bot-row td").last).to_have_text("<b>2</b>")
    expect(second.locator(".bot-row")).to_contain_text("I am beta.")
    expect(dialog.locator(".measured")).to_have_text("Measured one by one: alpha, then beta.")
    for each in (first, second):
        expect(each.locator(".state")).to_have_text("Done")
        expect(each.locator(".figures")).to_contain_text("10 · 50 read")
    expect(screen.chat_rows).to_have_count(0)

    second.get_by_role("checkbox").uncheck()
    ask(dialog, "And more?")
    expect(first.locator(".bot-row").last).to_contain_text("More of alpha.")
    expect(second.locator(".user-row")).to_have_count(1)

    second.get_by_role("button", name="Keep as chat").click()
    expect(dialog).to_have_count(0)
    expect(screen.conversation).to_contain_text("I am beta.")
    expect(screen.chat_rows).to_have_count(1)


def test_a_waiting_column_says_for_whom_and_a_reload_loses_nothing(
    compare_desk: Desk, two: AgentUpstream, running_studio: Studio, open_tab: Open
) -> None:
    let_go = held(two, running_studio, "alpha", "So far so good")
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    pick(dialog, ALPHA, BETA)
    ask(dialog, "Who are you?")
    expect(column(dialog, 1)).to_contain_text("So far so good")
    expect(column(dialog, 2).locator(".phase")).to_contain_text("Waits for alpha")
    expect(column(dialog, 2).locator(".pending")).to_have_text("Who are you?")

    screen.reload()
    expect(column(dialog, 1)).to_contain_text("So far so good")
    expect(column(dialog, 1).locator(".state")).to_have_text("Answering")
    let_go()
    expect(column(dialog, 2).locator(".bot-row")).to_contain_text("I am beta.")
    expect(column(dialog, 1).locator(".state")).to_have_text("Done")
    expect(column(dialog, 2).locator(".pending")).to_be_hidden()


def test_a_crash_keeps_what_is_there_and_asks_nothing_by_itself(
    spare_desk: Desk, absent: Studio, open_tab: Open
) -> None:
    app = AgentUpstream("alpha", "beta")
    app.plays(Say("I am beta."), model="beta")
    absent.app = app
    with absent.up():
        spare_desk.get("/models/", refresh=True)
        held(app, absent, "alpha", "So far so good")
        screen = open_tab(spare_desk)
        screen.allow(f"{AWAY}|{LEAVING}")
        dialog = opened(screen)
        pick(dialog, ALPHA, BETA)
        ask(dialog, "Who are you?")
        expect(column(dialog, 1)).to_contain_text("So far so good")
        spare_desk.kill()
        expect(dialog.get_by_role("alert").first).to_contain_text("does not answer")
        spare_desk.start()

        expect(column(dialog, 1).locator(".state")).to_have_text("Interrupted")
        expect(column(dialog, 1)).to_contain_text("So far so good")
        expect(column(dialog, 2)).to_contain_text("Not asked: LM Desk stopped before its turn.")
        assert [body["model"] for body in app.bodies] == ["alpha"]
        column(dialog, 2).get_by_role("button", name="Ask this column again").click()
        expect(column(dialog, 2).locator(".bot-row")).to_contain_text("I am beta.")


def test_one_column_fails_and_is_asked_again_alone(
    compare_desk: Desk, two: AgentUpstream, open_tab: Open
) -> None:
    two.plays(Say(status=400, error={"error": "out of ideas"}), model="alpha")
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    pick(dialog, ALPHA, BETA)
    ask(dialog, "Who are you?")
    first, second = column(dialog, 1), column(dialog, 2)
    expect(second.locator(".bot-row")).to_contain_text("I am beta.")
    expect(first.locator(".state")).to_have_text("Failed")
    expect(first.locator(".foot .problem")).to_contain_text("out of ideas")

    two.plays(Say("Now I know."), model="alpha")
    first.get_by_role("button", name="Retry").click()
    expect(first.locator(".bot-row")).to_contain_text("Now I know.")
    expect(first.locator(".state")).to_have_text("Done")
    expect(second.locator(".bot-row")).to_have_count(1)


def test_one_model_with_two_temperatures_is_asked_again(
    compare_desk: Desk, two: AgentUpstream, open_tab: Open
) -> None:
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    pick(dialog, BETA, BETA)
    for number, value in ((1, "0"), (2, "1.5")):
        column(dialog, number).get_by_text("Parameters").click()
        dialog.get_by_label(f"Temperature of column {number}").fill(value)
    ask(dialog, "Who are you?")
    expect(dialog.locator(".measured")).to_have_text("Measured one by one, in the order 1, 2.")
    expect(column(dialog, 2).locator(".who")).to_contain_text("temperature 1.5")
    assert [body["temperature"] for body in two.bodies] == [0, 1.5]

    dialog.get_by_role("button", name="Ask the ticked columns again").click()
    wait_for(lambda: len(two.bodies) == 4, what="both answers once more")
    assert [body["temperature"] for body in two.bodies] == [0, 1.5, 0, 1.5]
    expect(column(dialog, 2).locator(".state")).to_have_text("Done")
    expect(column(dialog, 1).locator(".bot-row")).to_have_count(1)


def test_columns_are_stopped_one_and_all(
    compare_desk: Desk, two: AgentUpstream, running_studio: Studio, open_tab: Open
) -> None:
    held(two, running_studio, "alpha", "Alpha writes")
    held(two, running_studio, "beta", "Beta writes")
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    pick(dialog, ALPHA, BETA)
    ask(dialog, "Go")
    expect(column(dialog, 1)).to_contain_text("Alpha writes")
    column(dialog, 1).get_by_role("button", name="Stop", exact=True).click()
    expect(column(dialog, 1).locator(".state")).to_have_text("Stopped")
    expect(column(dialog, 2)).to_contain_text("Beta writes")
    dialog.get_by_role("button", name="Stop all").click()
    expect(column(dialog, 2).locator(".state")).to_have_text("Stopped")
    expect(dialog.get_by_role("button", name="Ask", exact=True)).to_be_visible()


def test_an_agent_with_tools_asks_in_its_column(office: Office, open_tab: Open) -> None:
    steps = [Say("I look.", [READ]), Say("I write.", [WRITE]), Say("It is written.")]

    def script(body: dict[str, Any]) -> Say:
        if not body.get("tools"):
            return Say("I have no tools.")
        made = sum(message["role"] == "assistant" for message in body["messages"])
        return steps[min(made, 2)]

    office.model.scripts[KEY] = script
    screen = open_tab(office.desk)
    dialog = opened(screen)
    dialog.get_by_label("Agent of column 1").select_option(office.agent_id)
    dialog.get_by_label("Agent of column 2").select_option("general")
    ask(dialog, "Write Tuesday.")

    form = request_in(column(dialog, 1))
    expect(form).to_be_visible()
    expect(column(dialog, 2).locator(".phase")).to_contain_text("Waits for")
    assert accessibility_problems(screen.page) == ""
    screen.reload()
    expect(form).to_be_visible()
    press(form, "Approve")
    expect(column(dialog, 1).locator(".bot-row")).to_contain_text("It is written.")
    expect(column(dialog, 2).locator(".bot-row")).to_contain_text("I have no tools.")
    assert (office.pages / "tuesday.md").read_text() == "Nothing yet."
    column(dialog, 1).locator(".run-fold").click()
    expect(column(dialog, 1).locator(".run-line")).to_contain_text("you said yes")


def test_earlier_ones_are_found_deleted_and_brought_back(
    compare_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    dialog.get_by_role("button", name="Earlier comparisons").click()
    earlier = dialog.get_by_role("navigation", name="Earlier comparisons")
    expect(earlier).to_contain_text("Your comparisons appear here.")
    pick(dialog, ALPHA, BETA)
    ask(dialog, "Which is faster?")
    expect(column(dialog, 2).locator(".state")).to_have_text("Done")
    expect(earlier.get_by_role("listitem")).to_contain_text("Which is faster?")

    dialog.get_by_role("button", name="New comparison").click()
    expect(dialog.get_by_label("Model of column 2")).to_have_value(BETA)
    earlier.get_by_role("button", name="Which is faster?", exact=False).first.click()
    expect(column(dialog, 2).locator(".bot-row")).to_contain_text("I am beta.")

    earlier.get_by_role("button", name="Delete Which is faster?").click()
    expect(earlier.get_by_role("button", name="Undo")).to_be_focused()
    expect(dialog.get_by_label("Model of column 1")).to_be_visible()
    earlier.get_by_role("button", name="Undo").click()
    expect(earlier.get_by_role("listitem")).to_contain_text("Which is faster?")


def test_columns_are_added_moved_and_removed_and_refusals_are_said(
    compare_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    pick(dialog, ALPHA, BETA)
    dialog.get_by_role("button", name="Move column 2 to the left").click()
    expect(dialog.get_by_label("Model of column 1")).to_have_value(BETA)
    dialog.get_by_role("button", name="Add a column").click()
    dialog.get_by_role("button", name="Add a column").click()
    expect(dialog.get_by_role("button", name="Add a column")).to_have_count(0)
    dialog.get_by_role("button", name="Remove column 4").click()
    dialog.get_by_role("button", name="Remove column 1").click()
    expect(dialog.get_by_label("Model of column 1")).to_have_value(ALPHA)

    screen.allow(REFUSED)
    ask(dialog, "word " * 90_000)
    expect(dialog.get_by_role("alert").first).to_contain_text("characters")


def test_a_phone_shows_a_column_at_a_time(compare_desk: Desk, open_tab: Open) -> None:
    screen = open_tab(compare_desk)
    screen.page.set_viewport_size(PHONE)
    dialog = opened(screen)
    expect(column(dialog, 1)).to_be_visible()
    expect(column(dialog, 2)).to_be_hidden()
    ask(dialog, "Who are you?")
    tabs = dialog.get_by_role("group", name="Column on show")
    expect(tabs.get_by_role("button")).to_have_count(2)
    tabs.get_by_role("button").nth(1).click()
    expect(column(dialog, 2).locator(".bot-row")).to_be_visible()
    expect(column(dialog, 1)).to_be_hidden()
    assert sticking_out(screen.page) == []
    assert accessibility_problems(screen.page) == ""


def test_axe_finds_nothing(compare_desk: Desk, open_tab: Open) -> None:
    screen = open_tab(compare_desk)
    dialog = opened(screen)
    dialog.get_by_role("button", name="Earlier comparisons").click()
    found = []
    for asked in (False, True):
        if asked:
            pick(dialog, ALPHA, BETA)
            ask(dialog, "Who are you?")
            expect(column(dialog, 2).locator(".state")).to_have_text("Done")
        for scheme in ("light", "dark"):
            screen.page.emulate_media(color_scheme=scheme)
            found.append(accessibility_problems(screen.page))
    screen.page.set_viewport_size(DESKTOP)
    assert found == [""] * 4


def test_a_deleted_agent_is_said_left_out_and_brought_back(
    compare_desk: Desk, two: AgentUpstream, open_tab: Open
) -> None:
    desk = compare_desk
    made = desk.post("/agents", {"name": "Sec"})
    screen = open_tab(desk)
    dialog = opened(screen)
    pick(dialog, ALPHA, BETA)
    dialog.get_by_label("Agent of column 1", exact=True).select_option(made["id"])
    ask(dialog, "Who are you?")
    expect(column(dialog, 2)).to_contain_text("I am beta.")
    expect(dialog.get_by_role("button", name="Stop all")).to_have_count(0)

    desk.http.delete(f"/agents/{made['id']}")
    screen.reload()
    first = dialog.locator(".whose").first
    expect(first).to_contain_text("Deleted agent")
    tick = dialog.get_by_label("Ask column 1 the next question")
    expect(tick).not_to_be_checked()
    two.plays(Say("Beta, once more."), model="beta")
    dialog.get_by_role("button", name="Ask the ticked columns again").click()
    expect(column(dialog, 2).locator(".bot-row")).to_contain_text("Beta, once more.")
    first.get_by_role("button", name="Bring back the agent of column 1").click()
    expect(first).to_contain_text("Sec")
    expect(tick).to_be_checked()
    expect(dialog.get_by_role("button", name=re.compile("Bring back"))).to_have_count(0)
    assert [each["name"] for each in desk.get("/agents") if each["id"] == made["id"]] == ["Sec"]
    desk.http.delete(f"/agents/{made['id']}")


def test_a_columns_own_chat_says_where_it_belongs(compare_desk: Desk, open_tab: Open) -> None:
    body = {"content": "Hi", "columns": [{"model_id": ALPHA}, {"model_id": BETA}]}
    made = compare_desk.post("/comparisons", body)
    screen = open_tab(compare_desk, made["columns"][0]["chat_id"])
    screen.page.get_by_role("button", name="Show the comparison").click()
    expect(column(compare(screen), 2).locator(".bot-row")).to_contain_text("I am beta.")
    assert re.search(r"compare=", screen.page.url)
