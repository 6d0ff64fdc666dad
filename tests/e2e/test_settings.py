"""The settings dialog: providers come and go, wishes are kept, and what is wrong is said where it is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.running import Desk, Studio, wait_for
from tests.e2e.screen import REFUSED, Screen
from tests.e2e.test_axe import assert_nothing_found
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port

SECRET = "sk-not-to-be-seen-1234"
FILE = "# My desk.\nlog_level: info   # not too much\n"


@pytest.fixture
def file(studio_desk: Desk) -> Iterator[Path]:
    """The desk's own lmdesk.yaml, with a comment in it; empty again afterwards."""
    path = Path(studio_desk.get("/settings")["file"])
    path.write_text(FILE)
    studio_desk.get("/settings")
    yield path
    path.write_text("")
    studio_desk.get("/settings")


def opened(screen: Screen, section: str = "Providers") -> Locator:
    screen.page.get_by_role("button", name="Settings", exact=True).click()
    sheet = screen.page.get_by_role("dialog", name="Settings")
    sheet.get_by_role("tab", name=section, exact=True).click()
    expect(sheet.get_by_role("tabpanel")).not_to_contain_text("Looking")
    return sheet


def button(sheet: Locator, name: str) -> Locator:
    return sheet.get_by_role("button", name=name, exact=True)


def test_a_provider_is_tried_added_switched_off_removed_and_brought_back(
    studio_screen: Screen, studio_desk: Desk, file: Path
) -> None:
    workshop = ScriptedLMStudio(token=SECRET, models=[ScriptedModel("mistral/small")])
    with Studio(workshop).up() as other:
        sheet = opened(studio_screen)
        lmstudio = sheet.get_by_role("listitem").filter(has_text="LM Studio")
        expect(lmstudio).to_contain_text("is ready with 1 model")
        expect(lmstudio).to_contain_text("LMDESK_LMSTUDIO_URL")

        button(sheet, "Add a provider").click()
        sheet.get_by_label("Name", exact=True).fill("workshop")
        sheet.get_by_label("Kind", exact=True).select_option("lmstudio")
        sheet.get_by_label("Address", exact=True).fill(f"{other.url}/v1")
        button(sheet, "Test").click()
        result = sheet.locator(".result")
        expect(result).to_contain_text("token")
        sheet.get_by_label("API token").fill(SECRET)
        button(sheet, "Test").click()
        expect(result).to_contain_text("It has 1 model.")
        assert file.read_text() == FILE, "nothing was saved yet"
        button(sheet, "Save").click()

        row = sheet.get_by_role("listitem").filter(has_text="workshop")
        expect(row).to_contain_text("is ready with 1 model")
        expect(sheet.get_by_role("status").filter(has_text="saved")).to_be_visible()
        assert file.read_text() == FILE + (
            f"\nproviders:\n  workshop:\n    kind: lmstudio\n    base_url: {other.url}/v1\n"
            f"    token: {SECRET}\n"
        )
        assert SECRET not in studio_screen.page.content()
        wait_for(
            lambda: (
                "workshop:mistral/small" in {m["full_name"] for m in studio_desk.get("/models/")}
            )
        )

        button(sheet, "Switch off workshop").click()
        expect(row).to_contain_text("Switched off.")
        button(sheet, "Switch on workshop").click()
        expect(row).to_contain_text("is ready")
        button(sheet, "Remove workshop").click()
        expect(row).to_have_count(0)
        assert file.read_text() == FILE + "\nproviders:\n"
        button(sheet, "Undo").click()
        expect(row).to_contain_text("is ready with 1 model")
        assert SECRET in file.read_text()


def test_what_is_wrong_is_said_at_its_field_and_escape_leads_back(
    studio_screen: Screen, file: Path
) -> None:
    studio_screen.allow(REFUSED)
    studio_screen.page.keyboard.press("Control+,")
    sheet = studio_screen.page.get_by_role("dialog", name="Settings")
    button(sheet, "Add a provider").click()
    name, address = (sheet.get_by_label(each, exact=True) for each in ("Name", "Address"))
    button(sheet, "Save").click()
    expect(name).to_have_attribute("aria-invalid", "true")
    name.fill("work")
    address.fill("ftp://a.lan")
    button(sheet, "Save").click()
    expect(address).to_be_focused()
    expect(
        sheet.get_by_role("alert").filter(has_text="not the address of a web server")
    ).to_be_visible()
    expect(name).not_to_have_attribute("aria-invalid", "true")
    address.fill(f"http://127.0.0.1:{free_port()}")
    name.fill("a:b")
    button(sheet, "Save").click()
    expect(name).to_be_focused()
    expect(sheet.get_by_role("alert").filter(has_text="letters, digits")).to_be_visible()
    assert file.read_text() == FILE

    # Nothing that was typed goes without a word.
    studio_screen.page.keyboard.press("Escape")
    expect(sheet).to_contain_text("There are changes that are not saved.")
    button(sheet, "Discard them").click()
    expect(sheet).to_be_hidden()
    opened(studio_screen)
    studio_screen.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(studio_screen.page.get_by_role("button", name="Settings", exact=True)).to_be_focused()


