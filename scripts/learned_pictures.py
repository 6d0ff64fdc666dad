"""Takes the pictures of what was learned: the real page and API, with the figures of an imagined machine.

Run it from a checkout with the development environment:
.venv/bin/python scripts/learned_pictures.py
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from find_chromium import installed, named, playwrights
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from core.models import LoadRecord
from core.speeds import SpeedRecord
from infrastructure.storage import open_store, sqlite_url
from tests.e2e.running import Desk, Studio
from tests.servers import ScriptedLMStudio, ScriptedModel

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
LOOKS = (("light", "light", 1440, 900), ("dark", "dark", 1440, 900), ("phone", "light", 390, 844))
PATIENCE_MS = 20_000
GB = 2**30


class Past(NamedTuple):
    """What a model might have done on a desktop machine."""

    model_id: str
    context: int
    load: float
    gigabytes: float
    reads: float
    writes: float
    answers: int


PASTS = (
    Past("lmstudio:qwen/qwen3-8b", 8192, 4.2, 6.1, 2150, 74, 24),
    Past("lmstudio:qwen/qwen3-8b", 32768, 4.6, 9.8, 1890, 66, 6),
    Past("lmstudio:google/gemma-3-12b", 8192, 6.8, 8.9, 1310, 48, 15),
    Past("lmstudio:openai/gpt-oss-20b", 16384, 11.5, 13.2, 1720, 92, 9),
)


async def remember(folder: Path) -> None:
    """Write down some weeks of use."""
    source, now = random.Random(3), time.time()
    async with open_store(sqlite_url(folder)) as store:
        for age, past in enumerate(reversed(PASTS)):
            at = now - (len(PASTS) - age) * 4000
            for place in range(4):
                load = LoadRecord(
                    model_id=past.model_id,
                    context_length=past.context,
                    seconds=round(past.load * source.uniform(0.9, 1.2), 2),
                    gpu_bytes=(int(past.gigabytes * GB * source.uniform(0.99, 1.01)),),
                    at=at + place,
                )
                await store.load_history.add_load(load)
            await store.speeds.add_speeds(answers(past, at, source))


def answers(past: Past, at: float, source: random.Random) -> Sequence[SpeedRecord]:
    """Answers, and a benchmark among them."""

    def record(moment: float, **figures: object) -> SpeedRecord:
        known = {"model_id": past.model_id, "context_length": past.context, "at": moment}
        return SpeedRecord.model_validate(known | figures)

    def pace(speed: float) -> float:
        return round(speed * source.uniform(0.93, 1.05), 1)

    wrote = [
        record(at + place, output_tokens=300, tokens_per_second=pace(past.writes))
        for place in range(past.answers)
    ]
    end = at + past.answers
    measured = [
        record(
            end, source="benchmark", prompt_tokens=512, prompt_tokens_per_second=pace(past.reads)
        ),
        record(
            end, source="benchmark", prompt_tokens=2048, prompt_tokens_per_second=pace(past.reads)
        ),
        record(end, source="benchmark", output_tokens=128, tokens_per_second=pace(past.writes)),
    ]
    return [*wrote, *measured]


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(past.model_id.partition(":")[2] for past in PASTS)
    models = [ScriptedModel(name, max_context=131072) for name in names]
    models[0].instances["qwen/qwen3-8b"] = 8192
    studio_app = ScriptedLMStudio(models=models)
    with tempfile.TemporaryDirectory() as folder, Studio(studio_app).up() as studio:
        desk = Desk(Path(folder), lmstudio_url=studio.url, embedded="off")
        asyncio.run(remember(Path(folder, "data")))
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
    page: Page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(desk.url)
    expect(page.get_by_role("combobox", name="Model", exact=True)).not_to_have_value("")
    page.keyboard.press("Alt+KeyL")
    sheet = page.get_by_role("dialog", name="What this machine learned", exact=True)
    expect(sheet.get_by_role("row")).to_have_count(len(PASTS) + 1)
    page.screenshot(path=IMAGES / f"learned-{name}.png")
    context.close()


if __name__ == "__main__":
    raise SystemExit(main())
