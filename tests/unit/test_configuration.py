"""Settings change while LM Desk runs: written to the file, in effect at once, and nobody's edit is lost."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from api import configuration as configuration_module
from api.config_edit import REMOVED, CannotEdit
from api.config_file import CannotWrite, FileChanged
from api.configuration import (
    Configuration,
    FileUnusable,
    SettingLocked,
    UndoGone,
    UnusableSetting,
)
from api.settings import Settings
from api.settings_sources import read_sources
from core.errors import BadParameter

pytestmark = pytest.mark.anyio

SECRET = "sk-not-to-be-seen-1234"
FILE = """\
# My desk.
port: 1001   # why not

providers:
  # the box
  box:
    kind: ollama
    base_url: http://box.lan:11434

# the end
"""

Open = Callable[..., Configuration]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.upper().startswith("LMDESK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def the_file(name: str = "lmdesk.yaml") -> Path:
    return Path(name)


class Kept:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.seen: list[Settings] = []

    async def __call__(self, settings: Settings) -> None:
        self.seen.append(settings)


@pytest.fixture
def heard() -> Kept:
    return Kept()


def opened(heard: Kept, text: str | None = FILE, **arguments: object) -> Configuration:
    if text is not None:
        the_file().write_text(text)
    sources = read_sources(arguments)
    configuration = Configuration(sources.settings(), sources)
    configuration.on_change(heard)
    return configuration


def on_disk() -> str:
    return the_file().read_text()


async def test_a_change_is_in_the_file_and_in_effect_and_nothing_else_is_touched(
    heard: Kept,
) -> None:
    configuration = opened(heard)
    await configuration.change([(("providers", "box", "timeout"), 30), (("log_level",), "debug")])
    assert on_disk() == FILE.replace(
        "11434\n", "11434\n    timeout: 30\n"
    ) + "log_level: debug\n"  # fmt: skip
    (settings,) = heard.seen
    assert settings is configuration.settings
    assert settings.log_level == "debug"
    assert settings.provider_configs()[1].timeout_seconds == 30


async def test_without_a_file_one_is_made_in_the_data_folder(
    heard: Kept, empty_folder: Path
) -> None:
    configuration = opened(heard, None, data_dir=str(empty_folder / "data"))
    await configuration.change([(("models", "default"), "m")])
    made = empty_folder / "data" / "lmdesk.yaml"
    assert made.read_text() == "models:\n  default: m\n"
    assert configuration.file.path == made
    assert read_sources({"data_dir": empty_folder / "data"}).settings().models.default == "m"


async def test_a_file_with_a_token_becomes_private_and_another_keeps_its_mode(
    heard: Kept,
) -> None:
    configuration = opened(heard)
    the_file().chmod(0o644)
    await configuration.change([(("log_level",), "debug")])
    assert stat.S_IMODE(the_file().stat().st_mode) == 0o644
    await configuration.change([(("providers", "box", "token"), SECRET)])
    assert stat.S_IMODE(the_file().stat().st_mode) == 0o600
    assert sorted(path.name for path in the_file(".").iterdir() if path.is_file()) == [
        "lmdesk.yaml"
    ]


async def test_a_link_stays_a_link(heard: Kept, empty_folder: Path) -> None:
    (empty_folder / "dotfiles").mkdir()
    (empty_folder / "dotfiles" / "desk.yaml").write_text(FILE)
    the_file().symlink_to(empty_folder / "dotfiles" / "desk.yaml")
    configuration = opened(heard, None)
    await configuration.change([(("log_level",), "debug")])
    assert the_file().is_symlink()
    assert "log_level: debug" in (empty_folder / "dotfiles" / "desk.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "parameter", "message"),
    [
        ((("providers", "box", "timeout"), "soon"), "providers.box.timeout", "is 'soon'"),
        ((("providers", "box", "tiemout"), 3), "providers.box.tiemout", "There is no setting"),
        ((("providers", "box", "base_url"), "ftp://x"), "providers.box.base_url", "web server"),
        ((("providers", "b:x", "kind"), "ollama"), "providers.b:x", "letters, digits"),
        ((("fallback", "remote"), ["nobody"]), "fallback.remote", "there is no provider 'nobody'"),
        ((("idle_unload_minutes",), -1), "idle_unload_minutes", "greater than 0"),
        ((("nonsense",), 1), "nonsense", "There is no setting"),
        ((("providers", "box", "token"), f"{SECRET} x"), "providers.box.token", "cannot be used"),
    ],
)
async def test_a_bad_value_is_named_and_changes_nothing(
    heard: Kept, change: tuple[tuple[str, ...], object], parameter: str, message: str
) -> None:
    configuration = opened(heard)
    with pytest.raises(UnusableSetting) as caught:
        await configuration.change([(("log_level",), "debug"), change])
    assert caught.value.parameter == parameter
    assert message in caught.value.message
    assert "lmdesk.yaml" not in caught.value.message
    assert SECRET not in caught.value.message + caught.value.hint
    assert on_disk() == FILE
    assert heard.seen == []


async def test_what_the_environment_or_an_argument_sets_cannot_be_changed(
    heard: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMDESK_PROVIDERS__BOX__TIMEOUT", "5")
    monkeypatch.setenv("LMDESK_LMSTUDIO_URL", "http://studio.lan:1")
    the_file(".env").write_text("LMDESK_LOG_LEVEL=error\n")
    configuration = opened(heard, on_start="last")
    for keys, said in [
        (("providers", "box", "timeout"), "the environment: LMDESK_PROVIDERS__BOX__TIMEOUT"),
        (("providers", "box"), "the environment: LMDESK_PROVIDERS__BOX"),
        (("providers", "lmstudio", "base_url"), "the environment: LMDESK_LMSTUDIO_URL"),
        (("providers", "lmstudio", "base_urls"), "the environment: LMDESK_LMSTUDIO_URL"),
        (("log_level",), "the file .env: LMDESK_LOG_LEVEL"),
        (("on_start",), "the command line: --on-start"),
    ]:
        with pytest.raises(SettingLocked, match=said):
            await configuration.change([(keys, REMOVED)])
    assert on_disk() == FILE
    await configuration.change([(("providers", "box", "retry_attempts"), 0)])
    assert configuration.settings.provider_configs()[1].retry_attempts == 0


@pytest.mark.parametrize("key", ["host", "port", "token", "allowed_hosts", "data_dir"])
async def test_where_it_listens_and_who_comes_in_is_not_changed_from_a_page(
    heard: Kept, key: str
) -> None:
    configuration = opened(heard)
    with pytest.raises(SettingLocked, match="cannot be changed while LM Desk runs"):
        await configuration.change([((key,), "1")])
    assert on_disk() == FILE


async def test_a_file_changed_by_hand_is_taken_over(heard: Kept) -> None:
    configuration = opened(heard)
    await configuration.look()
    the_file().write_text(FILE + "log_level: error\nhost: 0.0.0.0\ntoken: 0123456789abcdefg")
    await configuration.look()
    assert configuration.settings.log_level == "error"
    # It listens already, and on this address.
    assert configuration.settings.host == "127.0.0.1"
    assert configuration.waits("host")
    assert not configuration.waits("log_level")
    assert len(heard.seen) == 1


async def test_a_bad_file_keeps_the_running_configuration_and_says_what_is_wrong(
    heard: Kept,
) -> None:
    configuration = opened(heard)
    bad = FILE.replace("kind: ollama", "kind: olama")
    the_file().write_text(bad)
    await configuration.look()
    assert configuration.problem is not None
    assert "'providers.box.kind' in lmdesk.yaml is 'olama'" in configuration.problem.message
    assert "(line 7)" in configuration.problem.message
    assert configuration.settings.provider_configs()[1].kind == "ollama"
    assert heard.seen == []

    with pytest.raises(FileUnusable, match="line 7"):
        await configuration.change([(("log_level",), "debug")])
    assert on_disk() == bad

    the_file().write_text(FILE + "log_level: error\n")
    await configuration.look()
    assert configuration.problem is None
    assert configuration.settings.log_level == "error"


async def test_of_two_writers_the_second_is_told_and_the_first_ones_change_stays(
    heard: Kept,
) -> None:
    configuration = opened(heard)
    await configuration.look()
    read = configuration.file.revision
    await configuration.change([(("log_level",), "debug")], revision=read)
    with pytest.raises(FileChanged, match="changed since these settings were read"):
        await configuration.change([(("log_level",), "error")], revision=read)
    assert "log_level: debug" in on_disk()

    read = configuration.file.revision
    by_hand = on_disk() + "# by hand\n"
    the_file().write_text(by_hand)
    with pytest.raises(FileChanged):
        await configuration.change([(("log_level",), "error")], revision=read)
    assert on_disk() == by_hand
    await configuration.change([(("log_level",), "error")], revision=configuration.file.revision)
    assert on_disk() == by_hand.replace("debug", "error")


async def test_an_edit_in_the_very_moment_of_writing_is_not_overwritten(heard: Kept) -> None:
    configuration = opened(heard)
    await configuration.look()
    the_file().write_text(FILE + "# by hand\n")
    with pytest.raises(FileChanged, match="changed on disk since LM Desk read it"):
        configuration.file.write(FILE + "log_level: debug\n")
    assert on_disk() == FILE + "# by hand\n"


async def test_a_file_that_is_gone_is_said_and_written_again(heard: Kept) -> None:
    configuration = opened(heard)
    await configuration.look()
    the_file().unlink()
    await configuration.look()
    assert configuration.problem is not None
    assert "is gone" in configuration.problem.message
    assert len(configuration.settings.provider_configs()) == 2
    await configuration.change([(("log_level",), "debug")])
    assert on_disk() == FILE + "log_level: debug\n"
    assert configuration.problem is None


async def test_a_folder_that_cannot_be_written_is_said(heard: Kept, empty_folder: Path) -> None:
    (empty_folder / "file").write_text("")
    configuration = opened(heard, None, data_dir=str(empty_folder / "file"))
    with pytest.raises(CannotWrite, match="cannot be written"):
        await configuration.change([(("log_level",), "debug")])
    assert configuration.settings.log_level == "info"


async def test_a_change_can_be_taken_back_byte_for_byte_with_its_token(heard: Kept) -> None:
    text = FILE.replace("ollama\n", f"ollama\n    token: {SECRET} # mine\n")
    configuration = opened(heard, text)
    word = await configuration.change([(("providers", "box"), REMOVED)])
    assert len(configuration.settings.provider_configs()) == 1
    await configuration.undo(word)
    assert on_disk() == text
    assert configuration.settings.provider_configs()[1].token is not None
    with pytest.raises(UndoGone):
        await configuration.undo(word)


async def test_an_older_change_cannot_be_taken_back_over_a_newer_one(heard: Kept) -> None:
    configuration = opened(heard)
    word = await configuration.change([(("providers", "box"), REMOVED)])
    await configuration.change([(("log_level",), "debug")])
    with pytest.raises(UndoGone, match="cannot be taken back"):
        await configuration.undo(word)


async def test_a_token_does_not_follow_its_provider_to_another_address(heard: Kept) -> None:
    text = FILE.replace("ollama\n", f"ollama\n    token: {SECRET}\n")
    configuration = opened(heard, text + f"lmstudio_token: {SECRET}\n")
    moved = (("providers", "box", "base_url"), "http://thief.example")
    for changes in (
        [moved],
        [(("lmstudio_url",), "http://thief.example")],
        [(("providers", "lmstudio", "base_urls"), ["http://thief.example"])],
        [(("providers", "box", "kind"), "llamacpp"), (("providers", "box", "base_url"), REMOVED)],
    ):
        with pytest.raises(UnusableSetting, match="was given for another address"):
            await configuration.change(changes)
    assert "thief" not in on_disk()
    await configuration.change([moved, (("providers", "box", "token"), "another")])
    await configuration.change(
        [(("lmstudio_url",), "http://new.lan"), (("lmstudio_token",), REMOVED)]
    )
    assert configuration.settings.provider_configs()[0].token is None


async def test_what_cannot_be_put_into_effect_is_not_written_either(heard: Kept) -> None:
    async def refuses(settings: Settings) -> None:
        if settings.log_level == "debug":
            raise BadParameter("That cannot work.", hint="Another way.")

    configuration = opened(heard)
    configuration.on_change(refuses)
    with pytest.raises(BadParameter, match="cannot work"):
        await configuration.change([(("log_level",), "debug")])
    assert on_disk() == FILE
    assert configuration.settings.log_level == configuration.configured.log_level == "info"
    assert [settings.log_level for settings in heard.seen] == ["debug", "info"]

    the_file().write_text(FILE + "log_level: debug\n")
    await configuration.look()
    assert configuration.problem is not None
    assert configuration.problem.message == "That cannot work."
    assert configuration.settings.log_level == "info"
    the_file().write_text(FILE + "log_level: error\n")
    await configuration.look()
    assert configuration.problem is None
    assert configuration.settings.log_level == "error"


async def test_yaml_that_is_too_clever_is_left_to_a_person(heard: Kept) -> None:
    text = "fallback: &f {remote: []}\nproviders: {box: {kind: ollama}}\n"
    configuration = opened(heard, text + "models: {default: &d m, preferences: {coding: [*d]}}\n")
    with pytest.raises(CannotEdit, match="by hand"):
        await configuration.change([(("models", "default"), "x")])


async def test_a_watch_notices_by_itself(heard: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration_module, "WATCH_SECONDS", 0.01)
    configuration = opened(heard)
    watching = asyncio.create_task(configuration.run())
    the_file().write_text(FILE + "log_level: error\n")
    async with asyncio.timeout(30):
        while not heard.seen:
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert configuration.settings.log_level == "error"
