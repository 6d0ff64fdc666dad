"""What this machine learned: the table in the page, and a benchmark with its progress and its end."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.e2e.looking import accessibility_problems, sticking_out
from tests.e2e.running import Desk
from tests.e2e.screen import Screen

MODEL = "embedded:endless"


def opened(page: Page) -> Locator:
    page.keyboard.press("Alt+KeyL")
    return page.get_by_role("dialog", name="What this machine learned", exact=True)


def row(dialog: Locator, name: str) -> Locator:
    return dialog.get_by_role("row").filter(has=dialog.page.get_by_text(name, exact=True))


def test_answers_fill_the_table_and_a_column_sorts_it(desk: Desk, screen: Screen) -> None:
    chat = desk.new_chat()
    for _ in range(2):
        desk.answered(chat, "Go on", model_id=MODEL, parameters={"max_tokens": 40})
    dialog = opened(screen.page)
    mine = row(dialog, "endless")
    expect(mine).to_contain_text(re.compile(r"\d+ answers"))
    expect(mine.locator("polyline")).not_to_have_count(0)

    heading = dialog.get_by_role("columnheader", name="Writes tok/s")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")

    assert accessibility_problems(screen.page) == ""
    assert sticking_out(screen.page) == []
    screen.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_a_benchmark_moves_can_be_cancelled_and_ends_with_figures(
    desk: Desk, screen: Screen
) -> None:
    screen.choose("endless")
    dialog = opened(screen.page)
    begin = dialog.get_by_role("button", name="Benchmark this model", exact=True)
    begin.click()
    bar = dialog.get_by_role("progressbar", name="Benchmark")
    expect(bar).to_have_attribute("aria-valuenow", re.compile(r"\d+"))
    dialog.get_by_role("button", name="Cancel", exact=True).click()
    expect(dialog.get_by_role("status")).to_contain_text("Nothing of it is kept")
    expect(begin).to_be_enabled()

    begin.click()
    expect(bar).to_be_visible()
    expect(dialog.get_by_role("status")).to_have_text("Measured.", timeout=100_000)
    expect(row(dialog, "endless")).to_contain_text(re.compile(r"512 read at [\d,.]+"))
