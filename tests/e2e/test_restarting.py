"""A desk that goes away and comes back: the page waits, keeps everything, and goes on by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk, Studio
from tests.e2e.screen import AWAY, numbers
from tests.servers import ScriptedLMStudio

SILENT = "server does not answer"


@pytest.fixture
def fragile(running_studio: Studio, studio: ScriptedLMStudio, tmp_path: Path) -> Iterator[Desk]:
    """A desk of the test's own."""
    desk = Desk(tmp_path / "fragile", lmstudio_url=running_studio.url, embedded="off")
    desk.start()
    yield desk
    desk.stop()


def test_a_desk_that_was_killed_comes_back_with_everything_written_so_far(
    fragile: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    screen = open_tab(fragile)
    screen.allow(AWAY)
    studio.tokens = 10_000
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2 3 4 5 6 7 8 9 10")
    screen.message.fill("my next question")

    fragile.kill()

    expect(screen.alert.filter(has_text=SILENT)).to_be_visible()
    expect(screen.message).to_have_value("my next question")
    expect(screen.page.locator("#center")).to_contain_text("0 1 2 3 4 5")
    screen.message.press("Enter")
    expect(screen.message).to_have_value("my next question")
    fragile.start()
    expect(screen.alert.filter(has_text=SILENT)).to_have_count(0)
    expect(screen.answers).to_contain_text("0 1 2 3 4 5")
    expect(screen.answers.locator(".label")).to_contain_text("Interrupted")
    expect(screen.message).to_have_value("my next question")
    expect(screen.page.get_by_test_id("toast-body")).to_have_count(0)
    expect(screen.status).to_contain_text("LM Studio connected")
    studio.tokens = 5
    screen.message.press("Enter")
    expect(screen.answers).to_have_count(2)
    expect(screen.answers.last.get_by_test_id("bot")).to_have_text(numbers(5))
