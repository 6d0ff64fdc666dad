"""The front door before, while and after the app behind it opens."""

import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.doorway import Doorway, House
from core.errors import StorageError

PAGE = {"accept": "text/html"}


class Opening:
    """A doorway on a real socket whose app is built when the test says so."""

    def __init__(self, build: Callable[[], House]) -> None:
        self.may_build = threading.Event()
        self.ready = threading.Event()
        self.over = threading.Event()
        self.door = Doorway(
            lambda: self._build_when_told(build), on_ready=self.ready.set, on_failure=self._fail
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False, timeout=30
        )
        self._server = uvicorn.Server(uvicorn.Config(self.door, lifespan="on", log_config=None))
        self._thread = threading.Thread(target=self._serve, args=(listener,))
        self._thread.start()

    def _build_when_told(self, build: Callable[[], House]) -> House:
        assert self.may_build.wait(60)
        return build()

    def _fail(self) -> None:
        self._server.should_exit = True

    def _serve(self, listener: socket.socket) -> None:
        self._server.run(sockets=[listener])
        self.over.set()

    def end(self) -> bool:
        """Whether it ended by itself in time."""
        self._server.should_exit = True
        ended = self.over.wait(30)
        self.may_build.set()
        self._thread.join(30)
        self.client.close()
        return ended


@pytest.fixture
def opening() -> Iterator[Callable[[Callable[[], House]], Opening]]:
    opened: list[Opening] = []

    def start(build: Callable[[], House]) -> Opening:
        opened.append(Opening(build))
        return opened[-1]

    yield start
    for each in opened:
        each.end()


def house(*, diary: list[str] | None = None, fails: Exception | None = None) -> House:
    """A small app that notes when it is opened and closed."""
    notes = diary if diary is not None else []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, str]]:
        if fails is not None:
            raise fails
        notes.append("opened")
        yield {"greeting": "hello"}
        notes.append("closed")

    app = FastAPI(lifespan=lifespan)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"from": "the app"}

    return House(app=app, asgi=app)


def test_it_lives_at_once_and_is_ready_later(opening: Callable[..., Opening]) -> None:
    desk = opening(house)
    assert desk.client.get("/livez").json() == {"status": "ok"}
    assert desk.client.get("/readyz").status_code == 503
    answer = desk.client.get("/api/v1/models/")
    assert answer.status_code == 503
    assert answer.json()["code"] == "starting"
    assert answer.headers["retry-after"] == "1"
    desk.may_build.set()
    assert desk.ready.wait(30)
    assert desk.client.get("/livez").json() == {"from": "the app"}


def test_a_client_of_the_gateway_hears_in_its_own_words_that_it_is_early(
    opening: Callable[..., Opening],
) -> None:
    answer = opening(house).client.get("/v1/models")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "starting"


def test_a_browser_that_is_early_gets_a_page_that_tries_again(
    opening: Callable[..., Opening],
) -> None:
    answer = opening(house).client.get("/", headers=PAGE)
    assert answer.status_code == 503
    assert "LM Desk is starting" in answer.text
    assert 'http-equiv="refresh"' in answer.text


def test_what_was_opened_is_closed(opening: Callable[..., Opening]) -> None:
    diary: list[str] = []
    desk = opening(lambda: house(diary=diary))
    desk.may_build.set()
    assert desk.ready.wait(30)
    assert diary == ["opened"]
    assert desk.end()
    assert diary == ["opened", "closed"]


def test_it_can_be_ended_while_it_is_still_building(opening: Callable[..., Opening]) -> None:
    desk = opening(house)
    desk.client.get("/livez")
    assert desk.end()
    assert not desk.ready.is_set()
    assert desk.door.failure is None


@pytest.mark.parametrize("where", ["build", "lifespan"])
def test_an_app_that_cannot_open_ends_the_server_with_the_reason(
    opening: Callable[..., Opening], where: str
) -> None:
    problem = StorageError("The disk is full.")

    def build() -> House:
        if where == "build":
            raise problem
        return house(fails=problem)

    desk = opening(build)
    desk.may_build.set()
    assert desk.over.wait(30)
    assert desk.door.failure is problem
    assert not desk.ready.is_set()


def test_the_state_of_the_lifespan_reaches_the_requests(opening: Callable[..., Opening]) -> None:
    seen: list[object] = []

    def build() -> House:
        inner = house()

        async def watching(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope.get("state"))
            await inner.app(scope, receive, send)

        return House(app=inner.app, asgi=watching)

    desk = opening(build)
    desk.may_build.set()
    assert desk.ready.wait(30)
    assert desk.client.get("/livez").json() == {"from": "the app"}
    assert seen[0] == {"greeting": "hello"}
