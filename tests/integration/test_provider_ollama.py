"""Ollama as a provider: its own API, as it is scripted here and as a foreign proxy speaks it."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.chat import (
    Answered,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    MessageDelta,
    Parameters,
    ReasoningDelta,
)
from core.errors import (
    BadParameter,
    ContextTooLong,
    DeskError,
    DownloadFailed,
    HubModelNotFound,
    LoadFailed,
    LoadUnproven,
    ModelNotFound,
    NotEnoughMemory,
    ProviderFailed,
    ProviderProtocolError,
    ProviderRejected,
    ProviderUnreachable,
    UnloadUnproven,
)
from core.hub import Transfer
from core.models import Capabilities, Instance, Loaded, LoadEvent, LoadOptions, LoadProgress
from core.ports import (
    BusyTeller,
    Embedder,
    Forwarder,
    LibraryDownloader,
    ModelDownloader,
    ModelLoader,
    TokenCounter,
)
from core.providers import ProviderConfig
from core.wire import WireLog
from infrastructure.http import new_client
from infrastructure.providers.ollama import loading
from infrastructure.providers.ollama.provider import OllamaProvider
from infrastructure.providers.ollama.pull import pull_name
from tests import tinygguf
from tests.llama_server import llama_server
from tests.ollama_server import ScriptedOllama, done, said
from tests.sockets import free_port, raw_server, serve, until

pytestmark = pytest.mark.anyio

KEY = "llama3.2:latest"
VECTORS = "nomic-embed-text:latest"
HI = (ChatMessage(role="user", content="Hi"),)


@asynccontextmanager
async def at(url: str, **more: Any) -> AsyncGenerator[OllamaProvider]:
    provider = OllamaProvider(ProviderConfig(name="ollama", kind="ollama", base_url=url, **more))
    try:
        yield provider
    finally:
        await provider.aclose()


def request(**parameters: Any) -> ChatRequest:
    return ChatRequest(model_id=KEY, messages=HI, parameters=Parameters(**parameters))


async def ask(
    provider: OllamaProvider, asked: ChatRequest | None = None
) -> tuple[list[ChatEvent], DeskError | None]:
    events: list[ChatEvent] = []
    try:
        async with aclosing(provider.stream_chat(asked or request())) as stream:
            async for event in stream:
                events.append(event)
    except DeskError as error:
        return events, error
    return events, None


def words(events: list[ChatEvent]) -> str:
    return "".join(event.content for event in events if isinstance(event, MessageDelta))


async def load(provider: OllamaProvider, model_id: str = KEY, **options: Any) -> list[LoadEvent]:
    return [event async for event in provider.load_model(model_id, LoadOptions(**options))]


async def test_it_can_what_it_says_it_can() -> None:
    async with at("http://127.0.0.1:1") as provider:
        for can in (ModelLoader, ModelDownloader, Embedder, Forwarder):
            assert isinstance(provider, can)
        for cannot in (BusyTeller, TokenCounter):
            assert not isinstance(provider, cannot)


# -- lists ---------------------------------------------------------------------------------------


async def test_the_list_says_everything_ollama_knows() -> None:
    ollama = ScriptedOllama()
    ollama.models[KEY].context = 8192
    async with serve(ollama) as url, at(url) as provider:
        model, embedder = await provider.list_models()
        health = await provider.health()
        await provider.list_models()

    assert (model.id, model.name, model.kind) == (KEY, "llama3.2", "llm")
    assert model.instances == (Instance(id=KEY, context_length=8192),)
    assert (model.size_bytes, model.quantization, model.parameters) == (
        2_019_393_189,
        "Q4_K_M",
        "3.2B",
    )
    assert (model.architecture, model.context_length, model.format) == ("llama", 131_072, "gguf")
    assert model.capabilities == Capabilities(vision=False, tools=True, reasoning=False)
    assert model.metadata["on the GPU"] == "100%"
    assert (embedder.kind, embedder.state, embedder.context_length) == (
        "embedding",
        "not-loaded",
        2048,
    )
    assert (health.state, health.message) == ("ready", "Ollama is ready with 2 models.")
    assert len(ollama.requests("/api/show")) == 2  # told once, not with every list


async def test_models_that_take_long_to_tell_about_themselves_do_not_keep_the_list() -> None:
    ollama = ScriptedOllama()
    ollama.may_show.clear()
    async with serve(ollama) as url, at(url) as provider:
        first = await provider.list_models()
        ollama.may_show.set()
        second = await provider.list_models()

    assert [model.context_length for model in first] == [None, None]
    assert [model.context_length for model in second] == [131_072, 2048]
    assert first[1].kind == "embedding"  # by its family


async def test_a_cloud_model_is_listed_and_not_loadable() -> None:
    entry = {"name": "gpt-oss:120b-cloud", "size": 384, "remote_host": "https://ollama.com:443"}
    ollama = ScriptedOllama()
    ollama.answers["/api/tags"] = (200, {"models": [entry]})
    async with serve(ollama) as url, at(url) as provider:
        (model,) = await provider.list_models()

    assert not model.loadable
    assert model.metadata["runs at"] == "https://ollama.com:443"


# -- loads ---------------------------------------------------------------------------------------


async def test_a_load_is_done_when_ps_shows_it_and_its_progress_is_called_an_estimate() -> None:
    ollama = ScriptedOllama()
    ollama.may_load.clear()
    async with serve(ollama) as url, at(url) as provider:
        task = asyncio.create_task(
            load(provider, context_length=8192, ttl_seconds=600, gpu_offload=0.5)
        )
        await until(lambda: ollama.requests("/api/generate"))
        ollama.may_load.set()
        events = await task
        await provider.unload_instance(KEY)
        await provider.unload_instance(KEY)
        after = await provider.list_models()

    asked, freed = ollama.requests("/api/generate")
    assert asked.body == {
        "model": KEY,
        "stream": False,
        "options": {"num_ctx": 8192, "num_gpu": 14},
        "keep_alive": 600,
    }
    assert freed.body == {"model": KEY, "keep_alive": 0}
    assert all(isinstance(event, LoadProgress) and not event.exact for event in events[:-1])
    assert isinstance(events[-1], Loaded)
    assert events[-1].instance == Instance(id=KEY, context_length=8192)
    assert not after[0].loaded


async def test_what_is_loaded_already_is_reported_and_another_context_loads_anew() -> None:
    ollama = ScriptedOllama()
    async with serve(ollama) as url, at(url) as provider:
        await load(provider, context_length=8192)
        same = await load(provider)
        other = await load(provider, context_length=16384)

    assert [event.kind for event in same] == ["loaded"]
    assert isinstance(other[-1], Loaded)
    assert other[-1].instance.context_length == 16384
    assert ollama.models[KEY].loads == 2


async def test_a_model_for_vectors_is_loaded_by_asking_for_none() -> None:
    ollama = ScriptedOllama()
    async with serve(ollama) as url, at(url) as provider:
        events = await load(provider, VECTORS)
        await provider.unload_instance(VECTORS)

    assert events[-1].kind == "loaded"
    assert ollama.requests("/api/embed")[0].body["input"] == []
    assert ollama.models[VECTORS].context is None


async def test_success_without_a_trace_in_ps_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SHOW_SECONDS", 0.2)
    monkeypatch.setattr(loading, "LEAVE_SECONDS", 0.5)
    ollama = ScriptedOllama()
    async with serve(ollama) as url, at(url) as provider:
        ollama.lies = True
        with pytest.raises(LoadUnproven, match="ollama ps"):
            await load(provider)
        ollama.models[KEY].context = 4096
        with pytest.raises(UnloadUnproven, match="still shows it"):
            await provider.unload_instance(KEY)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, "llama runner process has terminated: exit status 2", LoadFailed),
        (
            500,
            "model requires more system memory (5.6 GiB) than is available (3.2 GiB)",
            NotEnoughMemory,
        ),
        (404, f"model '{KEY}' not found", ModelNotFound),
    ],
)
async def test_a_load_that_fails_says_why(status: int, text: str, kind: type[DeskError]) -> None:
    ollama = ScriptedOllama()
    ollama.load_error = (status, text)
    async with serve(ollama) as url, at(url) as provider:
        with pytest.raises(DeskError) as failed:
            await load(provider)

    assert type(failed.value) is kind
    assert text in failed.value.message


async def test_unknown_names_and_what_only_the_environment_decides_are_refused() -> None:
    ollama = ScriptedOllama()
    async with serve(ollama) as url, at(url) as provider:
        with pytest.raises(ModelNotFound) as unknown:
            await load(provider, "lama3.2")
        with pytest.raises(BadParameter, match="flash attention"):
            await load(provider, flash_attention=True)

    assert unknown.value.candidates == (f"ollama:{KEY}",)
    assert not ollama.requests("/api/generate")


# -- answers -------------------------------------------------------------------------------------


async def test_an_answer_arrives_in_order_and_counts_what_it_took() -> None:
    ollama = ScriptedOllama(tokens=300)
    log = WireLog()
    asked = ChatRequest(
        model_id=KEY,
        messages=HI,
        parameters=Parameters(temperature=0.5, top_k=40, max_tokens=200, system_prompt="Be brief."),
        wire=log,
    )
    async with serve(ollama) as url, at(url) as provider:
        events, error = await ask(provider, asked)

    assert error is None
    assert words(events) == "".join(f"{n} " for n in range(200))
    end = events[-1]
    assert isinstance(end, Answered)
    assert (end.finish_reason, end.model_id, end.input_tokens, end.output_tokens) == (
        "stop",
        KEY,
        26,
        200,
    )
    assert end.raw_stats is not None
    assert round(end.raw_stats["timings"]["predicted_per_second"]) == round(200 / 0.052479709)
    (sent,) = ollama.requests("/api/chat")
    assert sent.body == {
        "model": KEY,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": {"temperature": 0.5, "top_k": 40, "num_predict": 200},
    }
    assert log.request is not None
    assert log.request.body == sent.body
    assert log.response is not None
    assert (log.response["status"], log.response["complete"]) == (200, True)


async def test_an_answer_keeps_the_context_its_model_was_loaded_with() -> None:
    ollama = ScriptedOllama()
    async with serve(ollama) as url:
        async with at(url) as provider:
            await load(provider, context_length=8192, ttl_seconds=3600)
            await ask(provider)
        async with at(url) as provider:  # one that did not load it itself
            await provider.list_models()
            await ask(provider)

    mine, found = ollama.requests("/api/chat")
    assert (mine.body["options"]["num_ctx"], mine.body["keep_alive"]) == (8192, 3600)
    assert found.body["options"]["num_ctx"] == 8192
    assert ollama.models[KEY].loads == 1
    assert ollama.models[KEY].context == 8192


async def test_thinking_is_told_from_the_answer() -> None:
    ollama = ScriptedOllama()
    ollama.lines = [said(thinking="Hm"), said("Yes"), done(2, reason="length")]
    async with serve(ollama) as url, at(url) as provider:
        events, _ = await ask(provider)
        ollama.lines = [said("<think>Hm"), said("</think>Yes"), done(2)]
        inline, _ = await ask(provider)

    assert events[:2] == inline[:2] == [ReasoningDelta("Hm"), MessageDelta("Yes")]
    assert isinstance(events[-1], Answered)
    assert events[-1].finish_reason == "length"


HEL = said("Hel")


@pytest.mark.parametrize(
    ("lines", "kind", "text"),
    [
        (
            [HEL, b'{"error":"an error was encountered while running the model"}\n'],
            ProviderRejected,
            "Hel",
        ),
        ([HEL], ProviderProtocolError, "Hel"),
        ([HEL, b'{"model":"x","mess'], ProviderProtocolError, "Hel"),
        ([HEL, b'{"model":"x","mess\n', said("lo"), done(2)], ProviderProtocolError, "Hel"),
        ([], ProviderProtocolError, ""),
        ([done(0)], ContextTooLong, ""),
        # How a proxy of the npm kind streams: no message in any line.
        ([b'{"model":"x","response":"Hel","done":false}\n', done(3)], ProviderProtocolError, ""),
        ([b"<!doctype html>\n"], ProviderProtocolError, ""),
        ([b"x" * 9_000_000], ProviderRejected, ""),
    ],
)
async def test_an_ending_that_is_none_is_told_and_the_text_before_it_kept(
    lines: list[bytes], kind: type[DeskError], text: str
) -> None:
    ollama = ScriptedOllama()
    ollama.lines = lines
    async with serve(ollama) as url, at(url) as provider:
        events, error = await ask(provider)

    assert type(error) is kind
    assert error.message
    assert words(events) == text


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"error": f"model '{KEY}' not found"}, ModelNotFound),
        (400, {"error": "input length exceeds the context length"}, ContextTooLong),
        (500, {"error": "something broke"}, ProviderFailed),
        (
            500,
            {"error": "model requires more system memory (9 GiB) than is available"},
            NotEnoughMemory,
        ),
    ],
)
async def test_a_refusal_becomes_its_error(status: int, body: Any, kind: type[DeskError]) -> None:
    ollama = ScriptedOllama()
    ollama.answers["/api/chat"] = (status, body)
    async with serve(ollama) as url, at(url) as provider:
        events, error = await ask(provider)

    assert (events, type(error)) == ([], kind)


async def test_a_connection_cut_in_the_middle_keeps_what_was_said() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        line = said("Hel")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        await writer.drain()
        writer.close()

    async with raw_server(handle) as url, at(url) as provider:
        events, error = await ask(provider)

    assert words(events) == "Hel"
    assert type(error) is ProviderUnreachable


async def test_closing_an_answer_closes_its_connection_at_once() -> None:
    ollama = ScriptedOllama()
    ollama.lines, ollama.hangs = [HEL], True
    async with serve(ollama) as url, at(url) as provider:
        async with aclosing(provider.stream_chat(request())) as events:
            assert await anext(events) == MessageDelta("Hel")
        await until(lambda: ollama.aborted == 1)

    assert ollama.open == 0


async def test_vectors_come_in_order_and_a_wrong_number_of_them_is_refused() -> None:
    ollama = ScriptedOllama()
    async with serve(ollama) as url, at(url) as provider:
        found = await provider.embed(VECTORS, ["a", "bbb"])
        ollama.answers["/api/embed"] = (200, {"model": VECTORS, "embeddings": [[1.0]]})
        with pytest.raises(ProviderProtocolError, match="1 vectors for 2 texts"):
            await provider.embed(VECTORS, ["a", "bbb"])

    assert found.vectors == ((1.0, 1.0), (3.0, 1.0))
    assert (found.model_id, found.input_tokens) == (VECTORS, 8)


# -- downloads -----------------------------------------------------------------------------------


async def pulled(
    provider: OllamaProvider, model: str, quantization: str | None = None
) -> list[Transfer]:
    return [each async for each in provider.download_model(model, quantization=quantization)]


async def test_a_download_adds_up_its_parts_and_ends_in_the_list() -> None:
    ollama = ScriptedOllama(models=[])
    async with serve(ollama) as url, at(url) as provider:
        steps = await pulled(provider, "https://huggingface.co/owner/repo", "Q4_K_M")
        (model,) = await provider.list_models()

    assert model.id == "hf.co/owner/repo:Q4_K_M"
    assert steps[0].stage == "pulling manifest"
    assert [(s.downloaded_bytes, s.total_bytes) for s in steps[1:5]] == [
        (0, 1000),
        (400, 1000),
        (1000, 1000),
        (1010, 1010),
    ]
    assert steps[-1] == Transfer(downloaded_bytes=1010, total_bytes=1010)


async def test_a_download_nobody_waits_for_ends_at_the_server() -> None:
    ollama = ScriptedOllama(models=[])
    ollama.lines, ollama.hangs = [b'{"status":"pulling manifest"}\n'], True
    async with serve(ollama) as url, at(url) as provider:
        async with aclosing(provider.download_model("llama3.2")) as steps:
            await anext(steps)
        await until(lambda: ollama.aborted == 1)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([b'{"error":"pull model manifest: file does not exist"}\n'], HubModelNotFound),
        ([b'{"error":"max retries exceeded"}\n'], DownloadFailed),
        ([b'{"status":"pulling manifest"}\n'], DownloadFailed),
        ([b'{"status":"success"}\n'], DownloadFailed),
    ],
)
async def test_a_download_that_fails_says_so(lines: list[bytes], kind: type[DeskError]) -> None:
    ollama = ScriptedOllama(models=[])
    ollama.lines = lines
    async with serve(ollama) as url, at(url) as provider:
        with pytest.raises(DeskError) as failed:
            await pulled(provider, "llama3.2")

    assert type(failed.value) is kind


@pytest.mark.parametrize(
    ("model", "quantization", "name"),
    [
        ("llama3.2", None, "llama3.2"),
        ("llama3.2:3b", "Q4_0", "llama3.2:3b"),
        ("https://huggingface.co/owner/repo", "Q8_0", "hf.co/owner/repo:Q8_0"),
        ("hf.co/owner/repo", None, "hf.co/owner/repo"),
        ("registry.local:5000/owner/model", None, "registry.local:5000/owner/model"),
    ],
)
def test_a_download_is_called_what_ollama_calls_it(
    model: str, quantization: str | None, name: str
) -> None:
    assert pull_name(model, quantization) == name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (" llama3.2:3b ", "llama3.2:3b"),
        ("someone/theirs", "someone/theirs"),
        ("https://huggingface.co/a/b", None),
        ("hf.co/a/b", None),
        ("huggingface.co/a/b:Q4_0", None),
        ("no name at all", None),
    ],
)
async def test_a_name_of_its_library_is_told_from_one_of_the_hub(
    model: str, name: str | None
) -> None:
    async with at("http://127.0.0.1:1") as provider:
        assert isinstance(provider, LibraryDownloader)
        assert provider.library_name(model) == name


# -- what the official client makes of the script ------------------------------------------------


async def test_the_official_client_reads_the_same_from_the_scripted_server() -> None:
    ollama = pytest.importorskip("ollama", reason="the official client is not installed here")
    scripted = ScriptedOllama()
    async with serve(scripted) as url, at(url) as provider:
        client = ollama.AsyncClient(host=url, trust_env=False)
        loaded = await client.generate(KEY, options={"num_ctx": 8192})
        listed = (await client.list()).models
        running = (await client.ps()).models
        shown = await client.show(KEY)
        pieces = [
            piece
            async for piece in await client.chat(
                KEY, [{"role": "user", "content": "Hi"}], stream=True
            )
        ]
        vectors = await client.embed(VECTORS, ["a", "bbb"])
        steps = [step.status async for step in await client.pull("tiny", stream=True)]
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.chat("nobody", [])
        await client._client.aclose()
        ours = {model.id: model for model in await provider.list_models()}

    assert (loaded.done, loaded.done_reason) == (True, "load")
    assert [model.model for model in listed] == [KEY, VECTORS]
    assert (listed[0].size, listed[0].details.quantization_level) == (2_019_393_189, "Q4_K_M")
    assert (running[0].model, running[0].context_length) == (KEY, 8192)
    assert shown.modelinfo["llama.context_length"] == ours[KEY].context_length
    assert shown.capabilities == ["completion", "tools"]
    assert "".join(piece.message.content or "" for piece in pieces) == "0 1 2 3 4 "
    assert (pieces[-1].done_reason, pieces[-1].eval_count) == ("stop", 5)
    assert vectors.embeddings == [[1.0, 1.0], [3.0, 1.0]]
    assert (steps[0], steps[-1]) == ("pulling manifest", "success")
    assert "tiny:latest" in ours


# -- a server no one here wrote ------------------------------------------------------------------


@asynccontextmanager
async def proxy(folder: Path, upstream: str, model: str) -> AsyncGenerator[str]:
    """`ollama-proxy` in front of a server with OpenAI's API; its base URL."""
    found = shutil.which("ollama-proxy", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("ollama-proxy (package ollama-proxy-plus) is not installed here")
    port = free_port()
    config = folder / "proxy.yaml"
    provider = {"api_key": "EMPTY", "base_url": f"{upstream}/v1"}
    config.write_text(json.dumps({"providers": {"here": provider}, "models": [f"here/{model}"]}))
    process = await asyncio.create_subprocess_exec(
        *(found, "--host", "127.0.0.1", "--port", str(port)),
        cwd=folder,
        env={**os.environ, "PROXY_CONFIG_FILE": str(config)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60), new_client() as client:
            while True:
                assert process.returncode is None, "the proxy ended"
                try:
                    async with client.get(url) as response:
                        if response.status == 200:
                            break
                except OSError:
                    await asyncio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.engine
async def test_a_foreign_server_with_ollamas_protocol_lists_answers_and_makes_no_promises(
    tmp_path: Path,
) -> None:
    tinygguf.parrot(tmp_path / "polly.gguf")
    command = ("-m", str(tmp_path / "polly.gguf"), "--alias", "polly", "-c", "1024")
    async with (
        llama_server(*command) as llama,
        proxy(tmp_path, llama, "polly") as url,
        at(url) as provider,
    ):
        health = await provider.health()
        models = {model.id: model for model in await provider.list_models()}
        asked = ChatRequest(model_id="here/polly", messages=HI)
        events, error = await ask(provider, asked)
        passed = await provider.forward(
            "/v1/chat/completions",
            b'{"model":"here/polly","messages":[{"role":"user","content":"Hi"}]}',
        )
        got = await passed.read()
        passed.close()
        # Its ps is always empty, so that no load of it can be believed.
        with pytest.raises(LoadUnproven):
            await load(provider, "here/polly")

    assert health.state == "ready"
    assert not models["here/polly"].loaded
    assert error is None
    assert words(events) == tinygguf.HELLO_TEXT
    assert passed.status == 200
    assert b"choices" in got
