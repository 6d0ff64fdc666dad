"""The Get models dialog against a scripted hub and the real engine."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from playwright.sync_api import Locator, expect

from tests import tinygguf
from tests.e2e.conftest import DESKTOP, PHONE, Open
from tests.e2e.looking import accessibility_problems, sticking_out, targets
from tests.e2e.running import DEADLINE, Desk, wait_for
from tests.e2e.screen import REFUSED, Screen
from tests.hub import ScriptedHub
from tests.sockets import free_port, serve

MODEL = "maker/Tiny-Parrot-GGUF"
EVIL = "maker/<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def hub() -> ScriptedHub:
    return ScriptedHub({})


@pytest.fixture(scope="module")
def hub_desk(hub: ScriptedHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with the built-in engine whose hub is the scripted one."""
    folder = tmp_path_factory.mktemp("hub_desk")
    content = tinygguf.parrot(folder / "parrot.gguf", name="Tiny Parrot").read_bytes()
    hub.repositories = {
        MODEL: {"Tiny-Parrot-Q8_0.gguf": content, "Tiny-Parrot-Q2_K.gguf": content},
        EVIL: {},
    }
    url = f"http://127.0.0.1:{free_port()}"
    ready, over = Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with serve(hub, port=int(url.rpartition(":")[2])):
            loops.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()

    thread = Thread(target=asyncio.run, args=[run()], daemon=True)
    thread.start()
    assert ready.wait(DEADLINE)
    desk = Desk(
        folder / "desk",
        lmstudio_url=f"http://127.0.0.1:{free_port()}",
        embedded="always",
        models_dir=folder / "models",
        hf_endpoint=url,
    )
    desk.start()
    yield desk
    desk.stop()
    loops[0].call_soon_threadsafe(over.set)
    thread.join(DEADLINE)


class Dialog:
    """Get models, opened."""

    def __init__(self, screen: Screen) -> None:
        screen.page.get_by_role("button", name="Get models", exact=True).first.click()
        self.sheet = screen.page.get_by_role("dialog", name="Get models")
        self.box = self.sheet.get_by_role("searchbox", name="Search Hugging Face")
        self.found = self.sheet.get_by_role("list", name="Found models").get_by_role("listitem")
        self.moving = self.sheet.get_by_role("list", name="Downloads").get_by_role("listitem")
        self.left = self.sheet.get_by_role("list", name="Unfinished files").get_by_role("listitem")
        self.bar = self.sheet.get_by_role("progressbar")
        expect(self.box).to_be_focused()

    def search(self, words: str) -> None:
        self.box.fill(words)
        self.box.press("Enter")

    def button(self, name: str) -> Locator:
        return self.sheet.get_by_role("button", name=name)


