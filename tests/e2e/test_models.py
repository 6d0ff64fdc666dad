"""Choosing, loading, cancelling and unloading a model on the page, with the real engine."""

import re
from itertools import pairwise

from playwright.sync_api import Route, expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk, Studio, wait_for
from tests.e2e.screen import REFUSED, Screen, numbers
from tests.servers import ScriptedLMStudio


def test_a_model_is_loaded_with_rising_progress_and_unloaded_again(
    screen: Screen, desk: Desk
) -> None:
    screen.choose("big")
    expect(screen.model_state).to_have_text("Not loaded")
    expect(screen.unload).to_be_disabled()
    screen.hear_progress()

    screen.load.click()

    expect(screen.progress).to_be_visible()
    expect(screen.cancel_load).to_be_visible()
    expect(screen.model_state).to_have_text("Loaded")
    expect(screen.progress).to_be_hidden()
    assert "big" in desk.loaded()
    seen = screen.progress_seen()
    assert len({value for value in seen if value > 0}) >= 3, seen
    assert all(before <= after for before, after in pairwise(seen)), seen
    expect(screen.model).to_have_value(re.compile("● big"))
    expect(screen.model_card).to_contain_text("Loaded")
    expect(screen.model_card).to_contain_text("tokens")
    expect(screen.load).to_be_disabled()

    screen.unload.click()

    expect(screen.model_state).to_have_text("Not loaded")
    expect(screen.load).to_be_enabled()
    assert_only_loaded_models_have_processes(desk)


def assert_only_loaded_models_have_processes(desk: Desk) -> None:
    """LM Studio, and so the engine, may put another model out for a new one: none is counted on."""
    loaded = desk.loaded()
    assert not loaded & {"big", "slow"}
    wait_for(lambda: len(desk.model_processes()) == len(loaded), what="the end of its process")


def test_a_cancelled_load_leaves_nothing_behind(screen: Screen, desk: Desk) -> None:
    screen.choose("slow")
    screen.load.click()
    expect(screen.progress).not_to_have_attribute("aria-valuenow", "0")
    assert len(desk.model_processes()) > len(desk.loaded())

    screen.cancel_load.click()

    expect(screen.model_state).to_have_text("Not loaded")
    expect(screen.load).to_be_enabled()
    assert_only_loaded_models_have_processes(desk)
    expect(screen.alert).to_have_count(0)


def test_a_load_is_seen_in_another_tab(
    studio_screen: Screen, studio: ScriptedLMStudio, studio_desk: Desk, open_tab: Open
) -> None:
    screen, other = studio_screen, open_tab(studio_desk)
    screen.unload.click()
    expect(other.model_state).to_have_text("Not loaded")
    studio.load_may_go.clear()

    screen.load.click()

    expect(other.progress).to_be_visible()
    expect(other.cancel_load).to_be_visible()
    studio.load_may_go.set()
    expect(other.model_state).to_have_text("Loaded")
    expect(other.progress).to_be_hidden()
    expect(screen.model_state).to_have_text("Loaded")


def test_a_damaged_model_says_so_and_the_chat_goes_on(screen: Screen) -> None:
    screen.allow(REFUSED)
    screen.send("Hi")
    expect(screen.answers).to_have_count(1)
    screen.choose("corrupt")

    screen.load.click()

    expect(screen.alert.filter(has_text="GGUF")).to_be_visible()
    expect(screen.model_state).to_have_text("Not loaded")
    screen.choose("parrot")
    screen.send("Hi again")
    expect(screen.answers).to_have_count(2)


