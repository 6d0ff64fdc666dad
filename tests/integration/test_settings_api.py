"""Settings over HTTP: shown without secrets, changed at run time, kept in the file, in effect at once."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.desk import DeskUnderTest, run_desk
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, serve, until

pytestmark = pytest.mark.anyio

SECRET = "sk-not-to-be-seen-1234"
FILE = """\
# My desk.
log_level: info   # not too much

models:
  # the usual one
  default: auto
# the end
"""


async def settings_of(desk: DeskUnderTest) -> dict[str, Any]:
    answer = await desk.get("/api/v1/settings")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def one(told: dict[str, Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in told["settings"] if each["key"] == key)
    return found


def provider(told: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((each for each in told["providers"] if each["name"] == name), None)


def the_file(folder: Path, text: str | None = None) -> Path:
    path = folder / "lmdesk.yaml"
    if text is not None:
        path.write_text(text)
    return path


async def model_names(desk: DeskUnderTest) -> set[str]:
    answer = await desk.get("/api/v1/models/", params={"refresh": "true"})
    return {model["full_name"] for model in answer.json()}


async def test_every_setting_is_shown_with_where_it_comes_from(tmp_path: Path) -> None:
    the_file(tmp_path, FILE)
    async with run_desk(tmp_path, lmstudio_token=SECRET, idle_unload_minutes=30) as desk:
        told = await settings_of(desk)
        assert told["file"] == str(tmp_path / "lmdesk.yaml")
        assert told["file_exists"]
        assert told["file_problem"] is None

        level = one(told, "log_level")
        assert (level["value"], level["origin"], level["changeable"]) == ("info", "file", True)
        assert level["applies"] == "now"
        idle = one(told, "idle_unload_minutes")
        assert (idle["value"], idle["origin"], idle["changeable"]) == (30.0, "argument", False)
        assert "the command line: --idle-unload-minutes" in idle["reason"]
        token = one(told, "lmstudio_token")
        assert (token["value"], token["secret"]) == ("set", True)
        assert one(told, "token")["value"] == "not set"
        assert one(told, "port")["applies"] == "start"
        assert not one(told, "port")["changeable"]
        assert one(told, "models.preferences.coding")["value"] == []
        assert provider(told, "lmstudio")["token"] == "set"  # type: ignore[index]
        assert all(each["description"] for each in told["settings"])


async def test_a_change_keeps_every_comment_and_counts_at_once_and_after_a_restart(
    tmp_path: Path,
) -> None:
    path = the_file(tmp_path, FILE)
    async with run_desk(tmp_path) as desk:
        answer = await desk.patch(
            "/api/v1/settings",
            json={
                "log_level": "warning",
                "models": {"preferences": {"coding": ["*coder*", "b"]}},
                "keep_models_within": "12GiB",
            },
        )
        assert answer.status_code == 200, answer.text
        assert (
            path.read_text()
            == FILE.replace("log_level: info ", "log_level: warning ").replace(
                "default: auto\n",
                'default: auto\n  preferences:\n    coding: ["*coder*", b]\n',
            )
            + "keep_models_within: 12GiB\n"
        )
        assert one(answer.json(), "log_level")["value"] == "warning"
        assert logging.getLogger().level == logging.WARNING
        answer = await desk.patch("/api/v1/settings", json={"log_level": None})
        assert one(answer.json(), "log_level")["origin"] == "default"
        assert logging.getLogger().level == logging.INFO
    async with run_desk(tmp_path) as desk:
        told = await settings_of(desk)
        assert one(told, "models.preferences.coding")["value"] == ["*coder*", "b"]


async def test_a_provider_is_added_changed_switched_off_and_removed_while_it_runs(
    tmp_path: Path,
) -> None:
    first = ScriptedLMStudio(models=[ScriptedModel("one")])
    second = ScriptedLMStudio(models=[ScriptedModel("two")])
    url = f"http://127.0.0.1:{free_port()}"
    async with (
        serve(first) as first_url,
        serve(second) as second_url,
        run_desk(tmp_path, lmstudio_url=url) as desk,
    ):
        here = "/api/v1/settings/providers/studio"
        answer = await desk.put(here, json={"kind": "lmstudio", "base_url": first_url})
        assert answer.status_code == 200, answer.text
        assert await model_names(desk) == {"studio:one"}
        shown = (await desk.get(here)).json()
        assert shown["addresses"][0]["url"] == first_url
        assert shown["removable"]

        await desk.put(here, json={"kind": "lmstudio", "base_urls": [first_url, second_url]})
        assert await model_names(desk) == {"studio:one", "studio-2:two"}
        await desk.patch("/api/v1/settings", json={"providers": {"studio": {"enabled": False}}})
        assert await model_names(desk) == set()
        await desk.patch("/api/v1/settings", json={"providers": {"studio": {"enabled": None}}})
        await desk.patch("/api/v1/settings", json={"fallback": {"remote": ["studio"]}})

        removed = (await desk.delete(here)).json()
        assert provider(removed, "studio") is None
        assert one(removed, "fallback.remote")["value"] == []
        assert await model_names(desk) == set()
        assert (await desk.get(here)).status_code == 404

        undone = await desk.post(f"/api/v1/settings/undo/{removed['undo']}")
        assert undone.status_code == 200, undone.text
        assert await model_names(desk) == {"studio:one", "studio-2:two"}
        again = await desk.post(f"/api/v1/settings/undo/{removed['undo']}")
        assert (again.status_code, again.json()["code"]) == (404, "undo_not_found")


async def test_of_lm_studio_only_what_differs_is_written_and_where_it_stands_already(
    tmp_path: Path,
) -> None:
    studio = ScriptedLMStudio(models=[ScriptedModel("one")])
    async with serve(studio) as url, run_desk(tmp_path) as desk:
        here = "/api/v1/settings/providers/lmstudio"
        as_it_is = {"base_url": "http://127.0.0.1:1234", "timeout": None, "enabled": None}
        path = the_file(tmp_path)
        assert (await desk.put(here, json=as_it_is)).json()["undo"] is None
        assert not path.exists()
        await desk.put(here, json={**as_it_is, "timeout": 20})
        assert path.read_text() == "providers:\n  lmstudio:\n    timeout: 20\n"
        path.write_text("lmstudio_url: http://127.0.0.1:9  # mine\n")
        answer = await desk.put(here, json={"base_url": url})
        assert answer.status_code == 200, answer.text
        assert path.read_text() == f"lmstudio_url: {url}  # mine\n"
        assert await model_names(desk) == {"lmstudio:one"}


async def test_a_bad_file_names_line_and_key_and_the_running_configuration_stays(
    tmp_path: Path,
) -> None:
    studio = ScriptedLMStudio(models=[ScriptedModel("one")])
    async with serve(studio) as url, run_desk(tmp_path, lmstudio_url=url) as desk:
        bad = f"providers:\n  mine:\n    kind: lmstudio\n    base_url: {url}\n    tiemout: 3\n"
        path = the_file(tmp_path, bad)
        told = await settings_of(desk)
        problem = told["file_problem"]
        assert "providers.mine.tiemout" in problem["message"]
        assert "(line 5)" in problem["message"]
        assert problem["hint"] == "Did you mean timeout?"
        assert await model_names(desk) == {"lmstudio:one"}

        refused = await desk.patch("/api/v1/settings", json={"log_level": "debug"})
        assert (refused.status_code, refused.json()["code"]) == (409, "settings_file_unusable")
        assert "(line 5)" in refused.json()["detail"]
        assert path.read_text() == bad

        path.write_text(bad.replace("tiemout", "timeout"))
        assert (await settings_of(desk))["file_problem"] is None
        assert await model_names(desk) == {"lmstudio:one", "mine:one"}


@pytest.mark.parametrize(
    ("body", "status", "code", "parameter"),
    [
        ({"log_level": "loud"}, 422, "unusable_setting", "log_level"),
        ({"models": {"preferences": {"codng": ["a"]}}}, 422, "unusable_setting", None),
        ({"providers": {"x": {"kind": "openai"}}}, 422, "unusable_setting", "providers.x"),
        ({"nonsense": 1}, 422, "unusable_setting", "nonsense"),
        ({}, 422, "unusable_setting", ""),
        ({"host": "0.0.0.0"}, 409, "setting_locked", None),
        ({"token": SECRET}, 409, "setting_locked", None),
        ({"embedded": "always"}, 409, "setting_locked", None),
        ({"lmstudio_url": "http://a.lan"}, 409, "setting_locked", None),
        ([1], 422, "bad_parameter", None),
        ({"idle_unload_minutes": 1e300}, 422, "unusable_setting", "idle_unload_minutes"),
        ({"models": {"a": {"b": {"c": {"d": {}}}}}}, 422, "unusable_setting", None),
        ({"pinned_models": [{"a": 1}]}, 422, "unusable_setting", "pinned_models"),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, body: Any, status: int, code: str, parameter: str | None
) -> None:
    async with run_desk(tmp_path, lmstudio_url=f"http://127.0.0.1:{free_port()}") as desk:
        answer = await desk.patch("/api/v1/settings", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        if parameter is not None:
            assert answer.json()["parameter"] == parameter
        assert SECRET not in answer.text
        assert not the_file(tmp_path).exists()


async def test_of_two_writers_the_second_learns_that_it_looked_at_an_older_file(
    tmp_path: Path,
) -> None:
    path = the_file(tmp_path, FILE)
    async with run_desk(tmp_path) as desk:
        seen = (await settings_of(desk))["revision"]
        first, second = [
            await desk.patch(
                "/api/v1/settings", json={"log_level": level}, headers={"if-match": f'"{seen}"'}
            )
            for level in ("debug", "error")
        ]
        assert first.status_code == 200
        assert (second.status_code, second.json()["code"]) == (409, "settings_file_changed")
        assert "log_level: debug" in path.read_text()

        path.write_text(path.read_text() + "# by hand\n")
        stale = await desk.patch(
            "/api/v1/settings",
            json={"log_level": "error"},
            headers={"if-match": first.json()["revision"]},
        )
        assert stale.status_code == 409
        assert path.read_text().endswith("# by hand\n")


async def test_a_secret_never_comes_back_out_and_is_in_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    studio = ScriptedLMStudio(token=SECRET)
    answers: list[httpx.Response] = []
    url = f"http://127.0.0.1:{free_port()}"
    async with serve(studio) as studio_url, run_desk(tmp_path, lmstudio_url=url) as desk:
        here = "/api/v1/settings/providers/mine"
        entry = {"kind": "lmstudio", "base_url": studio_url, "token": SECRET}
        answers.append(await desk.put(here, json=entry))
        assert answers[-1].status_code == 200
        assert provider(answers[-1].json(), "mine")["token"] == "set"  # type: ignore[index]
        assert await model_names(desk), "the token is used"
        # Saved again without it, the token stays; elsewhere it does not go.
        answers.append(await desk.put(here, json={"kind": "lmstudio", "base_url": studio_url}))
        assert await model_names(desk), "the token stays"
        moved = {"kind": "lmstudio", "base_url": "http://thief.example"}
        answers.append(await desk.put(here, json=moved))
        assert answers[-1].json()["parameter"] == "providers.mine.token"
        for path in ("", "/providers/mine", "/providers/nobody"):
            answers.append(await desk.get(f"/api/v1/settings{path}"))
        for body in (
            {"hf_token": f"{SECRET} x"},
            {"providers": {"mine": SECRET}},
            {"providers": SECRET},
            {"providers": {"mine": {"base_url": f"http://me:{SECRET}@a.lan"}}},
            {"lmstudio_token": [SECRET]},
        ):
            answers.append(await desk.patch("/api/v1/settings", json=body))
            assert answers[-1].status_code in {409, 422}, answers[-1].text
        answers.append(await desk.delete(here))
        answers.append(await desk.get("/api/v1/models/providers/health"))
    assert [a.url for a in answers if SECRET in a.text or SECRET in str(a.headers)] == []
    assert SECRET not in caplog.text


async def test_an_address_is_looked_at_before_it_is_saved(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(token=SECRET, models=[ScriptedModel("one")])
    nobody = f"http://127.0.0.1:{free_port()}"
    async with serve(studio) as url, run_desk(tmp_path, lmstudio_url=nobody) as desk:
        there = "/api/v1/settings/providers/test"
        asked = {"kind": "lmstudio", "base_url": f"{url}/v1/"}
        found = (await desk.post(there, json=asked)).json()
        assert found["diagnosis"]["code"] == "needs_token"
        found = (await desk.post(there, json={**asked, "token": SECRET})).json()
        assert (found["diagnosis"]["state"], found["model_count"]) == ("ok", 1)
        assert found["models"] == ["one"]
        assert found["remote"] is False
        found = (await desk.post(there, json={**asked, "base_url": nobody})).json()
        assert found["diagnosis"]["state"] == "attention"
        assert found["model_count"] is None
        assert not the_file(tmp_path).exists()
        assert await model_names(desk) == set()

        # The token that is kept for this address is used for it, and for no other.
        await desk.put(
            "/api/v1/settings/providers/mine",
            json={"kind": "lmstudio", "base_url": url, "token": SECRET},
        )
        found = (await desk.post(there, json={**asked, "name": "mine"})).json()
        assert found["diagnosis"]["state"] == "ok"
        other = ScriptedLMStudio(token=SECRET)
        async with serve(other) as other_url:
            found = (
                await desk.post(there, json={**asked, "base_url": other_url, "name": "mine"})
            ).json()
            assert found["diagnosis"]["code"] == "needs_token"
            assert other.asked
            assert all(SECRET not in str(each) for each in other.asked)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"kind": "lmstudio", "base_url": "ftp://a"}, "base_url"),
        ({"kind": "lmstudio", "base_url": "file:///etc/passwd"}, "base_url"),
        ({"kind": "openai"}, "base_url"),
        ({"kind": "ollama", "token": "no\nheader"}, "token"),
    ],
)
async def test_what_cannot_be_looked_at_is_said(
    tmp_path: Path, body: dict[str, str], parameter: str
) -> None:
    async with run_desk(tmp_path, lmstudio_url=f"http://127.0.0.1:{free_port()}") as desk:
        answer = await desk.post("/api/v1/settings/providers/test", json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["parameter"] == parameter


async def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    async with run_desk(tmp_path, lmstudio_url=f"http://127.0.0.1:{free_port()}") as desk:
        answer = await desk.delete("/api/v1/settings/providers/lmstudio")
        assert (answer.status_code, answer.json()["code"]) == (409, "provider_not_removable")
        assert "Switch it off" in answer.json()["hint"]
        answer = await desk.delete("/api/v1/settings/providers/nobody")
        assert (answer.status_code, answer.json()["code"]) == (404, "provider_not_found")
        answer = await desk.put("/api/v1/settings/providers/a:b", json={"kind": "ollama"})
        assert answer.json()["parameter"] == "name"
        answer = await desk.patch(
            "/api/v1/settings", json={"providers": {"lmstudio": {"enabled": False}}}
        )
        assert answer.status_code == 200, answer.text
        await until(lambda: the_file(tmp_path).exists())
        assert provider(answer.json(), "lmstudio")["enabled"] is False  # type: ignore[index]
