"""Recipes in the page: made, carried out in a chat of their own, taken back when deleted."""

import re

from playwright.sync_api import expect

from tests.e2e.screen import REFUSED, Screen
from tests.servers import ScriptedLMStudio


def test_a_recipe_of_two_steps_is_made_and_carried_out(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    studio.tokens = 4
    screen.page.keyboard.press("Alt+c")
    dialog = screen.page.get_by_role("dialog", name="Recipes")
    dialog.get_by_role("button", name="New recipe").click()
    screen.allow(REFUSED)  # a recipe without a name
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("name")

    dialog.get_by_label("Name", exact=True).fill("Plan and build")
    dialog.get_by_label("Agent of Step 1").select_option("research")
    dialog.get_by_label("What Step 2 is asked").fill("Go on with: {{previous}}")
    # What was typed is there again, after Esc and a reload, until it is saved or discarded.
    screen.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    screen.reload()
    screen.page.keyboard.press("Alt+c")
    dialog.get_by_role("button", name="New recipe").click()
    expect(dialog.get_by_label("Name", exact=True)).to_have_value("Plan and build")
    expect(dialog.get_by_label("Agent of Step 1")).to_have_value("research")
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_role("button", name=re.compile("^Plan and build")).click()
    dialog.get_by_label("Purpose").fill("Never mind")
    dialog.get_by_role("button", name="Back", exact=True).click()
    expect(dialog.get_by_role("list")).to_contain_text("Changed, not saved")
    dialog.get_by_role("button", name=re.compile("^Plan and build")).click()
    expect(dialog.get_by_label("Purpose")).to_have_value("Never mind")
    dialog.get_by_role("button", name="Discard changes").click()
    expect(dialog.get_by_label("Purpose")).to_have_value("")
    dialog.get_by_role("button", name="Back", exact=True).click()
    dialog.get_by_role("button", name="Run", exact=True).click()
    dialog.get_by_label("Input for Plan and build").fill("Sort a list")
    screen.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    screen.page.keyboard.press("Alt+c")
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(dialog.get_by_label("Input for Plan and build")).to_have_value("Sort a list")
    dialog.get_by_role("button", name="Run", exact=True).click()

    expect(dialog).to_have_count(0)
    expect(screen.conversation).to_contain_text("Sort a list")
    expect(screen.conversation).to_contain_text("Go on with: 0 1 2 3")
    expect(screen.answers).to_have_count(2)
    assert re.search(r"\?chat=", screen.page.url)


def test_a_deleted_recipe_comes_back(studio_screen: Screen) -> None:
    screen = studio_screen
    for recipe in screen.desk.get("/recipes"):
        screen.desk.http.delete(f"/recipes/{recipe['id']}")
    screen.desk.post("/recipes", {"name": "Twice", "steps": [{"prompt": "{{input}}"}]})
    screen.page.keyboard.press("Alt+c")
    dialog = screen.page.get_by_role("dialog", name="Recipes")
    dialog.get_by_role("button", name=re.compile("^Twice")).click()
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(dialog).to_contain_text("No recipes yet.")

    screen.page.get_by_role("button", name="Undo").click()
    expect(dialog.get_by_role("button", name=re.compile("^Twice"))).to_be_visible()
