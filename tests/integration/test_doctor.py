"""The connection doctor against real sockets: each thing that can be wrong, told from the others."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from core.diagnosis import Diagnosis, SelfDiagnosing
from infrastructure.providers.lmstudio import LMStudioProvider
from infrastructure.providers.lmstudio.finding import look
from infrastructure.providers.lmstudio.finding_place import Place
from infrastructure.providers.lmstudio.finding_words import conclude
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.wording import LM_STUDIO
from tests.desk import run_desk
from tests.servers import TOKEN, ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, pages, raw_server, serve

pytestmark = pytest.mark.anyio

# No ports besides those a test names: the machine may run an LM Studio of its own.
ALONE = Place(usual_ports=(), program_ports=())
# `localhost` plays the machine around the container.
CONTAINER = Place(in_container=True, around=("localhost",), usual_ports=(), program_ports=())
NOT_FOUND = (404, "application/json", b'{"detail":"Not Found"}')
GREETING = (200, "application/json", b'{"lmstudio":true}')


async def diagnose(url: str, place: Place = ALONE, *, token: str | None = None) -> Diagnosis:
    server = Server(url, token=SecretStr(token) if token else None, wording=LM_STUDIO)
    try:
        return conclude(await look(server, "lmstudio", place), "lmstudio", "lmstudio")
    finally:
        await server.aclose()


def json_page(body: object, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json", orjson.dumps(body)


# -- it answers ----------------------------------------------------------------------------------


async def test_a_server_with_models_needs_nothing() -> None:
    async with serve(ScriptedLMStudio()) as url:
        found = await diagnose(url)

    assert (found.code, found.state, found.url) == ("ready", "ok", url)
    assert found.message == "LM Studio is ready with 2 models."
    assert (found.hint, found.command) == ("", "")
    assert found.latency_ms is not None


async def test_without_models_it_says_how_to_get_one() -> None:
    async with serve(ScriptedLMStudio(models=[])) as url:
        found = await diagnose(url)

    assert (found.code, found.state, found.command) == ("no_models", "note", "lms get")


@pytest.mark.parametrize("profile", ["0.4", "0.3"])
async def test_just_in_time_loading_that_is_off_is_seen_in_the_shorter_list(profile: str) -> None:
    lm = ScriptedLMStudio(
        profile=profile,  # type: ignore[arg-type]
        models=[ScriptedModel("a", instances={"a": 4096}), ScriptedModel("b"), ScriptedModel("c")],
    )
    lm.answers["GET", "/v1/models"] = (200, {"object": "list", "data": [{"id": "a"}]})
    async with serve(lm) as url:
        off = await diagnose(url)
        lm.answers.clear()
        on = await diagnose(url)

    assert (off.code, off.state) == ("jit_off", "ok")
    assert "2 that are not loaded" in off.evidence
    assert on.code == "ready"


async def test_with_everything_loaded_nothing_is_claimed_about_just_in_time_loading() -> None:
    lm = ScriptedLMStudio(models=[ScriptedModel("a", instances={"a": 4096})])
    lm.answers["GET", "/v1/models"] = (200, {"object": "list", "data": [{"id": "a"}]})
    async with serve(lm) as url:
        assert (await diagnose(url)).code == "ready"


# -- tokens --------------------------------------------------------------------------------------


async def test_a_missing_token_is_asked_for() -> None:
    async with serve(ScriptedLMStudio(token=TOKEN)) as url:
        found = await diagnose(url)

    assert (found.code, found.state) == ("needs_token", "attention")
    assert found.command.startswith("LMDESK_LMSTUDIO_TOKEN=")


@pytest.mark.parametrize("given", ["sk-lm-ZZZZZZZZ:zzzzzzzzzzzzzzzzzzzz", "my-secret-word"])
async def test_a_wrong_token_is_told_from_a_missing_one_and_never_shown(given: str) -> None:
    async with serve(ScriptedLMStudio(token=TOKEN)) as url:
        found = await diagnose(url, token=given)

    assert found.code == "wrong_token"
    assert ("has not the form" in found.evidence) is (given == "my-secret-word")
    told = found.model_dump_json()
    assert "ZZZ" not in told.upper()
    assert "secret" not in told


# -- nothing listens -----------------------------------------------------------------------------


async def test_a_server_that_does_not_run_is_started() -> None:
    port = free_port()
    found = await diagnose(f"http://127.0.0.1:{port}")

    assert (found.code, found.state) == ("not_running", "attention")
    assert found.command == f"lms server start --port {port}"
    assert "refused" in found.evidence


async def test_the_usual_port_needs_no_option() -> None:
    # Nothing of ours listens on 127.0.0.1:1234 of another loopback address.
    found = await diagnose("http://127.77.0.1:1234")

    assert (found.code, found.command) == ("not_running", "lms server start")


async def test_a_program_that_runs_without_its_server_is_told_from_one_that_does_not() -> None:
    async with serve(pages({"/lmstudio-greeting": GREETING}, other=NOT_FOUND)) as inner:
        place = Place(usual_ports=(), program_ports=(port_of(inner),))
        found = await diagnose(f"http://127.0.0.1:{free_port()}", place)

    assert found.code == "server_off"
    assert found.command.startswith("lms server start")


async def test_an_lm_studio_on_another_usual_port_is_found_and_gets_no_token() -> None:
    lm = ScriptedLMStudio()
    async with serve(lm) as url:
        place = Place(usual_ports=(port_of(url),), program_ports=())
        found = await diagnose(f"http://127.0.0.1:{free_port()}", place, token=TOKEN)

    assert (found.code, found.command) == ("found_elsewhere", f"LMDESK_LMSTUDIO_URL={url}")
    assert [asked.path for asked in lm.asked] == ["/lmstudio-greeting"]
    assert "authorization" not in lm.asked[0].headers


async def test_another_kind_of_server_on_a_usual_port_is_not_taken_for_it() -> None:
    async with serve(pages({}, other=(200, "application/json", b'{"ok":true}'))) as url:
        place = Place(usual_ports=(port_of(url),), program_ports=(port_of(url),))
        found = await diagnose(f"http://127.0.0.1:{free_port()}", place)

    assert found.code == "not_running"


# -- from a container ----------------------------------------------------------------------------


async def test_loopback_in_a_container_is_the_container_itself() -> None:
    port = free_port()
    found = await diagnose(f"http://127.0.0.1:{port}", CONTAINER)

    assert found.code == "loopback_in_container"
    assert found.command == f"LMDESK_LMSTUDIO_URL=http://localhost:{port}"


async def test_an_lm_studio_on_the_machine_around_is_found_from_inside() -> None:
    async with serve(ScriptedLMStudio()) as url:
        # Another loopback address is ours as well, and nothing listens there.
        found = await diagnose(f"http://127.77.0.1:{port_of(url)}", CONTAINER)

    assert found.code == "found_elsewhere"
    assert found.command == f"LMDESK_LMSTUDIO_URL=http://localhost:{port_of(url)}"


async def test_a_refusal_by_the_machine_around_is_a_server_for_loopback_only() -> None:
    port = free_port()
    found = await diagnose(f"http://localhost:{port}", CONTAINER)

    assert found.code == "loopback_only"
    assert found.command == f"lms server start --port {port} --bind 0.0.0.0"
    assert "Serve on Local Network" in found.hint


async def test_a_container_without_the_name_of_its_machine_gets_the_lines_for_it() -> None:
    name = "around.invalid"
    place = Place(in_container=True, around=(name,), usual_ports=(), program_ports=())
    found = await diagnose(f"http://{name}:1234", place)

    assert found.code == "name_unknown"
    assert "host.docker.internal:host-gateway" in found.command
    assert "docker-compose.yml" in found.hint


async def test_outside_of_containers_their_name_is_unknown_and_loopback_is_meant() -> None:
    place = Place(around=("around.invalid",), usual_ports=(), program_ports=())
    port = free_port()
    found = await diagnose(f"http://around.invalid:{port}", place)

    assert found.code == "name_unknown"
    assert found.command == f"LMDESK_LMSTUDIO_URL=http://127.0.0.1:{port}"


async def test_the_containers_name_used_outside_leads_to_the_server_on_loopback() -> None:
    async with serve(ScriptedLMStudio()) as url:
        place = Place(around=("around.invalid",), usual_ports=(), program_ports=())
        found = await diagnose(f"http://around.invalid:{port_of(url)}", place)

    assert (found.code, found.command) == ("found_elsewhere", f"LMDESK_LMSTUDIO_URL={url}")


async def test_a_misspelt_name_is_an_unknown_name() -> None:
    found = await diagnose("http://my-studio.invalid:1234")

    assert (found.code, found.state) == ("name_unknown", "attention")
    assert "my-studio.invalid" in found.message


# -- something else listens ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "other", "name"),
    [
        (
            {"/": (200, "text/plain", b"Ollama is running"), "/v1/models": NOT_FOUND},
            NOT_FOUND,
            "Ollama",
        ),
        (
            {"/v1/models": json_page({"data": [{"id": "m", "owned_by": "vllm"}]})},
            NOT_FOUND,
            "vLLM",
        ),
        (
            {"/props": json_page({"default_generation_settings": {}})},
            NOT_FOUND,
            "llama.cpp's llama-server",
        ),
        (
            {},
            (200, "text/html", b"<!doctype html><title>My Router</title>"),
            "A web page (My Router)",
        ),
        ({}, NOT_FOUND, "Another program"),
    ],
)
async def test_a_wrong_server_is_named(
    routes: dict[str, tuple[int, str, bytes]], other: tuple[int, str, bytes], name: str
) -> None:
    async with serve(pages(routes, other=other)) as url:
        found = await diagnose(url)

    assert (found.code, found.state, found.looks_like) == ("wrong_server", "attention", name)
    assert name in found.message
    assert found.command == "lms server start --port 1234"


async def test_behind_a_wrong_server_the_right_one_is_found() -> None:
    ollama = pages({"/": (200, "text/plain", b"Ollama is running")}, other=NOT_FOUND)
    async with serve(ollama) as wrong, serve(ScriptedLMStudio()) as right:
        place = Place(usual_ports=(port_of(right),), program_ports=())
        found = await diagnose(wrong, place)

    assert (found.code, found.looks_like) == ("found_elsewhere", "Ollama")
    assert found.command == f"LMDESK_LMSTUDIO_URL={right}"
    assert "Ollama" in found.evidence


async def test_what_does_not_speak_http_is_said() -> None:
    async def ssh(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    async with raw_server(ssh) as url:
        found = await diagnose(url)

    assert (found.code, found.state) == ("not_http", "attention")


async def test_https_where_plain_http_is_spoken_is_corrected() -> None:
    async with serve(ScriptedLMStudio()) as url:
        found = await diagnose(url.replace("http://", "https://"))

    assert (found.code, found.command) == ("not_http", f"LMDESK_LMSTUDIO_URL={url}")


async def test_a_server_with_errors_of_its_own_is_in_trouble_and_no_stranger() -> None:
    broken = (500, "text/html", b"<!DOCTYPE html><pre>Internal Server Error</pre>")
    async with serve(pages({"/lmstudio-greeting": GREETING}, other=broken)) as url:
        found = await diagnose(url)

    assert (found.code, found.state, found.looks_like) == ("trouble", "attention", "")


# -- nobody answers in time ----------------------------------------------------------------------


@asynccontextmanager
async def silence() -> AsyncGenerator[str]:
    """A server that takes every request and never says a word."""

    async def nothing(head: bytes, writer: asyncio.StreamWriter) -> None:
        return None

    async with raw_server(nothing) as url:
        yield url


@contextmanager
def full() -> Iterator[int]:
    """A port whose queue is full: further connections are dropped, as firewalls do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        try:
            yield listener.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


