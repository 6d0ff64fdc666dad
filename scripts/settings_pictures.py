"""Takes the pictures of the settings: the real page and API in front of scripted servers.

Run it from a checkout with the development environment:
.venv/bin/python scripts/settings_pictures.py
"""

import sys
import tempfile
from pathlib import Path

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running import Desk, Studio
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
LOOKS = (("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("phone", "light", 390, 844))
PATIENCE_MS = 20_000
FILE = """\
providers:
  # the two machines upstairs
  studios:
    kind: lmstudio
    base_urls: [{upstairs}, http://127.0.0.1:{nobody}]
  huggingface:
    enabled: false
models:
  preferences:
    coding: ["*coder*", "google/gemma-3-12b"]
    general: [qwen/qwen3-8b]
"""


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    here = ScriptedLMStudio(models=[ScriptedModel("qwen/qwen3-8b"), ScriptedModel("qwen/coder")])
    there = ScriptedLMStudio(models=[ScriptedModel("google/gemma-3-12b")])
    with (
        tempfile.TemporaryDirectory() as folder,
        Studio(here).up() as studio,
        Studio(there).up() as upstairs,
    ):
        text = FILE.format(upstairs=upstairs.url, nobody=free_port())
        Path(folder, "lmdesk.yaml").write_text(text)
        desk = Desk(Path(folder), lmstudio_url=studio.url, embedded="off")
        desk.start()
        try:
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
        reduced_motion="reduce",  # so that nothing is caught half-way
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(desk.url)
    expect(page.get_by_role("combobox", name="Model", exact=True)).not_to_have_value("")
    if phone:
        page.locator("#more").click()
    page.get_by_role("button", name="Settings", exact=True).click()
    sheet = page.get_by_role("dialog", name="Settings")
    expect(sheet).to_contain_text("is ready with 2 models")
    expect(sheet).to_contain_text("is ready with 1 model.")
    expect(sheet).to_contain_text("does not answer")
    page.screenshot(path=IMAGES / f"settings-{name}.png")
    context.close()


if __name__ == "__main__":
    raise SystemExit(main())
