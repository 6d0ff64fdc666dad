"""A desk with a notebook as its tool server, an agent that uses it, and the scripted model behind both."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from playwright.sync_api import Locator

from tests.agent_upstream import AgentUpstream, Call, Say
from tests.e2e.running import Desk, Studio, wait_for
from tests.e2e.screen import Screen

NOTEBOOK = Path(__file__).with_name("notebook.py")
KEY = "qwen/qwen3-4b"
CONTEXT = 8192
MODEL = f"lmstudio:{KEY}"
MONDAY = "Call the plumber. <b>Now.</b>\n" * 100
READ = Call("read", {"page": "monday.md"})
WRITE = Call("write", {"page": "tuesday.md", "text": "Nothing yet."})
PONDER = Call("ponder")
TASK = "Write Tuesday from Monday."


class Office(NamedTuple):
    """A desk with a notebook, and the model that works with it."""

    desk: Desk
    model: AgentUpstream
    pages: Path
    agent_id: str

    def chat(self) -> str:
        """A new one with the agent, which is asked for something."""
        chat_id = self.desk.new_chat(agent_id=self.agent_id, model_id=MODEL)
        self.desk.ask(chat_id, TASK)
        return chat_id

    def run(self, **limits: Any) -> str:
        """A new one outside of chats."""
        body = {"task": TASK, "servers": ["notebook"], "model": MODEL, **limits}
        return str(self.desk.post("/runs", body)["run_id"])

    def result(self) -> dict[str, Any]:
        """The newest run, once it is over."""
        newest = self.desk.get("/runs", limit=1)["runs"][0]["id"]

        def ended() -> dict[str, Any] | None:
            told: dict[str, Any] = self.desk.get(f"/runs/{newest}")
            return told if told["state"] != "running" else None

        found = wait_for(ended, what="the end of the run")
        assert found
        return found

    def notebook(self) -> psutil.Process:
        """The process of the tool server, which must run."""
        assert self.desk.process
        family = psutil.Process(self.desk.process.pid).children(recursive=True)
        (found,) = [each for each in family if str(NOTEBOOK) in each.cmdline()]
        return found

    def renew(self) -> "Office":
        """No chats, nothing allowed for good, and a notebook with Monday.

        The model is loaded; it reads Monday, writes Tuesday and says so.
        """
        self.desk.clean()
        for allowed in self.desk.get("/runs/allowed"):
            query = {"tool": allowed["tool"]} if allowed["tool"] else {}
            self.desk.http.delete(f"/runs/allowed/{allowed['server']}", params=query)
        self.model.models[KEY].instances = {KEY: CONTEXT}
        self.desk.get("/models/", refresh=True)
        for page in self.pages.iterdir():
            page.unlink()
        self.pages.joinpath("monday.md").write_text(MONDAY)
        self.model.plays(
            Say("I look at Monday.", [READ]),
            Say("I write Tuesday.", [WRITE]),
            Say("It is written."),
        )
        return self


@contextmanager
def open_office(folder: Path, **settings: object) -> Iterator[Office]:
    """One of its own, with these settings."""
    pages = folder / "pages"
    pages.mkdir()
    entry = {"command": sys.executable, "args": [str(NOTEBOOK), str(pages)]}
    folder.joinpath("data").mkdir()
    folder.joinpath("data", "mcp.json").write_text(json.dumps({"mcpServers": {"notebook": entry}}))
    upstream = AgentUpstream(KEY, context=CONTEXT)
    with Studio(upstream).up() as studio:
        desk = Desk(folder, lmstudio_url=studio.url, embedded="off", **settings)
        desk.start()
        try:
            server = desk.get("/tool-servers/notebook")
            desk.post("/tool-servers/notebook/trust", {"hash": server["hash"]})
            agent = desk.post("/agents", {"name": "Secretary", "tools": [{"server": "notebook"}]})
            yield Office(desk, upstream, pages, agent["id"])
        finally:
            desk.stop()


# On the page


def request_in(place: Any) -> Locator:
    """The call that waits there."""
    found: Locator = place.get_by_role("group", name=re.compile("May notebook.write run"))
    return found


def press(form: Locator, name: str) -> None:
    form.get_by_role("button", name=name, exact=True).click()


def folded(screen: Screen) -> Locator:
    """The line under an answer, behind which its run is."""
    return screen.page.locator(".run-fold")


def timeline(screen: Screen) -> Locator:
    """The run behind that line."""
    return screen.page.locator(".run-line .run")


def runs_dialog(screen: Screen) -> Locator:
    """The dialog, opened; it shows the newest run."""
    screen.page.keyboard.press("Alt+KeyR")
    return screen.page.get_by_role("dialog", name="Runs", exact=True)