async def test_a_silent_server_is_slow_and_waited_for_a_few_seconds_only() -> None:
    async with silence() as url:
        started = time.monotonic()
        found = await diagnose(url)
        took = time.monotonic() - started

    assert (found.code, found.state) == ("slow", "attention")
    assert found.command.splitlines() == ["lms server stop", "lms server start"]
    assert took < 6


async def test_packets_that_vanish_are_a_firewall_unless_it_is_our_own_machine() -> None:
    with full() as port:
        ours = await diagnose(f"http://127.0.0.1:{port}")
        away = await diagnose(f"http://127.0.0.1:{port}", Place(around=("127.0.0.1",)))

    assert (ours.code, ours.state) == ("slow", "attention")
    assert (away.code, away.state) == ("firewall", "attention")
    assert f"port {port}" in away.hint


# -- through the door ----------------------------------------------------------------------------


async def test_the_door_has_one_diagnosis_for_each_provider(tmp_path: Path) -> None:
    lm = ScriptedLMStudio(token=TOKEN)
    async with (
        serve(lm) as url,
        run_desk(
            tmp_path, lmstudio_url=url, lmstudio_token=SecretStr("sk-lm-mine-and-secret")
        ) as desk,
    ):
        wrong = (await desk.get("/api/v1/doctor")).json()
        lm.token = None
        right = (await desk.get("/api/v1/doctor/")).json()
        methods = await desk.post("/api/v1/doctor")

    (found,) = wrong
    assert (found["provider"], found["kind"], found["code"]) == (
        "lmstudio",
        "lmstudio",
        "wrong_token",
    )
    assert "mine" not in orjson.dumps(wrong).decode()
    assert [each["code"] for each in right] == ["ready"]
    assert methods.status_code == 405


async def test_the_built_in_engine_has_a_diagnosis_too(tmp_path: Path) -> None:
    async with (
        serve(ScriptedLMStudio()) as url,
        run_desk(tmp_path, lmstudio_url=url, embedded="auto") as desk,
    ):
        studio, engine = (await desk.get("/api/v1/doctor")).json()

    assert (studio["code"], studio["state"]) == ("ready", "ok")
    assert (engine["provider"], engine["code"], engine["state"]) == ("embedded", "resting", "ok")


async def test_the_adapter_diagnoses_itself_where_it_stands() -> None:
    provider = LMStudioProvider("lm", f"http://127.0.0.1:{free_port()}")
    assert isinstance(provider, SelfDiagnosing)

    found = await provider.diagnose()
    await provider.aclose()

    # Here may be a container, and a machine with an LM Studio of its own.
    assert found.state == "attention"
    assert found.code in {
        "not_running",
        "server_off",
        "found_elsewhere",
        "loopback_in_container",
    }
    assert found.command


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
