"""The page as a person meets it: parts by their names, and what they do there in one word each."""

import re
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

from tests.e2e.running import Desk

# What Chromium itself says about a request that was refused or broke off.
REFUSED = r"status of 4\d\d"
AWAY = r"net::ERR_|status of 50\d|Failed to fetch|network error|Connection errored out"
# What Gradio says when its stream is closed because the page goes. It also forgets what its diffs
# apply to, so that pieces of a fast answer that came before and wait their turn find nothing.
LEAVING = "AbortError: signal is aborted|Connection errored out|Unexpected client exception TypeErr"

HEAR_TEXT = """(selector) => {
    window.heard = [];
    const look = () => {
        const text = document.querySelector(selector)?.innerText.trim() ?? '';
        if (text && text !== window.heard.at(-1)?.text) window.heard.push({ text, at: Date.now() });
    };
    new MutationObserver(look).observe(document.body, {
        childList: true, subtree: true, characterData: true });
}"""
HEAR_PROGRESS = """() => {
    const bar = document.querySelector('[role=progressbar]');
    window.progress = [];
    new MutationObserver(() => {
        if (!bar.hidden) window.progress.push(Number(bar.getAttribute('aria-valuenow')));
    }).observe(bar, { attributes: true });
}"""
HEAR_CLICK = """() => document.addEventListener('pointerdown', () => {
    window.clickedAt = Date.now() / 1000 }, { capture: true, once: true })"""


class Screen:
    """One tab. Whatever goes wrong in it unexpectedly is in `problems`."""

    def __init__(self, page: Page, desk: Desk) -> None:
        self.page = page
        self.desk = desk
        self.problems: list[str] = []
        self._allowed: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._request)
        page.on("dialog", self._dialog)
        region, button = self._region, self._button
        self.agent = page.get_by_role("combobox", name="Agent", exact=True)
        self.model = page.get_by_role("combobox", name="Model", exact=True)
        self.load, self.unload = button("Load"), button("Unload")
        self.cancel_load = button("Cancel load")
        self.progress = page.get_by_role("progressbar", name="Model load")
        self.model_state = page.locator("#model-state")
        self.message = page.get_by_role("textbox", name="Message", exact=True)
        self.send_button, self.stop_button = button("Send"), button("Stop")
        self.new_chat = button("New chat")
        self.search = page.get_by_role("searchbox", name="Search chats")
        self.chats, self.conversation = region("Chats"), region("Conversation")
        self.model_card, self.system = region("Model"), region("System")
        self.status = region("Status")
        self.alert = page.get_by_role("alert")
        self.chat_rows = self.chats.get_by_role("listitem")
        self.questions = page.locator("#hist .user-row [data-testid=user]")
        # Finished answers stand in #hist with their facts below; the one being written in #live.
        self.answers = page.locator("#hist .bot-row:has(.foot)")
        self.live = page.locator("#live")
        self.starters = page.locator(".starter")

    def _region(self, name: str) -> Locator:
        return self.page.get_by_role("region", name=name, exact=True)

    def _button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    # What went wrong

    def allow(self, pattern: str) -> None:
        """Messages of the console like this belong to this test."""
        self._allowed.append(pattern)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} {message.location.get('url', '')}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.desk.url, "data:", "blob:")):
            self.problems.append(f"a request to another place: {request.url}")

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def unexpected(self) -> list[str]:
        return [
            each for each in self.problems if not any(re.search(p, each) for p in self._allowed)
        ]

    # What a person does

    def open(self, chat_id: str | None = None) -> "Screen":
        """Open the page, or the link of a chat; return when it can be used."""
        self.page.goto(f"{self.desk.url}/{f'?chat={chat_id}' if chat_id else ''}")
        return self.ready()

    def reload(self) -> "Screen":
        before = len(self.problems)
        self.page.reload()
        self.ready()
        # Only then: in a page that stays, each of these would be one.
        since = self.problems[before:]
        self.problems[before:] = [each for each in since if not re.search(LEAVING, each)]
        return self

    def ready(self) -> "Screen":
        expect(self.message).to_be_visible()
        expect(self.status).to_contain_text("LM Desk")
        expect(self.agent).not_to_have_value("")
        return self

    def choose(self, model: str) -> None:
        """Pick a model in the dropdown."""
        self.model.click()
        self.page.get_by_role("option", name=re.compile(rf"\b{re.escape(model)}\b")).click()
        expect(self.model).to_have_value(re.compile(re.escape(model)))

    def choose_agent(self, agent: str) -> None:
        self.agent.click()
        self.page.get_by_role("option", name=agent).click()
        expect(self.agent).to_have_value(agent)

    def send(self, text: str) -> None:
        self.message.fill(text)
        self.message.press("Enter")

    def chat_id(self) -> str:
        """The chat on show; waits until it has an address."""
        self.page.wait_for_url(re.compile(r"\?chat="))
        return self.page.url.partition("chat=")[2]

    def chat_button(self, title: str) -> Locator:
        return self.chats.get_by_role("button", name=title, exact=True)

    # What is seen meanwhile

    def hear_live(self) -> None:
        """From now on, keep each text the answer being written has."""
        self.page.evaluate(HEAR_TEXT, "#live [data-testid=bot]")

    def heard(self) -> list[dict[str, Any]]:
        """Texts with their times, seconds times 1000."""
        return list(self.page.evaluate("window.heard"))

    def hear_progress(self) -> None:
        self.page.evaluate(HEAR_PROGRESS)

    def progress_seen(self) -> list[int]:
        return list(self.page.evaluate("window.progress"))

    def hear_click(self) -> None:
        self.page.evaluate(HEAR_CLICK)

    def clicked_at(self) -> float:
        """When the mouse went down, in Unix seconds."""
        return float(self.page.evaluate("window.clickedAt"))


def numbers(count: int, first: int = 0) -> str:
    """What a scripted LM Studio answers."""
    return " ".join(str(n) for n in range(first, count))
