"""What a run says on the page when it does not go as hoped: nobody answers, the model or a server goes."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.agent_upstream import Call, Say
from tests.e2e.conftest import Open
from tests.e2e.office import (
    PONDER,
    READ,
    Office,
    folded,
    open_office,
    request_in,
    runs_dialog,
    timeline,
)
from tests.e2e.running import wait_for
from tests.e2e.screen import REFUSED

# Long enough for the page to show the call before.
WAIT_MINUTES = 0.1
AGAIN = Call("read", {"page": "./monday.md"})


@pytest.fixture(scope="module")
def running_hasty_office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("hasty")
    with open_office(folder, approval_minutes=WAIT_MINUTES) as office:
        yield office


@pytest.fixture
def hasty_office(running_hasty_office: Office) -> Office:
    """One in which calls do not wait long."""
    return running_hasty_office.renew()


def test_a_call_that_nobody_answers_is_denied_and_the_run_goes_on(
    hasty_office: Office, open_tab: Open
) -> None:
    office = hasty_office
    screen = open_tab(office.desk, office.chat())
    form = request_in(screen.page)
    expect(form).to_contain_text(re.compile(r"Counts as denied in \d s"))

    expect(screen.answers.last).to_contain_text("It is written.")
    expect(form).to_have_count(0)
    folded(screen).click()
    denied = timeline(screen).locator("li[data-state=denied]")
    expect(denied).to_contain_text("nobody answered in time")
    expect(denied.locator("details[data-fold=result]")).to_contain_text(
        "Nobody answered within 6 seconds."
    )
    expect(timeline(screen)).to_contain_text("Done, 1 call not allowed.")
    assert "Nobody answered within 6 seconds." in office.model.last_result()
    assert not (office.pages / "tuesday.md").exists()


def test_a_run_whose_model_is_unloaded_ends_with_what_was_done_and_says_so(
    office: Office, open_tab: Open
) -> None:
    screen = open_tab(office.desk, office.chat())
    screen.allow(REFUSED)
    expect(request_in(screen.page)).to_be_visible()
    screen.unload.click()
    refusal = screen.alert.filter(has_text="in use")
    refusal.get_by_role("button", name="Stop and unload", exact=True).click()

    expect(screen.model_state).to_have_text("Not loaded")
    expect(request_in(screen.page)).to_have_count(0)
    told = office.result()
    assert (told["state"], told["reason"]) == ("interrupted", "model_changed_during_execution")
    expect(screen.answers.last).to_contain_text("was taken out of memory")
    folded(screen).click()
    expect(timeline(screen)).to_contain_text("I look at Monday.")
    expect(timeline(screen)).to_contain_text("was taken out of memory during the run.")
    expect(timeline(screen).locator("[data-state=stopped]")).to_contain_text("not finished")


def test_a_run_that_another_model_answers_ends_without_a_word_of_it(
    office: Office, open_tab: Open
) -> None:
    office.model.plays(Say("I look.", [READ]), Say("I am somebody else.", model="meta/large"))
    screen = open_tab(office.desk)
    office.run()
    dialog = runs_dialog(screen)
    expect(dialog.locator(".end")).to_contain_text("but meta/large answered")
    expect(dialog.locator(".list [aria-current]")).to_contain_text("Interrupted")
    expect(dialog).to_contain_text("I look.")
    expect(dialog).not_to_contain_text("I am somebody else.")


def test_a_server_killed_in_the_middle_of_a_call_fails_the_call_and_not_the_run(
    office: Office, open_tab: Open
) -> None:
    office.model.plays(Say("I think.", [PONDER]), Say("Then I read.", [READ]), Say("I have read."))
    screen = open_tab(office.desk, office.chat())
    wait_for((office.pages / "pondering").exists, what="the call")
    expect(screen.page.get_by_label("Run under way")).to_contain_text("running")

    office.notebook().kill()

    expect(screen.answers.last).to_contain_text("I have read.")
    folded(screen).click()
    broken = timeline(screen).locator("li[data-state=failure]")
    expect(broken).to_contain_text("notebook.ponder")
    expect(broken.locator("details[data-fold=result]")).to_contain_text("What went wrong")
    # The server was started again for the next call.
    expect(timeline(screen).locator("li[data-state=success]")).to_contain_text("notebook.read")
    expect(timeline(screen)).to_contain_text("Done.")


@pytest.mark.parametrize(
    ("limits", "second", "ending"),
    [
        ({"max_rounds": 1}, READ, "Ended at its limit of 1 step."),
        ({"max_tokens": 100}, AGAIN, "Ended at its limit of 100 tokens."),
        ({"max_minutes": 0.05}, PONDER, "Ended at its limit of 3.0 s."),
    ],
    ids=["steps", "tokens", "minutes"],
)
def test_a_run_at_its_limit_says_which_and_keeps_what_it_has(
    office: Office, open_tab: Open, limits: dict[str, float], second: Call, ending: str
) -> None:
    office.model.plays(Say("I look.", [READ]), Say("I look again.", [second]))
    screen = open_tab(office.desk)
    office.run(**limits)
    dialog = runs_dialog(screen)
    expect(dialog.locator(".end")).to_have_text(ending)
    expect(dialog.locator(".end")).to_have_class(re.compile(r"\bbad\b"))
    expect(dialog).to_contain_text("I look.")
    expect(dialog.locator(".list [aria-current]")).to_contain_text("At its limit")
