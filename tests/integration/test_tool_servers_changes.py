"""Tool servers that change while others use them: nothing written is lost, nobody waits for nothing."""

import asyncio
import json
from pathlib import Path

import pytest

from core.errors import ToolServerFailed, ToolServerOff
from core.tool_entries import ServerEntry
from core.tool_sign_in import SignInAnswer, SignInPage
from infrastructure.tools.session import LIST_SECONDS
from tests.desk import run_desk
from tests.sockets import until
from tests.tool_boxes import Box, box, processes, scripted

pytestmark = pytest.mark.anyio
URL = "/api/v1/tool-servers"


async def test_what_is_added_and_removed_at_once_is_added_and_removed(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(10)]

    def written() -> list[str]:
        return sorted(json.loads((tmp_path / "mcp.json").read_text())["mcpServers"])

    async with run_desk(tmp_path, mcp_files=()) as desk:
        bodies = [{"name": name, "url": f"https://{name}.example/mcp"} for name in names]
        added = await asyncio.gather(*(desk.post(URL, json=body) for body in bodies))
        assert [(each.status_code, each.json()["name"]) for each in added] == [
            (201, name) for name in names
        ]
        assert written() == names
        # Whoever says yes at the same time is heard too.
        hashes = {each.json()["name"]: each.json()["hash"] for each in added}
        await asyncio.gather(
            *(desk.post(f"{URL}/{name}/trust", json={"hash": hashes[name]}) for name in names),
            *(desk.get(URL) for _ in range(10)),
        )
        listed = (await desk.get(URL)).json()["servers"]
        assert [each["state"] for each in listed] == ["idle"] * 10

        same = {"name": "same", "url": "https://same.example/mcp"}
        answers = await asyncio.gather(*(desk.post(URL, json=same) for _ in range(4)))
        assert sorted(each.status_code for each in answers) == [201, 422, 422, 422]

        gone = await asyncio.gather(*(desk.delete(f"{URL}/{name}") for name in names))
        assert {each.status_code for each in gone} == {204}
        assert written() == ["same"]


class Keys:
    """Knows of keys, and forgets them."""

    def __init__(self, *servers: tuple[str, str]) -> None:
        self.kept = set(servers)
        self.waiting: tuple[str, ...] = ()

    async def begin(self, entry: ServerEntry, return_to: str, challenge: str = "") -> SignInPage:
        raise AssertionError("nobody signs in here")

    async def finish(self, answer: SignInAnswer) -> str:
        raise AssertionError("nobody signs in here")

    async def known(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.kept)

    async def forget(self, server: str) -> None:
        self.kept = {each for each in self.kept if each[0] != server}

    async def aclose(self) -> None:
        pass


async def test_keys_go_with_a_server_taken_out_by_hand_whatever_its_neighbours_are_like(
    tmp_path: Path,
) -> None:
    far = {"url": "https://tools.example/mcp"}
    bad = {"command": "x", "args": "y"}
    keys = Keys(("far", far["url"]))
    tools = Box(tmp_path, signing=keys)
    tools.write({"far": far, "bad": bad})
    await tools.list()
    # A file that cannot be read today may name it again tomorrow.
    tools.file.write_text("{")
    assert (await tools.list()).problems
    assert keys.kept
    tools.write({"bad": bad})
    assert (await tools.list()).problems
    assert not keys.kept
    await tools.aclose()


async def stuck_in_its_list(tools: Box) -> asyncio.Task[object]:
    """Somebody waits for a list that never comes."""
    waiting: asyncio.Task[object] = asyncio.create_task(tools.tools(["made"]))
    log = tools.folder / "logs" / "made.log"
    await until(lambda: log.exists() and "stuck in my list" in log.read_text())
    return waiting


async def test_one_that_hangs_in_its_list_is_switched_off_at_once(tmp_path: Path) -> None:
    async with box(tmp_path, {"made": scripted(lists=0)}) as tools:
        waiting = await stuck_in_its_list(tools)
        behind = asyncio.create_task(tools.tools(["made"]))
        # Alone its list would be waited for longer.
        off = await asyncio.wait_for(tools.enable("made", False), LIST_SECONDS / 2)
        assert off.state == "off"
        assert not processes("scripted_tools")
        with pytest.raises(ToolServerFailed, match="It was stopped"):
            await waiting
        with pytest.raises(ToolServerOff):
            await behind
        assert (await tools.enable("made", True)).state == "idle"


async def test_one_that_hangs_and_changes_in_its_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    good = scripted()
    async with box(tmp_path, {"made": scripted(lists=0), "good": good}) as tools:
        await tools.tools(["good"])
        waiting = await stuck_in_its_list(tools)
        tools.write({"made": scripted(lists=0, garbage=["x"]), "good": good})
        listed, said, _ = await asyncio.wait_for(
            asyncio.gather(
                tools.list(),
                tools.call("good", "echo", {"text": "hi"}, seconds=20),
                asyncio.wait([waiting]),
            ),
            LIST_SECONDS / 2,
        )
        assert {each.name: each.state for each in listed.servers} == {
            "good": "ready",
            "made": "changed",
        }
        assert said.text == "hi"
        assert isinstance(waiting.exception(), ToolServerFailed)