def test_a_model_that_does_not_fit_says_how_much_is_missing(screen: Screen, desk: Desk) -> None:
    screen.allow(REFUSED)
    screen.choose("giant")

    screen.load.click()
    screen.page.get_by_role("dialog").get_by_role("button", name="Load anyway").click()

    expect(
        screen.alert.filter(has_text=re.compile(r"memory.*G(i)?B|G(i)?B.*memory"))
    ).to_be_visible()
    expect(screen.model_state).to_have_text("Not loaded")
    screen.send("Hi")
    screen.page.get_by_role("dialog").get_by_role("button", name="Load anyway").click()
    expect(screen.answers.locator(".problem").or_(screen.alert.nth(1))).to_contain_text("memory")
    screen.choose("parrot")
    screen.page.get_by_role("button", name="Retry").click()
    expect(screen.answers).to_contain_text("Hello from")


def test_a_model_in_use_is_not_unloaded_unless_one_insists(screen: Screen, desk: Desk) -> None:
    screen.allow(REFUSED)
    screen.choose("endless")
    screen.send("Sing")
    expect(screen.live).to_contain_text("la le lu")

    screen.unload.click()

    refusal = screen.alert.filter(has_text="endless")
    expect(refusal).to_be_visible()
    expect(screen.stop_button).to_be_visible()
    refusal.get_by_role("button", name="Stop and unload").click()
    expect(screen.model_state).to_have_text("Not loaded")
    expect(screen.answers).to_have_count(1)
    expect(screen.answers).to_contain_text("la le lu")
    assert "endless" not in desk.loaded()


def test_to_insist_counts_at_once_while_the_models_are_still_listed_anew(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    screen.allow(REFUSED)
    studio.tokens = 10_000
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2")
    held: list[Route] = []
    lists = re.compile(r"/ui/models$")
    screen.page.route(lists, lambda route: held.append(route))

    screen.unload.click()
    refusal = screen.alert.filter(has_text="in use")
    refusal.get_by_role("button", name="Stop and unload", exact=True).click()

    expect(screen.answers).to_contain_text("Ended because the model was unloaded")
    assert held
    for route in held:
        route.continue_()
    screen.page.unroute(lists)
    expect(screen.model_state).to_have_text("Not loaded")


def test_an_open_list_of_models_stays_as_it_is_and_is_fresh_once_it_was_closed(
    studio_screen: Screen, studio_desk: Desk
) -> None:
    screen = studio_screen
    expect(screen.model).to_have_value(re.compile("●"))
    screen.model.click()
    option = screen.page.get_by_role("option", name=re.compile("QWEN3-4B"))
    expect(option).to_contain_text("●")
    asked: list[str] = []
    screen.page.on("request", lambda request: asked.append(request.url))

    studio_desk.post("/models/unload", {"model_id": "qwen/qwen3-4b"})

    expect(screen.model_state).to_have_text("Not loaded")
    screen.page.evaluate("fetch('/livez').then((answer) => answer.text())")  # behind all before it
    assert not [url for url in asked if "queue/join" in url]
    expect(option).to_contain_text("●")
    screen.message.click()
    expect(option).to_have_count(0)
    expect(screen.model).to_have_value(re.compile("○"))


def test_a_desk_told_to_do_nothing_leaves_the_pick_to_a_person(
    spare_desk: Desk, absent: Studio, open_tab: Open
) -> None:
    absent.app.models["qwen/qwen3-4b"].instances["qwen/qwen3-4b"] = 8192
    with absent.up():
        _leaves_the_pick(spare_desk, open_tab)


def _leaves_the_pick(desk: Desk, open_tab: Open) -> None:
    desk.get("/models/", refresh=True)
    screen = open_tab(desk)
    expect(screen.model_state).to_have_text("Pick a model")
    expect(screen.load).to_be_disabled()
    screen.send("Count")
    expect(screen.page.get_by_text("Pick a model first.")).to_be_visible()
    expect(screen.message).to_have_value("Count")
    assert desk.get("/chats")["total"] == 0

    screen.choose("QWEN3-4B")
    expect(screen.model_state).to_have_text("Loaded")
    screen.message.press("Enter")
    expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))

    expect(open_tab(desk).model_state).to_have_text("Loaded")
