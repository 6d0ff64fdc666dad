"""An answer that keeps one waiting: how long still, and a way out when nothing moves."""

import re

from playwright.sync_api import expect

from tests.e2e.screen import REFUSED, Screen
from tests.servers import ScriptedLMStudio

QWEN = "qwen/qwen3-4b"
STILL_MS = 60_000


def test_a_load_says_how_long_it_still_takes_going_by_the_last_one(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    screen.unload.click()
    expect(screen.model_state).to_have_text("Not loaded")
    studio.load_may_go.clear()
    screen.load.click()
    expect(screen.model_state).to_contain_text("4 s")
    studio.load_may_go.set()
    expect(screen.model_state).to_have_text("Loaded")
    screen.unload.click()
    expect(screen.model_state).to_have_text("Not loaded")
    studio.load_may_go.clear()

    screen.send("Count")

    expect(screen.page.locator("#phase-line")).to_contain_text(
        re.compile(r"Loading the model.*about \d s left")
    )
    expect(screen.model_state).to_contain_text(re.compile(r"about \d s left"))
    expect(screen.page.locator("#phase-line")).to_contain_text("longer than the last time")
    studio.load_may_go.set()
    expect(screen.answers).to_have_count(1)


def test_after_twenty_seconds_of_nothing_it_says_so_and_offers_a_way_out(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    screen.allow(REFUSED)
    studio.frames, studio.hangs = [], True
    screen.send("Count")
    stuck = screen.page.locator("#stuck")
    expect(screen.page.locator("#phase-line")).to_contain_text("Reading the prompt")
    expect(stuck).to_be_hidden()

    expect(stuck).to_contain_text(re.compile(r"Nothing has moved for 2\d s\."), timeout=STILL_MS)

    expect(stuck.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    stuck.get_by_role("button", name="Eject", exact=True).click()
    expect(screen.answers).to_contain_text("Ended because the model was unloaded")
    expect(stuck).to_be_hidden()
    assert not studio.models[QWEN].instances
