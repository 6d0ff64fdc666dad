"""LM Studio that is not there, comes, and goes again, while the page stays open."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk, Studio
from tests.e2e.screen import AWAY, REFUSED, numbers
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.tinygguf import HELLO_TEXT


@pytest.fixture
def absent() -> Studio:
    """An LM Studio that does not run yet."""
    model = ScriptedModel("qwen/qwen3-4b", instances={"qwen/qwen3-4b": 8192})
    return Studio(ScriptedLMStudio(models=[model], tokens=3))


@pytest.fixture
def lonely(absent: Studio, models_dir: Path, tmp_path: Path) -> Iterator[Desk]:
    """A desk that looks for it, and helps itself meanwhile."""
    desk = Desk(tmp_path / "lonely", lmstudio_url=absent.url, models_dir=models_dir)
    desk.start()
    yield desk
    desk.stop()


def test_the_banner_stays_as_long_as_the_built_in_engine_answers(
    lonely: Desk, absent: Studio, open_tab: Open
) -> None:
    screen = open_tab(lonely)
    screen.allow(REFUSED)
    screen.allow(AWAY)
    banner = screen.page.get_by_text("the built-in engine answers")
    expect(banner).to_be_visible()
    expect(screen.status).to_contain_text("Built-in engine connected")
    screen.choose("parrot")
    screen.send("Hello?")
    expect(screen.answers.get_by_test_id("bot")).to_have_text(HELLO_TEXT)

    with absent.up():
        expect(banner).to_be_hidden()
        expect(screen.status).to_contain_text("LM Studio connected")
        screen.new_chat.click()
        screen.choose("QWEN3-4B")
        screen.send("Hello?")
        expect(screen.answers.get_by_test_id("bot")).to_have_text(numbers(3))

    expect(banner).to_be_visible()
    expect(screen.status).to_contain_text("Built-in engine connected")
    screen.send("Still there?")
    problem = screen.page.locator(".problem:visible").first
    expect(problem).to_contain_text("LM Studio")
    expect(screen.answers.first.get_by_test_id("bot")).to_have_text(numbers(3))
