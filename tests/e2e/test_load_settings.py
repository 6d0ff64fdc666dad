"""How a model is loaded: set in a dialog, remembered, and what the model is then loaded with."""

from playwright.sync_api import Locator, expect

from tests.e2e.screen import Screen


def dialog(screen: Screen) -> Locator:
    screen.page.get_by_role("button", name="Load settings").click()
    return screen.page.get_by_role("dialog", name="is loaded")


def test_a_context_that_was_set_is_what_the_model_is_loaded_with(screen: Screen) -> None:
    screen.choose("endless")
    sheet = dialog(screen)
    context = sheet.get_by_label("Context length")
    expect(context).to_have_value("")
    context.fill("300")
    expect(sheet.get_by_role("status")).to_contain_text("needs")
    expect(sheet).to_contain_text("set for this model")
    sheet.get_by_role("button", name="Save", exact=True).click()
    expect(sheet).to_be_hidden()

    screen.load.click()
    expect(screen.unload).to_be_enabled()
    sheet = dialog(screen)
    expect(sheet).to_contain_text("It is loaded with 300 tokens of context now.")
    expect(sheet.get_by_label("Context length")).to_have_value("300")

    sheet.get_by_role("button", name="Reset").click()
    sheet.get_by_label("Context length").fill("400")
    sheet.get_by_role("button", name="Save and load again").click()
    expect(screen.unload).to_be_enabled()
    expect(screen.model_card).to_contain_text("400")
    sheet = dialog(screen)
    sheet.get_by_role("button", name="Reset").click()
    sheet.get_by_role("button", name="Save", exact=True).click()
    expect(sheet).to_be_hidden()
    screen.unload.click()
    expect(screen.load).to_be_enabled()


def test_a_value_out_of_range_is_named_and_nothing_is_saved(screen: Screen) -> None:
    screen.choose("endless")
    sheet = dialog(screen)
    context = sheet.get_by_label("Context length")
    context.fill("5")
    sheet.get_by_role("button", name="Save", exact=True).click()
    expect(sheet.get_by_role("alert")).to_contain_text("Context length: between 128 and")
    expect(context).to_be_focused()
    screen.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(screen.page.get_by_role("button", name="Load settings")).to_be_focused()

    sheet = dialog(screen)
    expect(sheet.get_by_label("Context length")).to_have_value("")
    screen.page.keyboard.press("Escape")
