"""Where settings come from, which wins, and what a bad one says."""

import os
import stat
from pathlib import Path

import pytest

from api.settings import BadSetting, Settings, is_loopback
from api.settings_sources import load_settings
from api.token_file import with_token

TOKEN = "a-long-enough-token"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a home with nothing in them, and no settings in the environment."""
    for name in list(os.environ):
        if name.upper().startswith("LMDESK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_are_loopback_and_the_documented_ports() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 7860)
    assert settings.lmstudio_url == "http://127.0.0.1:1234"
    assert settings.embedded == "auto"
    assert settings.token is None


def test_arguments_beat_environment_beat_dotenv_beat_yaml_beat_defaults(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "lmdesk.yaml").write_text("port: 1001\n")
    assert load_settings(defaults={"port": 1000}).port == 1001
    (empty_folder / ".env").write_text("LMDESK_PORT=1002\nSOMETHING_ELSE=x\n")
    assert load_settings(defaults={"port": 1000}).port == 1002
    monkeypatch.setenv("LMDESK_PORT", "1003")
    assert load_settings(defaults={"port": 1000}).port == 1003
    assert load_settings({"port": "1004"}, defaults={"port": 1000}).port == 1004
    assert load_settings({"port": None}, defaults={"port": 1000}).port == 1003


def test_building_settings_reads_nothing_but_its_arguments(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMDESK_PORT", "1003")
    (empty_folder / ".env").write_text("LMDESK_PORT=1002\n")
    assert Settings().port == 7860


def test_the_yaml_of_the_users_config_folder_counts_where_none_is_nearer(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(empty_folder / "config"))
    folder = empty_folder / "config" / "lmdesk"
    folder.mkdir(parents=True)
    (folder / "lmdesk.yaml").write_text("port: 1001\n")
    assert load_settings().port == 1001
    (empty_folder / "lmdesk.yaml").write_text("port: 1002\n")
    assert load_settings().port == 1002
    (empty_folder / "other.yaml").write_text("port: 1003\n")
    monkeypatch.setenv("LMDESK_CONFIG", "other.yaml")
    assert load_settings().port == 1003


def test_a_config_file_that_is_not_there_is_said() -> None:
    with pytest.raises(BadSetting, match=r"--config names nowhere\.yaml"):
        load_settings(config=Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("PORT", "abc", "LMDESK_PORT is 'abc'"),
        ("PORT", "70000", "LMDESK_PORT is '70000'"),
        ("EMBEDDED", "maybe", "LMDESK_EMBEDDED is 'maybe'"),
        ("LMSTUDIO_URL", "nonsense", "LMDESK_LMSTUDIO_URL is 'nonsense'"),
        ("LMSTUDIO_URL", "http://[::1", "that is not the address of a web server"),
        ("LOG_LEVEL", "loud", "LMDESK_LOG_LEVEL is 'loud'"),
        ("ENGINE_MEMORY_BUDGET", "lots", "LMDESK_ENGINE_MEMORY_BUDGET is 'lots'"),
    ],
)
def test_a_bad_value_is_named_with_its_source_and_a_way_out(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(f"LMDESK_{key}", value)
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert wanted in caught.value.message
    assert caught.value.hint.startswith("It should be ")
    assert "\n" not in caught.value.message


def test_a_bad_value_in_a_file_names_the_file(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("LMDESK_PORT=abc\n")
    with pytest.raises(BadSetting, match=r"LMDESK_PORT in \.env is 'abc'"):
        load_settings()
    (empty_folder / ".env").unlink()
    (empty_folder / "lmdesk.yaml").write_text("port: abc\n")
    with pytest.raises(BadSetting, match=r"'port' in lmdesk\.yaml is 'abc'"):
        load_settings()


def test_unknown_keys_are_errors_that_name_the_key_and_the_nearest(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMDESK_PROT", "1")
    with pytest.raises(BadSetting, match="LMDESK_PROT") as caught:
        load_settings()
    assert caught.value.hint == "Did you mean LMDESK_PORT?"
    monkeypatch.delenv("LMDESK_PROT")
    (empty_folder / ".env").write_text("LMDESK_HOTS=1\n")
    with pytest.raises(BadSetting, match=r"LMDESK_HOTS in \.env"):
        load_settings()
    (empty_folder / ".env").unlink()
    (empty_folder / "lmdesk.yaml").write_text("zzz: 1\n")
    with pytest.raises(BadSetting, match=r"'zzz' in lmdesk\.yaml"):
        load_settings()


def test_what_the_tests_are_told_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMDESK_TEST_CHROMIUM", "/usr/bin/chromium")
    assert load_settings().port == 7860


@pytest.mark.parametrize("text", ["a: [", "just words", "- 1\n- 2\n"])
def test_a_yaml_that_cannot_be_read_is_said(empty_folder: Path, text: str) -> None:
    (empty_folder / "lmdesk.yaml").write_text(text)
    with pytest.raises(BadSetting, match=r"lmdesk\.yaml"):
        load_settings()


def test_an_empty_yaml_sets_nothing(empty_folder: Path) -> None:
    (empty_folder / "lmdesk.yaml").write_text("# port: 1\n")
    assert load_settings().port == 7860


def test_yaml_may_say_off_without_quotes_and_lists(empty_folder: Path) -> None:
    (empty_folder / "lmdesk.yaml").write_text("embedded: off\nallowed_hosts: [desk.lan, b]\n")
    settings = load_settings()
    assert settings.embedded == "off"
    assert settings.allowed_hosts == ("desk.lan", "b")


def test_lists_in_the_environment_have_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMDESK_ALLOWED_HOSTS", "desk.lan, b")
    assert load_settings().allowed_hosts == ("desk.lan", "b")


@pytest.mark.parametrize("url", ["http://10.0.0.2:1234/", "http://10.0.0.2:1234/v1/"])
def test_a_server_address_may_be_pasted_as_people_have_it(url: str) -> None:
    assert Settings(lmstudio_url=url).lmstudio_url == "http://10.0.0.2:1234"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "desk.lan"])
def test_a_host_others_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(BadSetting, match="no token is set") as caught:
        load_settings({"host": host})
    assert "LMDESK_TOKEN" in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "[::1]", "localhost"])
def test_a_loopback_host_needs_none(host: str) -> None:
    assert is_loopback(load_settings({"host": host}).host)


@pytest.mark.parametrize(
    "token", ["tiny-one", "fifteen-letters", "ümläuts-and-more-of-it", "x" * 20 + "\n"]
)
def test_a_token_that_does_not_do_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("LMDESK_TOKEN", token)
    with pytest.raises(BadSetting, match="LMDESK_TOKEN cannot be used") as caught:
        load_settings()
    assert token.strip() not in caught.value.message + caught.value.hint


def test_secrets_do_not_show_in_the_settings_text() -> None:
    assert TOKEN not in repr(Settings.model_validate({"token": TOKEN, "lmstudio_token": TOKEN}))


def test_an_empty_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # A compose file passes `LMDESK_TOKEN=` when the variable is not set.
    monkeypatch.setenv("LMDESK_TOKEN", "")
    assert load_settings().token is None


def test_a_token_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    settings = Settings(host="0.0.0.0", token_file=tmp_path / "sub" / "token")
    first = with_token(settings).token
    assert first is not None
    assert len(first.get_secret_value()) >= 16
    assert with_token(settings).token == first
    assert stat.S_IMODE((tmp_path / "sub" / "token").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["token"]


def test_a_token_that_is_set_beats_the_file(tmp_path: Path) -> None:
    settings = Settings.model_validate({"token": TOKEN, "token_file": tmp_path / "token"})
    assert with_token(settings) == settings
    assert not (tmp_path / "token").exists()


def test_a_token_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSetting, match="token file"):
        with_token(Settings(token_file=tmp_path / "file" / "token"))


def test_a_token_file_with_too_little_in_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(BadSetting, match="shorter than 16"):
        with_token(Settings(token_file=tmp_path / "token"))


def test_the_url_of_every_address_is_loopback() -> None:
    token = {"token": TOKEN}
    assert Settings.model_validate({"host": "0.0.0.0", **token}).url() == "http://127.0.0.1:7860"
    assert Settings(host="::1").url(port=9) == "http://[::1]:9"
