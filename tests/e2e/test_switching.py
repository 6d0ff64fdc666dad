"""Changing models with room for only some: the swap dialog and the memory map.

With a scripted LM Studio and a stand-in for the GPU.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Locator, ViewportSize, expect

from tests.e2e.conftest import DESKTOP, PHONE, Open
from tests.e2e.looking import accessibility_problems, sticking_out
from tests.e2e.running import Desk, Studio, wait_for
from tests.e2e.screen import REFUSED, Screen, numbers
from tests.nvml import build, compiler
from tests.servers import ScriptedLMStudio, ScriptedModel

GB = 2**30
SMALL, LARGE, HUGE, THEIRS = "qwen/small", "meta/large", "google/huge", "other/theirs"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WEIGHED = "microsoft/weighed"  # by one test alone: what was measured is remembered

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or compiler() is None,
    reason="the stand-in for NVIDIA's library needs Linux and a C compiler",
)


class PickyStudio(ScriptedLMStudio):
    """A scripted LM Studio that can refuse to load one of its models."""

    refuses = ""

    async def _route(self, asked: Any, receive: Any, send: Any) -> None:
        model = (asked.body or {}).get("model")
        refusal = (500, {"error": {"message": "The weights are damaged.", "type": "load_error"}})
        self.load_error = refusal if model == self.refuses else None
        await super()._route(asked, receive, send)


class Card:
    """A GPU of 12 GB, which says what it is told."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gpus.conf"

    def used(self, gigabytes: float) -> None:
        facts = {"uuid": "GPU-a", "name": "NVIDIA GeForce RTX 4070", "total": 12 * GB}
        facts |= {"used": int(gigabytes * GB), "reserved": 0, "util": 20}
        lines = [f"gpu0.{name}={value}" for name, value in facts.items()]
        # Read anew with each call of the driver: never half a file.
        fresh = self.file.with_suffix(".new")
        fresh.write_text("\n".join(["count=1", *lines, ""]))
        fresh.replace(self.file)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Studio, Card]]:
    folder = tmp_path_factory.mktemp("switching")
    card = Card(folder)
    card.used(1)
    with Studio(PickyStudio()).up() as studio:
        desk = Desk(
            folder,
            lmstudio_url=studio.url,
            embedded="off",
            environment={
                "LD_LIBRARY_PATH": str(build(folder)),
                "NVML_STUB_FILE": str(card.file),
            },
        )
        desk.start()
        yield desk, studio, card
        desk.stop()


@pytest.fixture
def card(running: tuple[Desk, Studio, Card]) -> Card:
    return running[2]


@pytest.fixture
def studio(running: tuple[Desk, Studio, Card]) -> PickyStudio:
    """As new: the small one is loaded, and answers for three seconds."""
    running[1].app = app = PickyStudio(
        models=[
            ScriptedModel(SMALL, size_bytes=4_000_000_000),
            ScriptedModel(LARGE, size_bytes=7_000_000_000),
            ScriptedModel(HUGE, size_bytes=30_000_000_000),
            ScriptedModel(THEIRS, size_bytes=1_000_000_000),
            ScriptedModel(WEIGHED, size_bytes=7_000_000_000),
        ],
        tokens=60,
        rate=20,
    )
    return app


@pytest.fixture
def desk(running: tuple[Desk, Studio, Card], studio: PickyStudio, card: Card) -> Desk:
    """The small model was loaded from here; 6 of 12 GB are in use."""
    desk = running[0]
    desk.clean()
    desk.get("/models/", refresh=True)
    # Loads of the test before are still being measured; what follows them voids that.
    desk.post("/models/load", {"model_id": SMALL})
    desk.post("/models/unload", {"model_id": SMALL})
    card.used(6)
    wait_for(lambda: memory_used(desk) == 6 * GB, what="the GPU's new figure")
    desk.post("/models/load", {"model_id": SMALL})
    return desk


def memory_used(desk: Desk) -> int:
    return int(desk.get("/hardware")["gpus"][0]["memory_used"])


@pytest.fixture
def screen(desk: Desk, open_tab: Open) -> Screen:
    return open_tab(desk)


def dialog_of(screen: Screen) -> Locator:
    return screen.page.get_by_role("dialog", name=re.compile("Make room"))


