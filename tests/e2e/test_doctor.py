"""The Connection panel: it says what is wrong with LM Studio, and sees by itself when it is right."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import PATIENCE_MS, Open
from tests.e2e.running import Desk, Studio
from tests.e2e.screen import AWAY, Screen
from tests.servers import TOKEN, ScriptedLMStudio


def panel(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Connection", exact=True)


def way_in(screen: Screen) -> Locator:
    """The state of the provider, in the status bar."""
    return screen.status.get_by_role("button", name=re.compile("^Connection: "))


def test_the_panel_says_what_is_wrong_and_turns_green_by_itself(
    spare_desk: Desk, absent: Studio, open_tab: Open
) -> None:
    screen = open_tab(spare_desk)
    page, opened = screen.page, panel(screen.page)
    notice = page.get_by_text("No model can answer: LM Studio not running.")
    expect(notice).to_be_visible()

    page.get_by_role("button", name="What to do").click()

    card = opened.get_by_role("listitem")
    expect(card).to_contain_text(f"127.0.0.1:{absent.port}")
    expect(card).to_have_attribute("data-state", "attention")
    expect(opened.get_by_role("status")).to_have_text("LM Studio needs you.")
    line = card.locator("code").inner_text()
    assert str(absent.port) in line
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy = opened.get_by_role("button", name="Copy line for LM Studio")
    copy.click()
    expect(copy).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == line
    page.context.clear_permissions()
    assert axe(page) == ""

    with absent.up():
        expect(card).to_have_attribute("data-state", "ok")
        expect(card).to_contain_text("LM Studio is ready with 2 models.")
        expect(opened.get_by_role("status")).to_have_text("LM Studio answers.")
        expect(card.locator("code")).to_have_count(0)
        assert axe(page) == ""
        page.keyboard.press("Escape")
        expect(opened).to_have_count(0)
        expect(notice).to_be_hidden()
        expect(way_in(screen)).to_contain_text("LM Studio connected")

        way_in(screen).click()
        expect(card).to_have_attribute("data-state", "ok")
        absent.app.token = TOKEN
        expect(card).to_have_attribute("data-code", "needs_token")
        expect(card).to_contain_text("LMDESK_LMSTUDIO_TOKEN=")
        page.keyboard.press("Escape")
        expect(opened).to_have_count(0)
        expect(way_in(screen)).to_be_focused()


def test_escape_closes_the_panel_and_leaves_the_answer_alone(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen, opened = studio_screen, panel(studio_screen.page)
    studio.tokens = 10_000
    screen.send("Count")
    expect(screen.live).to_contain_text("5")
    way_in(screen).click()
    expect(opened).to_contain_text("LM Studio is ready")

    screen.page.keyboard.press("Escape")

    expect(opened).to_have_count(0)
    expect(screen.stop_button).to_be_visible()
    before = screen.live.inner_text()
    expect(screen.live).not_to_have_text(before)
    screen.page.keyboard.press("Escape")
    expect(screen.answers.locator(".label")).to_have_text("Stopped")


def test_the_panel_says_when_the_desk_itself_is_away(
    spare_desk: Desk, absent: Studio, open_tab: Open
) -> None:
    screen = open_tab(spare_desk)
    screen.allow(AWAY)
    way_in(screen).click()
    expect(panel(screen.page).get_by_role("listitem")).to_be_visible()

    spare_desk.kill()
    expect(panel(screen.page).get_by_role("status")).to_contain_text("LM Desk's server")
    spare_desk.start()

    expect(panel(screen.page).get_by_role("status")).to_have_text("LM Studio needs you.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_panel_fits_a_phone_and_fingers(
    studio_desk: Desk, studio: ScriptedLMStudio, browser: Browser, open_tab: Open, scheme: str
) -> None:
    studio.token = TOKEN
    context = browser.new_context(
        viewport={"width": 390, "height": 844},
        is_mobile=True,
        has_touch=True,
        locale="en-US",
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        screen = open_tab(studio_desk, context=context)
        screen.status.get_by_role("button").tap()
        copy = panel(screen.page).get_by_role("button", name=re.compile("^Copy"))
        expect(copy).to_be_visible()
        box = copy.bounding_box()
        assert box
        assert box["height"] >= 44
        assert screen.page.evaluate("document.documentElement.scrollWidth") == 390
        assert axe(screen.page) == ""
        panel(screen.page).get_by_role("button", name="Close", exact=True).tap()
        expect(panel(screen.page)).to_have_count(0)
    finally:
        screen.page.evaluate("localStorage.clear()")
        screen.page.close()
        context.close()


def axe(page: Page) -> str:
    """What axe-core finds, in words; empty if nothing."""
    page.evaluate("document.getAnimations().forEach((each) => each.cancel())")
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    return str(found.generate_report()) if found.violations_count else ""
