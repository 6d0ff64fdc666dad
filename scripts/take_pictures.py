"""Takes the pictures of docs/images from the real page, with the real starter model.

Those of changing models come from switching_pictures.py, with a scripted LM Studio.

Run it from a checkout with the development environment: .venv/bin/python scripts/take_pictures.py
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from find_chromium import installed, named, playwrights
from playwright.sync_api import Page, expect, sync_playwright
from switching_pictures import main as take_switching

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
QUESTIONS = (
    "Give me three reasons to go for a walk, as a list.",
    "Explain how a language model picks its next word, in five sentences.",
)
LOOKS = (
    ("light", "light", 1440, 900),
    ("dark", "dark", 1440, 900),
    ("phone", "light", 390, 844),
)
ANSWER_MS = 120_000


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    chromium = named() or installed() or playwrights()
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        desk = start(data)
        try:
            url = desk.stdout.readline().split()[-1] if desk.stdout else ""
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-US")
            link = converse(page, url)
            for look, scheme, width, height in LOOKS:
                shoot(browser, link, look, scheme, width, height)
            browser.close()
        finally:
            desk.terminate()
            desk.wait(20)
    return take_switching()


def start(data: str) -> subprocess.Popen[str]:
    env = {**os.environ, "LMDESK_DATA_DIR": data, "LMDESK_LMSTUDIO_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--no-open"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def converse(page: Page, url: str) -> str:
    page.goto(url)
    box = page.get_by_role("textbox", name="Message")
    expect(page.get_by_role("combobox", name="Model")).to_have_value(re.compile("SmolLM2"))
    for question in QUESTIONS:
        box.fill(question)
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name="Stop").wait_for()
        page.get_by_role("button", name="Send").wait_for(timeout=ANSWER_MS)
    return page.url


def shoot(browser, url: str, look: str, scheme: str, width: int, height: int) -> None:
    """The desk, and the dialogs that have no pictures of their own elsewhere."""
    phone = width < 800
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale="en-US",
        is_mobile=phone,
        has_touch=phone,
        device_scale_factor=2 if phone else 1,
    )
    page = context.new_page()
    page.goto(url)
    answers = page.get_by_role("region", name="Conversation").get_by_text("first token")
    expect(answers).to_have_count(len(QUESTIONS), timeout=20_000)
    expect(page.get_by_role("combobox", name="Model")).to_have_value(re.compile("SmolLM2"))
    if not phone:  # there they are in a drawer
        expect(page.get_by_role("region", name="System")).to_contain_text(re.compile(r"\d %"))
    page.screenshot(path=IMAGES / f"desk-{look}.png")
    page.get_by_role("button", name="What to do").first.click()
    connection = page.get_by_role("dialog", name="Connection")
    expect(connection).to_contain_text("Built-in engine")
    page.screenshot(path=IMAGES / f"connection-{look}.png")
    page.keyboard.press("Escape")
    expect(connection).to_be_hidden()
    if phone:
        page.get_by_role("button", name="Details panel").click()
    page.get_by_role("button", name="Load settings").click()
    need = page.get_by_role("dialog").get_by_role("status")
    expect(need).to_contain_text("needs")
    before = need.inner_text()
    page.get_by_label("Context length").fill("8192")
    expect(need).not_to_have_text(before)
    page.screenshot(path=IMAGES / f"load-settings-{look}.png")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
