"""The examples and the documentation list every setting, and what they show works."""

import re
from pathlib import Path

import pytest
import yaml

from api.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"token", "lmstudio_token", "hf_token"}


def uncommented(name: str, pattern: str) -> str:
    text = (ROOT / name).read_text()
    return "\n".join(re.findall(pattern, text, re.MULTILINE))


def test_the_env_example_lists_every_setting() -> None:
    lines = uncommented(".env.example", r"^#(LMDESK_\w+=.*)$").splitlines()
    given = dict(line.split("=", 1) for line in lines)
    keys = {name.removeprefix("LMDESK_").lower() for name in given if "PUBLISH" not in name}
    assert keys == set(Settings.model_fields)
    filled = {
        name.removeprefix("LMDESK_").lower(): value
        for name, value in given.items()
        if value and "PUBLISH" not in name
    }
    assert Settings.model_validate(filled).port == 7860


def test_the_yaml_example_lists_every_setting_but_the_passwords() -> None:
    shown = yaml.safe_load(uncommented("lmdesk.yaml.example", r"^# (\w+: .*)$"))
    assert set(shown) == set(Settings.model_fields) - SECRETS
    assert Settings.model_validate(shown).port == 7860


@pytest.mark.parametrize("key", sorted(Settings.model_fields))
def test_every_setting_is_documented(key: str) -> None:
    assert f"| `{key}` |" in (ROOT / "docs" / "configuration.md").read_text()