def button(place: Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def test_what_fits_is_loaded_without_a_question(
    screen: Screen, studio: PickyStudio, card: Card, desk: Desk
) -> None:
    card.used(2)
    wait_for(lambda: memory_used(desk) == 2 * GB, what="the GPU's new figure")
    screen.choose("LARGE")

    screen.load.click()

    expect(screen.model_state).to_have_text("Loaded")
    expect(dialog_of(screen)).to_have_count(0)
    assert studio.models[SMALL].instances


def test_what_does_not_fit_asks_and_ours_makes_room(screen: Screen, studio: PickyStudio) -> None:
    screen.choose("LARGE")

    screen.load.click()

    dialog = dialog_of(screen)
    expect(dialog).to_contain_text(re.compile(r"LARGE needs about [\d.]+ GB of graphics memory"))
    expect(dialog).to_contain_text("6.0 GB is free")
    expect(dialog.get_by_role("checkbox", name="SMALL")).to_be_checked()
    expect(dialog.get_by_role("radio")).to_have_count(0)
    button(dialog, "Switch").click()
    expect(screen.model_state).to_have_text("Loaded")
    expect(dialog).to_have_count(0)
    assert studio.models[LARGE].instances
    assert not studio.models[SMALL].instances


def test_models_of_others_are_offered_and_not_ticked(
    desk: Desk, studio: PickyStudio, open_tab: Open
) -> None:
    studio.models[THEIRS].load(4096)
    desk.get("/models/", refresh=True)
    screen = open_tab(desk)
    screen.choose("LARGE")

    screen.load.click()

    dialog = dialog_of(screen)
    theirs = dialog.get_by_role("checkbox", name="THEIRS")
    expect(theirs).not_to_be_checked()
    expect(dialog).to_contain_text("loaded by another program")
    expect(dialog.locator(".verdict")).to_have_text("That makes enough room.")
    theirs.check()
    dialog.get_by_role("checkbox", name="SMALL").uncheck()
    expect(dialog.locator(".verdict")).to_contain_text("would still be missing")
    button(dialog, "Switch").click()
    expect(screen.model_state).to_have_text("Loaded")
    assert not studio.models[THEIRS].instances
    assert studio.models[SMALL].instances


def test_escape_changes_nothing_and_the_focus_comes_back(
    screen: Screen, studio: PickyStudio
) -> None:
    screen.choose("LARGE")
    screen.load.focus()
    screen.page.keyboard.press("Enter")
    expect(dialog_of(screen)).to_be_visible()

    screen.page.keyboard.press("Escape")

    expect(dialog_of(screen)).to_have_count(0)
    expect(screen.load).to_be_focused()
    expect(screen.model_state).to_have_text("Not loaded")
    assert studio.models[SMALL].instances


def test_a_switch_waits_for_the_answer_by_default(screen: Screen, studio: PickyStudio) -> None:
    studio.tokens = 400
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")
    screen.choose("LARGE")
    screen.load.click()
    dialog = dialog_of(screen)
    expect(dialog).to_contain_text("answering in “Count”")
    expect(dialog.get_by_role("radio", name="Switch when the answer ends")).to_be_checked()

    button(dialog, "Switch").click()

    expect(screen.model_state).to_contain_text("Waiting for the answer in “Count” to end")
    studio.rate = 1000
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(400))
    expect(screen.model_state).to_have_text("Loaded")
    assert studio.aborted == 0
    assert not studio.models[SMALL].instances


def test_a_switch_now_ends_the_answer_and_says_so(screen: Screen, studio: PickyStudio) -> None:
    studio.tokens = 10_000
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")
    screen.choose("LARGE")
    screen.load.click()
    now = dialog_of(screen).get_by_role(
        "radio", name="Switch now (stops the answer in “Count”)", exact=True
    )

    now.check()
    button(dialog_of(screen), "Switch").click()

    expect(screen.answers).to_contain_text("Ended because the model was changed")
    expect(screen.answers.get_by_test_id("bot")).to_contain_text("0 1 2")
    expect(screen.model_state).to_have_text("Loaded")
    assert studio.models[LARGE].instances
    studio.tokens = 3
    button(screen.conversation, "Continue with LARGE").click()
    expect(screen.answers).to_have_count(2)
    expect(screen.answers.first.get_by_test_id("bot")).to_contain_text("0 1 2")
    expect(screen.answers.first.locator(".facts")).to_contain_text("small")
    expect(screen.answers.last.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.answers.last.locator(".facts")).to_contain_text("large")


def test_an_answer_that_waits_for_another_chats_answer_names_it(
    screen: Screen, studio: PickyStudio
) -> None:
    studio.tokens = 400
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")
    screen.new_chat.click()
    screen.choose("LARGE")

    screen.send("Count too")
    button(dialog_of(screen), "Switch").click()

    expect(screen.page.locator("#phase-line")).to_contain_text(
        "Waiting for the answer in “Count” to end"
    )
    studio.tokens, studio.rate = 3, 1000
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.answers.locator(".facts")).to_contain_text("large")
    assert studio.aborted == 0


def test_after_a_failed_switch_the_old_model_is_back_and_it_says_so(
    screen: Screen, studio: PickyStudio, desk: Desk
) -> None:
    studio.refuses = LARGE
    screen.choose("LARGE")
    screen.load.click()

    button(dialog_of(screen), "Switch").click()

    expect(screen.alert.filter(has_text="SMALL is loaded again.")).to_be_visible()
    expect(screen.model_state).to_have_text("Not loaded")
    assert studio.models[SMALL].instances
    assert desk.loaded() == {SMALL}


