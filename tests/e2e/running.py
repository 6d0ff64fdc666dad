"""A real `lmdesk serve` in a process of its own, and a scripted LM Studio in a thread beside it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import httpx
import psutil

from tests.servers import ScriptedLMStudio, serve
from tests.sockets import free_port

START_SECONDS = 90.0
DEADLINE = 30.0

T = TypeVar("T")


def wait_for(look: Callable[[], T], *, seconds: float = DEADLINE, what: str = "") -> T:
    """What `look` returns, as soon as that is true; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"it never came: {what or look}"
        time.sleep(0.01)
    return seen


class Desk:
    """An `lmdesk` that can be killed and started again on the same port and the same data."""

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"{self.url}/api/v1", trust_env=False, timeout=60)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self._folder / "data"

    # Its life

    def start(self) -> None:
        """Return when the page can be opened."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "--port", str(self.port), "--no-open"],
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self._ready, seconds=START_SECONDS, what="the page of lmdesk")

    def kill(self) -> None:
        """As a crash does: no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._end(signal.SIGTERM)
        self.http.close()

    def _end(self, signum: signal.Signals) -> None:
        if self.process is None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signum)
        self.process.wait(DEADLINE)
        self.process = None
        # The engine ends by itself when its desk is gone; what it is asked is what it does.
        wait_for(lambda: not any(alive(each) for each in family), what="the end of its children")

    def _ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log()
        try:
            answer = httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def _environment(self) -> dict[str, str]:
        given = {k: v for k, v in os.environ.items() if not k.upper().startswith("LMDESK_")}
        settings = {"data_dir": self._folder / "data", **self._settings}
        extra = settings.pop("environment", {})
        assert isinstance(extra, dict)
        named = {f"LMDESK_{key.upper()}": str(value) for key, value in settings.items()}
        return given | named | {"HOME": str(self._folder)} | extra

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def model_processes(self) -> list[int]:
        """The processes of loaded and loading models: children of the engine."""
        assert self.process
        engines = psutil.Process(self.process.pid).children()
        return [child.pid for engine in engines for child in engine.children() if alive(child)]

    # What it knows, asked over the API

    def get(self, path: str, **query: Any) -> Any:
        return self._told(self.http.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return self._told(self.http.post(path, json=body))

    def patch(self, path: str, body: Any) -> Any:
        return self._told(self.http.patch(path, json=body))

    @staticmethod
    def _told(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def new_chat(self, **known: Any) -> str:
        """The id of a new chat."""
        return str(self.post("/chats", known)["id"])

    def ask(self, chat_id: str, content: str, **more: Any) -> str:
        """The id of the job that answers."""
        started = self.post(f"/chats/{chat_id}/turns", {"content": content, **more})
        return str(started["job_id"])

    def answered(self, chat_id: str, content: str, **more: Any) -> None:
        """Ask, and wait for the end of the answer."""
        job_id = self.ask(chat_id, content, **more)
        wait_for(lambda: self.get(f"/jobs/{job_id}")["state"] != "running", what="the answer")

    def messages(self, chat_id: str) -> list[dict[str, Any]]:
        return list(self.get(f"/chats/{chat_id}")["messages"])

    def loaded(self) -> set[str]:
        return {model["id"] for model in self.get("/models/loaded")}

    def clean(self, *, loaded: str | None = None) -> None:
        """No chats and nothing running; with `loaded`, that model alone in memory."""
        for job in self.get("/jobs", state="running"):
            self.post(f"/jobs/{job['id']}/stop")
        for chat in self.get("/chats", limit=200)["chats"]:
            gone = self.http.delete(f"/chats/{chat['id']}")
            # A page that was just left may delete the chat of its agent's test itself.
            assert gone.is_success or gone.status_code == 404, gone.text
        if loaded is None:
            return
        for model in self.get("/models/loaded"):
            if model["id"] != loaded:
                self.post("/models/unload", {"model_id": model["full_name"], "force": True})
        if loaded not in self.loaded():
            self.post("/models/load", {"model_id": loaded})


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Studio:
    """A scripted LM Studio in another thread; `app` may be changed for another one meanwhile."""

    def __init__(self, app: ScriptedLMStudio, *, port: int = 0) -> None:
        self.app = app
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    @contextmanager
    def up(self) -> Iterator["Studio"]:
        """It answers; afterwards nobody does."""
        ready, over = Event(), asyncio.Event()

        async def run() -> None:
            async with serve(self, port=self.port):
                self.loop = asyncio.get_running_loop()
                ready.set()
                await over.wait()

        thread = Thread(target=asyncio.run, args=[run()], daemon=True)
        thread.start()
        assert ready.wait(DEADLINE)
        assert self.loop
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(over.set)
            thread.join(DEADLINE)
