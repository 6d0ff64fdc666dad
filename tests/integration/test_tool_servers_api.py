"""Tool servers over HTTP: looked at, trusted, switched; what a web request may not do."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.main import create_app
from api.security import guarded
from api.settings import BadSetting, Settings
from tests.desk import DeskUnderTest, run_desk
from tests.sockets import serve
from tests.tool_boxes import processes, scripted

pytestmark = pytest.mark.anyio
URL = "/api/v1/tool-servers"
TOOLS = {"echo": "Says it again.", "pid": "Its process."}


def write(folder: Path, servers: dict[str, Any], **more: Any) -> None:
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers, **more}))


async def trusted(desk: DeskUnderTest, name: str) -> dict[str, Any]:
    seen = (await desk.get(f"{URL}/{name}")).json()
    answer = await desk.post(f"{URL}/{name}/trust", json={"hash": seen["hash"]})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_server_is_looked_at_trusted_started_and_switched(tmp_path: Path) -> None:
    write(tmp_path, {"made": scripted(tools=TOOLS)})
    async with run_desk(tmp_path, mcp_files=()) as desk:
        listed = (await desk.get(URL)).json()
        assert [(each["name"], each["state"]) for each in listed["servers"]] == [
            ("made", "not_trusted")
        ]
        refused = await desk.post(f"{URL}/made/restart")
        assert (refused.status_code, refused.json()["code"]) == (409, "tool_server_not_trusted")
        wrong = await desk.post(f"{URL}/made/trust", json={"hash": "0" * 64})
        assert (wrong.status_code, wrong.json()["code"]) == (409, "tool_server_changed")
        assert (await trusted(desk, "made"))["state"] == "idle"
        assert not processes("scripted_tools")

        started = (await desk.post(f"{URL}/made/restart")).json()
        assert started["state"] == "ready"
        assert [tool["name"] for tool in started["tools"]] == ["echo", "pid"]
        assert started["tools"][0]["arguments"]["properties"]
        choice = {"enabled": False, "approval": "ask"}
        one = (await desk.put(f"{URL}/made/tools/echo", json=choice)).json()
        assert one["tools"][0] | choice == one["tools"][0]
        assert one["tokens"] == one["tools"][1]["tokens"]
        missing = await desk.put(f"{URL}/made/tools/nothing", json=choice)
        assert (missing.status_code, missing.json()["code"]) == (404, "tool_not_found")
        asked = (await desk.put(f"{URL}/made/approval", json={"approval": "auto"})).json()
        assert asked["approval"] == "auto"

        assert (await desk.post(f"{URL}/made/disable")).json()["state"] == "off"
        assert not processes("scripted_tools")
        assert (await desk.post(f"{URL}/made/enable")).json()["state"] == "idle"
        assert (await desk.post(f"{URL}/made/distrust")).json()["state"] == "not_trusted"
        nobody = await desk.get(f"{URL}/maid")
        assert (nobody.status_code, nobody.json()["candidates"]) == (404, ["made"])


async def test_a_web_request_may_not_bring_a_command(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    command = {"command": "touch", "args": [str(mark)]}
    write(tmp_path, {"made": scripted()})
    before = (tmp_path / "mcp.json").read_text()
    async with run_desk(tmp_path, mcp_files=()) as desk:
        for answer in (
            await desk.post(URL, json={"name": "evil", **command}),
            await desk.put(f"{URL}/made", json=command),
            await desk.put(f"{URL}/evil", json=command),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "tool_command_refused")
        patch = await desk.patch("/api/v1/settings", json={"allow_tool_commands": True})
        assert patch.status_code == 409

    assert (tmp_path / "mcp.json").read_text() == before
    assert not mark.exists()


async def test_neither_a_page_elsewhere_nor_a_bent_name_may_say_yes(tmp_path: Path) -> None:
    write(tmp_path, {"made": scripted()})
    settings = Settings(data_dir=tmp_path, embedded="off", mcp_files=())
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        serve(guarded(app, settings)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        seen = (await client.get(f"{URL}/made")).json()
        body = {"hash": seen["hash"]}
        foreign = {"origin": "https://evil.example"}
        crossed = await client.post(f"{URL}/made/trust", json=body, headers=foreign)
        assert (crossed.status_code, crossed.json()["code"]) == (403, "cross_origin")
        rebound = {"host": "evil.example"}
        bent = await client.post(f"{URL}/made/trust", json=body, headers=rebound)
        assert (bent.status_code, bent.json()["code"]) == (421, "host_not_allowed")
        assert (await client.get(f"{URL}/made")).json()["state"] == "not_trusted"


async def test_with_the_setting_a_command_may_be_added_and_still_needs_a_yes(
    tmp_path: Path,
) -> None:
    async with run_desk(tmp_path, mcp_files=(), allow_tool_commands=True) as desk:
        added = await desk.post(URL, json={"name": "made", **scripted(tools=TOOLS)})
        assert (added.status_code, added.json()["state"]) == (201, "not_trusted")
        await trusted(desk, "made")
        assert (await desk.post(f"{URL}/made/restart")).json()["state"] == "ready"
        changed = await desk.put(f"{URL}/made", json=scripted(tools={"other": "x"}))
        assert changed.json()["state"] == "changed"
        assert (await desk.delete(f"{URL}/made")).status_code == 204
        assert (await desk.get(URL)).json()["servers"] == []


def test_commands_over_the_network_are_no_setting_at_all() -> None:
    with pytest.raises(BadSetting, match="could run commands on this machine"):
        Settings(host="0.0.0.0", token="a-password-of-mine", allow_tool_commands=True)  # type: ignore[arg-type]


async def test_an_address_may_be_added_if_it_leads_nowhere_secret(tmp_path: Path) -> None:
    write(tmp_path, {"old": {"url": "https://old.example/", "theirs": 1}}, also={"kept": True})
    async with run_desk(tmp_path, mcp_files=()) as desk:
        headers = {"Authorization": "Bearer my-secret"}
        new = {"name": "new", "url": "https://tools.example/mcp", "headers": headers}
        added = await desk.post(URL, json=new)
        assert (added.status_code, added.json()["state"]) == (201, "not_trusted")
        assert added.json()["header_names"] == ["Authorization"]
        assert "my-secret" not in added.text
        again = await desk.post(URL, json=new)
        assert again.status_code == 422
        for url, word in (
            ("http://169.254.169.254/mcp", "never allowed"),
            ("http://192.168.1.7/mcp", "allow_private"),
            ("gopher://x", "http"),
        ):
            refused = await desk.post(URL, json={"name": "bad", "url": url})
            assert refused.status_code == 422
            assert word in refused.json()["detail"]
        for body in (
            {},
            {"url": "https://a.example/", "command": "x"},
            {"url": "https://a.b/", "z": 1},
        ):
            assert (await desk.put(f"{URL}/new", json=body)).status_code == 422
        assert (await desk.put(f"{URL}/a%20b", json={"url": "https://a.b/"})).status_code == 422
        await desk.put(f"{URL}/old", json={"url": "https://other.example/"})

    whole = json.loads((tmp_path / "mcp.json").read_text())
    assert whole["also"] == {"kept": True}
    assert whole["mcpServers"]["old"] == {"theirs": 1, "url": "https://other.example/"}
    assert set(whole["mcpServers"]) == {"old", "new"}
    assert (tmp_path / "mcp.json").stat().st_mode & 0o077 == 0


async def test_a_broken_file_is_explained_and_the_rest_works(tmp_path: Path) -> None:
    write(tmp_path, {"made": scripted(tools=TOOLS), "bad": {"command": "x", "args": "y"}})
    other = tmp_path / "other.json"
    other.write_text('{\n  "mcpServers": {\n    "a": {"command": "x",,}\n  }\n}')
    async with run_desk(tmp_path, mcp_files=(other,)) as desk:
        listed = (await desk.get(URL)).json()
        problems = {Path(each["file"]).name: each for each in listed["problems"]}
        assert problems["other.json"]["line"] == 3
        assert problems["mcp.json"]["key"] == "mcpServers.bad.args"
        states = {each["name"]: each["state"] for each in listed["servers"]}
        assert states == {"bad": "failed", "made": "not_trusted"}
        await trusted(desk, "made")
        refused = await desk.delete(f"{URL}/nobody")
        assert refused.status_code == 404
        other.write_text(json.dumps({"servers": {"theirs": {"url": "https://tools.example/"}}}))
        refreshed = (await desk.post(f"{URL}/refresh")).json()
        assert [each["name"] for each in refreshed["servers"]] == ["bad", "made", "theirs"]
        foreign = await desk.delete(f"{URL}/theirs")
        assert foreign.status_code == 409


async def test_how_a_server_runs_is_changed_and_other_variables_need_a_new_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_MINE", "its value")
    url = f"{URL}/made"
    write(tmp_path, {"made": scripted(tools={**TOOLS, "env": "Shows them."})})
    async with run_desk(tmp_path, mcp_files=()) as desk:
        await trusted(desk, "made")
        pid = (await desk.post(f"{url}/restart")).json() and processes("scripted_tools")[0].pid
        times = {"start_seconds": 90, "call_seconds": 5.5}
        changed = (await desk.patch(url, json=times)).json()
        assert changed | times == changed
        # Nothing that was said yes to is another now.
        assert changed["state"] == "ready"
        assert processes("scripted_tools")[0].pid == pid

        changed = (await desk.patch(url, json={"inherit_env": ["OF_MINE", " OF_MINE"]})).json()
        assert changed["inherit_env"] == changed["env_names"] == ["OF_MINE"]
        assert changed["start_seconds"] == 90
        assert changed["state"] == "changed"
        assert "or what it gets" in changed["message"]
        assert "its value" not in json.dumps(changed)
        assert not processes("scripted_tools")
        assert (await desk.post(f"{url}/restart")).status_code == 409
        await trusted(desk, "made")
        assert (await desk.post(f"{url}/restart")).json()["state"] == "ready"

        back = dict.fromkeys(("start_seconds", "call_seconds", "inherit_env"))
        changed = (await desk.patch(url, json=back)).json()
        assert (changed["start_seconds"], changed["call_seconds"]) == (60, None)
        assert (changed["inherit_env"], changed["state"]) == ([], "changed")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "A change names"),
        ({"start_seconds": 0}, "start_seconds"),
        ({"start_seconds": 1e9}, "start_seconds"),
        ({"call_seconds": -1}, "call_seconds"),
        ({"call_seconds": "NaN"}, "call_seconds"),
        ({"inherit_env": "PATH"}, "inherit_env"),
        ({"inherit_env": ["A B"]}, "'A B' is not the name of a variable"),
        ({"inherit_env": ["A=b"]}, "'A=b' is not the name of a variable"),
        ({"inherit_env": ["LMDESK_TOKEN"]}, "may hold its password"),
        ({"inherit_env": ["lmdesk_token"]}, "may hold its password"),
        ({"inherit_env": [f"V{number}" for number in range(51)]}, "inherit_env"),
        ({"command": "sh"}, "command"),
        ({"trusted": "0" * 64}, "trusted"),
    ],
    ids=str,
)
async def test_what_cannot_be_arranged_is_refused_and_nothing_changes(
    tmp_path: Path, body: dict[str, Any], word: str
) -> None:
    write(tmp_path, {"made": scripted(tools=TOOLS), "far": {"url": "https://tools.example/"}})
    async with run_desk(tmp_path, mcp_files=()) as desk:
        before = (await desk.get(f"{URL}/made")).json()
        refused = await desk.patch(f"{URL}/made", json=body)
        assert refused.status_code == 422
        assert word in refused.text
        assert (await desk.get(f"{URL}/made")).json() == before
        far = await desk.patch(f"{URL}/far", json={"inherit_env": ["OF_MINE"]})
        assert far.status_code == 422
        assert (await desk.patch(f"{URL}/far", json={"inherit_env": []})).status_code == 200