def test_a_message_to_a_model_without_room_asks_first_and_is_not_lost(
    screen: Screen, studio: PickyStudio
) -> None:
    studio.tokens = 3
    screen.choose("LARGE")
    screen.send("Hello")
    button(dialog_of(screen), "Cancel").click()
    expect(screen.message).to_have_value("Hello")
    expect(screen.questions).to_have_count(0)

    screen.message.press("Enter")
    button(dialog_of(screen), "Switch").click()

    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))
    expect(screen.answers.locator(".facts")).to_contain_text("large")
    assert not studio.models[SMALL].instances


def test_what_never_fits_says_so_and_may_be_loaded_anyway(
    screen: Screen, studio: PickyStudio
) -> None:
    screen.choose("HUGE")
    screen.load.click()
    dialog = dialog_of(screen)
    expect(dialog).to_contain_text("Nothing loaded from here could make room for it.")
    expect(button(dialog, "Switch")).to_be_disabled()

    button(dialog, "Load anyway").click()

    expect(screen.model_state).to_have_text("Loaded")
    assert studio.models[SMALL].instances
    assert studio.models[HUGE].instances


def test_a_refused_plan_does_not_stand_in_the_way_of_a_load(
    screen: Screen, studio: PickyStudio
) -> None:
    screen.allow(REFUSED)
    screen.page.route("**/ui/models/plan*", lambda route: route.fulfill(status=400, json={}))
    screen.choose("LARGE")

    screen.load.click()

    expect(screen.model_state).to_have_text("Loaded")
    assert studio.models[SMALL].instances


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_dialog_can_be_read_by_everyone_however_it_is_shown(
    screen: Screen, size: ViewportSize
) -> None:
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")
    screen.choose("LARGE")
    screen.load.click()
    expect(dialog_of(screen).get_by_role("radio")).to_have_count(2)
    screen.page.set_viewport_size(size)

    for scheme in SCHEMES:
        screen.page.emulate_media(color_scheme=scheme)
        assert accessibility_problems(screen.page) == "", scheme
        assert sticking_out(screen.page) == [], scheme


# The memory map


def memory_row(screen: Screen, name: str) -> Locator:
    return screen.system.get_by_role("listitem").filter(has_text=name)


def test_the_memory_map_has_a_row_for_everything(
    desk: Desk, studio: PickyStudio, card: Card, open_tab: Open
) -> None:
    studio.models[THEIRS].load(4096)
    desk.get("/models/", refresh=True)
    card.used(8)
    screen = open_tab(desk)

    expect(memory_row(screen, "SMALL")).to_contain_text(re.compile(r"about \d\.\d GB"))
    expect(memory_row(screen, "THEIRS")).to_contain_text(re.compile(r"about \d\.\d GB"))
    expect(memory_row(screen, "Other programs")).to_contain_text(re.compile(r"\d (GB|MB)"))
    expect(memory_row(screen, "Free")).to_contain_text("4.0 GB")
    expect(screen.system).to_contain_text("8\u2009/\u200912 GB")


def test_a_model_is_ejected_from_the_map(screen: Screen, studio: PickyStudio, card: Card) -> None:
    button(memory_row(screen, "SMALL"), "Eject SMALL").click()

    expect(memory_row(screen, "SMALL")).to_have_count(0)
    expect(screen.system).to_contain_text("No model is in memory.")
    assert not studio.models[SMALL].instances
    card.used(1)
    expect(memory_row(screen, "Free")).to_contain_text("11.0 GB")


def test_ejecting_a_model_in_use_asks_first(screen: Screen, studio: PickyStudio) -> None:
    screen.allow(REFUSED)
    studio.tokens = 10_000
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")
    expect(memory_row(screen, "SMALL")).to_contain_text("answering")

    button(memory_row(screen, "SMALL"), "Eject SMALL").click()

    refusal = screen.alert.filter(has_text="SMALL is in use")
    expect(refusal).to_be_visible()
    expect(screen.stop_button).to_be_visible()
    button(refusal, "Stop and unload").click()
    expect(memory_row(screen, "SMALL")).to_have_count(0)
    expect(screen.answers).to_contain_text("Ended because the model was unloaded")


def test_what_a_load_was_seen_to_take_is_called_measured(
    screen: Screen, studio: PickyStudio, card: Card
) -> None:
    button(memory_row(screen, "SMALL"), "Eject SMALL").click()
    expect(screen.system).to_contain_text("No model is in memory.")
    card.used(1)
    expect(memory_row(screen, "Free")).to_contain_text("11.0 GB")
    studio.load_may_go.clear()
    screen.choose("WEIGHED")
    screen.load.click()
    expect(screen.progress).to_be_visible()
    card.used(9)
    studio.load_may_go.set()

    expect(screen.model_state).to_have_text("Loaded")
    expect(memory_row(screen, "WEIGHED")).to_contain_text("8.0 GB, measured")
    expect(memory_row(screen, "Other programs")).to_contain_text("1.0 GB")
