"""Takes the pictures of Get models: the real page, API and engine, a scripted hub and GPU.

Run it from a checkout with the development environment, on Linux with a C compiler:
.venv/bin/python scripts/download_pictures.py
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, expect, sync_playwright
from switching_pictures import ARGUMENTS, IMAGES, LOOKS, PATIENCE_MS, use

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running import Desk, Studio, wait_for
from tests.hub import REVISION, ScriptedHub
from tests.nvml import build
from tests.sockets import Send, free_port, json_reply, part

QWEN = "bartowski/Qwen2.5-7B-Instruct-GGUF"
SIZES = {"Q2_K": 3.0, "Q4_K_M": 4.7, "Q6_K": 6.3, "Q8_0": 8.1, "F16": 15.2}
OTHERS = {
    "Qwen/Qwen2.5-Coder-14B-Instruct-GGUF": (412_000, 388),
    "unsloth/Qwen3-30B-A3B-GGUF": (298_000, 301),
    "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF": (88_000, 64),
}
BYTES_PER_STEP, STEP_SECONDS = 2**20, 0.03


class GenerousHub(ScriptedHub):
    """Files as large as they are in the world, of which only the beginning is ever sent."""

    def _found(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        known = {QWEN: (1_240_000, 930), **OTHERS}
        return [{"id": name, "downloads": d, "likes": n} for name, (d, n) in known.items()]

    async def _repository(self, name: str, send: Send) -> None:
        siblings = [
            {
                "rfilename": f"Qwen2.5-7B-Instruct-{quantization}.gguf",
                "size": int(size * 1e9),
                "blobId": f"{int(size * 1e9):040x}",
            }
            for quantization, size in SIZES.items()
        ]
        await json_reply(send, 200, {"id": name, "sha": REVISION, "siblings": siblings})

    async def _resolve(self, path: str, send: Send) -> None:
        size = next(int(size * 1e9) for q, size in SIZES.items() if path.endswith(f"{q}.gguf"))
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(600):  # no more than a temporary folder bears
            await part(send, bytes(BYTES_PER_STEP))
            await asyncio.sleep(STEP_SECONDS)
        await asyncio.Event().wait()


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Studio(GenerousHub({})).up() as hub:
        card = Path(folder) / "gpus.conf"
        use(card, 1.3)
        desk = Desk(
            Path(folder),
            lmstudio_url=f"http://127.0.0.1:{free_port()}",
            embedded="always",
            hf_endpoint=hub.url,
            environment={
                "LD_LIBRARY_PATH": str(build(Path(folder))),
                "NVML_STUB_FILE": str(card),
            },
        )
        desk.start()
        try:
            wait_for(lambda: desk.get("/models/"), what="the engine")
            job = desk.post("/downloads", {"model": f"{QWEN}:Q4_K_M"})
            with sync_playwright() as playwright:
                chromium = named() or installed() or playwrights()
                browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                for look in LOOKS:
                    shoot(browser, desk, *look)
                browser.close()
            desk.post(f"/jobs/{job['id']}/stop")
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
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
    if phone:
        page.get_by_role("button", name="Details panel").click()
    page.get_by_role("button", name=re.compile("^(Downloading|Get models)")).first.click()
    dialog = page.get_by_role("dialog", name="Get models")
    dialog.get_by_role("searchbox").fill("qwen 7b instruct")
    dialog.get_by_role("searchbox").press("Enter")
    dialog.get_by_role("button", name=QWEN).click()
    expect(dialog.get_by_text("Probably too big").first).to_be_visible(timeout=PATIENCE_MS)
    expect(dialog.get_by_text(re.compile("/s · .* left"))).to_be_visible(timeout=PATIENCE_MS)
    page.screenshot(path=IMAGES / f"downloads-{name}.png")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
