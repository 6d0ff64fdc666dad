"""Takes the pictures of Compare: the real page and API, and two scripted models.

Run it from a checkout with the development environment:
.venv/bin/python scripts/compare_pictures.py
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running import Desk, Studio
from tests.frames import chunk, ending
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import Send, Watch, part, start

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
LOOKS = (("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("phone", "light", 390, 844))
PATIENCE_MS = 30_000
QUESTION = "When is a hash table the wrong choice? Three cases, each with what to use instead."
LONG = """A hash table is fast for exact keys and little else. Three cases:

1. **You need order.** Ranges and “the next larger key” touch every entry. Use a *balanced tree* or a sorted array.
2. **The worst case counts.** A resize, or keys that collide, turn one step into many. Use a tree, or a table of fixed size.
3. **There are few entries.** Below about ten, a plain array is faster, because it is read in one go.

```python
def find(pairs: list[tuple[str, int]], key: str) -> int | None:
    return next((value for name, value in pairs if name == key), None)
```
"""
SHORT = """| case | use instead |
|---|---|
| ranges, sorted output | B-tree |
| hard deadlines | balanced tree |
| prefixes of words | trie |

In short: whenever you ask for more than *“is exactly this key there?”*
"""
MODELS = {"qwen/qwen3-4b": (LONG, 45), "google/gemma-3-4b": (SHORT, 28)}


class TwoModels(ScriptedLMStudio):
    """Each says its own, at its own speed."""

    def __init__(self) -> None:
        super().__init__(models=[ScriptedModel(key, instances={key: 8192}) for key in MODELS])

    async def _chat(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        text, rate = MODELS[body["model"].partition(":")[0]]
        words = re.findall(r"\S+\s*", text)
        await start(send, "text/event-stream")
        for word in words:
            await asyncio.sleep(1 / rate)
            await part(send, chunk({"content": word}, model=body["model"]))
        await part(send, b"".join(ending(body["model"], len(words))))
        await part(send, b"", more=False)


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Studio(TwoModels()).up() as studio:
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
    expect(page.get_by_role("combobox", name="Agent")).not_to_have_value("")
    page.keyboard.press("Alt+KeyP")
    dialog = page.locator("dialog.compare")
    for number, model in enumerate(MODELS, 1):
        if phone:
            dialog.locator(".tabs button").nth(number - 1).click()
        dialog.get_by_label(f"Model of column {number}").select_option(f"lmstudio:{model}")
    page.screenshot(path=IMAGES / f"compare-new-{name}.png")
    dialog.get_by_role("textbox", name="Question for all columns").fill(QUESTION)
    dialog.get_by_role("button", name="Ask", exact=True).click()
    expect(dialog.locator(".column .state").nth(1)).to_have_text("Waiting")
    if phone:
        dialog.locator(".tabs button").first.click()
    expect(dialog.locator(".column").first).to_contain_text("Three cases:")
    expect(dialog.locator(".measured")).to_contain_text("Measured one by one", timeout=PATIENCE_MS)
    page.screenshot(path=IMAGES / f"compare-{name}.png")
    context.close()


if __name__ == "__main__":
    raise SystemExit(main())
