"""The real `lmdesk` as a person starts it: what it says, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

TOKEN = "a-long-enough-token"
# Nothing listens on port 9 (discard) of loopback; a connection is refused at once.
NOWHERE = "http://127.0.0.1:9"
START_SECONDS = 90
END_SECONDS = 5.0

Lmdesk = Callable[..., "Running"]


class Running:
    """A started `lmdesk`; its stdout is read line by line."""

    def __init__(self, arguments: tuple[str, ...], env: dict[str, str], folder: Path) -> None:
        self.started = time.monotonic()
        self._errors = folder / "stderr"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", *arguments],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stream:
            for line in stream:
                self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        """The next line of stdout. Fails with stderr when the process ends instead."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                return self._lines.get(timeout=0.1)
            except Empty:
                if self.process.poll() is not None and not self._reader.is_alive():
                    break
        pytest.fail(f"no line came; stderr: {self.errors()}")

    def url(self) -> str:
        """Where it says it is."""
        return self.line().rpartition(" ")[2]

    def rest(self) -> list[str]:
        """All further lines, once it has ended."""
        self._reader.join(30)
        return [self._lines.get() for _ in range(self._lines.qsize())]

    def errors(self) -> str:
        return self._errors.read_text()

    def family(self) -> list[psutil.Process]:
        """The process and everything it started."""
        whole = psutil.Process(self.process.pid)
        return [whole, *whole.children(recursive=True)]

    def ends_within(self, seconds: float) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def lmdesk(tmp_path: Path) -> Iterator[Lmdesk]:
    running: list[Running] = []

    def start(*arguments: str, **settings: object) -> Running:
        env = {k: v for k, v in os.environ.items() if not k.upper().startswith("LMDESK_")}
        defaults = {"data_dir": tmp_path / "data", "lmstudio_url": NOWHERE, "embedded": "off"}
        for key, value in {**defaults, **settings}.items():
            env[f"LMDESK_{key.upper()}"] = str(value)
        env |= {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
        folder = tmp_path / f"run{len(running)}"
        folder.mkdir()
        running.append(Running(arguments, env, folder))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            for member in each.family():
                member.kill()
        each.process.wait(30)
        each.rest()


def refused(running: Running) -> str:
    """The one sentence it ended with, status 2."""
    assert running.ends_within(START_SECONDS) == 2
    said = running.errors()
    assert said.startswith("lmdesk: ")
    assert said.count("\n") == 1, said
    return said


def get(url: str, **options: object) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.get(url, **options)  # type: ignore[arg-type]


@contextmanager
def another_program() -> Iterator[int]:
    """The port of a web server that is no LM Desk."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# What it says


@pytest.mark.parametrize("arguments", [(), ("api",), ("gui",), ("engine",), ("doctor",)])
def test_a_bad_setting_is_one_sentence_and_status_2(
    lmdesk: Lmdesk, arguments: tuple[str, ...]
) -> None:
    said = refused(lmdesk(*arguments, log_level="loud"))
    assert "LMDESK_LOG_LEVEL is 'loud'" in said


def test_an_unknown_setting_is_one_sentence_and_status_2(lmdesk: Lmdesk) -> None:
    assert "Did you mean LMDESK_PORT?" in refused(lmdesk(prot="1"))


def test_a_bad_argument_is_named_as_it_was_written(lmdesk: Lmdesk) -> None:
    assert "--port is 'abc'" in refused(lmdesk("--port", "abc"))
    assert "--lmstudio-url is 'x'" in refused(lmdesk("api", "--lmstudio-url", "x"))


@pytest.mark.parametrize("command", ["serve", "api", "gui", "engine"])
def test_other_machines_are_let_in_only_with_a_token(lmdesk: Lmdesk, command: str) -> None:
    assert "LMDESK_TOKEN" in refused(lmdesk(command, "--host", "0.0.0.0"))


@pytest.mark.parametrize("command", ["serve", "api", "engine"])
def test_a_data_folder_that_cannot_be_written_is_said(
    lmdesk: Lmdesk, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    said = refused(lmdesk(command, data_dir=tmp_path / "file" / "data"))
    assert str(tmp_path / "file" / "data") in said


@pytest.mark.parametrize("command", ["serve", "api", "gui", "engine"])
def test_a_taken_port_is_said_with_a_way_out(lmdesk: Lmdesk, command: str) -> None:
    with another_program() as port:
        said = refused(lmdesk(command, "--port", str(port)))
    assert f"Port {port} is taken by another program." in said
    assert f"--port {port + 1}" in said


def test_a_port_taken_by_another_lm_desk_is_said_so(lmdesk: Lmdesk) -> None:
    first = lmdesk("api", "--port", "0")
    url = first.url()
    said = refused(lmdesk("api", "--port", url.rpartition(":")[2]))
    assert f"LM Desk already runs at {url}." in said


def test_a_data_folder_another_lm_desk_uses_is_not_shared(lmdesk: Lmdesk) -> None:
    first = lmdesk("api", "--port", "0")
    first.url()
    assert "Another LM Desk is using the data folder" in refused(lmdesk("api", "--port", "0"))

    first.process.send_signal(signal.SIGKILL)
    first.process.wait(30)
    assert lmdesk("api", "--port", "0").url()


def test_a_host_that_is_not_of_this_machine_is_said(lmdesk: Lmdesk) -> None:
    # 192.0.2.0/24 is for documentation: no machine has an address there.
    assert "192.0.2.1" in refused(lmdesk("api", "--host", "192.0.2.1", token=TOKEN))


def test_the_version_and_the_help_need_nothing(lmdesk: Lmdesk) -> None:
    version = lmdesk("--version")
    assert version.line().startswith("lmdesk ")
    assert version.ends_within(START_SECONDS) == 0
    for command in ((), ("serve",), ("api",), ("gui",), ("engine",), ("doctor",), ("mcp",)):
        helped = lmdesk(*command, "--help")
        assert helped.line().startswith("usage: lmdesk")
        assert helped.ends_within(START_SECONDS) == 0


# How it lives and ends


def test_the_whole_desk_answers_livez_within_five_seconds_and_then_shows_its_page(
    lmdesk: Lmdesk,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    desk = lmdesk("--port", str(port), "--no-open")
    url = f"http://127.0.0.1:{port}"

    def lives() -> bool:
        try:
            return get(f"{url}/livez").status_code == 200
        except httpx.TransportError:
            return False

    assert until(lives, 30)
    assert time.monotonic() - desk.started < 5
    assert desk.line() == f"LM Desk is at {url}"
    page = get(f"{url}/", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert get(f"{url}/api/v1/models/").status_code == 200
    assert get(f"{url}/readyz").status_code == 200
    desk.process.terminate()
    assert desk.ends_within(END_SECONDS) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_even_while_someone_watches(
    lmdesk: Lmdesk, signum: signal.Signals
) -> None:
    desk = lmdesk("api", "--port", "0")
    url = desk.url()
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream("GET", f"{url}/api/v1/hardware/events") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        desk.process.send_signal(signum)
        assert desk.ends_within(END_SECONDS) == 0
    assert not desk.errors()


def test_the_gateway_stands_before_the_api(lmdesk: Lmdesk) -> None:
    assert_gateway(lmdesk("api", "--port", "0", token=TOKEN).url())


def assert_gateway(url: str) -> None:
    assert until(lambda: get(f"{url}/readyz").status_code == 200, START_SECONDS)
    refused, listed, counted = (
        get(f"{url}/{path}", headers={"authorization": f"Bearer {key}"})
        for path, key in (("v1/models", "wrong"), ("v1/models", TOKEN), ("metrics", TOKEN))
    )
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "token_wrong"
    assert listed.json()["data"][0]["id"] == "auto"
    assert listed.headers["x-frame-options"] == "DENY"
    assert "lmdesk_gateway_refused_total 0" in counted.text


@pytest.mark.engine
def test_a_signal_ends_the_engine_too(lmdesk: Lmdesk) -> None:
    desk = lmdesk("api", "--port", "0", embedded="always")
    desk.url()
    assert until(lambda: len(desk.family()) > 1, START_SECONDS)
    family = desk.family()
    desk.process.terminate()
    assert desk.ends_within(END_SECONDS) == 0
    assert until(lambda: not any(member.is_running() for member in family), END_SECONDS)


def test_a_signal_while_it_is_still_starting_ends_it(lmdesk: Lmdesk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    desk = lmdesk("--port", str(port), "--no-open")
    # Listening, and Gradio's seconds of importing have hardly begun.
    assert until(lambda: _accepts(port), START_SECONDS)
    desk.process.terminate()
    assert desk.ends_within(END_SECONDS) in {0, -signal.SIGTERM}


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_engine_serves_alone_and_ends_with_a_signal(lmdesk: Lmdesk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    engine = lmdesk("engine", "--port", str(port), "--profile", "0.4")
    assert until(lambda: _accepts(port), START_SECONDS)
    answer = get(f"http://127.0.0.1:{port}/lmstudio-greeting")
    assert answer.json() == {"lmstudio": True}
    engine.process.terminate()
    engine.ends_within(END_SECONDS)
    assert "Traceback" not in engine.errors()


# Who may come in


def test_a_made_token_is_shown_as_a_link_that_signs_in(lmdesk: Lmdesk, tmp_path: Path) -> None:
    desk = lmdesk("--port", "0", "--no-open", token_file=tmp_path / "token")
    url = desk.url()
    link = desk.line().rpartition(" ")[2]
    assert link.startswith(f"{url}/?token=")
    assert get(f"{url}/api/v1/models/").status_code == 401
    assert get(f"{url}/livez").status_code == 200
    with httpx.Client(trust_env=False, timeout=30, follow_redirects=True) as browser:
        page = browser.get(link, headers={"accept": "text/html"})
    assert page.status_code == 200
    assert str(page.url) == f"{url}/"
    token = (tmp_path / "token").read_text().strip()
    bearer = {"authorization": f"Bearer {token}"}
    assert get(f"{url}/api/v1/models/", headers=bearer).status_code == 200
    assert token not in desk.errors()


def test_a_token_of_ones_own_is_never_printed(lmdesk: Lmdesk) -> None:
    file = "/nonexistent/token"  # as in the container: named, but not needed
    desk = lmdesk("--port", "0", "--no-open", token=TOKEN, token_file=file, log_level="debug")
    url = desk.url()
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert get(f"{url}/api/v1/models/", headers=bearer).status_code == 200
    assert_gateway(url)  # here before the page
    desk.process.terminate()
    assert desk.ends_within(END_SECONDS) == 0
    assert TOKEN not in "".join([*desk.rest(), desk.errors()])


def test_an_idle_connection_stays_longer_than_clients_use_one(lmdesk: Lmdesk) -> None:
    """httpx, and so the OpenAI client, sends on one that is up to five seconds old."""
    address = urlsplit(lmdesk("api", "--port", "0").url())
    with closing(HTTPConnection(address.hostname or "", address.port)) as connection:
        connection.request("GET", "/livez")
        assert connection.getresponse().read()
        assert connection.sock is not None
        connection.sock.settimeout(5.5)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)  # what is not closed has nothing to say


def test_a_foreign_name_is_refused_by_the_real_server(lmdesk: Lmdesk) -> None:
    url = lmdesk("api", "--port", "0").url()
    answer = get(f"{url}/api/v1/models/", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert answer.json()["code"] == "host_not_allowed"


# The doctor


def test_the_doctor_says_what_is_wrong_and_what_to_do(lmdesk: Lmdesk) -> None:
    doctor = lmdesk("doctor", "--json", "--port", "0")
    assert doctor.ends_within(START_SECONDS) == 1  # no LM Studio, and the engine is off
    body = json.loads("\n".join(doctor.rest()))
    assert body["ok"] is False
    findings = {finding["code"]: finding for finding in body["findings"]}
    assert findings["lmstudio"]["state"] == "attention"
    assert findings["lmstudio"]["hint"]
    assert findings["lmstudio"]["reason"]
    assert findings["python"]["state"] == "ok"
    assert findings["data_folder"]["state"] == "ok"
    assert findings["port"]["state"] == "ok"
    assert findings["engine"]["state"] == "note"
    assert {"disk_space", "starter_model", "gpu"} <= set(findings)


def test_the_doctor_prints_the_lines_to_copy_as_they_are(lmdesk: Lmdesk) -> None:
    # A name that no machine has: what helps is the same on every machine.
    doctor = lmdesk("doctor", "--port", "0", lmstudio_url="http://studio.invalid:1234")
    assert doctor.ends_within(START_SECONDS) == 1
    lines = doctor.rest()
    assert any(line.startswith("FIX   LM Studio: The name studio.invalid") for line in lines)
    assert "        LMDESK_LMSTUDIO_URL=http://127.0.0.1:1234" in lines


@pytest.mark.engine
def test_the_doctor_is_content_with_the_engine_alone(lmdesk: Lmdesk) -> None:
    doctor = lmdesk("doctor", "--port", "0", embedded="auto")
    assert doctor.ends_within(START_SECONDS) == 0
    lines = doctor.rest()
    assert "ok    Built-in engine: llama.cpp can be used." in lines
    assert lines[-1] == "All is well."


def test_the_doctor_sees_a_taken_port_and_a_bad_folder(lmdesk: Lmdesk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        doctor = lmdesk("doctor", "--json", "--port", port, data_dir=tmp_path / "file" / "data")
        assert doctor.ends_within(START_SECONDS) == 1
    body = json.loads("\n".join(doctor.rest()))
    findings = {finding["code"]: finding for finding in body["findings"]}
    assert findings["port"]["state"] == "attention"
    assert findings["data_folder"]["state"] == "attention"
