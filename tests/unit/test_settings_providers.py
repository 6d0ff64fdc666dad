"""Providers, models and fallback in the settings: what is made of them, and what a bad one says."""

import os
from pathlib import Path

import pytest

from api.settings import BadSetting, Settings
from api.settings_sources import load_settings, read_sources

SECRET = "sk-not-to-be-seen-1234"


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


def written(text: str) -> Settings:
    Path("lmdesk.yaml").write_text(text)
    return load_settings()


def test_without_a_word_there_is_lmstudio_alone() -> None:
    (config,) = load_settings().provider_configs()
    assert (config.name, config.kind, config.base_url) == (
        "lmstudio",
        "lmstudio",
        "http://127.0.0.1:1234",
    )
    assert not config.remote


def test_the_short_settings_are_those_of_the_provider_lmstudio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LMDESK_LMSTUDIO_TOKEN", SECRET)
    settings = written("lmstudio_url: http://studio.lan:1234\nproviders: {lmstudio: {timeout: 3}}")
    (config,) = settings.provider_configs()
    assert config.base_url == "http://studio.lan:1234"
    assert config.timeout_seconds == 3
    assert config.token is not None
    assert config.token.get_secret_value() == SECRET


def test_the_short_settings_work_without_files_too() -> None:
    (config,) = Settings(lmstudio_url="http://studio.lan:1").provider_configs()
    assert config.base_url == "http://studio.lan:1"


def test_the_stronger_place_says_where_lmstudio_is_however_it_is_spelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("lmdesk.yaml").write_text("providers: {lmstudio: {base_url: 'http://file.lan:1'}}")
    monkeypatch.setenv("LMDESK_LMSTUDIO_URL", "http://environment.lan:1")
    assert load_settings().provider_configs()[0].base_url == "http://environment.lan:1"
    keys = ("providers", "lmstudio", "base_url")
    assert read_sources().origin(keys) == ("environment", "LMDESK_LMSTUDIO_URL")
    monkeypatch.delenv("LMDESK_LMSTUDIO_URL")
    monkeypatch.setenv("LMDESK_PROVIDERS__LMSTUDIO__BASE_URL", "http://b.lan:1")
    Path("lmdesk.yaml").write_text("lmstudio_url: http://file.lan:1")
    assert load_settings().provider_configs()[0].base_url == "http://b.lan:1"


def test_lmstudio_can_be_left_out() -> None:
    settings = written("providers:\n  lmstudio: {enabled: false}\n  ollama:\n")
    assert [config.name for config in settings.provider_configs()] == ["ollama"]


def test_every_kind_has_its_usual_address_but_openai() -> None:
    settings = written("providers:\n  ollama:\n  llamacpp:\n  huggingface: {}\n")
    found = {
        config.name: (config.base_url, config.remote) for config in settings.provider_configs()
    }
    assert found == {
        "lmstudio": ("http://127.0.0.1:1234", False),
        "ollama": ("http://127.0.0.1:11434", False),
        "llamacpp": ("http://127.0.0.1:8080", False),
        "huggingface": ("https://router.huggingface.co", True),
    }
    with pytest.raises(BadSetting, match=r"'providers\.x' in lmdesk\.yaml") as caught:
        written("providers:\n  x:\n    kind: openai\n")
    assert "base_url" in caught.value.hint
    assert "(line 2)" in caught.value.message


def test_several_addresses_become_several_providers() -> None:
    settings = written(
        "providers:\n  w:\n    kind: openai\n    base_urls: [http://a.lan:1/v1, http://8.8.8.8:2]\n"
    )
    _, first, second = settings.provider_configs()
    assert (first.name, first.base_url, first.remote) == ("w", "http://a.lan:1", False)
    assert (second.name, second.base_url, second.remote) == ("w-2", "http://8.8.8.8:2", True)


def test_remote_can_be_said() -> None:
    settings = written("providers: {openai: {base_url: 'https://gpu.my.org', remote: false}}")
    assert not settings.provider_configs()[1].remote


