"""Takes the pictures of runs: the real page and API, a real tool server, and a scripted model.

Run it from a checkout with the development environment:
.venv/bin/python scripts/runs_pictures.py
"""

import json
import re
import sys
import tempfile
from pathlib import Path

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.agent_upstream import AgentUpstream, Call, Say
from tests.e2e.running import Desk, Studio

IMAGES = Path(__file__).parent.parent / "docs" / "images"
NOTEBOOK = Path(__file__).parent.parent / "tests" / "e2e" / "notebook.py"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
LOOKS = (("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("phone", "light", 390, 844))
PATIENCE_MS = 20_000
MODEL = "lmstudio:qwen/qwen3-4b"
MONDAY = "# Monday\n\n- Call the plumber: the tap still drips\n- Lunch with Ada at 12\n"
ANSWER = """Tuesday is **planned**:

| when | what |
|---|---|
| 9:00 | the plumber, for the tap in the kitchen |
| then | the minutes for Ada |

What I wrote is in `tuesday.md`."""
TUESDAY = "# Tuesday\n\n- 9:00 plumber, tap in the kitchen\n- Send Ada the minutes"


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    upstream = AgentUpstream()
    upstream.plays(
        Say(
            "I look at Monday first.",
            [planned("in_progress", "open", "open"), Call("read", {"page": "monday.md"})],
            usage=(512, 81),
        ),
        Say(
            "The plumber is still open, and Ada waits for the minutes. I write Tuesday.",
            [
                planned("done", "in_progress", "open"),
                Call("write", {"page": "tuesday.md", "text": TUESDAY}),
            ],
            usage=(718, 134),
        ),
        Say("", [planned("done", "done", "done")], usage=(934, 60)),
        Say(ANSWER, usage=(1031, 41)),
    )
    with tempfile.TemporaryDirectory() as folder, Studio(upstream).up() as studio:
        desk = office(Path(folder), studio)
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


def planned(*states: str) -> Call:
    """The running plan, its items in these states."""
    texts = ("Read Monday", "Write Tuesday", "Tell what is planned")
    items = [{"text": text, "state": state} for text, state in zip(texts, states, strict=True)]
    return Call("update_plan", {"items": items})


def office(folder: Path, studio: Studio) -> Desk:
    """A desk with a notebook that is trusted, and an agent that may use it."""
    pages = folder / "pages"
    pages.mkdir()
    pages.joinpath("monday.md").write_text(MONDAY)
    entry = {"command": sys.executable, "args": [str(NOTEBOOK), str(pages)]}
    folder.joinpath("data").mkdir()
    folder.joinpath("data", "mcp.json").write_text(json.dumps({"mcpServers": {"notebook": entry}}))
    desk = Desk(folder, lmstudio_url=studio.url, embedded="off")
    desk.start()
    looked_at = desk.get("/tool-servers/notebook")
    desk.post("/tool-servers/notebook/trust", {"hash": looked_at["hash"]})
    desk.post("/agents", {"name": "Secretary", "tools": [{"server": "notebook"}]})
    return desk


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
    desk.clean()
    chat = desk.new_chat(agent_id="secretary", model_id=MODEL)
    page.goto(f"{desk.url}/?chat={chat}")
    expect(page.get_by_role("combobox", name="Agent")).to_have_value("Secretary")
    page.get_by_role("textbox", name="Message", exact=True).fill("Plan Tuesday from Monday.")
    page.get_by_role("button", name="Send", exact=True).click()
    form = page.get_by_role("group", name=re.compile("May notebook.write run"))
    expect(form).to_be_focused()
    expect(page.locator("#phase-line")).to_contain_text("Waiting for you")
    expect(page.locator("[data-act=runs]")).to_have_attribute("data-asks", "")
    page.screenshot(path=IMAGES / f"runs-asks-{name}.png")
    form.get_by_role("button", name="Approve", exact=True).click()
    expect(page.locator(".run-fold")).to_contain_text("2 tool calls")
    if phone:
        page.locator("#more").click()
    page.get_by_role("button", name=re.compile("^Runs")).click()
    dialog = page.get_by_role("dialog", name="Runs", exact=True)
    if phone:
        dialog.locator(".list button").first.click()
    expect(dialog.locator(".end")).to_have_text("Done.")
    dialog.locator(".pane").evaluate("(node) => { node.scrollTop = node.scrollHeight; }")
    page.screenshot(path=IMAGES / f"runs-{name}.png")
    context.close()


if __name__ == "__main__":
    raise SystemExit(main())
