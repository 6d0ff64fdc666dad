"""The guard, asked over a real socket."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from api.security import guarded
from api.settings import Settings
from api.sign_in import COOKIE, MAX_AGE_SECONDS, pass_for, pass_is_good

TOKEN = "a-long-enough-token"
PAGE = {"accept": "text/html,application/xhtml+xml"}

Served = Callable[..., httpx.Client]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands behind the guard: says what reached it."""
    if scope["type"] == "http":
        request = Request(scope, receive)
        size, nonce = len(await request.body()), scope.get("csp_nonce")
        body = {"path": request.url.path, "size": size, "nonce": nonce}
        await JSONResponse(body)(scope, receive, send)


@pytest.fixture
def served() -> Iterator[Served]:
    """Starts the guarded app with settings; gives a client for it."""
    running: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def start(**settings: object) -> httpx.Client:
        listener = socket.create_server(("127.0.0.1", 0))
        app = guarded(echo, Settings.model_validate(settings))
        config = uvicorn.Config(app, lifespan="off", log_config=None, server_header=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False, timeout=30
        )
        running.append((server, thread, client))
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline, "the server never started"
            time.sleep(0.01)
        return client

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        thread.join(30)


def origin(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def test_without_a_token_this_machine_may_do_everything(served: Served) -> None:
    client = served()
    assert client.get("/").json()["path"] == "/"
    assert client.post("/chats", content=b"abc").json()["size"] == 3
    assert client.post("/chats", headers={"origin": origin(client)}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:7860", "LOCALHOST", "[::1]:7860"])
def test_loopback_names_are_let_in(served: Served, host: str) -> None:
    assert served().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "127.0.0.1:7963.evil.example",
        "127.0.0.1:99999",
        "localhost.evil.example",
        "[",
        "",
    ],
)
def test_a_foreign_name_for_this_machine_is_refused(served: Served, host: str) -> None:
    answer = served().get("/api/v1/chats", headers={"host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "host_not_allowed"


def test_a_name_that_was_allowed_is_let_in(served: Served) -> None:
    client = served(allowed_hosts=("desk.lan",), public_url="https://desk.example")
    assert client.get("/", headers={"host": "desk.lan:7860"}).status_code == 200
    assert client.get("/", headers={"host": "desk.example"}).status_code == 200
    assert client.post("/", headers={"origin": "https://desk.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_elsewhere_cannot_change_anything(
    served: Served, method: str, headers: dict[str, str]
) -> None:
    answer = served().request(method, "/api/v1/chats", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "cross_origin"


def test_a_page_elsewhere_cannot_change_anything_with_a_cookie_either(served: Served) -> None:
    client = served(token=TOKEN)
    answer = client.post(
        "/api/v1/chats", headers={"origin": "https://evil.example", "cookie": cookie()}
    )
    assert answer.status_code == 403


def test_no_answer_invites_other_origins(served: Served) -> None:
    answer = served().options(
        "/", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in answer.headers


def test_every_answer_tells_the_browser_to_be_strict(served: Served) -> None:
    client = served(token=TOKEN)
    for answer in (client.get("/"), client.get("/", headers=bearer()), client.get("/livez")):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"].split("style")[0]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-dns-prefetch-control"] == "off"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["server"] == "lmdesk"


def test_each_page_gets_a_nonce_of_its_own_for_its_inline_scripts(served: Served) -> None:
    client = served()
    policies = [client.get("/", headers=PAGE).headers["content-security-policy"] for _ in "ab"]
    nonces = [policy.partition("'nonce-")[2].partition("'")[0] for policy in policies]
    assert nonces[0] != nonces[1]
    assert client.get("/", headers=PAGE).json()["nonce"]
    assert client.get("/").json()["nonce"] is None


def test_a_program_without_the_token_is_told_so(served: Served) -> None:
    answer = served(token=TOKEN).get("/api/v1/models/")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "token_required"


def test_a_wrong_token_is_told_apart(served: Served) -> None:
    answer = served(token=TOKEN).get("/", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert answer.json()["code"] == "token_wrong"
    assert "wrong-" not in answer.text


def test_the_right_token_opens(served: Served) -> None:
    client = served(token=TOKEN)
    assert client.get("/x", headers=bearer()).json()["path"] == "/x"
    # Whoever has the token may come under any name: that is what it is for.
    assert client.get("/x", headers={**bearer(), "host": "api:8000"}).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_health_checks_need_neither_token_nor_name(served: Served, path: str) -> None:
    assert served(token=TOKEN).get(path).status_code == 200
    assert served().get(path, headers={"host": "evil.example"}).status_code == 200


def test_a_browser_gets_a_page_to_sign_in_with_nothing_from_elsewhere(served: Served) -> None:
    answer = served(token=TOKEN).get("/", headers=PAGE)
    assert answer.status_code == 401
    assert "<form" in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "<script" not in answer.text


def test_signing_in_with_the_form_opens_the_page(served: Served) -> None:
    client = served(token=TOKEN)
    answer = client.post(
        "/login", data={"token": TOKEN}, headers={**PAGE, "origin": origin(client)}
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    written = answer.headers["set-cookie"]
    assert TOKEN not in written
    assert "HttpOnly" in written
    assert "samesite=strict" in written.lower()
    assert client.get("/", headers=PAGE).json()["path"] == "/"
    assert client.get("/login", headers=PAGE).headers["location"] == "/"
    client.post("/logout", headers={"origin": origin(client)})
    assert client.get("/", headers=PAGE).status_code == 401


@pytest.mark.parametrize("body", [b"token=wrong", b"", b"token=" + b"x" * 100_000, b"\xff\xfe"])
def test_a_wrong_token_in_the_form_is_said_on_the_page(served: Served, body: bytes) -> None:
    answer = served(token=TOKEN).post(
        "/login", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers


def test_a_link_with_the_token_signs_in_and_drops_it(served: Served) -> None:
    client = served(token=TOKEN)
    answer = client.get(f"/?token={TOKEN}&chat=1", headers=PAGE)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?chat=1"
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/", headers=PAGE).status_code == 200


def test_a_link_followed_from_elsewhere_still_brings_the_strict_cookie(served: Served) -> None:
    client = served(token=TOKEN)
    elsewhere = {**PAGE, "sec-fetch-site": "cross-site"}
    answer = client.get(f"/?token={TOKEN}", headers=elsewhere)
    assert answer.status_code == 200
    assert COOKIE in answer.cookies
    assert TOKEN not in answer.text
    # Without a cookie, because it was followed from elsewhere: our own page asks again.
    client.cookies.clear()
    answer = client.get("/?x=%22%3E%3Cscript%3E", headers=elsewhere)
    assert 'content="0;url=/?x=%22%3E%3Cscript%3E"' in answer.text


def test_a_link_with_a_wrong_token_asks(served: Served) -> None:
    answer = served(token=TOKEN).get("/?token=wrong", headers=PAGE)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text


def test_a_cookie_of_another_token_or_of_long_ago_does_not_open(served: Served) -> None:
    client = served(token=TOKEN)
    assert client.get("/", headers={"cookie": cookie()}).status_code == 200
    assert (
        client.get("/", headers={"cookie": cookie(token="another-long-token")}).status_code == 401
    )
    old = cookie(now=time.time() - MAX_AGE_SECONDS - 1)
    assert client.get("/", headers={"cookie": old}).status_code == 401


@pytest.mark.parametrize("value", ["", ".", "1.", "x.y", "99999999999.00", "ü.ü"])
def test_a_made_up_cookie_does_not_open(value: str) -> None:
    assert not pass_is_good(value, TOKEN)


def cookie(*, token: str = TOKEN, now: float | None = None) -> str:
    return f"{COOKIE}={pass_for(token, now=now)}"


def bearer() -> dict[str, str]:
    return {"authorization": f"Bearer {TOKEN}"}
