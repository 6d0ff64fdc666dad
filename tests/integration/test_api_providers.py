"""Many providers behind one door: broken ones are explained and delay nobody, others stand in."""

import asyncio
import time
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.desk import DeskUnderTest, run_desk
from tests.servers import ScriptedLMStudio, ScriptedModel, pages, serve
from tests.sockets import Receive, Send, free_port, until

pytestmark = pytest.mark.anyio

HTML = (200, "text/html", b"<!doctype html><html><body>A router's page</body></html>")
GARBAGE = (200, "application/json", b'{"data": [{"id": ')
BROKEN = (500, "application/json", b'{"error": {"message": "out of luck"}}')


async def hanging(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def studio(*models: str, loaded: bool = True, **facts: Any) -> ScriptedLMStudio:
    made = [ScriptedModel(key, instances={key: 8192} if loaded else {}) for key in models]
    return ScriptedLMStudio(models=made, **facts)


@asynccontextmanager
async def desk_with(
    folder: Path, providers: dict[str, str], **settings: Any
) -> AsyncGenerator[DeskUnderTest]:
    """A desk whose providers are at these addresses; one named lmstudio is LM Studio."""
    entries = {
        name: {"kind": "lmstudio" if name.startswith("lmstudio") else "openai", "base_url": url}
        for name, url in providers.items()
    }
    if "lmstudio" not in entries:
        entries["lmstudio"] = {"kind": "lmstudio", "enabled": False}  # type: ignore[dict-item]
    async with run_desk(folder, providers=entries, **settings) as desk:
        yield desk


async def test_one_healthy_provider_is_listed_within_a_second_beside_five_broken_ones(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        up = stack.enter_async_context
        addresses = {
            "lmstudio": await up(serve(studio("qwen/qwen3-4b", "phi-4"))),
            "refuses": f"http://127.0.0.1:{free_port()}",
            "hangs": await up(serve(hanging)),
            "fails": await up(serve(pages({}, other=BROKEN))),
            "garbage": await up(serve(pages({}, other=GARBAGE))),
            "html": await up(serve(pages({}, other=HTML))),
        }
        desk = await up(desk_with(tmp_path, addresses))
        began = time.monotonic()
        listed = (await desk.get("/api/v1/models/", params={"refresh": True})).json()
        took = time.monotonic() - began

        assert {model["full_name"] for model in listed} == {
            "lmstudio:qwen/qwen3-4b",
            "lmstudio:phi-4",
        }
        assert took < 1.0

        healths = {
            health["provider"]: health
            for health in (await desk.get("/api/v1/models/providers/health")).json()
        }
        states = {name: health["state"] for name, health in healths.items()}
        assert states == {
            "lmstudio": "ready",
            "refuses": "unreachable",
            "hangs": "unreachable",
            "fails": "error",
            "garbage": "error",
            "html": "wrong_server",
        }
        for name, health in healths.items():
            assert health["message"], name
            assert name == "lmstudio" or health["hint"], name
        stats = (await desk.get("/api/v1/models/providers/stats")).json()["providers"]
        assert {name for name, each in stats.items() if each["error"]} == set(addresses) - {
            "lmstudio"
        }


async def test_a_provider_killed_before_its_first_word_is_replaced_within_two_seconds(
    tmp_path: Path,
) -> None:
    dying = studio("asked")
    dying.hangs, dying.frames = True, []
    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(serve(studio("spare")))
        first = AsyncExitStack()
        url = await first.enter_async_context(serve(dying))
        desk = await stack.enter_async_context(
            desk_with(
                tmp_path,
                {"lmstudio-a": url, "lmstudio-b": second},
                models={"preferences": {"general": ["lmstudio-b:spare"]}},
            )
        )
        chat = await desk.chat(model_id="lmstudio-a:asked")
        receipt = await desk.ask(chat, "Hello there")
        await until(lambda: dying.open == 1)
        killed = time.monotonic()
        await first.aclose()
        await desk.events(receipt["job_id"])
        took = time.monotonic() - killed
        message = await desk.last_message(chat)

    assert (message["status"], message["model"]["asked"]) == ("done", "lmstudio-b:spare")
    assert message["content"].split() == [str(n) for n in range(20)]
    assert [each["model_id"] for each in message["model"]["route"]["tried"]] == ["lmstudio-a:asked"]
    assert took < 2.0


async def test_a_provider_killed_behind_its_first_word_keeps_its_text_and_nobody_goes_on(
    tmp_path: Path,
) -> None:
    dying, spare = studio("asked", tokens=500, rate=50), studio("spare")
    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(serve(spare))
        first = AsyncExitStack()
        url = await first.enter_async_context(serve(dying))
        desk = await stack.enter_async_context(
            desk_with(
                tmp_path,
                {"lmstudio-a": url, "lmstudio-b": second},
                models={"preferences": {"general": ["lmstudio-b:spare"]}},
            )
        )
        chat = await desk.chat(model_id="lmstudio-a:asked")
        receipt = await desk.ask(chat, "Hello there")
        await until(lambda: dying.sent_tokens > 5)
        await first.aclose()
        await desk.events(receipt["job_id"])
        message = await desk.last_message(chat)

        assert message["status"] in ("failed", "interrupted")
        words = message["content"].split()
        assert words == [str(n) for n in range(len(words))]
        assert len(words) >= 5
        assert message["problem"]["hint"]
        assert spare.requests("/v1/chat/completions") == []
        # What the page's Retry does: the same question once more, now with one that answers.
        again = await desk.post(
            f"/api/v1/chats/{chat}/turns",
            json={"parent_id": message["parent_id"], "model_id": "lmstudio-b:spare"},
        )
        assert again.status_code == 202
        await desk.events(again.json()["job_id"])
        assert (await desk.last_message(chat))["status"] == "done"


async def test_two_hundred_answers_over_three_providers_each_come_from_the_model_asked(
    tmp_path: Path,
) -> None:
    studios = {
        f"lmstudio-{name}": studio(f"{name}-one", f"{name}-two", tokens=30)
        for name in ("a", "b", "c")
    }
    models = [f"{name}:{key}" for name, each in studios.items() for key in each.models]
    async with AsyncExitStack() as stack:
        addresses = {
            name: await stack.enter_async_context(serve(app)) for name, app in studios.items()
        }
        desk = await stack.enter_async_context(desk_with(tmp_path, addresses))

        async def answered(number: int) -> dict[str, Any]:
            model = models[number % len(models)]
            chat = await desk.chat(model_id=model)
            receipt = await desk.ask(chat, f"question {number}")
            await desk.events(receipt["job_id"])
            return await desk.last_message(chat)

        messages = await asyncio.gather(*(answered(number) for number in range(200)))

    for number, message in enumerate(messages):
        assert message["status"] == "done", message
        assert message["model"]["asked"] == models[number % len(models)]
        assert message["model"]["answered"] == message["model"]["asked"].partition(":")[2]
        assert message["content"].split() == [str(n) for n in range(30)]


async def test_a_route_can_be_looked_at_before_anything_is_sent(tmp_path: Path) -> None:
    home = studio("qwen2.5-coder-7b", "gemma-3-4b")
    async with serve(home) as url, desk_with(tmp_path, {"lmstudio": url}) as desk:
        answer = await desk.post(
            "/api/v1/routing/preview",
            json={"content": "Fix this Python function: ```def f(): pas```", "model_id": "auto"},
        )
        route = answer.json()

        assert answer.status_code == 200
        assert (route["kind"], route["task"]) == ("auto", "coding")
        assert route["candidates"][0]["model"]["id"] == "qwen2.5-coder-7b"
        assert route["candidates"][0]["reasons"]
        assert route["milliseconds"] < 50
        assert home.requests("/v1/chat/completions") == []

        refused = await desk.post(
            "/api/v1/routing/preview", json={"model_id": "auto", "vision": True}
        )
        assert (refused.status_code, refused.json()["code"]) == (422, "no_model_fits")


async def test_a_chat_on_auto_stays_on_auto_and_each_answer_says_who_wrote_it(
    tmp_path: Path,
) -> None:
    home = studio("qwen2.5-coder-7b", "gemma-3-4b")
    async with serve(home) as url, desk_with(tmp_path, {"lmstudio": url}) as desk:
        chat = await desk.chat(model_id="auto")
        for question in ("Write a poem about the sea", "Refactor this Python function"):
            receipt = await desk.ask(chat, question)
            await desk.events(receipt["job_id"])
        messages = (await desk.get(f"/api/v1/chats/{chat}")).json()["messages"]
        told = (await desk.get(f"/api/v1/chats/{chat}")).json()["chat"]

    asked = [m["model"]["asked"] for m in messages if m["role"] == "assistant"]
    assert asked == ["lmstudio:gemma-3-4b", "lmstudio:qwen2.5-coder-7b"]
    assert told["model_id"] == "auto"
