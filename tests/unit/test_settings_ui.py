"""What the settings dialog is told: words for values, places and the state of each server."""

from typing import Any

import pytest

from app.refusals import as_error
from app.settings_ui import address_view, binary_size, look_view, provider_view, setting_view
from core.configured import Address, ProviderLook, ProviderSetting, SettingView
from core.diagnosis import Diagnosis
from core.models import ProviderHealth


def address(state: Any = None) -> Address:
    health = state and ProviderHealth(
        provider="w",
        kind="openai",
        state=state,
        url="http://a:1",
        message="So it is.",
        checked_at=0,
    )
    return Address(provider="w", url="http://a:1", remote=False, health=health)


@pytest.mark.parametrize(
    ("state", "dot"),
    [
        ("ready", "ok"),
        ("no_models", "wait"),
        ("unreachable", "bad"),
        ("needs_token", "bad"),
        (None, "wait"),
    ],
)
def test_a_server_has_a_dot_and_a_sentence(state: str | None, dot: str) -> None:
    shown = address_view(address(state), True)
    assert shown["state"] == dot
    assert shown["words"] == ("So it is." if state else "Looking…")
    assert address_view(address(state), False)["words"] == "Switched off."


def test_a_provider_shows_all_its_addresses_and_never_a_token() -> None:
    provider = ProviderSetting(
        name="w",
        kind="openai",
        enabled=True,
        base_url=None,
        base_urls=("http://a:1", "http://b:2"),
        token="set",
        timeout=10,
        retry_attempts=2,
        parallel=None,
        remote=None,
        addresses=(address("ready"), Address(provider="w-2", url="http://b:2", remote=True)),
        locked={"token": "Set by the environment."},
        removable=False,
    )
    shown = provider_view(provider)
    assert shown["urls"] == ["http://a:1", "http://b:2"]
    assert shown["is_remote"]
    assert shown["hosts"] == ["a:1", "b:2"]
    assert shown["token_set"] is True
    assert "token" not in shown


def setting(**more: Any) -> dict[str, Any]:
    values = {"key": "pinned_models", "value": [], "secret": False, "origin": "default"}
    values |= {"place": "", "description": "d", "applies": "now", "changeable": True}
    return setting_view(SettingView.model_validate(values | more))


def test_a_setting_says_where_it_comes_from_and_sizes_as_they_are_written() -> None:
    assert setting()["words"] == "–"
    assert setting(value=["a", "b"])["words"] == "a, b"
    there = setting(origin=".env", place="LMDESK_PINNED_MODELS in .env")
    assert there["origin"] == "The file .env: LMDESK_PINNED_MODELS"
    assert setting(key="keep_models_within", value=12 * 2**30)["value"] == "12GiB"


@pytest.mark.parametrize(
    ("count", "words"), [(2**40, "1TiB"), (1536 * 2**20, "1536MiB"), (1000, "1000B"), (0, "0B")]
)
def test_a_size_can_be_written_back_as_it_is_shown(count: int, words: str) -> None:
    assert binary_size(count) == words


def test_what_was_found_at_an_address_counts_its_models() -> None:
    diagnosis = Diagnosis(
        provider="w", kind="openai", url="u", code="ready", state="ok", message="It answers.",
        checked_at=0,
    )  # fmt: skip
    look = ProviderLook(diagnosis=diagnosis, model_count=1, models=("m",), remote=False)
    assert look_view(look)["words"] == "It answers. It has 1 model."
    silent = ProviderLook(diagnosis=diagnosis, remote=True)
    assert look_view(silent)["words"] == "It answers."


def test_a_refusal_says_which_value_is_meant() -> None:
    body = b'{"code": "unusable_setting", "detail": "No.", "hint": "h", "parameter": "log_level"}'
    error = as_error(422, body)
    assert (error.code, error.message, error.extra()) == (
        "unusable_setting",
        "No.",
        {"parameter": "log_level"},
    )
    assert as_error(500, b"").extra() == {}
