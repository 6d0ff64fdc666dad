"""Chromium, an `lmdesk` with the built-in engine, one with a scripted LM Studio, and their pages."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests import tinygguf
from tests.e2e.office import Office, open_office
from tests.e2e.running import Desk, Studio
from tests.e2e.screen import Screen
from tests.nvml import LIBRARY
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP = ViewportSize(width=1440, height=900)
PHONE = ViewportSize(width=390, height=844)
PATIENCE_MS = 20_000

Open = Callable[..., Screen]


class SpareDesk(NamedTuple):
    """A desk, and where its LM Studio would be."""

    desk: Desk
    studio_port: int


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Of the package, not of the whole run: Playwright's loop must be gone for the async tests."""
    found = os.environ.get("LMDESK_TEST_CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("there is no Chromium; LMDESK_TEST_CHROMIUM may name one")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def desktop(browser: Browser) -> Iterator[BrowserContext]:
    """Shared, because a cold cache costs seconds a test; what a page keeps is cleared."""
    context = browser.new_context(viewport=DESKTOP, locale="en-US", color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture(scope="package")
def phone(browser: Browser) -> Iterator[BrowserContext]:
    """The same on a phone: touch, no mouse, no keys."""
    context = browser.new_context(
        viewport=PHONE, is_mobile=True, has_touch=True, locale="en-US", color_scheme="light"
    )
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def tabs() -> Iterator[list[Screen]]:
    """Every tab of a test; none may have had an unexpected problem."""
    opened: list[Screen] = []
    yield opened
    for screen in opened:
        if not screen.page.is_closed():
            screen.page.evaluate("localStorage.clear()")
            screen.page.close()
    assert [screen.unexpected() for screen in opened] == [[] for _ in opened]


@pytest.fixture
def open_tab(desktop: BrowserContext, tabs: list[Screen]) -> Open:
    """A new tab, on a desk and perhaps on one of its chats; in the shared context or a given one."""

    def open_one(
        desk: Desk, chat_id: str | None = None, context: BrowserContext | None = None
    ) -> Screen:
        page: Page = (context or desktop).new_page()
        page.set_default_timeout(PATIENCE_MS)
        tabs.append(Screen(page, desk))
        return tabs[-1].open(chat_id)

    return open_one


# With the built-in engine


@pytest.fixture(scope="package")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.thinker(folder / "thinker.gguf")
    # With this much dead weight some hundred tokens a second, so that an answer lasts.
    tinygguf.endless(folder / "endless.gguf", ballast_mib=96)
    tinygguf.big(folder / "big.gguf", 0.5)
    tinygguf.parrot(folder / "slow.gguf", name="slow", ballast_mib=2048)
    tinygguf.parrot(folder / "giant.gguf", name="giant", ballast_mib=5120)
    tinygguf.corrupt(folder / "corrupt.gguf")
    return folder


@pytest.fixture(scope="package")
def engine_desk(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(
        tmp_path_factory.mktemp("engine_desk"),
        lmstudio_url=f"http://127.0.0.1:{free_port()}",
        embedded="always",
        models_dir=models_dir,
        engine_memory_budget="4GiB",
    )
    desk.start()
    yield desk
    desk.stop()


@pytest.fixture
def desk(engine_desk: Desk) -> Desk:
    """The built-in engine with the parrot loaded; no chats."""
    engine_desk.clean(loaded="parrot")
    return engine_desk


@pytest.fixture
def screen(desk: Desk, open_tab: Open) -> Screen:
    """A tab on an empty chat of that desk."""
    return open_tab(desk)


# With a scripted LM Studio


@pytest.fixture(scope="package")
def running_studio() -> Iterator[Studio]:
    with Studio(ScriptedLMStudio()).up() as studio:
        yield studio


@pytest.fixture(scope="package")
def running_studio_desk(
    running_studio: Studio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("studio_desk")
    desk = Desk(folder, lmstudio_url=running_studio.url, embedded="off")
    desk.start()
    yield desk
    desk.stop()


@pytest.fixture
def studio(running_studio: Studio) -> ScriptedLMStudio:
    """As new: answers of sixty numbers, twenty a second, from a loaded model."""
    running_studio.app = ScriptedLMStudio(
        models=[ScriptedModel("qwen/qwen3-4b", instances={"qwen/qwen3-4b": 8192})],
        tokens=60,
        rate=20,
    )
    return running_studio.app


@pytest.fixture
def studio_desk(studio: ScriptedLMStudio, running_studio_desk: Desk) -> Desk:
    running_studio_desk.clean()
    running_studio_desk.get("/models/", refresh=True)
    return running_studio_desk


@pytest.fixture
def studio_screen(studio_desk: Desk, open_tab: Open) -> Screen:
    """A tab on an empty chat of the desk with the scripted LM Studio."""
    return open_tab(studio_desk)


# With tools


@pytest.fixture(scope="package")
def running_office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as office:
        yield office


@pytest.fixture
def office(running_office: Office) -> Office:
    """A notebook, an agent that uses it, and a model that writes in it."""
    return running_office.renew()


# With nothing


@pytest.fixture(scope="package")
def running_spare_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpareDesk]:
    folder = tmp_path_factory.mktemp("spare_desk")
    # A file that is no library stands before whatever this machine has.
    folder.joinpath(LIBRARY).write_text("not a library")
    port = free_port()
    desk = Desk(
        folder,
        lmstudio_url=f"http://127.0.0.1:{port}",
        embedded="off",
        on_start="nothing",
        environment={"LD_LIBRARY_PATH": str(folder)},
    )
    desk.start()
    yield SpareDesk(desk, port)
    desk.stop()


@pytest.fixture
def absent(running_spare_desk: SpareDesk) -> Studio:
    """The LM Studio of the spare desk, which does not run yet."""
    return Studio(ScriptedLMStudio(tokens=3), port=running_spare_desk.studio_port)


@pytest.fixture
def spare_desk(running_spare_desk: SpareDesk) -> Desk:
    """One that a test may kill: no LM Studio, no GPU, and no model is picked by itself."""
    desk = running_spare_desk.desk
    if desk.process is None:
        desk.start()
    desk.clean()
    return desk