def test_wishes_for_models_and_memory_are_kept_and_a_mistake_in_the_file_is_shown(
    studio_screen: Screen, studio_desk: Desk, file: Path
) -> None:
    sheet = opened(studio_screen, "Models")
    expect(sheet.get_by_text("nothing leaves your machines")).to_be_visible()
    coding = sheet.get_by_label("Coding", exact=True)
    coding.fill("*qwen*, nobody/knows")
    expect(sheet.get_by_text("No model here is called nobody/knows now.")).to_be_visible()
    expect(sheet.get_by_text("Not saved yet")).to_be_visible()
    button(sheet, "Save").click()
    expect(sheet.get_by_text("It counts from the next question.")).to_be_visible()
    expect(coding).to_have_value("*qwen*, nobody/knows")

    sheet.get_by_role("tab", name="Start and memory").click()
    sheet.get_by_label("Keep models within").fill("12GiB")
    button(sheet, "Save").click()
    expect(sheet.get_by_text("Not saved yet")).to_be_hidden()
    written = file.read_text()
    assert written == FILE + (
        '\nmodels:\n  preferences:\n    coding: ["*qwen*", nobody/knows]\nkeep_models_within: 12GiB\n'
    )

    file.write_text(written.replace("log_level", "log_levle"))
    wrong = sheet.locator(".file-problem")
    expect(wrong).to_contain_text("'log_levle'")
    expect(wrong).to_contain_text("line 2")
    expect(wrong).to_contain_text("Did you mean log_level?")
    assert studio_desk.get("/settings")["file_problem"]
    file.write_text(written)
    expect(wrong).to_be_hidden()


def test_how_long_agents_wait_and_runs_and_tool_servers_stay_is_said_in_the_page(
    studio_screen: Screen, studio_desk: Desk, file: Path
) -> None:
    studio_screen.allow(REFUSED)
    sheet = opened(studio_screen, "Agents and tools")
    waits = sheet.get_by_label("Wait for your yes")
    expect(waits).to_have_value("5")
    waits.fill("0")
    button(sheet, "Save").click()
    expect(waits).to_be_focused()
    expect(sheet.get_by_role("alert").filter(has_text="greater than 0")).to_be_visible()

    waits.fill("12")
    sheet.get_by_label("Tool servers at once").fill("3")
    button(sheet, "Save").click()

    expect(sheet.get_by_text("Saved.", exact=True)).to_be_visible()
    assert file.read_text() == FILE + "approval_minutes: 12\n\ntools:\n  max_running: 3\n"
    changed = {each["key"]: each["value"] for each in studio_desk.get("/settings")["settings"]}
    assert (changed["approval_minutes"], changed["tools.max_running"]) == (12, 3)
    waits.fill("")
    button(sheet, "Save").click()
    expect(waits).to_have_value("5")
    button(sheet, "Undo").click()
    expect(waits).to_have_value("12")


def test_a_page_begins_with_the_model_that_is_wished_for(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk, file: Path
) -> None:
    studio.models["google/gemma-3-4b"] = ScriptedModel("google/gemma-3-4b")
    studio_desk.get("/models/", refresh=True)
    file.write_text(FILE + "models: {default: google/gemma-3-4b}\n")
    assert not studio_desk.get("/settings")["file_problem"]
    studio_screen.page.evaluate("localStorage.clear()")
    studio_screen.reload()
    expect(studio_screen.model).to_have_value(re.compile("GEMMA", re.IGNORECASE))


def test_what_leaves_the_machine_is_said_before_it_may(
    studio_screen: Screen, studio_desk: Desk, file: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    file.write_text(f"providers:\n  cloud: {{kind: openai, base_url: '{url}', remote: true}}\n")
    sheet = opened(studio_screen, "Models")
    consent = sheet.get_by_role("checkbox", name="Ask cloud")
    expect(consent).not_to_be_checked()
    expect(consent).to_have_accessible_description(
        f"Then your question, the conversation before it and the agent's instructions are sent to "
        f"{url.removeprefix('http://')}, to somebody else's computer. The answer says when that "
        "happened."
    )
    consent.check()
    button(sheet, "Save").click()
    expect(button(sheet, "Undo")).to_be_visible()
    assert file.read_text().endswith("fallback:\n  remote: [cloud]\n")
    button(sheet, "Undo").click()
    expect(consent).not_to_be_checked()
    assert "fallback" not in file.read_text()


@pytest.mark.parametrize("section", ["Providers", "Models", "Start and memory", "About"])
def test_axe_finds_nothing(studio_screen: Screen, file: Path, section: str) -> None:
    file.write_text(
        "providers:\n  cloud: {kind: openai, base_url: 'http://127.0.0.1:9', remote: true}\n"
    )
    sheet = opened(studio_screen, section)
    if section == "Providers":
        button(sheet, "Add a provider").click()
    if section == "About":
        sheet.get_by_text("Every setting", exact=True).first.click()
    assert_nothing_found(studio_screen)
    if section == "Providers":
        button(sheet, "Cancel").click()
        assert_nothing_found(studio_screen)