def test_a_provider_of_another_name_needs_a_kind() -> None:
    with pytest.raises(BadSetting, match="it has no kind") as caught:
        written("providers:\n  # mine\n  work:\n    base_url: http://a.lan\n")
    assert "line 3" in caught.value.message


@pytest.mark.parametrize("name", ["a:b", "a b", "-a", "auto", "Embedded", "ü", "", "a" * 41])
def test_a_name_that_cannot_be_a_providers_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match="'providers"):
        written(f"providers:\n  '{name}':\n    kind: ollama\n")


def test_two_providers_cannot_have_one_name() -> None:
    with pytest.raises(BadSetting, match="that name is taken by 'w'"):
        written(
            "providers:\n  w: {kind: lmstudio, base_urls: 'http://a,http://b'}\n"
            "  W-2: {kind: ollama}\n"
        )
    with pytest.raises(BadSetting, match=r"line 3.*duplicate"):
        written("providers:\n  w: {kind: ollama}\n  w: {kind: ollama}\n")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "providers:\n  w:\n    kind: ollama\n    timeout: soon\n",
            "'providers.w.timeout' in lmdesk.yaml is 'soon'",
            "seconds to wait",
        ),
        (
            "# one\nproviders:\n  w:\n\n    kind: olama\n",
            "'providers.w.kind' in lmdesk.yaml is 'olama'",
            "llamacpp",
        ),
        (
            "providers:\n  w:\n    kind: ollama\n    tiemout: 3\n",
            "There is no setting 'providers.w.tiemout' in lmdesk.yaml (line 4)",
            "Did you mean timeout?",
        ),
        (
            "providers:\n  w:\n    kind: lmstudio\n    base_urls:\n    - http://a\n    - nope\n",
            "'providers.w.base_urls' in lmdesk.yaml is 'nope': that is not the address",
            "list of addresses",
        ),
        (
            "providers:\n  w:\n    kind: ollama\n    base_url: ftp://a.lan\n",
            "'providers.w.base_url' in lmdesk.yaml is 'ftp://a.lan'",
            "where it answers",
        ),
        (
            "models:\n  defualt: auto\n",
            "There is no setting 'models.defualt' in lmdesk.yaml (line 2)",
            "Did you mean default?",
        ),
        (
            "models:\n  preferences:\n    codng: [a]\n",
            "There is no setting 'models.preferences.codng' in lmdesk.yaml (line 3)",
            "Did you mean coding?",
        ),
        (
            "fallback:\n  remote:\n  - lmstudio\n  - hugginface\n",
            "there is no provider 'hugginface' (line 4)",
            "lmstudio",
        ),
        ("providers: [a]\n", "'providers' in lmdesk.yaml cannot be used", "a name"),
        ("fallback: 3\n", "'fallback' in lmdesk.yaml is 3", "remote"),
        ("a: 1\n b: 2\n", "lmdesk.yaml, line 2, is not valid YAML", ""),
    ],
)
def test_a_bad_file_names_line_and_key_and_what_would_be_right(
    text: str, message: str, hint: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        written(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "line " in caught.value.message
    assert "\n" not in caught.value.message


def test_a_key_of_the_old_kind_names_its_line_too() -> None:
    with pytest.raises(BadSetting, match=r"\(line 3\)"):
        written("# a\n\nport: abc\n")


@pytest.mark.parametrize(
    "text",
    [
        f"providers:\n  w: {SECRET}\n",
        f"providers: {SECRET}\n",
        f"providers:\n  w:\n    kind: ollama\n    token: [{SECRET}]\n",
        f"providers:\n  w:\n    kind: ollama\n    token: '{SECRET} x'\n",
        f"providers:\n  w:\n    kind: ollama\n    base_url: http://me:{SECRET}@a.lan\n",
        f"lmstudio_url: http://me:{SECRET}@a.lan\n",
    ],
)
def test_a_secret_in_a_bad_file_is_not_repeated(text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        written(text)
    assert SECRET not in caught.value.message + caught.value.hint
    assert SECRET not in repr(caught.value)


def test_the_environment_adds_to_the_file_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMDESK_PROVIDERS__MY_BOX__TOKEN", SECRET)
    monkeypatch.setenv("LMDESK_PROVIDERS", '{"other": {"kind": "ollama"}}')
    monkeypatch.setenv("LMDESK_MODELS__PREFERENCES__CODING", "*coder*, b")
    monkeypatch.setenv("LMDESK_FALLBACK__REMOTE", "My-box")
    settings = written(
        "providers:\n  My-box:\n    kind: openai\n    base_url: https://a.org\n"
        "models: {default: m, preferences: {general: [g]}}\n"
    )
    by_name = {config.name: config for config in settings.provider_configs()}
    assert set(by_name) == {"lmstudio", "My-box", "other"}
    token = by_name["My-box"].token
    assert token is not None
    assert token.get_secret_value() == SECRET
    preferences = settings.preferences
    assert preferences.default == "m"
    assert preferences.by_task == {"general": ("g",), "coding": ("*coder*", "b")}
    assert preferences.remote_fallback == ("My-box",)
    assert SECRET in [secret.get_secret_value() for secret in settings.secrets]
    assert SECRET not in repr(settings)


def test_the_environment_can_replace_a_list_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMDESK_PROVIDERS__W__BASE_URL", "http://c")
    settings = written("providers: {w: {kind: lmstudio, base_urls: [http://a, http://b]}}")
    assert [config.base_url for config in settings.provider_configs()[1:]] == ["http://c"]


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("PROVIDERS", "{nope", "LMDESK_PROVIDERS is not valid JSON", "double quotes"),
        ("PROVIDERS__W__TIEMOUT", "3", "LMDESK_PROVIDERS__W__TIEMOUT", "LMDESK_PROVIDERS__W__TIM"),
        ("PROVIDERS__OLLAMA__TIMEOUT", "x", "LMDESK_PROVIDERS__OLLAMA__TIMEOUT is 'x'", "seconds"),
        ("MODELS__DEFUALT", "3", "LMDESK_MODELS__DEFUALT", "LMDESK_MODELS__DEFAULT?"),
        ("PROVIDRES__W__KIND", "x", "LMDESK_PROVIDRES__W__KIND", ""),
        ("PORT__A", "1", "LMDESK_PORT__A", ""),
        ("PROVIDERS__W", SECRET, "LMDESK_PROVIDERS__W cannot be used", "a name with"),
    ],
)
def test_a_bad_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str, hint: str
) -> None:
    monkeypatch.setenv(f"LMDESK_{name}", value)
    with pytest.raises(BadSetting) as caught:
        load_settings()
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


