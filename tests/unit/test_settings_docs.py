"""The examples and the documentation list every setting, and what they show works."""

import os
import re
from pathlib import Path

import pytest
import yaml

from api.settings import Settings
from api.settings_parts import ProviderEntry
from api.settings_sources import load_settings

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"token", "lmstudio_token", "hf_token"}


def uncommented(name: str, pattern: str) -> str:
    text = (ROOT / name).read_text()
    return "\n".join(re.findall(pattern, text, re.MULTILINE))


def test_the_env_example_lists_every_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = uncommented(".env.example", r"^#(LMDESK_\w+=.*)$").splitlines()
    given = dict(line.split("=", 1) for line in lines)
    keys = {name.removeprefix("LMDESK_").lower() for name in given if "PUBLISH" not in name}
    assert keys == set(Settings.model_fields)
    for name in list(os.environ):
        if name.upper().startswith("LMDESK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("\n".join(lines))
    settings = load_settings()
    assert settings.port == 7860
    assert [config.name for config in settings.provider_configs()] == ["lmstudio", "work"]


def test_the_yaml_example_lists_every_setting_but_the_passwords() -> None:
    shown = yaml.safe_load(uncommented("lmdesk.yaml.example", r"^# ( *[\w-]+:(?: .*)?)$"))
    assert set(shown) == set(Settings.model_fields) - SECRETS
    settings = Settings.model_validate(shown)
    assert settings.port == 7860
    names = [config.name for config in settings.provider_configs()]
    assert names == ["lmstudio", "ollama", "work", "twins", "twins-2"]


def test_the_examples_of_the_documentation_work() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    providers, models = map(yaml.safe_load, examples)
    settings = Settings.model_validate({**providers, **models, "fallback": {"remote": ["work"]}})
    names = [config.name for config in settings.provider_configs()]
    assert names == ["ollama", "work", "studios", "studios-2"]
    with_remote = {"providers": {"huggingface": {}}, **models}
    preferences = Settings.model_validate(with_remote).preferences
    assert preferences.by_task["coding"] == ("*coder*", "qwen/qwen3-4b")
    assert preferences.remote_fallback == ("huggingface",)


def test_every_part_of_a_provider_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    missing = [key for key in ProviderEntry.model_fields if f"| `{key}` |" not in text]
    assert missing == []


@pytest.mark.parametrize("key", sorted(Settings.model_fields))
def test_every_setting_is_documented(key: str) -> None:
    assert f"| `{key}` |" in (ROOT / "docs" / "configuration.md").read_text()
