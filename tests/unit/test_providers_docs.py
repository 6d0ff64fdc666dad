"""What the documentation says of providers is what they are."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from api.settings import Settings
from core.models import ProviderKind, ProviderState
from core.ports import BusyTeller, Embedder, Forwarder, ModelDownloader, ModelLoader, Provider
from core.providers import ProviderConfig, is_remote
from infrastructure.providers.kinds import KINDS, build

TEXT = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ROWS = {
    "loads and unloads": ModelLoader,
    "downloads models": ModelDownloader,
    "makes vectors": Embedder,
    "passes requests through `/v1`": Forwarder,
    "says what is busy": BusyTeller,
}


def row(title: str) -> dict[str, str]:
    """What the table says under each kind."""
    (heads,) = re.findall(r"^\| (\|.*)\|$", TEXT, re.MULTILINE)[:1]
    (cells,) = re.findall(rf"^\| {re.escape(title)} (\|.*)\|$", TEXT, re.MULTILINE)
    kinds = [cell.strip(" `") for cell in heads.strip("|").split("|")]
    return dict(zip(kinds, (cell.strip() for cell in cells.strip("|").split("|")), strict=True))


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_configuration_that_works(example: str) -> None:
    settings = Settings.model_validate(yaml.safe_load(example))
    configs = settings.provider_configs()
    providers: list[Provider] = [build(config) for config in configs]

    written = yaml.safe_load(example)["providers"]
    assert {p.name for p in providers} >= set(written)
    assert all(provider.kind == c.kind for provider, c in zip(providers, configs, strict=True))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("title", ROWS)
def test_the_table_says_what_the_protocols_say(title: str) -> None:
    said = row(title)
    for kind in KINDS:
        provider = build(ProviderConfig(name=kind, kind=kind, base_url="http://127.0.0.1:1"))
        assert isinstance(provider, ROWS[title]) == (said[kind] != "–"), kind


def test_the_table_has_every_kind() -> None:
    kinds = {"built-in engine" if kind == "embedded" else kind for kind in get_args(ProviderKind)}
    assert set(row("for")) == kinds
    assert row("somebody else's computer")["huggingface"] == "always"
    assert is_remote("huggingface", "http://127.0.0.1")


def test_every_state_named_is_one() -> None:
    states = re.findall(r"^\| [^|]+ \| `(\w+)` \|$", TEXT, re.MULTILINE)
    assert len(states) == 6
    assert set(states) <= set(get_args(ProviderState))
