"""Takes the pictures of changing models: the real page and API, a scripted LM Studio and GPU.

Run it from a checkout with the development environment, on Linux with a C compiler:
.venv/bin/python scripts/switching_pictures.py
"""

import re
import sys
import tempfile
from pathlib import Path

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.running import Desk, Studio, wait_for
from tests.frames import chunk
from tests.nvml import build
from tests.servers import ScriptedLMStudio, ScriptedModel

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
LOOKS = (("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("phone", "light", 390, 844))
PATIENCE_MS = 20_000
GB = 2**30
NAMES = {
    "qwen/qwen3-8b": ("Qwen3 8B", "8B", 5.0e9),
    "google/gemma-3-12b": ("Gemma 3 12B", "12B", 6.6e9),
    "microsoft/phi-4-mini": ("Phi-4 mini", "3.8B", 2.5e9),
}
QWEN, GEMMA, PHI = NAMES
ANSWER = """Three days are enough for the centre, and slow mornings suit the hills.

1. **Alfama** early, before the trams fill up
2. **Belém** by the river, with the monastery in the afternoon light
3. A train to **Sintra** on a weekday, since weekends are crowded

Book the restaurants in"""


class FurnishedStudio(ScriptedLMStudio):
    """Models with the names people know, and an answer that stops in mid-sentence."""

    def __init__(self) -> None:
        models = [ScriptedModel(key, size_bytes=int(size)) for key, (_, _, size) in NAMES.items()]
        super().__init__(models=models)
        self.frames = [chunk({"content": word}) for word in re.findall(r"\S+\s*", ANSWER)]
        self.hangs = True

    @staticmethod
    def _native_model(model: ScriptedModel) -> dict[str, object]:
        name, parameters, _ = NAMES[model.key]
        known = ScriptedLMStudio._native_model(model)
        return known | {"display_name": name, "params_string": parameters}


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Studio(FurnishedStudio()).up() as studio:
        card = Path(folder) / "gpus.conf"
        use(card, 1.3)
        library = str(build(Path(folder)))
        desk = Desk(
            Path(folder),
            lmstudio_url=studio.url,
            embedded="off",
            environment={"LD_LIBRARY_PATH": library, "NVML_STUB_FILE": str(card)},
        )
        desk.start()
        try:
            furnish(desk, studio, card)
            with sync_playwright() as playwright:
                chromium = named() or installed() or playwrights()
                browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                for look in LOOKS:
                    shoot(browser, desk, *look)
                browser.close()
        finally:
            desk.stop()
    return 0


def use(card: Path, gigabytes: float) -> None:
    """Let the stand-in for the GPU say that so much of its memory is in use."""
    facts = {"uuid": "GPU-a", "name": "NVIDIA GeForce RTX 4070", "total": 12 * GB, "reserved": 0}
    facts |= {"used": int(gigabytes * GB), "util": 62, "temp": 58, "power": 141000, "limit": 200000}
    fresh = card.with_suffix(".new")
    fresh.write_text("\n".join(["count=1", *(f"gpu0.{k}={v}" for k, v in facts.items()), ""]))
    fresh.replace(card)


def furnish(desk: Desk, studio: Studio, card: Path) -> None:
    """One model of ours whose memory was measured, one of another program, and some chats."""
    wait_for(lambda: used(desk) == int(1.3 * GB), what="the GPU")
    studio.app.load_may_go.clear()
    job = desk.post("/models/load?wait=false", {"model_id": QWEN})
    use(card, 6.9)
    wait_for(lambda: used(desk) == int(6.9 * GB), what="the GPU's new figure")
    assert studio.loop
    studio.loop.call_soon_threadsafe(studio.app.load_may_go.set)
    wait_for(lambda: desk.get(f"/jobs/{job['id']}")["state"] == "done", what="the load")
    wait_for(lambda: desk.get("/models/memory")["bars"][0]["slices"][0]["source"] != "estimate")
    use(card, 9.7)
    studio.app.models[PHI].load(4096)
    desk.get("/models/", refresh=True)
    desk.post("/chats/import", walks())
    chat = desk.new_chat(title="Trip plan: Lisbon in May", model_id=f"lmstudio:{QWEN}")
    desk.ask(chat, "Plan three days in Lisbon in May, not too much walking.")


def used(desk: Desk) -> int:
    return int(desk.get("/hardware")["gpus"][0]["memory_used"])


def walks() -> dict[str, object]:
    """A chat with answers that ended in the ways the page tells apart."""
    truth = {"asked": f"lmstudio:{QWEN}", "answered": QWEN, "instance_id": QWEN}
    truth |= {"quantization": "Q4_K_M", "got_context": 8192}
    stats = {"tokens_per_second": 61.4, "output_tokens": 172, "time_to_first_token_seconds": 0.42}
    proof = {"stop_proof": {"state": "idle", "seconds": 0.4}}
    told: list[tuple[str, dict[str, object]]] = [
        (
            "Why go for a walk before breakfast?",
            {"content": "Daylight sets the clock in your head: a walk at seven makes"}
            | {"status": "stopped", "reason": "user", "stats": stats | proof},
        ),
        (
            "Shorter, please.",
            {"content": "Daylight early, better sleep at night.", "stats": stats}
            | {"model": truth | {"answered": PHI, "asked_context": 32768}},
        ),
        (
            "And in winter?",
            {"content": "In winter the light comes late, so move the walk to noon:"}
            | {"status": "interrupted", "reason": "model_unloaded", "stats": stats},
        ),
    ]
    messages: list[dict[str, object]] = []
    for question, answer in told:
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "model": truth, **answer},
        ]
    known = {"format": "lmdesk.chat", "version": 1, "title": "Walks before breakfast"}
    return known | {"model_id": f"lmstudio:{QWEN}", "messages": messages}


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
    chats = {chat["title"]: chat["id"] for chat in desk.get("/chats")["chats"]}

    open_chat(page, desk, chats["Walks before breakfast"])
    expect(page.get_by_role("button", name="Continue with Qwen3 8B")).to_be_visible()
    save(page, f"answers-{name}", ready=not phone)

    lisbon = chats["Trip plan: Lisbon in May"]
    desk.patch(f"/chats/{lisbon}", {"model_id": f"lmstudio:{QWEN}"})  # as picked before
    open_chat(page, desk, lisbon)
    expect(page.locator("#live")).to_contain_text("Book the restaurants in")
    if phone:
        page.get_by_role("button", name="Details panel").click()
        save(page, f"memory-{name}", ready=True)
        page.keyboard.press("Escape")
        expect(page.get_by_role("region", name="System")).to_be_hidden()
    else:
        save(page, f"memory-{name}", ready=True)
    page.get_by_role("combobox", name="Model", exact=True).click()
    page.get_by_role("option", name=re.compile("Gemma 3 12B")).click()
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("makes room for it")
    page.screenshot(path=IMAGES / f"swap-{name}.png")
    context.close()


def open_chat(page: Page, desk: Desk, chat_id: str) -> None:
    page.goto(f"{desk.url}/?chat={chat_id}")
    model = page.get_by_role("combobox", name="Model", exact=True)
    expect(model).to_have_value(re.compile("Qwen3 8B"), timeout=PATIENCE_MS)


def save(page: Page, name: str, *, ready: bool) -> None:
    if ready:  # on a phone it is in a drawer
        system = page.get_by_role("region", name="System")
        expect(system.get_by_role("button", name="Eject Phi-4 mini")).to_be_visible()
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
