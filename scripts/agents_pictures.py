"""Takes the pictures of the agents dialog: the real page and API, a scripted LM Studio.

Run it from a checkout with the development environment and a font with emoji:
.venv/bin/python scripts/agents_pictures.py
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, expect, sync_playwright
from switching_pictures import ARGUMENTS, IMAGES, LOOKS, PATIENCE_MS, QWEN, FurnishedStudio

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running import Desk, Studio
from tests.frames import chunk, ending
from tests.sockets import Send, Watch, part

CHEF = {
    "name": "Chef",
    "picture": "🍲",
    "description": "Cooks with what is in the fridge.",
    "instructions": (
        "You are a chef who cooks with what is there. Today is {{weekday}}.\n\n"
        "Ask about allergies once, never propose to go shopping, and keep each recipe under ten"
        " lines. End with what can be prepared the day before."
    ),
    "starters": ["What can I cook with: ", "Plan three dinners for two."],
    "models": [f"lmstudio:{QWEN}", "*gemma*"],
    "parameters": {"temperature": 0.6},
}
OTHERS = (
    {"name": "Proofreader", "picture": "✍️", "description": "Finds mistakes, keeps the voice."},
    {
        "name": "Gardener",
        "picture": "🌱",
        "description": "What to sow, cut and water, week by week.",
    },
)
QUESTION = "Two eggs, half a leek, stale bread. I am hungry."
ANSWER = """Any allergies I should know about? If not: a leek strata for one.

1. Cut the bread into cubes, slice the leek thinly
2. Soften the leek in butter for five minutes, with a pinch of salt
3. Beat the eggs with a splash of milk and pepper, pour over the bread
4. Stir in the leek, rest ten minutes, then bake at 190 °C for twenty

The day before: all of it but the baking."""


class ChattyStudio(FurnishedStudio):
    """Answers as a chef would, at the speed of a small model."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.hangs = None, False

    async def _numbered(self, model: str, count: int, watch: Watch, send: Send) -> None:
        words = re.findall(r"\s*\S+", ANSWER)
        for word in words:
            await part(send, chunk({"content": word}, model=model))
            await asyncio.sleep(0.03)
        await part(send, b"".join(ending(model, len(words))))


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Studio(ChattyStudio()).up() as studio:
        desk = Desk(Path(folder), lmstudio_url=studio.url, embedded="off")
        desk.start()
        try:
            desk.post("/models/load", {"model_id": QWEN})
            for agent in (CHEF, *OTHERS):
                desk.post("/agents", agent)
            with sync_playwright() as playwright:
                chromium = named() or installed() or playwrights()
                browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                for look in LOOKS:
                    shoot(browser, desk, *look)
                browser.close()
        finally:
            desk.stop()
    return 0


def shoot(browser: Browser, desk: Desk, name: str, scheme: str, width: int, height: int) -> None:
    phone = width < 800
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-US",
        is_mobile=phone,
        has_touch=phone,
        device_scale_factor=2 if phone else 1,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(desk.url)
    expect(page.get_by_role("combobox", name="Agent", exact=True)).not_to_have_value("")
    page.get_by_role("button", name="Agents", exact=True).click()
    dialog = page.get_by_role("dialog", name="Agents")
    dialog.get_by_role("listitem").filter(has_text="Chef").get_by_role("button").click()
    expect(dialog.locator(".cost")).to_contain_text("tokens", timeout=PATIENCE_MS)
    if not phone:
        message = dialog.get_by_role("textbox", name="Test message")
        message.fill(QUESTION)
        message.press("Enter")
        expect(dialog.locator(".answer .state")).to_contain_text("tokens", timeout=PATIENCE_MS)
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=IMAGES / f"agents-{name}.png")
    page.evaluate("localStorage.clear()")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
