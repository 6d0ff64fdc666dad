"""Takes the pictures of the Timeline: the real page and API, a scripted LM Studio and GPU.

Run it from a checkout with the development environment, on Linux with a C compiler:
.venv/bin/python scripts/flight_pictures.py
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, expect, sync_playwright
from switching_pictures import ARGUMENTS, GB, IMAGES, LOOKS, PATIENCE_MS, PHI, QWEN, FurnishedStudio

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running import Desk, Studio, wait_for
from tests.frames import chunk, ending
from tests.nvml import build
from tests.sockets import Send, Watch, part

QUESTION = "Which of the three walks is best with a pushchair, and why?"
THOUGHT = "They gave three walks. A pushchair needs an even path and no stairs, so the second. " * 2
ANSWER = """The second one, along the river.

- It is paved from end to end, and has **no stairs**
- There is a café half way, with a place to change nappies
- The tram back takes pushchairs at every door

The first has cobbles, and the third climbs two flights of steps.
"""
# Percent of the GPU in each phase, and gigabytes of its memory at its end.
BUSY = {"queued": 2, "unloading": 4, "loading": 18, "reading": 99, "thinking": 92, "writing": 90}
EMPTY, FULL = 1.3, 7.1


class UnhurriedStudio(FurnishedStudio):
    """Loads, reads, thinks and writes slowly enough to be watched."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.hangs, self.load_steps = None, False, 40

    async def _unload(self, body: dict[str, Any], send: Send) -> None:
        await asyncio.sleep(0.9)
        await super()._unload(body, send)

    async def _numbered(self, model: str, count: int, watch: Watch, send: Send) -> None:
        await asyncio.sleep(1.3)
        pause = 0.03 if model == PHI else 0.12
        for name, text in (("reasoning_content", THOUGHT), ("content", ANSWER)):
            for word in re.findall(r"\S+\s*", text):
                await part(send, chunk({name: word}, model=model))
                await asyncio.sleep(pause)
        await part(send, b"".join(ending(model, 96)))


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Studio(UnhurriedStudio()).up() as studio:
        card = Path(folder) / "gpus.conf"
        use(card, FULL, 2)
        desk = Desk(
            Path(folder),
            lmstudio_url=studio.url,
            embedded="off",
            environment={
                "LD_LIBRARY_PATH": str(build(Path(folder))),
                "NVML_STUB_FILE": str(card),
            },
        )
        desk.start()
        try:
            chat = answered(desk, studio, card)
            with sync_playwright() as playwright:
                chromium = named() or installed() or playwrights()
                browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                for look in LOOKS:
                    shoot(browser, desk, chat, *look)
                browser.close()
        finally:
            desk.stop()
    return 0


def use(card: Path, gigabytes: float, percent: int) -> None:
    """Let the stand-in for the GPU say that it is so busy, and so full."""
    facts: dict[str, Any] = {"uuid": "GPU-a", "name": "NVIDIA GeForce RTX 4070", "total": 12 * GB}
    facts |= {"reserved": 0, "used": int(gigabytes * GB), "util": percent, "temp": 58}
    facts |= {"power": 141000, "limit": 200000}
    fresh = card.with_suffix(".new")
    fresh.write_text("\n".join(["count=1", *(f"gpu0.{k}={v}" for k, v in facts.items()), ""]))
    fresh.replace(card)


def answered(desk: Desk, studio: Studio, card: Path) -> str:
    """A chat with an answer that waited for another one, whose model then made room for its own."""
    desk.post("/models/load", {"model_id": PHI})
    other = desk.new_chat(title="Bread without kneading", model_id=f"lmstudio:{PHI}")
    first = desk.ask(other, "How long does dough rest in the fridge?")
    wait_for(lambda: desk.get(f"/jobs/{first}")["phase"] == "thinking", what="the other answer")
    studio.app.load_may_go.clear()
    chat = str(desk.new_chat(title="Walks with a pushchair", model_id=f"lmstudio:{QWEN}"))
    swap = {"model_id": QWEN, "unload": [PHI], "when": "idle"}
    desk.post("/models/swap", swap)
    job_id = desk.ask(chat, QUESTION)
    memory, looks = FULL, 0

    def over() -> bool:
        nonlocal memory, looks
        job = desk.get(f"/jobs/{job_id}")
        phase = job["phase"] or "queued"
        looks += 1
        if phase == "loading" and not studio.app.load_may_go.is_set():
            memory = EMPTY if memory == FULL else min(FULL, memory + 0.02)
            if memory >= FULL and studio.loop:
                studio.loop.call_soon_threadsafe(studio.app.load_may_go.set)
        use(card, memory, min(99, BUSY[phase] + looks % 7))
        return bool(job["state"] != "running")

    wait_for(over, seconds=120, what="the answer")
    return chat


def shoot(
    browser: Browser, desk: Desk, chat: str, name: str, scheme: str, width: int, height: int
) -> None:
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
    page.goto(f"{desk.url}/?chat={chat}")
    page.get_by_role("button", name="Timeline", exact=True).click()
    dialog = page.get_by_role("dialog", name="Timeline")
    expect(dialog.get_by_role("img", name=re.compile("^VRAM"))).to_be_visible(timeout=PATIENCE_MS)
    page.screenshot(path=IMAGES / f"timeline-{name}.png")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
