"""A desk that goes away and comes back: the page waits, keeps everything, and goes on by itself."""

from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk, Studio
from tests.e2e.screen import AWAY, Screen, numbers
from tests.servers import ScriptedLMStudio, ScriptedModel

SILENT = "server does not answer"


QWEN = "qwen/qwen3-4b"


def test_a_desk_that_was_killed_comes_back_with_everything_written_so_far(
    spare_desk: Desk, absent: Studio, open_tab: Open
) -> None:
    absent.app = ScriptedLMStudio(
        models=[ScriptedModel(QWEN, instances={QWEN: 8192})], tokens=10_000, rate=20
    )
    with absent.up():
        spare_desk.get("/models/", refresh=True)
        screen = open_tab(spare_desk)
        screen.choose("QWEN3-4B")
        _it_is_killed_and_comes_back(screen, spare_desk, absent.app)


def _it_is_killed_and_comes_back(screen: Screen, desk: Desk, studio: ScriptedLMStudio) -> None:
    screen.allow(AWAY)
    screen.send("Count")
    expect(screen.live).to_contain_text("0 1 2 3 4 5 6 7 8 9 10")
    screen.message.fill("my next question")

    desk.kill()

    expect(screen.alert.filter(has_text=SILENT)).to_be_visible()
    expect(screen.message).to_have_value("my next question")
    expect(screen.page.locator("#center")).to_contain_text("0 1 2 3 4 5")
    screen.message.press("Enter")
    expect(screen.message).to_have_value("my next question")
    desk.start()
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