def test_the_fallback_names_each_of_several_addresses() -> None:
    settings = written(
        "providers: {w: {kind: openai, base_urls: ['https://a.org', 'https://b.org']}}\n"
        "fallback: {remote: [w]}\n"
    )
    assert settings.preferences.remote_fallback == ("w", "w-2")


def test_a_provider_that_is_switched_off_is_no_fallback() -> None:
    settings = written(
        "providers: {huggingface: {enabled: false}}\nfallback: {remote: [huggingface]}\n"
    )
    assert settings.preferences.remote_fallback == ()


def test_hugging_face_uses_its_token_at_its_own_address_only() -> None:
    here = written(f"hf_token: {SECRET}\nproviders: {{huggingface: {{}}}}\n").provider_configs()[1]
    assert here.token is not None
    there = written(
        f"hf_token: {SECRET}\nproviders: {{huggingface: {{base_url: 'https://a.org'}}}}\n"
    ).provider_configs()[1]
    assert there.token is None


def test_the_file_in_the_data_folder_counts_where_there_is_no_other(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_folder / "data"
    folder.mkdir()
    (folder / "lmdesk.yaml").write_text("port: 1001\n")
    assert load_settings().port == 7860
    assert load_settings({"data_dir": str(folder)}).port == 1001
    monkeypatch.setenv("LMDESK_DATA_DIR", str(folder))
    assert load_settings().port == 1001
    (empty_folder / "lmdesk.yaml").write_text("port: 1002\n")
    assert load_settings().port == 1002
