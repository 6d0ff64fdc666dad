"""Light and dark: as the system says, until a person says otherwise."""

from playwright.sync_api import Locator, expect

from tests.e2e.looking import accessibility_problems
from tests.e2e.screen import Screen

BRIGHTNESS = """(node) => {
    const [red, green, blue] = getComputedStyle(node).backgroundColor.match(/[\\d.]+/g).map(Number);
    return (red + green + blue) / 3 / 255;
}"""


def brightness(part: Locator) -> float:
    """Of its background: 0 black, 1 white."""
    return float(part.evaluate(BRIGHTNESS))


def test_the_page_is_as_dark_as_the_system(studio_screen: Screen) -> None:
    page, switch = studio_screen.page, studio_screen.page.get_by_role("button", name="Dark mode")
    expect(switch).to_have_attribute("aria-pressed", "false")
    assert brightness(page.locator("body")) > 0.9

    page.emulate_media(color_scheme="dark")
    studio_screen.reload()

    expect(switch).to_have_attribute("aria-pressed", "true")
    assert brightness(page.locator("body")) < 0.2
    assert accessibility_problems(page, "color-contrast") == ""


def test_the_switch_wins_over_the_system_and_is_kept(studio_screen: Screen) -> None:
    page, switch = studio_screen.page, studio_screen.page.get_by_role("button", name="Dark mode")
    for system, pressed in (("light", "true"), ("dark", "false")):
        page.emulate_media(color_scheme="light" if system == "light" else "dark")
        if switch.get_attribute("aria-pressed") != pressed:
            switch.click()
        expect(switch).to_have_attribute("aria-pressed", pressed)

        studio_screen.reload()

        expect(switch).to_have_attribute("aria-pressed", pressed)
        assert (brightness(page.locator("body")) < 0.2) == (pressed == "true")
    assert accessibility_problems(page, "color-contrast") == ""