def test_a_model_is_found_downloaded_with_progress_cancelled_resumed_and_loaded(
    hub: ScriptedHub, hub_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(hub_desk)
    hub.may_go.clear()
    hub.hold_at = 1_000_000
    dialog = Dialog(screen)
    dialog.search("parrot")
    expect(dialog.found).to_have_count(1)
    dialog.button(MODEL).press("Enter")
    expect(dialog.found).to_contain_text("Fits")
    dialog.button(f"Download Q8_0 of {MODEL}").click()

    expect(dialog.bar).to_be_visible()
    expect(dialog.moving).to_contain_text("of 2 MB")
    wait_for(lambda: int(dialog.bar.get_attribute("aria-valuenow") or 0) > 20, what="progress")
    dialog.button("Cancel: ").click()
    expect(dialog.moving).to_contain_text("Stopped")
    (part,) = models(hub_desk).rglob("*.part")
    arrived = part.stat().st_size
    assert arrived > 400_000

    hub.may_go.set()
    dialog.button("Continue: ").click()
    expect(dialog.moving).to_contain_text("in the models folder")
    assert [each.start for each in hub.downloads()] == [0, arrived]
    dialog.button("Load now: ").click()

    expect(dialog.sheet).to_have_count(0)
    expect(screen.model_state).to_have_text("Loaded")
    expect(screen.model_card).to_contain_text("Tiny Parrot")
    assert hub_desk.loaded() == {"maker/Tiny-Parrot"}


def test_what_a_cancelled_download_left_is_deleted_when_asked_twice(
    hub: ScriptedHub, hub_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(hub_desk)
    hub.may_go.clear()
    hub.hold_at = 1_000_000
    dialog = Dialog(screen)
    dialog.search(f"https://huggingface.co/{MODEL}")
    dialog.button(f"Download Q2_K of {MODEL}").click()
    wait_for(lambda: int(dialog.bar.get_attribute("aria-valuenow") or 0) > 20, what="progress")
    expect(dialog.left).to_have_count(0)
    dialog.button("Cancel: ").click()
    expect(dialog.left).to_contain_text("Tiny-Parrot-Q2_K.gguf")
    expect(dialog.left).to_contain_text("1 MB of an unfinished download")

    dialog.button("Delete Tiny-Parrot-Q2_K.gguf").click()
    sure = dialog.button("Really delete? Tiny-Parrot-Q2_K.gguf")
    expect(sure).to_be_focused()
    dialog.box.focus()
    expect(sure).to_have_count(0)
    assert len(list(models(hub_desk).rglob("*.part"))) == 1
    dialog.button("Delete Tiny-Parrot-Q2_K.gguf").click()
    sure.click()

    expect(dialog.left).to_have_count(0)
    expect(dialog.button("Continue: ")).to_have_count(0)
    assert list(models(hub_desk).rglob("*.part")) == []
    hub.may_go.set()


def test_a_download_goes_on_when_the_dialog_is_closed_and_says_when_it_is_here(
    hub: ScriptedHub, hub_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(hub_desk)
    hub.may_go.clear()
    hub.hold_at = 1_000_000
    dialog = Dialog(screen)
    dialog.search(f"https://huggingface.co/{MODEL}")
    dialog.button(f"Download Q2_K of {MODEL}").click()
    expect(dialog.bar).to_be_visible()
    screen.page.keyboard.press("Escape")
    expect(dialog.sheet).to_have_count(0)
    expect(screen.page.get_by_role("button", name="Downloading")).to_be_visible()

    hub.may_go.set()

    expect(screen.page.get_by_text("Tiny-Parrot is here.")).to_be_visible()
    expect(screen.page.get_by_role("button", name="Get models", exact=True).first).to_be_visible()


def test_no_network_is_said_plainly_and_foreign_names_are_only_text(
    hub: ScriptedHub, hub_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(hub_desk)
    screen.allow(REFUSED)
    screen.allow("status of 50")
    dialog = Dialog(screen)
    dialog.search("<img")
    expect(dialog.found).to_contain_text(EVIL)

    hub.answers["/api/models"] = (503, {}, b"")
    dialog.search("parrot")
    expect(dialog.sheet).to_contain_text("The hub has trouble of its own (503).")
    expect(dialog.found).to_have_count(0)
    del hub.answers["/api/models"]


def test_it_is_reachable_for_everybody_light_and_dark_wide_and_on_a_phone(
    hub: ScriptedHub, hub_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(hub_desk)
    dialog = Dialog(screen)
    dialog.search(MODEL)
    expect(dialog.found).to_contain_text("Q8_0")

    for size in (DESKTOP, PHONE):
        screen.page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            screen.page.emulate_media(color_scheme=scheme)
            assert accessibility_problems(screen.page) == ""
        assert sticking_out(screen.page) == []
    small = [each for each in targets(screen.page, "dialog.sheet") if each["height"] < 40]
    assert small == []
    screen.page.set_viewport_size(DESKTOP)


def models(desk: Desk) -> Path:
    """The folder that its engine reads."""
    return Path(str(desk._settings["models_dir"]))
