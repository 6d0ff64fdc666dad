"""The files that name tool servers: every program's way of writing, merged, and what is wrong said."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadParameter, StorageError
from core.tool_entries import ServerEntry
from infrastructure.tools import ConfigFiles, usual_files

pytestmark = pytest.mark.anyio
ENVIRONMENT = {"TOKEN": "s3cret", "FOLDER": "/data", "LMDESK_TOKEN": "ours"}


def files(own: Path, *others: Path) -> ConfigFiles:
    return ConfigFiles(own, others, ENVIRONMENT)


async def entry(folder: Path, raw: Any, **more: Any) -> ServerEntry:
    own = folder / "mcp.json"
    own.write_text(json.dumps({"mcpServers": {"made": raw}, **more}))
    return (await files(own).read()).entries[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lmstudio.json", '{"mcpServers": {"made": {"command": "a", "args": ["b c"]}}}'),
        (
            ".claude.json",
            '{"history": [1], "mcpServers": {"made": {"type": "stdio", "command": "a", "args": ["b c"]}}}',
        ),
        (
            "vscode.json",
            '{\n// mine\n"servers": {"made": {"command": "a", /* x */ "args": ["b c",],},},\n"inputs": []}',
        ),
        ("settings.json", '{"mcp": {"servers": {"made": {"command": "a", "args": ["b c"]}}}}'),
        ("bare.json", '\ufeff{"made": {"command": "a", "args": ["b c"]}}'),
    ],
)
async def test_every_programs_way_of_writing_is_understood(
    tmp_path: Path, name: str, text: str
) -> None:
    theirs = tmp_path / name
    theirs.write_text(text, encoding="utf-8")
    found = await files(tmp_path / "none.json", theirs).read()

    assert found.problems == ()
    assert [(each.name, each.command, each.args) for each in found.entries] == [
        ("made", "a", ("b c",))
    ]
    assert found.entries[0].shown == "a 'b c'"
    assert found.entries[0].source == str(theirs)


async def test_of_two_servers_of_a_name_the_first_file_counts_and_the_other_is_named(
    tmp_path: Path,
) -> None:
    own, cursor, code = (tmp_path / name for name in ("mcp.json", "cursor.json", "code.json"))
    own.write_text('{"mcpServers": {"one": {"command": "ours"}}}')
    cursor.write_text('{"mcpServers": {"one": {"command": "x"}, "two": {"command": "cursors"}}}')
    code.write_text('{"servers": {"two": {"command": "y"}, "three": {"command": "codes"}}}')
    found = await files(own, cursor, code).read()

    assert {each.name: (each.command, each.also_in) for each in found.entries} == {
        "one": ("ours", (str(cursor),)),
        "two": ("cursors", (str(code),)),
        "three": ("codes", ()),
    }
    assert found.files == (str(own), str(cursor), str(code))


async def test_variables_are_filled_in_and_secrets_are_not_shown(tmp_path: Path) -> None:
    made = await entry(
        tmp_path,
        {
            "command": "${userHome}/bin/run",
            "args": ["${FOLDER}", "${env:TOKEN}", "${NOT_SET:-default}", "${NOT_SET}", "${x:y}"],
            "env": {"KEY": "${TOKEN}", "OURS": "${LMDESK_TOKEN}", "N": 3, "PATH": "/opt"},
        },
    )

    assert made.command == f"{Path.home()}/bin/run"
    assert made.args == ("/data", "s3cret", "default", "${NOT_SET}", "${x:y}")
    assert {name: value.get_secret_value() for name, value in made.env.items()} == {
        "KEY": "s3cret",
        "OURS": "${LMDESK_TOKEN}",
        "N": "3",
        "PATH": "/opt",
    }
    assert "s3cret" not in made.shown
    assert "'${env:TOKEN}'" in made.shown
    assert made.shown.startswith("PATH=/opt ")
    assert set(made.missing) == {"NOT_SET", "x:y", "LMDESK_TOKEN"}


async def test_what_a_screen_would_hide_is_written_out(tmp_path: Path) -> None:
    made = await entry(tmp_path, {"command": "ls", "args": ["a\u202egpj.exe", "b\nc", "d\u200be"]})

    assert made.shown == r"ls 'a\u{202e}gpj.exe' 'b\u{a}c' 'd\u{200b}e'"


async def test_an_env_file_is_read_and_noticed_when_it_changes(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / ".cursor").mkdir(parents=True)
    (project / ".env").write_text("A=1\nB='two'\n")
    theirs = project / ".cursor" / "mcp.json"
    raw = {"command": "x", "args": ["${workspaceFolder}"], "envFile": "${workspaceFolder}/.env"}
    theirs.write_text(json.dumps({"mcpServers": {"made": {**raw, "env": {"B": "2"}}}}))
    reader = files(tmp_path / "none.json", theirs)
    made = (await reader.read()).entries[0]

    assert made.args == (str(project),)
    assert {name: value.get_secret_value() for name, value in made.env.items()} == {
        "A": "1",
        "B": "2",
    }
    (project / ".env").write_text("A=changed\n")
    again = (await reader.read()).entries[0]
    assert again.env["A"].get_secret_value() == "changed"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"args": []}, "it has neither a command nor a url."),
        ("x", "it has to be an object with a command or a url."),
        ({"command": ""}, "command: it has to be a text."),
        ({"command": "x", "args": "y"}, "args: it has to be a list of texts."),
        ({"command": "x", "args": [1]}, "args: it has to be a list of texts."),
        ({"command": "x", "env": ["A=1"]}, "env: it has to be an object of names and texts."),
        ({"command": "x", "env": {"A": []}}, "env.A: it has to be a text."),
        ({"command": "x\0y"}, "command: it holds a NUL character."),
        ({"command": "x", "envFile": "/no/such.env"}, "envFile: /no/such.env cannot be read."),
        (
            {"url": "nowhere"},
            "url: 'nowhere' is not an address that begins with http:// or https://.",
        ),
        ({"url": "https://a.b/", "headers": {"A": "b\nC: d"}}, "headers.A: a header is one line."),
        ({"type": "sse", "url": "https://a.b/"}, "type: the old SSE transport is not spoken here"),
        (
            {"type": "carrier-pigeon", "command": "x"},
            "type: 'carrier-pigeon' is not stdio or http.",
        ),
        ({"command": "x", "args": ["${input:key}"]}, "it has ${input:key}, which VS Code asks"),
    ],
)
async def test_an_entry_that_cannot_be_used_says_why(
    tmp_path: Path, raw: Any, sentence: str
) -> None:
    own = tmp_path / "mcp.json"
    own.write_text(json.dumps({"mcpServers": {"bad": raw, "good": {"command": "x"}}}))
    found = await files(own).read()
    bad, good = found.entries

    assert sentence in bad.problem
    assert good.problem == ""
    assert found.problems[0].file == str(own)
    assert found.problems[0].key.startswith("mcpServers.bad")


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ('{\n "mcpServers": {\n  "a": }\n}', 3, "It is not valid JSON: Expecting value"),
        ('{\n // a\n /* b\n */ "mcpServers": {\n  "a": nope }\n}', 5, "It is not valid JSON"),
        ("[1]", None, "It has to be an object with mcpServers."),
        ('{"mcpServers": [1]}', None, "It has to be an object of names and servers."),
        (
            '{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}',
            None,
            "'a' stands in it twice.",
        ),
        ("[" * 100_000, None, "nested too deeply"),
    ],
)
async def test_a_broken_file_is_explained_and_the_others_are_read(
    tmp_path: Path, text: str, line: int | None, sentence: str
) -> None:
    own, theirs = tmp_path / "mcp.json", tmp_path / "theirs.json"
    theirs.write_text(text)
    own.write_text('{"mcpServers": {"good": {"command": "x"}}}')
    found = await files(own, theirs).read()

    assert [each.name for each in found.entries] == ["good"]
    assert (found.problems[0].file, found.problems[0].line) == (str(theirs), line)
    assert sentence in found.problems[0].message


async def test_a_file_that_is_no_text_is_explained(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    own.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in (await files(own).read()).problems[0].message


async def test_names_fit_into_addresses_and_two_that_would_be_one_are_told(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    raw = {"command": "x"}
    own.write_text(json.dumps({"mcpServers": {"io.github/time 2": raw, "io-github-time-2": raw}}))
    found = await files(own).read()

    assert [each.name for each in found.entries] == ["io-github-time-2"]
    assert "io.github/time 2 is already" in found.problems[0].message


async def test_writing_keeps_what_is_not_ours_and_refuses_what_it_would_destroy(
    tmp_path: Path,
) -> None:
    own = tmp_path / "mcp.json"
    own.write_text(json.dumps({"other": [1], "mcpServers": {"a": {"command": "x", "mark": 1}}}))
    written = files(own)
    await written.put("a", {"url": "https://a.example/"})
    await written.put("b", {"url": "https://b.example/"})
    assert json.loads(own.read_text()) == {
        "other": [1],
        "mcpServers": {
            "a": {"mark": 1, "url": "https://a.example/"},
            "b": {"url": "https://b.example/"},
        },
    }
    assert await written.remove("a")
    assert not await written.remove("a")
    with pytest.raises(BadParameter, match="begins with http"):
        await written.put("c", {"url": "nowhere"})
    commented = '{ // mine\n"mcpServers": {}}'
    own.write_text(commented)
    with pytest.raises(StorageError, match="comments, which would be lost"):
        await written.put("c", {"url": "https://c.example/"})
    assert own.read_text() == commented


def test_the_usual_files_are_those_of_five_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("infrastructure.tools.places.sys.platform", "linux")
    linux = {str(path) for path in usual_files()}
    monkeypatch.setattr("infrastructure.tools.places.sys.platform", "darwin")
    mac = {str(path) for path in usual_files()}

    both = {"/home/ada/.lmstudio/mcp.json", "/home/ada/.cursor/mcp.json", "/home/ada/.claude.json"}
    assert both <= linux & mac
    assert "/home/ada/.config/Claude/claude_desktop_config.json" in linux
    assert "/home/ada/.config/Code/User/mcp.json" in linux
    assert "/home/ada/Library/Application Support/Claude/claude_desktop_config.json" in mac


async def test_lm_desk_is_not_among_its_own_tools(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    itself = {
        "a": {"url": "http://localhost:7860/mcp"},
        "b": {"url": "http://127.0.0.1:7860/mcp/"},
        "c": {"url": "https://desk.example/mcp"},
        "d": {"command": "/opt/bin/lmdesk", "args": ["mcp"]},
        "e": {"command": "uvx", "args": ["lmdesk", "mcp"]},
        "e1": {"command": "uvx", "args": ["lmdesk@latest", "mcp"]},
        "e2": {"command": "sh", "args": ["-lc", "lmdesk mcp"]},
        "e3": {"command": "/bin/bash", "args": ["-c", "cd /x;exec '/opt/lmdesk' mcp --port 7860"]},
        "e4": {"command": "python3", "args": ["-m", "app", "mcp"]},
    }
    others = {
        "f": {"url": "http://localhost:7861/mcp"},
        "g": {"command": "uvx", "args": ["mcp-server-fetch"]},
        "h": {"command": "files", "args": ["/home/ada/my lmdesk", "mcp"]},
        "i": {"command": "python3", "args": ["-m", "theirs", "mcp"]},
    }
    own.write_text(json.dumps({"mcpServers": {**itself, **others}}))
    addresses = ("http://127.0.0.1:7860", "https://desk.example")
    found = await ConfigFiles(own, (), {}, addresses=addresses).read()

    assert [each.name for each in found.entries if "LM Desk itself" in each.problem] == list(itself)
    assert [each.name for each in found.entries if not each.problem] == list(others)


async def test_lm_desk_itself_is_not_even_written_down_as_a_tool(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    book = ConfigFiles(own, (), {}, addresses=("http://127.0.0.1:7860",))
    with pytest.raises(BadParameter, match="LM Desk itself"):
        await book.put("me", {"url": "http://localhost:7860/mcp"})
    assert not own.exists()
    await book.put("other", {"url": "http://localhost:7861/mcp"})
    assert [each.name for each in (await book.read()).entries] == ["other"]


async def test_a_name_that_has_to_change_is_kept_for_people(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    own.write_text(
        json.dumps({"mcpServers": {"größe ☕": {"command": "x"}, "b": {"command": "x"}}})
    )
    found = await files(own).read()

    assert [(each.name, each.named) for each in found.entries] == [("gr-e", "größe ☕"), ("b", "")]


async def test_half_a_character_spoils_only_its_own_server(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    own.write_text(
        '{"mcpServers": {"a\\ud83d": {"command": "x"}, "b": {"command": "x", "env": {"K": "\\ud83d"}},'
        ' "c": {"command": "x"}}}'
    )
    book = files(own)
    found = await book.read()

    assert [each.name for each in found.entries] == ["c"]
    assert [each.key for each in found.problems] == ["mcpServers.a\ufffd", "mcpServers.b"]
    assert all("half a character" in each.message for each in found.problems)
    await book.put("d", {"command": "x"})
    assert [each.name for each in (await book.read()).entries] == ["c", "d"]


async def test_all_that_is_written_at_once_is_in_the_file(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    book = files(own)
    names = [f"s{number}" for number in range(20)]
    await asyncio.gather(*(book.put(name, {"command": name}) for name in names))
    assert sorted(each.name for each in (await book.read()).entries) == sorted(names)

    gone = await asyncio.gather(*(book.remove(name) for name in names[:15]))
    assert all(gone)
    assert set(json.loads(own.read_text())["mcpServers"]) == set(names[15:])


async def test_what_another_program_writes_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "mcp.json"
    own.write_text('{"mcpServers": {}}')
    theirs = ['{"mcpServers": {"theirs": {"command": "x"}}}']
    synced = os.fsync

    def fsync(handle: int) -> None:
        synced(handle)
        if theirs:
            own.write_text(theirs.pop())

    monkeypatch.setattr("infrastructure.tools.files.os.fsync", fsync)
    await files(own).put("ours", {"command": "y"})
    assert set(json.loads(own.read_text())["mcpServers"]) == {"theirs", "ours"}
    assert os.listdir(tmp_path) == ["mcp.json"]  # noqa: PTH208 - nothing half written is left


async def test_a_server_is_changed_and_removed_by_the_name_it_has_here(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    own.write_text(json.dumps({"mcpServers": {"My Server": {"command": "x", "mark": 1}}}))
    book = files(own)
    with pytest.raises(BadParameter, match="There is a tool server My-Server already"):
        await book.put("My-Server", {"command": "z"}, new=True)
    await book.put("My-Server", {"command": "y"})
    assert json.loads(own.read_text()) == {"mcpServers": {"My Server": {"mark": 1, "command": "y"}}}
    assert await book.remove("My-Server")
    assert json.loads(own.read_text()) == {"mcpServers": {}}


async def test_what_becomes_of_an_entry_is_looked_at_before_it_is_written(tmp_path: Path) -> None:
    own = tmp_path / "mcp.json"
    raw = {"transport": "stdio", "command": "x", "timeout": 5}
    own.write_text(json.dumps({"mcpServers": {"a": raw, "b": {**raw, "oauth": {"clientId": 3}}}}))
    book = files(own)
    await book.put("a", {"url": "https://a.example/"})
    with pytest.raises(BadParameter, match="clientId"):
        await book.put("b", {"url": "https://b.example/"})

    found = {each.name: each for each in (await book.read()).entries}
    assert (found["a"].problem, found["a"].url) == ("", "https://a.example/")
    assert (found["b"].problem, found["b"].command) == ("", "x")
    assert json.loads(own.read_text())["mcpServers"]["a"]["timeout"] == 5


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('{"mcpServers": {"a": {"command": 3}, "b c": {"command": "x"}, "b-c": {}}}', True),
        ('{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}', False),
        ('{"mcpServers": {"a": {"command": "\\ud83d"}}}', False),
        ('{"mcpServers": ', False),
    ],
)
async def test_it_is_known_whether_a_server_may_be_missing(
    tmp_path: Path, text: str, whole: bool
) -> None:
    own = tmp_path / "mcp.json"
    own.write_text(text)
    found = await files(own).read()

    assert found.problems
    assert found.whole is whole
